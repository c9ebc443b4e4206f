"""Activations at chosen tokens of many texts: one forward pass a text reads every site, and nothing is read twice.

How to use it: a `Case` is a text's token ids, the positions to read (averaged, sinks left out) and the positions of the
words it is about; cases of one text that differ in these are read in one pass. `read_activations(context, cases, sites,
surface=True)` gives an array a site, rows in the order of the cases, from the workspace's `readings/` as far as they
are kept there. A site is a kind of `tools.workbench.sites` and a layer; heads' outputs are laid side by side.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from store.activations import Vectors
from store.ids import content_hash
from tools.workbench.context import Context
from tools.workbench.registry import ToolError
from tools.workbench.sites import At, point
from tools.workbench.subject import Subject

FOLDER = "readings"
TOGETHER = 1024  # tokens of a pass: their logits are 200 MB in float32, and larger passes are no faster
PART = 512  # cases that are kept together: a run that was ended reads on from the last whole part
LOG_PROBABILITY: At = ("resid_post", -1)  # stands for the span's mean log-probability, which is read as a site is


class Case(NamedTuple):
    """tokens: BOS in front. places: positions to read, their mean is taken. span: positions of the words it is about,
    of which length, frequency and log-probability are told; neither may hold position 0."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]
    span: tuple[int, ...]


class Readings(NamedTuple):
    """values: float32[n, d] of each site. surface: float64[n, 3], of each span the number of tokens, their mean log
    rank in the tokenizer (byte pairs are merged commonest first, so that a high one is rare) and their mean
    log-probability in nats; None unless asked for. read: bool[n], False where every token to be read was a sink at some
    site: the row holds NaN there."""

    values: dict[At, np.ndarray]
    surface: np.ndarray | None
    read: np.ndarray


def read_activations(context: Context, cases: Sequence[Case], sites: Sequence[At], surface: bool = False) -> Readings:
    """Every site at every case's places; ToolError for a site that the model does not have and for activations that
    are not finite. Values are rounded to fp16, the first time too, so that a run made again finds the same."""
    points = {site: hook_of(context.subject, site) for site in sites}
    wanted = [*points, *([LOG_PROBABILITY] if surface else [])]
    parts = [
        _kept(context, cases[start : start + PART], {site: points.get(site, "") for site in wanted}, start, len(cases))
        for start in range(0, len(cases), PART)
    ]
    found = {site: np.concatenate([part[site] for part in parts]) for site in wanted}
    told = None
    if surface:
        ranks = [np.log1p([case.tokens[place] for place in case.span]).mean() for case in cases]
        told = np.column_stack([[len(case.span) for case in cases], ranks, found.pop(LOG_PROBABILITY)[:, 0]])
    read = np.ones(len(cases), bool)
    for values in found.values():
        read &= ~np.isnan(values).any(axis=1)
    return Readings({site: found[site] for site in points}, told, read)


def _kept(
    context: Context, cases: Sequence[Case], points: dict[At, str], before: int, total: int
) -> dict[At, np.ndarray]:
    """The values of a part of all cases, of which `before` were read: those of an earlier run, and the rest now."""
    subject = context.subject
    kept = Vectors(context.ledger.store.path.parent / FOLDER)
    about = [subject.fingerprint, subject.adapter is None or subject.adapter.on]
    texts = content_hash([[case.tokens, case.places] for case in cases])
    spans = content_hash([[case.tokens, case.span] for case in cases])
    keys = {site: content_hash([*about, site, spans if site == LOG_PROBABILITY else texts]) for site in points}
    found = {site: values for site in points if (values := kept.load(keys[site])) is not None}
    missing = {site: hook for site, hook in points.items() if site not in found}
    if missing:
        for site, values in _forward(context, cases, missing, before, total).items():
            found[site] = kept.save(keys[site], values)
    return found


def hook_of(subject: Subject, site: At) -> str:
    """The hook point of a site; latents are those of the subject's dictionary, at its own layer."""
    kind, layer = site
    if kind in ("pattern", "q", "k", "v"):
        raise ToolError(f"No probe reads {kind}: name resid_pre, z, attn_out, mlp_out, neuron or latent.")
    if kind == "latent":
        if layer != subject.layer_of(subject.hook):
            raise ToolError(
                f"The dictionary {subject.dictionary.name!r} reads layer {subject.layer_of(subject.hook)}: name it."
            )
        return subject.hook
    return point(subject, kind, layer)


