"""How good a dictionary is, each figure beside a random dictionary and PCA, on held-out documents with sinks masked.

Of a transcoder it is the MLP's output that is explained and replaced (Dunefsky et al. 2406.11944). Metrics as in
SAEBench (2503.09532): explained variance by the corrected formula, L0, density, dead share, and loss
recovered = (CE_ablated - CE_spliced) / (CE_ablated - CE_clean), against zero and against mean ablation. Zero ablation
flatters: a random dictionary scores well above 0, so its figure stands beside.
"""

from collections.abc import Callable

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from store.activations import Window
from store.errors import UserError
from tools.dictionaries.load import targets
from tools.workbench.batches import cut_windows, forward, take_tokens
from tools.workbench.corpus import Corpus
from tools.workbench.subject import Splice, Subject

LOSS_TOKENS = 16_384  # of the evaluated tokens, run through the whole model
HISTOGRAM_EDGES = tuple(10.0**e for e in np.arange(-6.0, 0.01, 0.5))  # of density, tokens firing per token

Reconstruct = Callable[[Tensor], Tensor]  # [n, d_out] -> [n, d_out]
Replace = Callable[[Tensor, Tensor], Tensor]  # what the dictionary reads, and what stands where it gives -> the latter
Progress = Callable[[int, int], None]


class LossRecovered(BaseModel):
    """Share of the loss that the reconstruction keeps; 1 is lossless, 0 no better than the ablation."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    against_zero: float
    against_mean: float


class Evaluation(BaseModel):
    """Figures of one dictionary. Shares and variances are fractions; losses are nats a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    dictionary: str
    subject: str
    hook: str
    corpus: str
    tokens: int  # unmasked tokens evaluated
    ev: float
    ev_pca: float  # of the first `k` principal components
    ev_random: float  # of random unit directions, the `k` largest projections kept per token
    l0: float
    k: float  # the L0 its authors state, or its L0 here where they state none
    dead_share: float  # of latents that never fired on these tokens
    density_edges: tuple[float, ...]
    density_histogram: tuple[int, ...]  # latents per bin of density; the dead are not in it
    loss_clean: float
    loss_recovered: LossRecovered
    loss_recovered_pca: LossRecovered
    loss_recovered_random: LossRecovered
    splice_error: float  # |CE with reconstruction + error - CE clean|: 0 but for rounding


