"""Looks for features of several dimensions among the dictionary's latents: those that write into one small space."""

from collections import Counter

import numpy as np
from pydantic import Field

from tools.workbench.charts import Cloud
from tools.workbench.clusters import Cluster, cosine_clusters, written
from tools.workbench.context import Context
from tools.workbench.examples import windows_of
from tools.workbench.irreducible import Irreducible, irreducible
from tools.workbench.pictures import Picture, draw
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool

LEAST = 50  # tokens that a cluster fires on
RANDOMS = 60  # clusters at least
REDRAWN = 10  # times as many are drawn, where some fire too rarely
SURE = 0.05
DRAWS = 5  # of each index's controls
DRAWN = 6  # clusters whose plane is drawn
WORDS = 8  # tokens that are told of a cluster
READS = 0.008  # seconds a latent
TRIES = 0.1  # seconds a plane


class Input(ToolInput):
    """Two latents are joined where one is among the other's nearest `neighbours` by the cosine of their decoder rows,
    and that is `cosine` or more. A cluster is what hangs together, three latents to `most`."""

    cosine: float = Field(0.3, gt=0, lt=1)
    neighbours: int = Field(2, ge=1, le=10)
    most: int = Field(100, ge=3, le=1000)
    top: int = Field(10, ge=1, le=100, description="clusters that are told, the most irreducible first")


class Found(ToolOutput):
    """A cluster: its latents, on how many tokens they fire, which two principal components of what they write together
    are the plane that is least reducible (1 the largest), the share of the variance in it, its indices, and the
    tokens that they fire on most often."""

    latents: tuple[int, ...]
    tokens: int
    plane: tuple[int, int]
    share: float
    irreducible: Irreducible
    words: tuple[str, ...]


class Output(ToolOutput):
    """clusters: how many were looked at, of all_clusters; the others fire too rarely or are too large. random: the
    highest index among as many clusters (60 at least) of as many latents drawn at random; above: how many of the
    clusters exceed it, and p: the chance of as many, were the two kinds alike."""

    all_clusters: int
    clusters: int
    found: tuple[Found, ...]
    random: float
    above: int
    p: float
    clear: bool
    verdict: str
    pictures: tuple[str, ...]


def estimate(input: Input, context: Context) -> float:
    """Seconds: the firings of the clusters' latents, of as many others, and the planes."""
    clusters = cosine_clusters(context.subject.dictionary.decoder, input.cosine, input.neighbours)
    return 2 * sum(READS * len(each) + 3 * TRIES for each in clusters)


