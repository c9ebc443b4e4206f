"""What steering does to every latent of what the model goes on to write, and vectors that do to one what is wanted.

Chalnev et al. 2411.02193: the mean activations of steered samples less those of unsteered ones are nearly linear in the
steering vector, so a vector can be solved for that moves one latent and few others.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.workbench.context import Context
from tools.workbench.editing import Change
from tools.workbench.generation import generate
from tools.workbench.metrics import portions
from tools.workbench.negatives import pool
from tools.workbench.registry import ToolError

PROMPT = 12  # tokens of a prompt, BOS included
RIDGES = np.logspace(-3, 3, 13)  # times the mean eigenvalue


class Linear(NamedTuple):
    """y = x @ m + b, m float64[d, n_latents]. r2: leave-one-out, over all latents together; negative where the mean
    predicts better."""

    m: np.ndarray
    b: np.ndarray
    r2: float


def starts(context: Context, n: int, rng: np.random.Generator) -> Tensor:
    """int64[n, 12]: beginnings of harvested documents to go on from. ToolError when there are too few."""
    windows = [window for window in pool(context.need_harvest(), "explain") if len(window.tokens) >= PROMPT]
    if len(windows) < n:
        raise ToolError(f"The harvest has {len(windows)} windows of {PROMPT} tokens and {n} are needed: harvest more.")
    chosen = [windows[i].tokens[:PROMPT].tolist() for i in rng.permutation(len(windows))[:n]]
    return torch.tensor(chosen, device=context.subject.device)


def written_latents(context: Context, prompts: Tensor, changes: list[Change], tokens: int, seed: int) -> np.ndarray:
    """float64[b, n_latents]: mean activation over what is written after each prompt, sampled with the changes made and
    read without them, so that it is the text that counts and not the vector itself."""
    (mean,) = written_each(context, prompts, changes, tokens, seed)
    return mean


def written_each(context: Context, prompts: Tensor, changes: list[Change], tokens: int, seed: int) -> list[np.ndarray]:
    """The same for each of the directions that the changes are written along, written together."""
    subject, start = context.subject, prompts.shape[1]
    found: list[np.ndarray] = []
    blocks = max((change.rows for change in changes), default=1)
    for which in portions(blocks, prompts.numel()):
        some, n = [change.only(which) for change in changes], which.stop - which.start
        written = generate(subject, prompts.repeat(n, 1), tokens, some, temperature=1.0, seed=seed)
        for text in written.chunk(n):
            after_end = (text[:, start:] == subject.eos).cumsum(1) > 0
            activations = subject.activations(text)[:, start:].double() * ~after_end[..., None]
            found.append((activations.sum(1) / (~after_end).sum(1, keepdim=True).clamp(min=1)).cpu().numpy())
    return found


def fit(x: np.ndarray, y: np.ndarray) -> Linear:
    """Ridge regression of effects y [n, n_latents] on vectors x [n, d], its penalty chosen by leave-one-out error.

    Where there are fewer vectors than dimensions the paper's least squares has no one solution; the smallest has.
    """
    if len(x) < 3:
        raise ValueError("a fit needs three vectors")
    n, mean_x, mean_y = len(x), x.mean(0), y.mean(0)
    u, s, vt = np.linalg.svd(x - mean_x, full_matrices=False)
    target = u.T @ (y - mean_y)
    best: tuple[float, np.ndarray] | None = None
    for ridge in RIDGES * float(np.square(s).mean()):
        shrink = np.square(s) / (np.square(s) + ridge)
        leverage = 1 / n + (np.square(u) * shrink).sum(1)
        residual = (y - mean_y - u @ (shrink[:, None] * target)) / np.maximum(1 - leverage, 1e-9)[:, None]
        error = float(np.square(residual).sum())
        if best is None or error < best[0]:
            best = error, vt.T @ ((s / (np.square(s) + ridge))[:, None] * target)
    assert best is not None
    constant = float(np.square((y - mean_y) * n / (n - 1)).sum())
    return Linear(best[1], mean_y - mean_x @ best[1], 1 - best[0] / constant if constant else 0.0)


def targeted(linear: Linear, latent: int, side: float = 1.0) -> np.ndarray:
    """Unit vector [d] that raises `latent` and, as far as `side` says, does not do what every vector does:
    norm(M_j / |M_j| - side * M b / |M b|). ValueError when no vector is known to move the latent."""
    own, common = linear.m[:, latent], linear.m @ linear.b
    if not np.linalg.norm(own):
        raise ValueError(f"no vector moved latent {latent}")
    wanted = own / np.linalg.norm(own)
    if np.linalg.norm(common):
        wanted = wanted - side * common / np.linalg.norm(common)
    unit: np.ndarray = wanted / np.linalg.norm(wanted)
    return unit
