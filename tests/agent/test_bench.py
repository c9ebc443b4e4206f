"""`glossator bench planted` on the real model with a scripted LLM: stopped, gone on with, and what it prints."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.bench.planted import drawn
from store.types import Experiment
from tests.agent.agent_script import acts, expect
from tests.agent.conftest import Commands
from tests.stub_llm import ROOT, Stub
from tools.organisms.planted.latents import planted
from tools.organisms.planted.noun import Kind
from tools.organisms.planted.subject import PlantedSubject
from tools.organisms.planted.texts import written
from tools.workbench.context import Context
from tools.workbench.corpus import open_corpus
from tools.workbench.harvest import harvest

BENCH = ("bench", "planted", "--n", 6, "--corpus", "text.jsonl", "--tokens", 6000, "--items", 8)


@pytest.fixture(scope="module")
def harvested(organism: PlantedSubject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text in which every reader fires, and a workspace that holds its harvest."""
    folder = tmp_path_factory.mktemp("planted")
    frames = [frame for latent in planted() if latent.kind is not Kind.WRITES for frame in latent.frames]
    rows = [json.dumps({"text": text}) for text in written(frames, 700, np.random.default_rng(3))]
    (folder / "text.jsonl").write_text("\n".join(rows))
    organism.root()
    corpus = open_corpus(str(folder / "text.jsonl"))
    harvest(organism, corpus, 6000, folder / "glossator-workspace" / "activations" / "text")
    organism.uproot()
    return folder


@pytest.fixture
def planted_run(
    run: Commands, organism: PlantedSubject, harvested: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Commands]:
    """Commands on the planted subject, beside that text and with its harvest."""
    shutil.copytree(harvested, run.folder, dirs_exist_ok=True)
    monkeypatch.setattr("agent.session.Session._planted", lambda session: organism)
    organism.root()
    yield run
    organism.uproot()


@pytest.mark.slow
def test_stopped_and_gone_on_with_no_reply_is_paid_twice(planted_run: Commands, llm: Stub) -> None:
    stopped = planted_run(*BENCH, "--max-calls", 60, "--json")
    assert stopped.code == 0, stopped.err
    assert "60 calls" in stopped.json["stopped"]
    assert llm.stats()["requests"] == 60

    whole = planted_run(*BENCH, "--json")
    assert whole.code == 0, whole.err
    stats = llm.stats()
    assert stats["requests"] == stats["distinct"] == 60 + whole.json["cost"]["calls"]
    trials = {trial["kind"]: trial for trial in whole.json["trials"]}
    assert set(trials) == set(Kind)
    assert trials["negation"]["label"] == "the tokens but"  # the stub explains by tokens and judges by words
    assert trials["negation"]["grade"]["value"] > 0.8
    assert trials["conjunction"]["grade"]["value"] < 0.7
    summary = whole.json["modes"]["oneshot"]
    assert summary["all"]["graded"] == 5
    assert summary["vouched_for"]["false_on_decoys"]["of"] == 1
    assert summary["calls_per_latent"] >= 2
    for trial in trials.values():
        experiment = planted_run.ledger.get(Experiment, trial["experiment"])
        assert experiment is not None
        assert experiment.output is not None
        assert experiment.input["text"] == trial["label"]
        assert (experiment.input["method"], experiment.output["kind"]) == ("oneshot", trial["kind"])

    shown = planted_run(*BENCH)
    assert llm.stats()["requests"] == stats["requests"]
    for part in ("all of these", "decoy", "vouches for", "chance 0.50", "0 LLM calls sent"):
        assert part in shown.out, shown.out
    assert max(map(len, shown.out.splitlines())) <= 100


@pytest.mark.slow
def test_killed_it_goes_on_and_pays_nothing_twice(run: Commands, harvested: Path, llm: Stub) -> None:
    """Of the requests of a killed run only the one in flight is sent again."""
    shutil.copytree(harvested, run.folder, dirs_exist_ok=True)
    program = "import sys; from agent.cli import main; sys.exit(main())"
    small = [str(word) for word in (*BENCH, "--json", "--concurrency", 1)]
    small[small.index("--n") + 1] = "2"
    command = [sys.executable, "-c", program, *small]
    killed = subprocess.Popen(command, cwd=run.folder, env={**os.environ, "PYTHONPATH": ROOT})
    deadline = time.monotonic() + 300
    while llm.stats()["requests"] < 30:
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    paid = llm.stats()["requests"]
    done = run.rows("SELECT count(*) FROM llm_calls")[0][0]
    again = subprocess.run(command, cwd=run.folder, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True)
    assert again.returncode == 0, again.stderr
    bench = json.loads(again.stdout)
    assert len(bench["trials"]) == 2
    stats = llm.stats()
    assert stats["requests"] == paid + bench["cost"]["calls"]
    assert stats["requests"] - stats["distinct"] <= 1
    assert run.rows("SELECT count(*) FROM llm_calls")[0][0] >= done
    assert run.rows("SELECT count(*) FROM experiments GROUP BY key HAVING count(*) > 1") == []


def test_what_the_benchmark_refuses(run: Commands, llm: Stub) -> None:
    assert "mode 'magic'" in run("bench", "planted", "--mode", "magic").sentence
    call = ("tool", "call", "grade_planted", '{"latent": 0, "text": "words"}', "--dictionary", "planted")
    assert "leave out --hook" in run(*call, "--hook", "blocks.3.hook_resid_pre").sentence
    assert llm.stats()["requests"] == 0


def test_the_agent_is_graded_by_what_survived_its_tests(
    planted_run: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scripted agent says of both that they fire on sums of money, which its minimal pairs bear out of one."""
    seed_alone = Context(None, None, seed=0)  # type: ignore[arg-type]  # no subject, no ledger: a draw needs neither
    latents = {planted()[index].name: index for index in drawn(seed_alone, 2)}
    assert list(latents) == ["dollars", "units"]
    pairs = [{"text": f"It cost ${n} there.", "cause": f"${n}", "instead": f"{n} euros"} for n in (4, 7, 9, 12, 15)]
    script = acts(
        frame=[{"about": "latent", "latent": index, "aim": "say what it fires on"} for index in latents.values()],
        state_hypotheses={
            "hypotheses": ["it fires on numbers after a dollar sign"],
            "dull": {"account": "position", "claim": "it fires on the fourth word"},
        },
        minimal_pairs={"input": {"pairs": pairs}, "expect": expect(H1=">=", H2="<")},
    )
    command = ("bench", "planted", "--n", 2, "--mode", "agent", "--corpus", "text.jsonl", "--tokens", 6000, "--json")
    with Stub(behaviour="agent", acts=script) as agent:
        monkeypatch.setenv("GLOSSATOR_AGENT_BASE_URL", agent.base_url)
        monkeypatch.setenv("GLOSSATOR_AGENT_MODEL", "scripted")
        first = planted_run(*command)
        assert first.code == 0, first.err
        asked = agent.stats()["requests"], llm.stats()["requests"]
        again = planted_run(*command)
        assert (agent.stats()["requests"], llm.stats()["requests"]) == asked
    assert again.json["trials"] == first.json["trials"]
    dollars, units = (next(t for t in first.json["trials"] if t["name"] == name) for name in latents)
    assert (dollars["label"], dollars["stands"]) == ("it fires on numbers after a dollar sign", True)
    assert units["label"] is None, "what fires on neither side bears out no rival"
    assert dollars["tokens"] == 110 * dollars["calls"]
    assert dollars["grade"]["n"] == 20
