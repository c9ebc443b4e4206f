"""The dictionary's latents at the end of a question, and whether the reply to it was wrong."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.probing.knowledge import EACH, Asked
from tools.workbench.activations import Case, read_activations
from tools.workbench.context import Context
from tools.workbench.labelled import check_counts
from tools.workbench.metrics import encode
from tools.workbench.registry import ToolError
from tools.workbench.sites import At


class Rows(NamedTuple):
    """A row a reply. latents: float32[n, latents] and residual: float32[n, d_model] at the prompt's token; confidence:
    float64[n], log-probability of the reply's first token, nats; wrong: bool[n]; relation, entity: str[n]. token: the
    prompt's, as text."""

    latents: np.ndarray
    residual: np.ndarray
    confidence: np.ndarray
    wrong: np.ndarray
    relation: np.ndarray
    entity: np.ndarray
    token: str

    def kept(self, rows: np.ndarray) -> "Rows":
        """Those for which bool[n] is true."""
        return Rows(
            self.latents[rows],
            self.residual[rows],
            self.confidence[rows],
            self.wrong[rows],
            self.relation[rows],
            self.entity[rows],
            self.token,
        )


def reply_rows(context: Context, found: Sequence[Asked], position: int, tokens: int) -> Rows:
    """A row a reply, read at its prompt's token `position`, where that is no sink. tokens: the most of a reply.
    ToolError where there are too few right or wrong ones."""
    subject = context.subject
    if not found:
        raise ToolError(f"{subject.name} refuses every question: there is no reply that is right or wrong.")
    layer = subject.layer_of(subject.hook)
    sites: list[At] = [("latent", layer), ("resid_pre", layer)]
    prompts = encode(subject, [each.prompts[0] for each in found], chat=True, room=tokens)
    if min(map(len, prompts)) <= -position:
        raise ToolError(f"A prompt has no token {position}: name one nearer to its end.")
    cases = [
        Case((*ids, *(each.tokens[0] or (subject.eos,))[:1]), (len(ids) + position,), (len(ids),))
        for ids, each in zip(prompts, found, strict=True)
    ]
    read = read_activations(context, cases, sites, surface=True)
    assert read.surface is not None
    latents, residual = (read.values[site] for site in sites)
    rows = Rows(
        latents,
        residual,
        read.surface[:, 2],
        np.array([not each.right[0] for each in found], bool),
        np.array([each.relation for each in found]),
        np.array([each.entity.lower() for each in found]),
        subject.token_strings([prompts[0][position]])[0],
    ).kept(read.read)
    if not len(rows.wrong):
        raise ToolError(f"Token {position} of the prompt is an attention sink in each of them: read another.")
    check_counts(~rows.wrong, ("right", "wrong"))
    if min(rows.wrong.sum(), (~rows.wrong).sum()) < EACH:
        raise ToolError(
            f"{(~rows.wrong).sum()} replies of {subject.name} are right and {rows.wrong.sum()} wrong, and {EACH} of "
            "each are needed: give more facts."
        )
    return rows
