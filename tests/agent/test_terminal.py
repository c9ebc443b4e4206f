"""The conversation on a real pseudo-terminal, the whole graph behind it and a scripted LLM that calls native tools."""

import re

import pytest

from tests.agent.agent_script import QUESTION, acts
from tests.agent.conftest import Commands
from tests.agent.terminal import terminal
from tests.stub_llm import Stub

CTRL_C, ENTER = "\x03", "\r"


@pytest.fixture
def scripted(llm: Stub) -> Stub:
    llm.configure(behaviour="agent", acts=acts())
    return llm


def ids(screen: str) -> list[str]:
    """What the claims cite."""
    return re.findall(r"\[([0-9a-f]{8})\]", screen)


@pytest.mark.parametrize("columns", [40, 120])
def test_from_a_question_to_its_evidence(columns: int, world: Commands, scripted: Stub) -> None:
    with terminal(world.folder, "chat", columns=columns, rows=50) as person:
        person.type(QUESTION + ENTER)
        person.see("Conclusion")
        person.see("/evidence ID opens")
        assert "Let me see." in person.text
        person.type(f"/evidence {ids(person.text)[0]}" + ENTER)
        person.see("minimal_pairs", since="/evidence " + ids(person.text)[0])
        person.see("╰", since="1 without")
        person.type("/quit" + ENTER)
        assert person.wait() == 0
        assert max(map(len, person.text.splitlines())) <= columns


def test_killed_in_the_middle_it_goes_on_where_it_was(world: Commands, scripted: Stub) -> None:
    scripted.configure(latency_s=0.4)
    with terminal(world.folder, "chat") as person:
        person.type(QUESTION + ENTER)
        person.see("H1 predicts")
        person.kill()
    (thread,) = world.rows("SELECT DISTINCT thread FROM investigations")[0]
    before = {id for (id,) in world.rows("SELECT id FROM experiments")}
    with terminal(world.folder, "chat", "--thread", thread) as person:
        person.see("unfinished")
        person.type(ENTER)
        person.see("Conclusion")
        person.type("/quit" + ENTER)
        assert person.wait() == 0
    after = world.rows("SELECT id, key FROM experiments")
    assert before <= {id for id, _ in after}
    assert len({key for _, key in after}) == len(after), "nothing finished ran twice"


def test_a_warning_goes_above_the_prompt(world: Commands, scripted: Stub) -> None:
    scripted.script("agent", "500", "agent")
    with terminal(world.folder, "chat", columns=120, rows=60) as person:
        person.type(QUESTION + ENTER)
        person.see("/evidence ID opens")
        person.type("/quit" + ENTER)
        assert person.wait() == 0
        (warning,) = [line for line in person.text.splitlines() if "trying again" in line]
        assert not warning.startswith(">")
        status = [line for line in person.text.splitlines() if "tool calls ·" in line]
        assert len(status) <= 1, "nothing that is redrawn stays behind"


def test_ctrl_c_stops_a_step_and_keeps_the_conversation(
    world: Commands, scripted: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOSSATOR_LLM_PRICES", "[0, 0]")  # or the reply on its way would be waited for
    scripted.script("agent", "hang", "agent")
    with terminal(world.folder, "chat") as person:
        person.type(QUESTION + ENTER)
        person.see("top_examples")
        person.see("strongest:", since="top_examples")
        person.type(CTRL_C)
        person.see("Stopped.")
        scripted.script()
        person.type(ENTER)
        person.see("Conclusion")
        person.type(CTRL_C + CTRL_C)
        assert person.wait() == 0


def test_the_line_is_edited_completed_and_kept(world: Commands, scripted: Stub) -> None:
    with terminal(world.folder, "chat") as person:
        person.type("/thr")
        person.see("take one up again")  # the menu
        person.type("\t")
        person.see("> /threads")
        person.type(ENTER)
        person.see("There are no threads yet")
        person.type("/quit" + ENTER)
        assert person.wait() == 0
    with terminal(world.folder, "chat") as person:
        person.type("\x1b[A\x1b[A")
        person.see("> /threads")
        person.type(CTRL_C + CTRL_C + CTRL_C)
        assert person.wait() == 0


def test_nothing_hostile_reaches_the_terminal(world: Commands, scripted: Stub) -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jevil\u202e"
    stated = {"hypotheses": [evil + "claim"], "dull": {"account": "position", "claim": "dull " + evil}}
    scripted.configure(acts=acts(state_hypotheses=stated))
    with terminal(world.folder, "chat") as person:
        person.type(QUESTION + ENTER)
        person.see("Conclusion")
        person.type("/hypotheses" + ENTER)
        person.see("H2", since="/hypotheses")
        person.type("/quit" + ENTER)
        person.wait()
        assert "evilclaim" in person.text
        assert all(bad not in person.log for bad in (b"\x1b]0;", b"\x1b[2J", "\u202e".encode()))


def test_an_unknown_thread_is_a_sentence(world: Commands) -> None:
    with terminal(world.folder, "chat", "--thread", "nowhere") as person:
        person.see("There is no thread 'nowhere'")
        assert person.wait() == 2
