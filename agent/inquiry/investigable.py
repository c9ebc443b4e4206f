"""Which questions can be investigated: said before anything runs, rather than answered with something else."""

import re
from typing import TYPE_CHECKING

from agent.inquiry.auditing import asks_audit
from agent.inquiry.history import threads
from store.errors import UserError

if TYPE_CHECKING:
    from agent.session import Session
    from tools.workbench.subject import Subject

PRECISE = "float32"  # bfloat16 rounds logits more coarsely than most parts of a model move them
LATENTS = re.compile(r"\b(?:latents?|features?)\s+#?(\d+(?:\s*(?:,|and|or|&)\s*#?\d+)*)", re.IGNORECASE)


def named_latents(question: str) -> list[int]:
    """The latents that a question names, such as "latents 3 and 17", each once."""
    return list(dict.fromkeys(int(n) for found in LATENTS.findall(question) for n in re.findall(r"\d+", found)))


def of_template(question: str) -> bool:
    """Whether the question quotes a prompt of a template, and so asks where a behaviour is computed."""
    from tools.workbench.templates import fitting

    return not named_latents(question) and fitting(question) is not None


def needs_harvest(question: str, embedded: bool) -> bool:
    """Whether it is investigated on harvested text: the embedded LLM localises a behaviour on pairs of prompts."""
    return not asks_audit(question) and not (embedded and of_template(question))


def dtype_for(session: "Session", thread: str, question: str | None) -> str | None:
    """What the subject is opened in: what the settings say, else what the thread was begun in, else `PRECISE` where a
    behaviour is localised without a harvest; None leaves it to the session."""
    if session.settings.dtype:
        return session.settings.dtype
    if begun := threads(session.ledger).get(thread):
        return begun.dtype
    localises = question is not None and not needs_harvest(question, session.embedded_agent)
    return PRECISE if localises else None


def check_question(question: str, embedded: bool, subject: "Subject | None" = None) -> None:
    """UserError for a latent that does not exist, and for what the embedded LLM cannot investigate."""
    from tools.workbench.templates import FRAMES

    named = named_latents(question)
    if embedded and len(named) != 1 and not of_template(question):
        raise UserError(
            f"The embedded LLM investigates one latent, or a behaviour whose prompt is quoted and of a template "
            f'({", ".join(FRAMES)}), and this question names {len(named) or "no"} latents: ask "what does latent 41 '
            'do?", quote such a prompt, or configure another LLM (GLOSSATOR_LLM_BASE_URL).'
        )
    if subject is not None:
        for latent in named:
            subject.check_latent(latent)
