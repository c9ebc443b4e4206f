"""`glossator probe` on the real model: a row a set, none twice, what it leaves out and why, and what it draws."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.probe import layers_of
from agent.screen.shapes import Curve, figures
from store.errors import UserError
from store.types import Experiment
from tests.agent.conftest import Commands
from tests.agent.test_killed import stopped
from tools.workbench.subject import Subject

SET, OTHER, CLASSES = "105_click_bait", "96_spam_is", "101_disease_class"
SMALL = ("--n", "24", "--tokens", "12", "--layers", "6,9")


@pytest.fixture
def real(run: Commands, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr("tools.dictionaries.load.load_subject", lambda *_, **__: subject)
    return run


def test_a_set_is_probed_once_and_a_set_of_many_labels_is_left_out(real: Commands) -> None:
    answered = real("probe", "--dataset", SET, "--dataset", CLASSES, *SMALL, "--json")
    assert answered.code == 0, answered.err
    found = answered.json
    (row,) = found["rows"]
    assert (row["dataset"], found["earlier"], found["failed"]) == (SET, 0, [])
    assert row["n"] + row["fitted_on"] == 24
    assert row["latents"]["gain_low"] <= row["latents"]["gain"] <= row["latents"]["gain_high"]
    assert found["helped"] == int(row["latents"]["helps"])
    (skipped,) = found["skipped"]
    assert skipped["dataset"] == CLASSES
    assert "5 different labels: only sets of two labels" in skipped["why"]
    for path in row["pictures"]:
        assert (real.workspace / path).exists()
    (kept,) = real.ledger.find(Experiment)
    assert (kept.id, kept.input["dataset"]) == (row["id"], SET)
    (seen,) = real.ledger.view("probe_results")
    assert (seen["dataset"], seen["layer"], seen["experiment"]) == (SET, row["layer"], row["id"])
    assert seen["auroc"] == row["auroc"]
    assert seen["surface"] == max(row["controls"]["surface"], row["controls"]["best_word"])
    again = real("probe", "--dataset", SET, *SMALL)
    assert again.code == 0, again.err
    assert SET in again.out
    assert "1 were in the ledger already" in again.out
    assert "The dictionary's latents read the label better" in again.out
    assert len(real.ledger.find(Experiment)) == 1


def test_what_is_asked_amiss_is_said(refused: Callable[..., str], run: Commands) -> None:
    assert "glossator probe --list shows the 155" in refused("probe", "--dataset", "no_such_set")
    assert "--dataset all" in refused("probe")
    assert "names no layers: write numbers such as 0,6,12 or 0-29, or all" in refused(
        "probe", "--dataset", SET, "--layers", "top"
    )
    listed = run("probe", "--list", "--json").json
    assert len(listed) == 155
    assert SET in listed


def test_layers_are_spelled_as_on_paper() -> None:
    assert layers_of("0,6-8,6") == (0, 6, 7, 8)
    assert layers_of("all") == "all"
    assert layers_of(None) == ()
    for text in ("", "-3", "3-", "a", "1,,2"):
        with pytest.raises(UserError, match="names no layers"):
            layers_of(text)


def test_scores_by_layer_are_drawn_as_curves() -> None:
    rows = [
        {"layer": layer, "auroc": 0.5 + layer / 20, "low": 0.4, "high": 1.0, "shuffled": 0.5, "place": place}
        for place in ("entity", "end")
        for layer in (0, 6)
    ]
    ((name, curves),) = figures({"curve": rows})
    assert name == "curve"
    assert [(each.name, each.x, each.y) for each in curves if isinstance(each, Curve)] == [
        ("entity", "layer", "AUROC"),
        ("end", "layer", "AUROC"),
    ]
    assert isinstance(curves[0], Curve)
    assert curves[0].points == [(0, 0.5, 0.4, 1.0), (6, 0.8, 0.4, 1.0)]
    assert curves[0].beside == {"shuffled": [(0, 0.5, None, None), (6, 0.5, None, None)]}


@pytest.mark.slow
def test_probing_that_was_killed_goes_on_with_the_next_set(real: Commands) -> None:
    def rows() -> list[Experiment]:
        return real.ledger.find(Experiment) if Path(real.workspace / "store.duckdb").exists() else []

    command = ("probe", "--dataset", SET, "--dataset", OTHER, *SMALL)
    assert stopped(signal.SIGKILL, lambda: len(rows()) == 1, *command) == -signal.SIGKILL
    (first,) = rows()
    answered = real(*command, "--json")
    assert answered.code == 0, answered.err
    assert answered.json["earlier"] == 1
    assert [row["dataset"] for row in answered.json["rows"]] == [SET, OTHER]
    assert answered.json["rows"][0]["id"] == first.id
    assert len(rows()) == 2


def test_a_command_that_probed_nothing_of_what_was_named_is_a_mistake(real: Commands) -> None:
    of_classes, of_no_layer = ("--dataset", CLASSES), ("--dataset", SET, "--layers", "99")
    for more, why in ((of_classes, "only sets of two labels"), (of_no_layer, "Layer 99 does not exist")):
        answered = real("probe", *more)
        assert (answered.code, answered.out) == (2, "")
        sentence = answered.err.strip().splitlines()[-1]
        assert sentence.startswith("Nothing was probed: ")
        assert why in sentence
