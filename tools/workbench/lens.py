"""The residual stream after each layer, read by the final norm and the unembedding (the logit lens, nostalgebraist
2020), and what of that a reply does not say.

For secrets (Cywinski et al. 2505.14352 and 2510.01070): over the positions from which a reply was written, the
probability of every word after each layer, those left out that the text has anyway: at a position the token there, the
one before, and the one that comes next, since a model that says a word of course has it in its last layers.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tools.workbench.registry import ToolError
from tools.workbench.resume import hooked
from tools.workbench.subject import Subject
from tools.workbench.words import Spelled
from tools.workbench.writing import Replied

Neighbour = Literal["current", "previous", "next"]
OFFSETS: dict[str, int] = {"current": 0, "previous": -1, "next": 1}
NAMED = 5  # words of a reading that count as named
IN_MIND = 10  # words after a layer
ROWS = 128  # residual streams whose logits are held at once: 25 MB


def log_probabilities(subject: Subject, residual: Tensor) -> Tensor:
    """float32[s, vocabulary]: what the final norm and the unembedding make of a residual stream [s, d_model]."""
    with torch.no_grad():
        logits: Tensor = subject.model.unembed(subject.model.ln_final(residual.to(subject.dtype)[None]))[0]
    return logits.float().log_softmax(-1)


def streams(subject: Subject, tokens: Tensor) -> Tensor:
    """float32[layers + 1, b, s, d_model]: the residual stream entering each layer, and leaving the last."""
    caught: list[Tensor] = []
    points = [*subject.residual_points, subject.end]
    with torch.no_grad(), hooked(subject, [(point, lambda value: caught.append(value.float())) for point in points]):
        subject.model(tokens.to(subject.device), return_type=None)
    return torch.stack(caught)


def check_layers(subject: Subject, layers: Sequence[int]) -> list[int]:
    """The layers in order, each once; the second half where none is named, but for the last. ToolError for one that
    does not exist."""
    for layer in layers:
        if layer >= subject.n_layers:
            raise ToolError(f"Layer {layer} does not exist: {subject.name} has layers 0 to {subject.n_layers - 1}.")
    return sorted(set(layers)) or list(range(subject.n_layers // 2, subject.n_layers - 1))


def read(
    subject: Subject,
    replies: Sequence[Replied],
    layers: Sequence[int],
    words: Spelled,
    suppress: Sequence[Neighbour] = ("current", "previous", "next"),
) -> list[Tensor]:
    """For each reply float32[layers + 1, positions, words]: the probability of every word after each layer and, last,
    in the model's own prediction, at the positions from which the reply was written.

    Suppressed are words, not tokens: any spelling of the one at the position, before it or next.
    """
    return [_masses(subject, replied, layers, words, suppress) for replied in replies]


def _masses(
    subject: Subject, replied: Replied, layers: Sequence[int], words: Spelled, suppress: Sequence[Neighbour]
) -> Tensor:
    tokens, places = replied.tokens, replied.places
    found = streams(subject, torch.tensor([tokens]))[:, 0]
    rows = torch.cat([found[[layer + 1 for layer in layers]], found[-1:]])[:, places.start : places.stop]
    flat = rows.flatten(0, 1)
    parts = [words.mass(log_probabilities(subject, part).exp()).cpu() for part in torch.split(flat, ROWS)]
    masses = torch.cat(parts).reshape(*rows.shape[:2], -1)
    nothing = len(words.names)
    for index, place in enumerate(places):
        for which in suppress:
            near = place + OFFSETS[which]
            word = int(words.of[tokens[near]]) if near >= 0 else nothing
            if word != nothing:
                masses[:, index, word] = 0
    return masses


def named_most(values: Tensor, words: Spelled) -> dict[str, float]:
    """The few words of greatest value among [words], none that is not above 0."""
    top = values.topk(min(NAMED, len(values)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return {words.names[index]: value for index, value in pairs if value > 0}


def among(values: Tensor, kept: Sequence[int] | None) -> Tensor:
    """[..., words] with every word at -inf that is no candidate (None: all are)."""
    if kept is None:
        return values
    found = torch.full_like(values, -torch.inf)
    found[..., list(kept)] = values[..., list(kept)]
    return found


def withheld(masses: Tensor) -> Tensor:
    """float32[words]: how much likelier each word is after the layer where it is likeliest than in what the model says
    in the end, mean over positions; 0 where it is not. masses: [layers + 1, positions, words]."""
    mean = masses.mean(1)
    fall: Tensor = (mean[:-1] - mean[-1]).amax(0).clamp(min=0)
    return fall


def kept_back(own: Tensor, base: Tensor) -> Tensor:
    """float32[words]: how much less the model says each word than the base model does on the same text, of the words
    that its own middle layers have in mind: among the ten likeliest after any of them. masses as in `withheld`."""
    mine, theirs = own.mean(1), base.mean(1)
    in_mind = torch.zeros(mine.shape[1], dtype=torch.bool)
    in_mind[mine[:-1].topk(min(IN_MIND, mine.shape[1])).indices.flatten()] = True
    lacking: Tensor = ((theirs[-1] - mine[-1]) * in_mind).clamp(min=0)
    return lacking
