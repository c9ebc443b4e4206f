"""What writes to the residual stream and what reads it, by name.

How to use it: `Nodes.of(subject)` lists senders and receivers in the order of the computation; `edge`, `parse` and
`node` are how they are spelled: L5H3->L23H0.q, L2KV1.k for key heads, embed, L4MLP, logits.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tools.workbench.registry import ToolError
from tools.workbench.sites import units
from tools.workbench.subject import Subject


@dataclass(frozen=True)
class Receiver:
    """part: q, k, v, mlp or logits; index: the head, or key head. before: how many senders come before it."""

    layer: int
    part: str
    index: int
    before: int

    def __str__(self) -> str:
        match self.part:
            case "logits":
                return "logits"
            case "mlp":
                return f"L{self.layer}MLP"
            case part:
                return f"L{self.layer}{'H' if part == 'q' else 'KV'}{self.index}.{part}"


class Nodes(NamedTuple):
    """The nodes of a model, in the order of its computation. ToolError, with the reason, for one that has no such."""

    senders: tuple[str, ...]
    receivers: tuple[Receiver, ...]

    @classmethod
    def of(cls, subject: Subject) -> "Nodes":
        heads, keys = units(subject, "q") or 0, units(subject, "k") or 0
        senders, receivers = ["embed"], []
        for layer in range(subject.n_layers):
            for name in ("attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z", "ln1.hook_in", "ln2.hook_in"):
                if f"blocks.{layer}.{name}" not in subject.points:
                    raise ToolError(
                        f"{subject.name} has no hook point blocks.{layer}.{name}, so that what its parts read cannot "
                        "be told apart: patch sites instead of edges."
                    )
            before = len(senders)
            for part, n in (("q", heads), ("k", keys), ("v", keys)):
                receivers += [Receiver(layer, part, index, before) for index in range(n)]
            senders += [f"L{layer}H{head}" for head in range(heads)]
            parallel = f"blocks.{layer}.hook_resid_mid" not in subject.points
            receivers.append(Receiver(layer, "mlp", 0, before if parallel else len(senders)))
            senders.append(f"L{layer}MLP")
        receivers.append(Receiver(subject.n_layers - 1, "logits", 0, len(senders)))
        return cls(tuple(senders), tuple(receivers))

    @property
    def exists(self) -> Tensor:
        """bool[receivers, senders]: which edges there are."""
        found = torch.zeros(len(self.receivers), len(self.senders), dtype=torch.bool)
        for row, receiver in zip(found, self.receivers, strict=True):
            row[: receiver.before] = True
        return found

    def sent_by(self, sender: int) -> Tensor:
        """bool[receivers, senders]: the edges from a sender."""
        mask = torch.zeros(len(self.receivers), len(self.senders), dtype=torch.bool)
        mask[:, sender] = self.exists[:, sender]
        return mask

    def edge(self, receiver: int, sender: int) -> str:
        return f"{self.senders[sender]}->{self.receivers[receiver]}"

    def parse(self, edge: str) -> tuple[int, int]:
        """Receiver and sender of an edge. ToolError when there is none such."""
        sender, arrow, receiver = edge.replace(" ", "").partition("->")
        names = [str(each) for each in self.receivers]
        if not arrow or sender not in self.senders or receiver not in names:
            raise ToolError(f"There is no edge {edge!r}: spell it as in L5H3->L23H0.q, embed->L2MLP or L9MLP->logits.")
        found = names.index(receiver), self.senders.index(sender)
        if not self.exists[found]:
            raise ToolError(f"The edge {edge!r} goes backwards: {sender} is computed after {receiver}.")
        return found

    def node(self, name: str) -> int:
        """The sender of that name. ToolError when there is none such."""
        spelled = re.sub(r"\s+", "", name)
        if spelled not in self.senders:
            raise ToolError(f"There is no node {name!r}: spell it as in L5H3, L9MLP or embed.")
        return self.senders.index(spelled)
