"""An investigation told as lines of text, for wherever there is no terminal to draw on."""

from agent.inquiry import events as e
from agent.screen.show import clean


class Narrator:
    """Turns events into lines; the LLM's words are held back until they are complete."""

    def __init__(self) -> None:
        self._words = ""

    def lines(self, event: e.Event) -> list[str]:
        """What `event` has to say, and before it what the LLM had said; nothing for most."""
        if isinstance(event, e.TextDelta):
            self._words += event.text
            return []
        said = [f"  “{clean(self._words).strip()}”"] if self._words.strip() else []
        self._words = ""
        return said + _told(event)


def _told(event: e.Event) -> list[str]:
    match event:
        case e.StepBegan(step=step, round=number):
            return [f"{step}, round {number}"]
        case e.HypothesisStated(claim=claim, dull=dull, id=id):
            return [f"  {'dull ' if dull else ''}hypothesis {id[:8]}: {clean(claim)}"]
        case e.PredictionRegistered(sentence=sentence, id=id):
            return [f"  prediction {id[:8]}: {clean(sentence)}"]
        case e.ToolBegan(tool=tool, why=why):
            return [f"  {tool}: {clean(why)}"]
        case e.ToolEnded(experiment=id, verdict=verdict, seconds=seconds):
            return [f"    {id[:8]} ({seconds:.1f} s) {clean(verdict)}"]
        case e.Judged(sentence=sentence):
            return [f"  {clean(sentence)}"]
        case e.ApprovalNeeded(tool=tool, estimate=estimate):
            return [f"  {tool} waits for approval: {estimate}"]
        case _:
            return []
