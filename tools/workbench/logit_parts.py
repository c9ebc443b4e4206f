"""The parts of a logit difference: what each head, each MLP and the embedding add to it themselves."""

import torch
from torch import Tensor

from tools.workbench.components import Written, decompose
from tools.workbench.subject import Subject
from tools.workbench.unembed import norm_scale, readout


class Attributed:
    """n prompts' logit differences and their parts, in logits. written: what each part adds; constant: float64[n] of
    the last biases; measured: float64[n], the model's own logit difference; direction: [n, d_model], what the residual
    stream after the last token is read by."""

    def __init__(self, written: Written, constant: Tensor, measured: Tensor, direction: Tensor) -> None:
        self.written, self.constant, self.measured, self.direction = written, constant, measured, direction

    @property
    def sum(self) -> Tensor:
        return self.written.total + self.constant

    def named(self) -> tuple[list[str], Tensor]:
        """Every part's name, and float64[n, parts]."""
        written = self.written
        _, layers, heads = written.heads.shape
        names = ["embedding", *(f"L{i}H{j}" for i in range(layers) for j in range(heads))]
        names += (
            [f"L{i} MLP" for i in range(layers)] + [f"L{i} attention bias" for i in range(layers)] + ["last biases"]
        )
        parts = [written.embed[:, None], written.heads.flatten(1), written.mlps, written.biases, self.constant[:, None]]
        return names, torch.cat(parts, dim=1)


def attribute(subject: Subject, tokens: Tensor, up: Tensor, down: Tensor | None = None) -> Attributed:
    """The logit difference of the tokens `up` and `down` (int64[n]; None: the mean over the vocabulary) after prompts
    int64[n, s], by part."""
    direction, constant = readout(subject, up, down)
    last: list[Tensor] = []
    written, logits = decompose(
        subject, tokens, direction, also=[(subject.end, lambda value: last.append(value[:, -1]))]
    )
    scale = norm_scale(subject, last[0][:, None])[:, 0]
    ends = logits[:, -1].double()
    more, less = (
        ends.mean(1) if each is None else ends.gather(1, each[:, None].to(ends.device))[:, 0] for each in (up, down)
    )
    measured = (more - less).to(scale.device)
    return Attributed(written.over(scale), constant, measured, direction / scale[:, None])
