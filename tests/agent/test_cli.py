"""The command line as a whole: quick help, --json everywhere, exit codes, nothing stray on either stream."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import typer.main

from agent.cli import app, main
from agent.inquiry.replay import differences
from agent.screen.console import meter, rated
from store.errors import UserError
from tests.agent.conftest import Commands
from tests.agent.planted_cli import planted_text
from tests.stub_llm import Stub
from tests.tools.world import ANIMAL, COLOUR

HEAVY = ("torch", "transformers", "sae_lens", "transformer_lens", "duckdb", "pyarrow", "openai", "sklearn")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its path."""
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        yield path, command
    for name, each in inner.items():
        yield from commands(each, (*path, name))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom agent.cli import main\n"
        "for a in ('--help', 'label --help', 'review --help', 'config', 'tool list'): assert main(a.split()) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert "label" in done.stdout


def test_every_command_takes_json_and_says_what_it_does() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) >= 15
    for path, command in found.items():
        assert any("--json" in parameter.opts for parameter in command.params), path
        assert command.help, path


def test_the_version_is_the_package_s(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"glossator": "1.2.3"}[name])
    outcome = run("--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, "glossator 1.2.3\n", "")


def test_a_sentence_and_code_2(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UserError("a thing\n  was wrong; do another")

    monkeypatch.setattr("agent.settings.origins", refuse)
    assert run("config").sentence == "A thing was wrong; do another."


def test_a_bug_is_not_hidden(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("agent.settings.origins", bug)
    with pytest.raises(ZeroDivisionError):
        main(["config"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--wrong",), "No such option: --wrong (Possible options: --version); glossator --help"),
        (("label", "--sample", "x"), "'--sample': Input should be a valid integer"),
        (("localise", "--n", "0"), "'--n': Input should be greater than or equal to 1; glossator localise --help"),
        (("nothing",), "No such command 'nothing'"),
        (("review", "accept"), "Missing argument 'LABEL'; glossator review accept --help"),
    ],
)
def test_wrong_usage_is_a_sentence_too(arguments: tuple[str, ...], said: str, run: Commands) -> None:
    assert said in run(*arguments).sentence


def test_a_group_without_a_command_shows_its_help(run: Commands) -> None:
    outcome = run("tool")
    assert (outcome.code, outcome.err) == (2, "")
    assert "schema" in outcome.out


def test_what_libraries_print_stays_off_stdout(world: Commands, llm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.tools.world import PlantedSubject

    def noisy(*_: object, **__: object) -> PlantedSubject:
        print("Loaded pretrained model into HookedTransformer")
        return PlantedSubject()

    monkeypatch.setattr("tools.dictionaries.load.load_subject", noisy)
    assert world("label", "--latents", COLOUR, "--json").json["labelled"] == 1


def test_tools_are_listed_described_and_called(world: Commands) -> None:
    listed = {tool["name"]: tool for tool in world("tool", "list", "--json").json}
    assert listed.keys() >= {"explain_latent", "score_detection", "top_examples", "latent_profile"}
    assert "top_examples" in world("tool", "list").out
    schema = world("tool", "schema", "latent_profile", "--json").json
    assert schema["input"]["properties"]["latent"]["type"] == "integer"
    called = world("tool", "call", "latent_profile", json.dumps({"latent": COLOUR}), "--json").json
    assert called["output"]["count"] > 0
    assert world.rows("SELECT id, tool FROM experiments") == [(called["id"], "latent_profile")]


def test_a_tool_that_fails_is_recorded_and_code_2(world: Commands) -> None:
    outcome = world("tool", "call", "top_examples", '{"latent": 3}')
    assert "dead" in outcome.sentence
    assert "dead" in world.rows("SELECT error FROM failures")[0][0]


def test_replay_compares(world: Commands, llm: Stub) -> None:
    called = world("tool", "call", "latent_profile", json.dumps({"latent": COLOUR}), "--json").json
    again = world("replay", called["id"][:10], "--json")
    assert (again.code, again.json["different"], again.json["replayed"][0]["outcome"]) == (0, 0, "equal")
    assert "1 replayed, 0 different" in world("replay", called["id"]).out
    assert world.rows("SELECT count(*), count(DISTINCT key) FROM experiments") == [(3, 1)]
    world("label", "--latents", ANIMAL)
    (score,) = world.rows("SELECT id FROM experiments WHERE tool = 'score_detection'")[0]
    requests = llm.stats()["requests"]
    assert world("replay", score, "--json").json["replayed"][0]["outcome"] == "equal"
    assert llm.stats()["requests"] == requests
    (explanation,) = world.rows("SELECT id FROM explanations")[0]
    assert "give the id of an experiment" in world("replay", explanation).sentence


def test_replay_finds_a_difference(world: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    called = world("tool", "call", "latent_profile", json.dumps({"latent": COLOUR}), "--json").json
    from store.activations import Harvest

    stats = Harvest.stats

    def altered(harvest: Harvest) -> Any:
        found = stats(harvest)
        return replace(found, count=found.count + 1)

    monkeypatch.setattr(Harvest, "stats", altered)
    again = world("replay", called["id"], "--json")
    assert again.code == 1
    assert any(line.startswith("output.count") for line in again.json["replayed"][0]["differences"])


def test_differences_forgive_rounding_and_nothing_else() -> None:
    first = {"a": 1.0, "b": [1, 2], "c": "x", "d": None, "e": True}
    assert differences(first, {**first, "a": 1.0 + 1e-9}) == []
    for change in ({"a": 1.1}, {"b": [1, 3]}, {"b": [1]}, {"c": "y"}, {"d": 0}, {"e": False}):
        assert len(differences(first, {**first, **change})) == 1


def test_sql_in_three_formats(world: Commands, llm: Stub) -> None:
    world("label", "--latents", COLOUR)
    query = "SELECT latent, text, created_at, evidence IS NULL AS bare FROM explanations WHERE latent LIKE '%/1'"
    assert "1 row" in world("sql", query).out
    (row,) = world("sql", query, "--json").json
    assert row == world("sql", query, "--format", "json").json[0]
    assert row["latent"].endswith(f"/{COLOUR}")
    heading, line = world("sql", query, "--format", "csv").out.splitlines()
    assert heading == "latent,text,created_at,bare"
    assert line.startswith(row["latent"])


def test_sql_shows_no_steering_and_loses_no_column(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "SELECT chr(155) || '2J' || chr(8238) || chr(127) AS a, 2 AS a, 'x' AS \"\x1b[31mred\""
    outcome = run("sql", query, "--json")
    assert outcome.json == [{"a": "\x9b2J\u202e\x7f", "a_2": 2, "\x1b[31mred": "x"}]
    assert outcome.out.replace("\n", "").isprintable()
    assert run("sql", query).out.replace("\n", "").isprintable()
    assert "\x9b" in run("sql", query, "--format", "csv").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run("sql", query, "--format", "csv").out == "a,a,red\n,2,x\n"


def test_verify_finds_an_altered_row_and_an_altered_file(world: Commands, llm: Stub) -> None:
    world("label", "--latents", COLOUR)
    assert world("verify", "--json").json == {"problems": []}
    file = next((world.workspace / "activations").rglob("windows-*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    outcome = world("verify", "--json")
    assert outcome.code == 1
    assert [problem for problem in outcome.json["problems"] if file.name in problem["where"]]


def test_harvest_says_what_it_made(world: Commands) -> None:
    command = ("harvest", "--corpus", planted_text(world.folder), "--tokens", 3000)
    found = world(*command, "--json").json
    assert found["tokens"] >= 3000
    assert found["activations"] > 0
    assert "tokens in" in world(*command).out


def test_label_harvests_when_the_workspace_has_none(world: Commands, llm: Stub) -> None:
    shutil.rmtree(world.workspace)
    found = world("label", "--sample", 1, "--corpus", planted_text(world.folder), "--tokens", 16_000, "--json")
    assert found.code == 0, found.err
    assert len(list((world.workspace / "activations").iterdir())) == 1


def test_evaluate_shows_every_figure_beside_its_baselines(world: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.dictionaries.evaluate import Evaluation, LossRecovered

    recovered = [LossRecovered(against_zero=value, against_mean=value / 2) for value in (0.98, 0.88, 0.52)]
    figures = Evaluation(
        dictionary="planted", subject="world", hook="blocks.0.hook_resid_pre", corpus="text.jsonl", tokens=5000,
        ev=0.81, ev_pca=0.49, ev_random=0.2, l0=31.1, k=32, dead_share=0.015, density_edges=(1e-6, 1e-3, 1.0),
        density_histogram=(3, 8), loss_clean=3.1, loss_recovered=recovered[0], loss_recovered_pca=recovered[1],
        loss_recovered_random=recovered[2], splice_error=1e-7,
    )  # fmt: skip
    monkeypatch.setattr("tools.dictionaries.evaluate.evaluate", lambda *_: figures)
    command = ("dictionary", "evaluate", "--corpus", planted_text(world.folder))
    found = world(*command, "--json").json
    assert found.keys() >= {"ev", "ev_pca", "ev_random", "l0", "k", "dead_share", "loss_recovered"}
    assert found["loss_recovered"]["against_zero"] == 0.98
    words = world(*command).out
    for part in ("0.810", "0.490", "0.200", "31.1 (32.0)", "1.5%", "0.980", "0.440", "PCA-32"):
        assert part in words


def test_train_passes_on_what_was_said(world: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []

    def train(subject: Any, corpus: Any, plan: Any, folder: Any, progress: Any) -> Any:
        plans.append(plan)
        progress(1, 2, "explained variance 0.5")
        return folder

    monkeypatch.setattr("tools.dictionaries.train.train", train)
    command = ("train", "sae", "--corpus", planted_text(world.folder), "--k", 8, "--latents", 64, "--seed", 5)
    assert world(*command, "--json").json == {"folder": "sae"}
    assert (plans[0].k, plans[0].n_latents, plans[0].seed, plans[0].architecture) == (8, 64, 5, "batchtopk")
    assert "architecture" in world(*command, "--architecture", "wrong").sentence


def test_llm_prints_its_base_url(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prompts.local.serve_in_foreground", lambda announce: announce("http://127.0.0.1:1/v1"))
    outcome = run("llm", "--json")
    assert outcome.json == {"base_url": "http://127.0.0.1:1/v1"}
    assert run("llm").out == "http://127.0.0.1:1/v1\n"
    monkeypatch.setenv("GLOSSATOR_SEED", "many")
    assert "GLOSSATOR_SEED" in run("llm").sentence


def test_a_path_is_never_markup(world: Commands) -> None:
    outcome = world("harvest", "--corpus", planted_text(world.folder), "--tokens", 3000, "--workspace", "a[/b]")
    assert "a[/b]/activations" in outcome.out


def test_progress_tells_the_part_of_the_work_and_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("agent.screen.console.time.monotonic", lambda: now[0])
    told: list[str] = []
    advance = rated(lambda done, total, note="": told.append(note))
    for done, note in ((1, "estimating"), (3, "estimating"), (4, "verifying"), (24, "verifying"), (1, "verifying")):
        advance(done, 30, note)
        now[0] += 2
    assert told == ["estimating", "estimating, 1.0 a second", "verifying", "verifying, 10.0 a second", "verifying"]


def test_plain_progress_comes_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("agent.screen.console.time.monotonic", lambda: now[0])
    with meter("working") as advance:
        for done in range(0, 120, 10):
            advance(done, 200, "fine")
            now[0] += 10
        for done in range(0, 20, 5):  # the next part of the work, as slow as it is
            advance(done, 20)
            now[0] += 10
    assert capsys.readouterr().err.splitlines() == [
        "working: 0 of 200, fine",
        "working: 30 of 200, 0:02:50 left, fine",
        "working: 60 of 200, 0:02:20 left, fine",
        "working: 90 of 200, 0:01:50 left, fine",
        "working: 0 of 20",
        "working: 15 of 20, 0:00:10 left",
    ]