def evaluate(
    subject: Subject, corpus: Corpus, tokens: int = 200_000, progress: Progress = lambda done, total: None
) -> Evaluation:
    """Evaluates the subject's dictionary on about `tokens` tokens of documents that training never saw.

    Raises UserError when the corpus has no held-out text.
    """
    dictionary = subject.dictionary
    held_out = ((i, d) for i, d in enumerate(corpus.documents) if d.held_out)
    windows = take_tokens(cut_windows(subject, held_out), tokens)
    if not windows:
        raise UserError(f"The corpus {corpus.name!r} has no held-out document: give at least a few dozen documents.")
    total = sum(len(w.tokens) for w in windows)
    moments, counts, done = Moments(dictionary.d_out), torch.zeros(dictionary.n_latents, dtype=torch.long), 0
    kept = torch.bfloat16 if subject.dtype is torch.bfloat16 else torch.float32
    batches = []
    for batch in forward(subject, windows):
        target, valid = targets(subject, batch.tokens, batch.residual, batch.valid)
        read = batch.residual[valid].to("cpu", kept)
        batches.append((read, target[valid].to("cpu", kept) if dictionary.is_transcoder else read))
        moments.add(batches[-1][1])
        done += sum(len(w.tokens) for w in batch.windows)
        progress(done // 2, total)
    l0 = 0.0
    errors = dict.fromkeys(("sae", "pca", "random"), 0.0)
    stated = dictionary.stated_l0
    k = round(stated) if stated else max(1, round(_l0(subject, batches[0][0])))
    baselines = _baselines(subject, moments, k)
    for read, rows in batches:
        read, rows = read.to(subject.device), rows.to(subject.device)
        fired = dictionary.encode(read) > 0
        counts += fired.sum(0).cpu()
        l0 += float(fired.sum())
        errors["sae"] += _error(rows, dictionary.reconstruct(read))
        for name, reconstruct in baselines.items():
            errors[name] += _error(rows, reconstruct(rows))
        done += len(rows)
        progress(min(total, done // 2), total)
    n = moments.n
    ev = {name: 1 - error / moments.total_variance for name, error in errors.items()}
    losses = _losses(subject, windows, moments.mean, baselines)
    density = counts.double() / n
    histogram, _ = np.histogram(density[density > 0].numpy(), bins=[0.0, *HISTOGRAM_EDGES[1:]])
    progress(total, total)
    return Evaluation(
        dictionary=dictionary.name,
        subject=subject.name,
        hook=subject.hook,
        corpus=corpus.name,
        tokens=n,
        ev=ev["sae"],
        ev_pca=ev["pca"],
        ev_random=ev["random"],
        l0=l0 / n,
        k=stated or l0 / n,
        dead_share=float((counts == 0).double().mean()),
        density_edges=HISTOGRAM_EDGES,
        density_histogram=tuple(int(c) for c in histogram),
        loss_clean=losses["clean"],
        loss_recovered=_recovered(losses, "sae"),
        loss_recovered_pca=_recovered(losses, "pca"),
        loss_recovered_random=_recovered(losses, "random"),
        splice_error=abs(losses["identity"] - losses["clean"]),
    )


class Moments:
    """Running mean and covariance of [n, d] rows, in double precision."""

    def __init__(self, d: int) -> None:
        self.n = 0
        self.sum = torch.zeros(d, dtype=torch.double)
        self.outer = torch.zeros(d, d, dtype=torch.double)

    def add(self, rows: Tensor) -> None:
        wide = rows.double()
        self.n += len(rows)
        self.sum += wide.sum(0)
        self.outer += wide.T @ wide

    @property
    def mean(self) -> Tensor:
        return self.sum / self.n

    @property
    def covariance(self) -> Tensor:
        """[d, d], times n."""
        spread: Tensor = self.outer - self.n * torch.outer(self.mean, self.mean)
        return spread

    @property
    def total_variance(self) -> float:
        """sum over rows of |x - mean|^2."""
        return float(self.covariance.trace())


def _baselines(subject: Subject, moments: Moments, k: int) -> dict[str, Reconstruct]:
    """PCA-k, and a dictionary of as many random unit directions that keeps each token's k largest projections.

    The random dictionary gets the data's mean and the least-squares scale, so it is as good as randomness can be.
    """
    device, mean = subject.device, moments.mean.float().to(subject.device)
    axes = torch.linalg.eigh(moments.covariance)[1][:, -k:].float().to(device)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(subject.dictionary.n_latents, len(mean), generator=generator).to(device)
    directions /= directions.norm(dim=1, keepdim=True)

    def pca(rows: Tensor) -> Tensor:
        projected: Tensor = (rows.float() - mean) @ axes @ axes.T + mean
        return projected

    def random(rows: Tensor) -> Tensor:
        centred = rows.float() - mean
        top = (centred @ directions.T).topk(k, dim=-1)
        kept = torch.zeros(*centred.shape[:-1], len(directions), device=device).scatter_(-1, top.indices, top.values)
        guess = kept @ directions
        scale = (guess * centred).sum(-1, keepdim=True) / guess.pow(2).sum(-1, keepdim=True).clamp_min(1e-12)
        return guess * scale + mean

    return {"pca": pca, "random": random}


def _losses(
    subject: Subject, windows: list[Window], mean: Tensor, baselines: dict[str, Reconstruct]
) -> dict[str, float]:
    """Mean next-token cross-entropy, nats, with what the dictionary gives replaced on every token but sinks."""
    dictionary, kept, held = subject.dictionary, [], 0
    for window in windows:
        if held >= LOSS_TOKENS:
            break
        kept.append(window)
        held += len(window.tokens)
    constant = mean.to(subject.device, subject.dtype)
    replacements: dict[str, Replace] = {
        "sae": lambda read, x: dictionary.reconstruct(read),
        "zero": lambda read, x: torch.zeros_like(x),
        "mean": lambda read, x: constant.expand_as(x),
        "identity": lambda read, x: (r := dictionary.reconstruct(read).float()) + (x.float() - r),
        **{name: _of_value(reconstruct) for name, reconstruct in baselines.items()},
    }
    sums, n = dict.fromkeys(("clean", *replacements), 0.0), 0
    for batch in forward(subject, kept, batch_tokens=2048):
        tokens, width = batch.tokens, batch.valid.shape[1]
        _, valid = targets(subject, tokens, batch.residual, batch.valid)
        lengths = torch.tensor([len(w.tokens) for w in batch.windows])
        scored = torch.arange(1, width) < lengths[:, None]
        n += int(scored.sum())
        for name in sums:
            also = [] if name == "clean" else splice(subject, replacements[name], valid)
            log_probabilities = subject.logits(tokens, also=also)[:, :-1].float().log_softmax(-1).cpu()
            sums[name] -= float(log_probabilities.gather(-1, tokens[:, 1:, None])[..., 0][scored].double().sum())
    return {name: value / n for name, value in sums.items()}


def splice(subject: Subject, replace: Replace, valid: Tensor) -> list[Splice]:
    """Replaces what the dictionary gives, where `valid` bool[b, s]; sinks and padding are left."""
    seen: list[Tensor] = []

    def put(value: Tensor) -> Tensor:
        flat = value.flatten(2)
        made = replace(seen.pop().flatten(2), flat).to(value.dtype)
        return torch.where(valid[..., None], made, flat).view_as(value)

    return [(subject.hook, seen.append), (subject.hook_out, put)]


def _of_value(reconstruct: Reconstruct) -> Replace:
    return lambda read, value: reconstruct(value)


def _recovered(losses: dict[str, float], name: str) -> LossRecovered:
    clean, spliced = losses["clean"], losses[name]
    return LossRecovered(
        against_zero=(losses["zero"] - spliced) / (losses["zero"] - clean),
        against_mean=(losses["mean"] - spliced) / (losses["mean"] - clean),
    )


def _error(rows: Tensor, reconstruction: Tensor) -> float:
    return float((rows.double() - reconstruction.double()).pow(2).sum())


def _l0(subject: Subject, rows: Tensor) -> float:
    return float((subject.dictionary.encode(rows.to(subject.device)) > 0).sum(-1).float().mean())