def _forward(
    context: Context, cases: Sequence[Case], points: dict[At, str], before: int, total: int
) -> dict[At, np.ndarray]:
    subject = context.subject
    typical = subject.layer_norms  # now: inside a hook the model must not be run
    logits = LOG_PROBABILITY in points
    hooked = {site: hook for site, hook in points.items() if site != LOG_PROBABILITY}
    layers = sorted({subject.layer_of(hook) for hook in hooked.values()})
    parts: dict[At, list[Tensor]] = {site: [] for site in points}
    order: list[int] = []
    of_text: dict[tuple[int, ...], list[int]] = {}
    for index, case in enumerate(cases):
        of_text.setdefault(case.tokens, []).append(index)
    for texts in batches(list(of_text)):
        tokens = torch.full((len(texts), max(map(len, texts))), subject.bos)
        for at, text in enumerate(texts):
            tokens[at, : len(text)] = torch.tensor(text)
        mine = [(at, index) for at, text in enumerate(texts) for index in of_text[text]]
        picked = _Picked(subject, [(at, cases[index].places) for at, index in mine])
        hooks: list[tuple[str, Callable[..., None]]] = [
            (f"blocks.{layer}.hook_resid_pre", partial(picked.note_sinks, layer, typical[layer])) for layer in layers
        ]
        hooks += [(hook, partial(picked.read, site, parts[site])) for site, hook in hooked.items()]
        with torch.no_grad():
            said = subject.model.run_with_hooks(
                tokens.to(subject.device),
                return_type="logits" if logits else None,
                fwd_hooks=hooks,
                **({} if logits or not layers else {"stop_at_layer": layers[-1] + 1}),
            )
        if logits:
            parts[LOG_PROBABILITY].append(
                _log_probabilities(said, tokens, [(at, cases[index].span) for at, index in mine])
            )
        order += [index for _, index in mine]
        context.progress(before + len(order), total)
    back = np.argsort(order)
    found = {site: torch.cat(values).numpy()[back] for site, values in parts.items()}
    for site, values in found.items():
        bad = np.isinf(values).any(axis=1)
        if bad.any():
            raise ToolError(
                f"The activations of {site[0]} in layer {site[1]} are not finite in text {before + int(bad.argmax())}: "
                "leave that text out, or open the model in float32."
            )
    return found


def batches(texts: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Texts of like length, so many that they hold at most `TOGETHER` tokens, padding included."""
    ordered = sorted(texts, key=len)
    start = 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and (end + 1 - start) * len(ordered[end]) <= TOGETHER:
            end += 1
        yield ordered[start:end]
        start = end


class _Picked:
    """The tokens of a batch that are read for each case, and which of them are sinks at each layer."""

    def __init__(self, subject: Subject, places: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        """places: of each case its row in the batch and its positions."""
        self.subject = subject
        self.n = len(places)
        self.case = torch.tensor([c for c, (_, own) in enumerate(places) for _ in own], device=subject.device)
        self.row = torch.tensor([row for row, own in places for _ in own], device=subject.device)
        self.position = torch.tensor([place for _, own in places for place in own], device=subject.device)
        self.sinks: dict[int, Tensor] = {}

    def note_sinks(self, layer: int, typical: float, value: Tensor, hook: object) -> None:
        here = value[self.row, self.position]
        self.sinks[layer] = self.subject.sinks(here[:, None], typical, start=1)[:, 0]

    def read(self, site: At, into: list[Tensor], value: Tensor, hook: object) -> None:
        """Appends float32[n, d], NaN where every token is a sink, infinite where the model gave what is not finite."""
        here = value[self.row, self.position].flatten(1)
        if site[0] == "latent":
            here = self.subject.dictionary.encode(here)
        kept = ~self.sinks[site[1]]
        weights = kept.float()
        here = here.float().nan_to_num(nan=torch.inf) if not torch.isfinite(here).all() else here.float()
        sums = torch.zeros(self.n, here.shape[1], device=here.device).index_add_(0, self.case[kept], here[kept])
        counts = torch.zeros(self.n, device=here.device).index_add_(0, self.case, weights)
        into.append((sums / counts[:, None]).cpu())


def _log_probabilities(logits: Tensor, tokens: Tensor, spans: Sequence[tuple[int, tuple[int, ...]]]) -> Tensor:
    """float32[n, 1]: the mean log-probability of each span's tokens, nats; spans: of each case its row and span."""
    found = []
    for row, span in spans:
        places = torch.tensor(span)
        said = logits[row, (places - 1).to(logits.device)].float().log_softmax(-1).cpu()
        found.append(said.gather(1, tokens[row, places][:, None]).mean())
    return torch.stack(found)[:, None]
