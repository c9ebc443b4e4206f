"""What a label of a planted latent is tried on: texts, or words, that it should tell apart and never saw."""

import numpy as np

from tools.organisms.planted.directions import single_tokens
from tools.organisms.planted.latents import planted
from tools.organisms.planted.noun import Kind
from tools.organisms.planted.subject import PlantedSubject
from tools.organisms.planted.texts import written
from tools.workbench.judging import Item

SENTENCES = 3  # of a decoy's text: what begins alike fires alike, so texts of one frame would tell the same thing twice
SPARE = 8  # texts drawn for each one of a decoy, which fires on few


def held_out(
    subject: PlantedSubject, index: int, positives: int, negatives: int, rng: np.random.Generator
) -> list[Item]:
    """Up to so many items of each side, every text checked against the truth of latent `index`.

    A reader's positives are made from its frames ("firing"), its negatives half from its near misses ("near") and half
    from other latents' frames ("other"). A writer's are words that it promotes ("promoted") and words like them
    ("near"). A decoy's are texts of several sentences, those it happens to fire on ("firing") and others ("silent").
    """
    latent = planted()[index]
    if latent.kind is Kind.WRITES:
        single = single_tokens(subject, (*latent.frames, *latent.near))
        sides = [[word for word in side if word in single] for side in (latent.frames, latent.near)]
        promoted, near = (rng.permutation(side).tolist() for side in sides)
        return _items(promoted[:positives], "promoted") + _items(near[:negatives], "near")
    if latent.kind is Kind.DECOY:
        sentences = iter(_elsewhere(index, SENTENCES * SPARE * (positives + negatives), rng))
        texts = [" ".join(some) for some in zip(*[sentences] * SENTENCES, strict=False)]
        firing, silent = (_checked(subject, index, texts, side) for side in (True, False))
        return _items(firing[:positives], "firing") + _items(silent[:negatives], "silent")
    firing = _checked(subject, index, written(latent.frames, 2 * positives, rng), True)
    near = _checked(subject, index, written(latent.near, negatives, rng), False)[: negatives // 2]
    other = _checked(subject, index, _elsewhere(index, 3 * negatives, rng), False)[: negatives - len(near)]
    return _items(firing[:positives], "firing") + _items(near, "near") + _items(other, "other")


def _checked(subject: PlantedSubject, index: int, texts: list[str], wanted: bool) -> list[str]:
    return [text for text in texts if subject.fires(index, text) is wanted]


def _elsewhere(index: int, n: int, rng: np.random.Generator) -> list[str]:
    """`n` texts of the frames of all readers but latent `index`, every reader's as often."""
    frames = [
        frame
        for place, latent in enumerate(planted())
        if latent.frames and latent.kind is not Kind.WRITES and place != index
        for frame in latent.frames
    ]
    return written([frames[i] for i in rng.permutation(len(frames))], n, rng)


def _items(texts: list[str], kind: str) -> list[Item]:
    return [Item(text=text, positive=kind in ("firing", "promoted"), kind=kind) for text in texts]
