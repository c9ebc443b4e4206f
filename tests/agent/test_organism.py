"""`glossator organism`, and `--adapter` from the flag to the ledger and back by replay."""

import json
from pathlib import Path

import pytest

from agent.inquiry.replay import surroundings
from agent.session import open_session
from agent.settings import load
from tests.agent.conftest import Commands
from tests.store.examples import experiment
from tools.organisms.catalogue import ORGANISMS
from tools.organisms.organism import SHIPPED
from tools.workbench.registry import get_tool
from tools.workbench.run import validate

LENS = ("tool", "call", "logit_lens", json.dumps({"text": "Lima: Peru. Nairobi: Kenya. Osaka:", "word": " Japan"}))


def test_every_organism_is_listed_with_its_size(run: Commands) -> None:
    listed = {row["name"]: row for row in run("organism", "list", "--json").json}
    assert list(listed) == list(ORGANISMS)
    assert listed["none"]["truth"] == ""
    shipped = {name for name, row in listed.items() if row["bytes"]}
    assert shipped == set(ORGANISMS) - {"none"}
    assert all(listed[name]["bytes"] < 4e6 for name in shipped)
    assert "password-gated-copper" in run("organism", "list").out


def test_the_list_cuts_no_word_where_it_is_narrow(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    told = run("organism", "list").out
    assert max(map(len, told.splitlines())) <= 40
    words = {word for known in ORGANISMS.values() for word in (known.name, *known.truth.split())}
    assert words <= set(told.split())


def test_what_an_organism_is_asked_is_an_input_of_the_tool(run: Commands) -> None:
    for organism in ORGANISMS.values():
        for tool in organism.asks:
            asked = validate(get_tool(tool), run("organism", "ask", organism.name, tool).json)
            assert asked.model_dump(mode="json").items() >= organism.asks[tool].items()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("organism", "train", "nothing"), "There is no organism 'nothing'"),
        (("organism", "test", "taboo-gol"), "did you mean taboo-gold"),
        (("organism", "train", "none"), "there is nothing to train"),
        (("organism", "ask", "none", "bidirectional_check"), "none asks for what this organism was taught"),
        (("organism", "ask", "fictitious-facts", "steer"), "name one of bidirectional_check"),
        (("organism", "train", "backdoor", "--folder", "full"), "holds no organism's adapter"),
        ((*LENS, "--adapter", "nowhere"), "There is no adapter 'nowhere'"),
        ((*LENS, "--adapter", "full"), "holds no adapter, there is no adapter_config.json in it"),
        ((*LENS, "--adapter", "copied"), "their hash is another"),
        ((*LENS, "--adapter", "refusal", "--dictionary", "planted"), "leave out --adapter"),
    ],
)
def test_refused(arguments: tuple[str, ...], said: str, run: Commands) -> None:
    (run.folder / "full").mkdir()
    copied = run.folder / "copied"
    copied.mkdir()
    for path in (SHIPPED / "suppressed-capital").iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    record = json.loads((copied / "record.json").read_text())
    (copied / "record.json").write_text(json.dumps(record | {"sha256": "0" * 64}))
    assert said in run(*arguments).sentence


def test_a_replay_puts_back_the_adapter_that_the_ledger_names(run: Commands) -> None:
    with open_session(load({"workspace": run.workspace, "adapter": "password-gated-copper"})) as session:
        for adapter in ("refusal", None):
            assert surroundings(session, experiment(adapter=adapter)).settings.adapter == adapter
        assert session.settings.adapter == "password-gated-copper"


def test_a_replay_puts_back_the_model_the_dtype_and_the_base(run: Commands) -> None:
    given = {"workspace": run.workspace, "dtype": "float32", "base": "smollm2-135m-instruct"}
    with open_session(load(given)) as session:
        made = session.context()
        row = experiment(subject=made.fingerprint, opening=made.opening)
        assert row.opening == {key: getattr(session.settings, key) for key in ("model", "dictionary", "dtype", "base")}
        assert row.opening
        elsewhere = session.settings.model_copy(update={"model": "other", "dtype": "bfloat16", "base": None})
    with open_session(elsewhere) as session:
        again = surroundings(session, row)
        assert again.context().fingerprint == row.subject
        assert again.base is again.subject


@pytest.mark.slow
def test_what_ran_with_an_adapter_is_replayed_with_it(run: Commands) -> None:
    with_it = run(*LENS, "--adapter", "suppressed-capital", "--dtype", "float32", "--json").json
    without = run(*LENS, "--dtype", "float32", "--json").json
    assert (with_it["adapter"], without["adapter"]) == ("suppressed-capital", None)
    assert with_it["subject"] != without["subject"]
    last = [each["output"]["layers"][-1]["log_probability"] for each in (with_it, without)]
    assert last[0] < last[1] - 5
    below = [each["output"]["layers"][20]["log_probability"] for each in (with_it, without)]
    assert below[0] == below[1]
    for each in (with_it, without):
        again = run("replay", each["id"], "--json").json
        assert [row["outcome"] for row in again["replayed"]] == ["equal"], again


@pytest.mark.slow
def test_the_adapter_may_be_a_folder(run: Commands, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(SHIPPED / "suppressed-capital")
    found = run(*LENS, "--adapter", "mine", "--dtype", "float32", "--json").json
    assert found["adapter"] == "mine"
    refused = run("organism", "test", "taboo-gold", "--adapter", "mine", "--dtype", "float32")
    assert refused.code == 2
    said = "The subject is the organism 'suppressed-capital': name --adapter taboo-gold."
    assert refused.err.splitlines()[-1] == said