@tool(version=2, estimate=estimate)
def latent_clusters(input: Input, context: Context) -> Output:
    """Which latents are parts of one feature of two dimensions, such as a circle? Clusters them by what they write.

    Of each cluster the reconstruction by its latents alone is taken apart into principal components; planes of
    successive ones are ranked by how little they are two features of one dimension. A picture shows what a plane is: a
    circle, a line, lumps. Source: Engels et al. 2405.14860, section 4.
    """
    subject, harvest = context.subject, context.need_harvest()
    rng = context.rng("latent_clusters", input.model_dump_json())
    decoder = subject.dictionary.decoder
    clusters = cosine_clusters(decoder, input.cosine, input.neighbours)
    fires = np.flatnonzero(harvest.stats().count)
    small = [latents for latents in clusters if len(latents) <= input.most]
    looked: list[tuple[Cluster, Found]] = []
    for done, latents in enumerate(small, 1):
        own = written(harvest, decoder, latents, rng)
        if (best := _best(latents, own, rng)) is not None:
            looked.append((own, best))
        context.progress(done, 2 * len(small))
    if not looked:
        raise ToolError(
            f"No cluster of three to {input.most} latents fires on {LEAST} tokens or more: lower cosine, raise most, "
            "or harvest more text."
        )
    looked.sort(key=lambda each: -each[1].irreducible.index)
    told = [(own, best.model_copy(update={"words": _words(context, own)})) for own, best in looked[: input.top]]
    random: list[float] = []
    drawn = max(RANDOMS, len(looked))
    for _ in range(REDRAWN * drawn):
        size = len(looked[len(random) % len(looked)][1].latents)
        others = rng.choice(fires, min(size, len(fires)), replace=False)
        if (beside := _best(others, written(harvest, decoder, others, rng), rng)) is None:
            continue
        random.append(beside.irreducible.index)
        context.progress(len(small) + len(small) * len(random) // drawn, 2 * len(small))
        if len(random) == drawn:
            break
    else:
        raise ToolError("Latents drawn at random fire on too few tokens to compare with: harvest more text.")
    highest = max(random)
    above = sum(best.irreducible.index > highest for _, best in looked)
    p = float(np.prod([(len(looked) - i) / (len(looked) + drawn - i) for i in range(above)]))
    clear = p < SURE
    first = told[0][1]
    verdict = (
        f"{len(looked)} of {len(clusters)} clusters were looked at; the least reducible, of {len(first.latents)} "
        f"latents on {first.tokens:,} tokens ({', '.join(map(repr, first.words[:4]))}), has an index of "
        f"{first.irreducible.index:.2f}: {first.irreducible.words}; {above} are above the highest of {drawn} "
        f"clusters of latents drawn at random, {highest:.2f} (p {p:.2g}): {'clear' if clear else 'not clear'} of them"
    )
    pictures = {
        f"cluster{at}": Picture(
            f"Latents {', '.join(map(str, best.latents[:6]))}{' ...' if len(best.latents) > 6 else ''}",
            _cloud(context, own, best),
            f"components {best.plane[0]} and {best.plane[1]} of what they write",
            f"{best.irreducible.words}; random clusters' highest index {highest:.2f}, this one's "
            f"{best.irreducible.index:.2f}",
        )
        for at, (own, best) in enumerate(told[:DRAWN])
    }
    return Output(
        all_clusters=len(clusters),
        clusters=len(looked),
        found=tuple(best for _, best in told),
        random=highest,
        above=above,
        p=p,
        clear=clear,
        verdict=verdict,
        pictures=draw(context, "latent_clusters", input, **pictures),
    )


def _best(latents: np.ndarray, own: Cluster, rng: np.random.Generator) -> Found | None:
    """The plane of two successive components that is least reducible; None where there are too few tokens or planes."""
    if own.tokens < LEAST:
        return None
    found = []
    for first in range(own.points.shape[1] - 1):
        indices = irreducible(own.points[:, first : first + 2], rng, DRAWS)
        if indices is not None:
            found.append((indices, first))
    if not found:
        return None
    indices, first = max(found, key=lambda each: each[0].index)
    return Found(
        latents=tuple(int(latent) for latent in latents),
        tokens=own.tokens,
        plane=(first + 1, first + 2),
        share=float(own.share[first : first + 2].sum()),
        irreducible=indices,
        words=(),
    )


def _strings(context: Context, own: Cluster) -> list[str]:
    """The token at each of a cluster's points."""
    ids, at = np.unique(own.window, return_inverse=True)
    windows = windows_of(context.need_harvest(), ids)
    return context.subject.token_strings(
        np.array([windows[i].tokens[place] for i, place in zip(at, own.position, strict=True)])
    )


def _words(context: Context, own: Cluster) -> tuple[str, ...]:
    return tuple(word for word, _ in Counter(_strings(context, own)).most_common(WORDS))


def _cloud(context: Context, own: Cluster, best: Found) -> Cloud:
    """The points by their token, the commonest by name, the others together."""
    strings = _strings(context, own)
    named = [word if word in best.words else "" for word in strings]
    points = own.points[:, best.plane[0] - 1 : best.plane[1]]
    return Cloud(
        tuple(
            (word, tuple(map(tuple, points[[each == word for each in named]].tolist())))
            for word in ("", *best.words)
            if word in named
        )
    )
