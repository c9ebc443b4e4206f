"""Attribution patching: what patching each site would do, estimated from one gradient for all of them.

How to use it: `estimated(patcher, sites)` gives the change of the metric that `patcher.run` would measure under each
site's patch, to first order: (theirs - own) . dL/dvalue (Nanda 2023; Kramár et al. 2403.00745, equation 4). Two
corrections (AtP*, ibid. section 3): with `qk_fix` the softmax is computed anew under the patched query, or under each
patched key, and its change dotted with the pattern's gradient; with `grad_drop` the `sizes` are means over layers of
the estimate's size when gradients stop in that layer's contribution, so that effects that cancel are seen.
Estimates are for one site at a time and say nothing of what sites do together.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tools.workbench.gradients import Graph, together
from tools.workbench.patching import Patcher, Progress
from tools.workbench.registry import ToolError
from tools.workbench.sites import PLACES, At, Kind, Site, point, read
from tools.workbench.subject import Subject

ROUNDING = 1e-2  # of a pattern that is computed anew
LARGEST = 50.0  # change of an attention score: beyond it the softmax does not move
OWN_LAYER = {"attn_out", "mlp_out", "z", "q", "k", "v", "pattern", "neuron"}  # gradients of theirs stop with the layer

Estimator = Callable[[dict[str, Tensor]], Tensor]  # gradients -> [b, s, units] or [b, s]
Key = tuple[At, bool]  # a place, and whether its positions are patched together


@dataclass(frozen=True, eq=False)
class Estimates:
    """values: float64[sites, n], the change of the metric that each patch is estimated to make. sizes: float64[sites,
    n], what to rank by: with GradDrop means of sizes over layers, else the values' own. passes: how many forward and
    backward passes over the prompts were made. notes: what had to be done otherwise."""

    values: np.ndarray
    sizes: np.ndarray
    forward: int
    backward: int
    notes: tuple[str, ...]


def estimated(
    patcher: Patcher,
    sites: Sequence[Site],
    qk_fix: bool = True,
    grad_drop: bool = True,
    progress: Progress = lambda done, total: None,
) -> Estimates:
    """Estimates of the patches of single sites. ToolError for a patcher that puts in anything but the other run."""
    subject = patcher.subject
    if patcher.replacement != "tokens":
        raise ToolError("Attribution estimates what the other prompt's values would do: replace tokens.")
    members: defaultdict[Key, list[int]] = defaultdict(list)
    for index, site in enumerate(sites):
        members[site.at, site.position is None].append(index)
    lowest = min(site.layer for site in sites)
    drops = range(lowest, subject.n_layers) if grad_drop else range(0)
    values, sizes = (np.zeros((len(sites), patcher.n)) for _ in range(2))
    notes: list[str] = []
    size = together(subject, patcher.length)
    total = -(-patcher.n // size) * (1 + len(drops))
    for chunk, begin in enumerate(range(0, patcher.n, size)):
        rows = list(range(begin, min(begin + size, patcher.n)))
        found = _Chunk(patcher, rows, list(members), qk_fix)
        notes += found.notes
        dropped = {key: torch.zeros(()) for key in members}
        for done, layer in enumerate((None, *drops), chunk * (1 + len(drops)) + 1):
            gradients = found.graph.gradients(layer)
            for key, own in members.items():
                by_site = _by_site(found.estimators[key](gradients), [sites[i] for i in own]).cpu()
                if layer is None:
                    values[np.ix_(own, rows)] = by_site.numpy()
                    dropped[key] = by_site.abs() * (lowest if grad_drop else 1)
                else:
                    dropped[key] = dropped[key] + by_site.abs()
            progress(done, total)
        for key, own in members.items():
            if grad_drop:  # the layer's own drop leaves nothing of what it writes
                dropped[key] /= subject.n_layers - (key[0][0] in OWN_LAYER and subject.n_layers > 1)
            sizes[np.ix_(own, rows)] = dropped[key].numpy()
    return Estimates(values, sizes, 2, 1 + len(drops), tuple(dict.fromkeys(notes)))


class _Chunk:
    """Both runs of some pairs: the graph of the one that is patched, and for each place its estimator."""

    def __init__(self, patcher: Patcher, rows: list[int], keys: list[Key], qk_fix: bool) -> None:
        subject = self.subject = patcher.subject
        self.notes: list[str] = []
        points = {point(subject, *place): place for place, _ in keys}
        fixed = [place for place, _ in keys if qk_fix and place[0] in ("q", "k")]
        inside = {place: _inside(subject, place[1]) for place in fixed}
        names = [*points, *(name for place in fixed for name in inside[place].values() if name in subject.points)]
        self.graph = Graph(subject, patcher.into.tokens[rows], patcher.reader, rows, names)
        self._theirs: dict[str, Tensor] = {}
        looks = [(name, self._seeing(name)) for name in dict.fromkeys(names)]
        lowest = min(layer for (_, layer), _ in keys)
        patcher.other.resume(torch.tensor(rows), lowest, 0, looks)
        self.estimators = {
            (place, all_at_once): self._estimator(place, all_at_once, inside) for place, all_at_once in keys
        }

    def _seeing(self, name: str) -> Callable[[Tensor], None]:
        def see(value: Tensor) -> None:
            self._theirs[name] = value.clone()

        return see

    def _estimator(self, place: At, all_at_once: bool, inside: dict[At, dict[str, str]]) -> Estimator:
        kind, layer = place
        if place in inside:
            attention = _Attention.of(self.subject, layer, inside[place], self.graph.values, self._theirs)
            if attention is not None:
                return attention.query() if kind == "q" else attention.keys() if all_at_once else attention.key()
            self.notes.append(
                "This model's attention is not the plain softmax of scaled products: estimates of q and k are without "
                "QK-fix and miss saturated attention."
            )
        hook = point(self.subject, kind, layer)
        if hook not in self.graph.values:
            raise ToolError(f"{self.subject.name} computes nothing at {hook}: patch another place.")
        return _product(self.subject, kind, hook, self.graph.values[hook], self._theirs[hook])


def _product(subject: Subject, kind: Kind, hook: str, own: Tensor, theirs: Tensor) -> Estimator:
    change = read(subject, kind, theirs) - read(subject, kind, own)

    def of(gradients: dict[str, Tensor]) -> Tensor:
        gradient = gradients[hook]
        if kind == "latent":
            return change * (gradient.to(change) @ subject.dictionary.decoder.T.to(change))
        if kind == "neuron":
            return change * gradient
        summed = (change * gradient).sum(-1)
        return summed.transpose(1, 2) if kind == "pattern" else summed

    return of


@dataclass(frozen=True, eq=False)
class _Attention:
    """A layer's attention in the patched run. change_q, change_k: by how much its scores change, [b, heads, query,
    key], with the other run's queries, or keys. group: heads that share a key head."""

    point: str
    scores: Tensor
    change_q: Tensor
    change_k: Tensor
    group: int

    @classmethod
    def of(
        cls, subject: Subject, layer: int, names: dict[str, str], own: dict[str, Tensor], theirs: dict[str, Tensor]
    ) -> "_Attention | None":
        """None where the pattern is not the plain softmax of scaled products."""
        if any(name not in own or name not in theirs for name in names.values()):
            return None
        q, k, scores, pattern = (own[names[what]].double() for what in ("q", "k", "scores", "pattern"))
        others = [theirs[names[what]].double() for what in ("q", "k")]
        group = subject.n_heads // k.shape[2]
        attention = subject.model.blocks[layer].attn.original_component
        scale = float(getattr(attention, "scaling", subject.d_head**-0.5))

        def product(query: Tensor, key: Tensor) -> Tensor:
            return scale * torch.einsum("bihe,bjhe->bhij", query, key.repeat_interleave(group, 2))

        plain = product(q, k)
        if plain.shape != scores.shape:
            return None
        seen = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
        if (plain - scores)[..., seen].abs().max() > ROUNDING or (scores.softmax(-1) - pattern).abs().max() > ROUNDING:
            return None
        return cls(names["pattern"], scores, product(others[0] - q, k), product(q, others[1] - k), group)

    def query(self) -> Estimator:
        """Each query patched: [b, query, heads]. Queries do not share a softmax, so that they may also be added."""
        change = (self.scores + self.change_q).softmax(-1) - self.scores.softmax(-1)
        return lambda gradients: (change * gradients[self.point]).sum(-1).transpose(1, 2)

    def keys(self) -> Estimator:
        """Every key patched at once: [b, query, key heads]."""
        change = (self.scores + self.change_k).softmax(-1) - self.scores.softmax(-1)
        return lambda gradients: self._grouped((change * gradients[self.point]).sum(-1))

    def key(self) -> Estimator:
        """Each key patched alone, the softmax of every query computed anew: [b, key, key heads]."""
        pattern = self.scores.softmax(-1)
        weight = pattern * self.change_k.clamp(-LARGEST, LARGEST).expm1()
        moved = weight / (1 + weight)

        def of(gradients: dict[str, Tensor]) -> Tensor:
            gradient = gradients[self.point].double()
            centred = gradient - (pattern * gradient).sum(-1, keepdim=True)
            return self._grouped((moved * centred).sum(2))

        return of

    def _grouped(self, by_head: Tensor) -> Tensor:
        """[b, heads, s] -> [b, s, key heads]."""
        b, heads, s = by_head.shape
        return by_head.reshape(b, heads // self.group, self.group, s).sum(2).transpose(1, 2)


def _inside(subject: Subject, layer: int) -> dict[str, str]:
    """The hook points of what an attention pattern is made of."""

    def turned(which: str) -> str:
        rotated = f"blocks.{layer}.attn.hook_rot_{which}"
        return rotated if rotated in subject.points else f"blocks.{layer}.attn.hook_{which}"

    return {
        "q": turned("q"),
        "k": turned("k"),
        "scores": f"blocks.{layer}.attn.hook_attn_scores",
        "pattern": f"blocks.{layer}.{PLACES['pattern'].point}",
    }


def _by_site(found: Tensor, sites: Sequence[Site]) -> Tensor:
    """float64[sites, b] of estimates [b, s, units] or [b, s], all of one place."""
    found = found.double()
    if found.ndim == 2:
        found = found[..., None]
    length, units = found.shape[1:]
    found = torch.cat([found, found.sum(1, keepdim=True)], 1)
    found = torch.cat([found, found.sum(2, keepdim=True)], 2)
    positions = [length if site.position is None else site.position for site in sites]
    indices = [units if site.index is None else site.index for site in sites]
    return found[:, positions, indices].T
