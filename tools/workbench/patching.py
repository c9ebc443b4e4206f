"""Exact activation patching: values of one run put into another, many patches in a forward pass.

How to use it: a `Patcher` takes a `Batch` of pairs and a metric, runs clean and corrupted once, and `run(patches)`
gives the metric under each patch on each pair, float64[patches, n]; `effects` normalises it. A `Patch` is a set of
sites that are patched together. Attribution verifies its best guesses so, path patching and ablation of circuits too;
what needs hooks of its own uses `patcher.into` and `patcher.other` (`tools.workbench.resume.Run`), `patcher.values` and
`patcher.reader`.

Denoising runs the corrupted prompt and puts clean values into it, noising the reverse. An effect is the share of the
way from the run's own metric (0) to that of the run whose values are put in (1). Sources: Zhang & Nanda 2309.16042;
Heimersheim & Nanda 2404.15255.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.metrics import Metric, Reader
from tools.workbench.pairs import Batch
from tools.workbench.passes import Passes
from tools.workbench.registry import ToolError
from tools.workbench.resume import Run
from tools.workbench.shares import Share, share
from tools.workbench.sites import At, Kind, Site, along, from_position, mask, point, read, write
from tools.workbench.subject import Splice

Mode = Literal["denoising", "noising"]
Replacement = Literal["tokens", "mean", "zero", "gaussian"]
Source = Literal["other", "own"] | int
Progress = Callable[[int, int], None]  # (patched prompts done, in all)

LICENCE: dict[Mode, str] = {
    "denoising": "Denoising: clean values put into the corrupted run. A site that restores the behaviour is sufficient "
    "for it there, given the rest of the corrupted run; that others restore nothing does not make them unnecessary.",
    "noising": "Noising: corrupted values put into the clean run. A site that breaks the behaviour is necessary for it "
    "there; that others break nothing does not make them useless, since others may do their work as well.",
}
SHOWS: dict[Mode, str] = {  # the same in few words
    "denoising": "Sufficient there, given the rest of the corrupted run; no more is shown.",
    "noising": "Necessary there; that others break nothing does not make them useless.",
}
SCALE: dict[Mode, str] = {
    "denoising": "share of the gap: 0 as corrupted, 1 as clean",
    "noising": "share of the gap: 0 as clean, 1 as corrupted",
}
WARNING: dict[Replacement, str] = {
    "tokens": "",
    "mean": "Mean ablation takes away more than the cause and can leave the distribution that the model knows "
    "(2309.16042): confirm with token replacement.",
    "zero": "Zero ablation puts the model where it never is, so that a fall may be mere breakage (2309.16042): confirm "
    "with token replacement.",
    "gaussian": "Gaussian noise on the embeddings is off the distribution and localises elsewhere than token "
    "replacement does (2309.16042, section 4): confirm with token replacement.",
}
PROBABILITY = (
    "Probability hides sites that lower the answer where it is near 0 already, and saturates near 1 (2309.16042): "
    "confirm with the logit difference."
)
NOISE = 3.0  # standard deviations of the embeddings (Meng et al. 2202.05262)


@dataclass(frozen=True)
class Patch:
    """Sites that are patched together, and from where: the other run, the run itself (nothing changes) or, by its
    number, a random direction, of which the change is at each position as long as that from the other run."""

    sites: tuple[Site, ...]
    source: Source = "other"


class Patcher:
    """Both runs of n pairs of s tokens, and patches from one into the other.

    into, other: the run that is patched and that whose values are put in; own, theirs: float64[n], the metric in each.
    """

    def __init__(
        self,
        context: Context,
        batch: Batch,
        metric: Metric,
        mode: Mode = "denoising",
        replacement: Replacement = "tokens",
    ) -> None:
        if replacement in ("mean", "zero") and mode == "denoising":
            raise ToolError(f"{replacement.capitalize()} ablation takes away and restores nothing: use noising.")
        self.context, self.subject, self.batch = context, context.subject, batch
        self.mode, self.replacement = mode, replacement
        self.n, self.length = batch.clean.shape
        self.first = batch.first if replacement in ("tokens", "gaussian") else 1  # position 0 is a sink
        self._passes = Passes(self.subject, self.n, self.length)
        self.reader = Reader(context, metric, batch.answer, batch.other)
        clean = Run(self.subject, batch.clean)
        if replacement == "gaussian":
            corrupted = Run(self.subject, batch.clean, [self._noise(clean.residuals[0])])
        else:
            corrupted = Run(self.subject, batch.corrupted)
        if metric.kind == "kl":
            self.reader.reference = clean.logits.double().log_softmax(-1)
        self.into, self.other = (corrupted, clean) if mode == "denoising" else (clean, corrupted)
        pairs = list(range(self.n))
        self.own, self.theirs = (self._measured(run, pairs, 0, 0, []) for run in (self.into, self.other))
        self._values: dict[tuple[Source, At], Tensor] = {}

    def run(self, patches: Sequence[Patch], progress: Progress = lambda done, total: None) -> np.ndarray:
        """float64[patches, n]: the metric under each patch on each pair.

        Patches whose lowest layer is the same share forward passes; what lies below that layer or before the first
        position that changes is not computed.
        """
        found = np.tile(self.own, (len(patches), 1))
        self._gather({(patch.source, site.at) for patch in patches for site in patch.sites})
        queues: defaultdict[int, list[_Row]] = defaultdict(list)
        for index, patch in enumerate(patches):
            start = min(map(self._start, patch.sites), default=self.length)
            if start < self.length:
                rows = [_Row(start, index, pair, patch) for pair in range(self.n)]
                queues[min(site.layer for site in patch.sites)] += rows
        done, total = 0, sum(map(len, queues.values()))
        for layer, queue in sorted(queues.items()):
            queue.sort(key=lambda row: row[:3])
            while queue:
                rows = [queue[at] for at in self._passes.together(layer, [row.start for row in queue])]
                try:
                    values = self._pass(layer, rows)
                except (RuntimeError, MemoryError) as error:
                    self._passes.fewer(len(rows), error)
                    continue
                found[[row.patch for row in rows], [row.pair for row in rows]] = values
                del queue[: len(rows)]
                done += len(rows)
                progress(done, total)
        if not np.isfinite(found).all():
            raise ToolError(f"{self.reader.metric.words.capitalize()} is not finite under a patch: use another metric.")
        return found

    @property
    def notes(self) -> list[str]:
        """What had to be done otherwise, in sentences."""
        return self._passes.notes

    def splices(self, patch: Patch) -> list[Splice]:
        """What makes a patch on every pair at once, at all tokens, for hooks of one's own."""
        self._gather({(patch.source, site.at) for site in patch.sites})
        rows = [_Row(0, 0, pair, patch) for pair in range(self.n)]
        return [self._splice(place, rows, 0) for place in dict.fromkeys(site.at for site in patch.sites)]

    def effects(self, values: np.ndarray) -> Share:
        """The effect of a patch whose metric is `values` [n], as a share of the way to the other run."""
        return share(values - self.own, self.theirs - self.own)

    def values(self, kind: Kind, layer: int, source: Source = "other") -> Tensor:
        """What is put in, for every position: [n, s, ...] as `sites.read` gives it (of a number: the direction)."""
        self._gather({(source, (kind, layer))})
        return self._values[source, (kind, layer)]

    def _start(self, site: Site) -> int:
        """The first position at which patching the site can change anything."""
        if site.position is None:
            return self.first
        if not 0 <= site.position < self.length:
            raise ToolError(f"Position {site.position} does not exist: the prompts have {self.length} tokens.")
        if self.replacement in ("tokens", "gaussian") and site.position < self.first:
            return self.length  # the prompts are the same up to here
        return site.position

    def _pass(self, layer: int, rows: list[_Row]) -> np.ndarray:
        """float64[rows]: one forward pass from `layer` on."""
        begun = perf_counter()
        start = rows[0].start if self.reader.last_alone and self.into.starts(rows[0].start) else 0
        places = dict.fromkeys(site.at for row in rows for site in row.sites)
        hooks = [self._splice(place, rows, start) for place in places]
        values = self._measured(self.into, [row.pair for row in rows], layer, start, hooks)
        self._passes.took(perf_counter() - begun, len(rows), layer, start)
        return values

    def _splice(self, place: At, rows: list[_Row], start: int) -> Splice:
        """Puts the values of a place into the rows that have a site there."""
        kind, layer = place
        pairs = [row.pair for row in rows]
        parts = []
        for source in dict.fromkeys(row.source for row in rows if any(site.at == place for site in row.sites)):
            sites = [[site for site in row.sites if site.at == place and row.source == source] for row in rows]
            chosen = mask(self.subject, sites, kind, start, self.length, self.first)
            theirs = self._values["other" if isinstance(source, int) else source, place]
            parts.append((source, chosen, from_position(kind, theirs[pairs], start)))

        def put(value: Tensor) -> Tensor:
            for source, chosen, theirs in parts:
                moved = write(self.subject, kind, value, theirs, chosen, start)
                if isinstance(source, int):
                    noise = from_position(kind, self._values[source, place][pairs], start)
                    moved = value + along(kind, moved - value, noise, chosen)
                value = moved
            return value

        return point(self.subject, kind, layer), put

    def _measured(self, run: Run, pairs: list[int], layer: int, start: int, hooks: Sequence[Splice]) -> np.ndarray:
        reader = self.reader
        reader.caught.clear()
        if reader.hook is not None:
            layer = min(layer, self.subject.layer_of(reader.hook))
        every = reader.metric.kind == "loss"
        logits = run.resume(torch.tensor(pairs), layer, start, [*hooks, *reader.look], every)
        values: np.ndarray = reader.read(run.tokens[pairs], logits, pairs).cpu().double().numpy()
        return values

    def _gather(self, wanted: set[tuple[Source, At]]) -> None:
        """Reads what is to be put in at these places, in one pass for each run."""
        wanted |= {("other", place) for source, place in wanted if isinstance(source, int)}
        missing = sorted(wanted - set(self._values), key=str)
        self._passes.latents |= any(kind == "latent" for _, (kind, _) in missing)

        def places(of: Source) -> list[At]:
            return [place for source, place in missing if source == of]

        for place, value in zip(places("own"), self._read(self.into, places("own")), strict=True):
            self._values["own", place] = value
        for place, value in zip(places("other"), self._replacements(places("other")), strict=True):
            self._values["other", place] = value
        for source, (kind, layer) in missing:
            if not isinstance(source, int):
                continue
            shape = list(self._values["other", (kind, layer)].shape)
            if kind == "latent":
                shape[2] = self.subject.d_model
            seed = int(self.context.rng("random", source, kind, layer).integers(2**31))
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            self._values[source, (kind, layer)] = noise.to(self.subject.device, self.subject.dtype)

    def _replacements(self, places: Sequence[At]) -> list[Tensor]:
        if self.replacement in ("tokens", "gaussian"):
            return self._read(self.other, places)
        own = self._read(self.into, places)
        if self.replacement == "zero":
            return [torch.zeros_like(value) for value in own]
        theirs = self._read(self.other, places)
        return [torch.cat(two).mean(0, keepdim=True).expand_as(two[0]) for two in zip(own, theirs, strict=True)]

    def _read(self, run: Run, places: Sequence[At]) -> list[Tensor]:
        caught: dict[At, Tensor] = {}

        def look(kind: Kind, layer: int) -> Splice:
            def see(value: Tensor) -> None:
                caught[kind, layer] = read(self.subject, kind, value)

            return point(self.subject, kind, layer), see

        if places:
            rows = torch.arange(self.n)
            run.resume(rows, min(layer for _, layer in places), 0, [look(*place) for place in places])
        return [caught[place] for place in places]

    def _noise(self, embedded: Tensor) -> Splice:
        """Noise of three standard deviations on the tokens at which the prompts differ; embedded: [n, s, d_model]."""
        generator = torch.Generator().manual_seed(int(self.context.rng("gaussian").integers(2**31)))
        noise = NOISE * float(embedded.float().std()) * torch.randn(embedded.shape, generator=generator)
        noise[self.batch.clean == self.batch.corrupted] = 0
        added = noise.to(embedded)
        return self.subject.residual_points[0], lambda value: value + added


class _Row(NamedTuple):
    """One pair under one patch: the position from which it differs from the run it is put into."""

    start: int
    patch: int
    pair: int
    what: Patch

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.what.sites

    @property
    def source(self) -> Source:
        return self.what.source
