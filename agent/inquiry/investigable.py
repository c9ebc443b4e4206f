"""Which questions can be investigated: said before anything runs, rather than answered with something else."""

import re
from typing import TYPE_CHECKING

from store.errors import UserError

if TYPE_CHECKING:
    from tools.workbench.subject import Subject

LATENTS = re.compile(r"\b(?:latents?|features?)\s+#?(\d+(?:\s*(?:,|and|or|&)\s*#?\d+)*)", re.IGNORECASE)


def named_latents(question: str) -> list[int]:
    """The latents that a question names, such as "latents 3 and 17", each once."""
    return list(dict.fromkeys(int(n) for found in LATENTS.findall(question) for n in re.findall(r"\d+", found)))


def check_question(question: str, embedded: bool, subject: "Subject | None" = None) -> None:
    """UserError for a latent that does not exist, and for what the embedded LLM cannot investigate."""
    from tools.workbench.templates import FRAMES, fitting

    named = named_latents(question)
    if embedded and len(named) != 1 and not (fitting(question) and not named):
        raise UserError(
            f"The embedded LLM investigates one latent, or a behaviour whose prompt is quoted and of a template "
            f'({", ".join(FRAMES)}), and this question names {len(named) or "no"} latents: ask "what does latent 41 '
            'do?", quote such a prompt, or configure another LLM (GLOSSATOR_LLM_BASE_URL).'
        )
    if subject is not None:
        for latent in named:
            subject.check_latent(latent)
