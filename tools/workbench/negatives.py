"""Snippets on which a latent does not fire, most of them chosen to look as if it might.

Three kinds: "neighbour", around a firing of a latent with a similar decoder direction; "similar", around one of the
tokens this latent fires on most; "random". A judge that only recognises the topic fails on the first two.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from store.activations import Harvest, Window
from tools.workbench.examples import Half, Snippet, half_of, in_half, snippets, windows_of
from tools.workbench.subject import Subject

POOL = 2000  # windows that random and similar negatives are drawn from
NEIGHBOURS = 5
TOP_TOKENS = 3
TRIES = 50  # candidates looked at for each negative wanted, at most

Place = tuple[Window, int]


def negatives(
    subject: Subject,
    harvest: Harvest,
    latent: int,
    n: int,
    half: Half,
    rng: np.random.Generator,
    taken: Sequence[Window],
) -> list[tuple[str, Snippet]]:
    """Up to `n` (kind, snippet) pairs of `half`, a third of each kind, from windows other than `taken`, one each.

    Where neighbours or similar text are too few, random ones fill in; fewer than `n` come back for a latent that fires
    almost everywhere.
    """
    used = {window.id for window in taken}
    chosen: list[tuple[str, Snippet]] = []
    kinds = (
        ("neighbour", n // 3, neighbour_places(subject, harvest, latent, half, rng)),
        ("similar", n // 3, similar_places(harvest, latent, half, rng)),
        ("random", n, random_places(harvest, half, rng)),
    )
    for kind, wanted, places in kinds:
        wanted = min(wanted, n - len(chosen))
        candidates = list(islice(places, wanted * TRIES))
        for snippet in snippets(harvest, latent, [w for w, _ in candidates], [p for _, p in candidates]):
            if not wanted:
                break
            if not snippet.activations.any() and snippet.window.id not in used:
                used.add(snippet.window.id)
                chosen.append((kind, snippet))
                wanted -= 1
    return chosen


def decoder_cosines(subject: Subject, latent: int) -> np.ndarray:
    """float32[n_latents]: cosine of every decoder direction with that of `latent`."""
    decoder = subject.dictionary.decoder.float()
    norms = decoder.norm(dim=1)
    cosines: np.ndarray = (decoder @ decoder[latent] / (norms * norms[latent])).cpu().numpy()
    return cosines


def neighbour_places(
    subject: Subject, harvest: Harvest, latent: int, half: Half, rng: np.random.Generator
) -> Iterator[Place]:
    """Firings of the five nearest latents by decoder cosine, one of each in turn."""
    order = np.argsort(-decoder_cosines(subject, latent))
    nearest = [int(other) for other in order[: NEIGHBOURS + 1] if other != latent]
    turns = []
    for other in nearest:
        peaks = in_half(harvest, harvest.peaks(other, "sample"), half)
        shuffled = rng.permutation(len(peaks.window))
        windows = windows_of(harvest, peaks.window[shuffled])
        turns.append(list(zip(windows, peaks.position[shuffled].tolist(), strict=True)))
    for turn in range(max(map(len, turns), default=0)):
        yield from (places[turn] for places in turns if turn < len(places))


def similar_places(harvest: Harvest, latent: int, half: Half, rng: np.random.Generator) -> Iterator[Place]:
    """Occurrences, in the pool, of the tokens this latent fires on most often."""
    peaks = harvest.peaks(latent, "sample")
    fired = Counter(
        int(window.tokens[position])
        for window, position in zip(windows_of(harvest, peaks.window), peaks.position.tolist(), strict=True)
    )
    wanted = np.array([token for token, _ in fired.most_common(TOP_TOKENS)])
    windows = pool(harvest, half)
    for window in (windows[index] for index in rng.permutation(len(windows))):
        hits = np.flatnonzero(np.isin(window.tokens[1:], wanted)) + 1
        if len(hits):
            yield window, int(rng.choice(hits))


def random_places(harvest: Harvest, half: Half, rng: np.random.Generator) -> Iterator[Place]:
    """Random positions of the pool's windows, long windows sooner: as if tokens were drawn, not documents."""
    windows = pool(harvest, half)
    lengths = np.array([len(window.tokens) - 1 for window in windows])
    order = np.argsort(rng.exponential(size=len(windows)) / lengths)  # Efraimidis & Spirakis 2006
    for index in order.tolist():
        yield windows[index], int(rng.integers(1, lengths[index] + 1))


@lru_cache(maxsize=4)
def pool(harvest: Harvest, half: Half) -> list[Window]:
    """The windows of `half` among 2,000 random ones, the same for every latent."""
    return [window for window in harvest.random_windows(POOL, seed=0) if half_of(harvest, window.document) == half]
