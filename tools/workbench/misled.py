"""A linear classifier on the model's activations that may go by what it should not, and the latents that it reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.workbench.context import Context
from tools.workbench.readout import Classifier, Groups, Texts, Tokens, effects, read_texts, trained
from tools.workbench.registry import ToolError
from tools.workbench.relevance import places
from tools.workbench.two_by_two import Labelled, Tested, two_by_two


class Learned(NamedTuple):
    """The texts, the classifier, what each latent adds to it and what the error adds, and the latents to be shown, with
    where they are strongest. classes, attributes: their names, the negative first."""

    train: Texts
    test: Texts
    positive: np.ndarray
    truth: np.ndarray
    groups: Groups
    classes: tuple[str, str]
    attributes: tuple[str, str]
    classifier: Classifier
    effects: np.ndarray
    error: float
    shown: list[int]
    snippets: list[tuple[str, ...]]


def learned(
    context: Context,
    train: Sequence[Labelled],
    test: Sequence[Tested],
    irrelevant: Sequence[int] | None,
    most: int,
    tokens: Tokens,
) -> Learned:
    """The classifier trained on `train`. Shown: the `most` latents that tell it most, and those called irrelevant."""
    subject = context.subject
    subject.check_written()
    for latent in irrelevant or ():
        subject.check_latent(latent)
    classes, attributes = two_by_two(train, test)
    if irrelevant is None:
        context.need_llm()
    taught, tried = (read_texts(subject, [each.text for each in of], tokens) for of in (train, test))
    positive, truth = (np.array([each.label == classes[1] for each in of]) for of in (train, test))
    second = np.array([each.attribute == attributes[1] for each in test])
    groups = {(a, b): np.flatnonzero((truth == a) & (second == b)) for a in (False, True) for b in (False, True)}
    classifier = trained(taught.x, positive)
    decoder = decoder_of(context)
    found, error = effects(classifier, taught, positive, decoder)
    strongest = np.argsort(-np.abs(found), kind="stable")
    shown = [int(i) for i in strongest[:most] if found[i]]
    if not shown:
        raise ToolError("No latent differs between the two classes of training texts: there is nothing to ablate.")
    shown = list(dict.fromkeys((*(irrelevant or ()), *shown)))
    snippets = places(subject, taught, shown)
    return Learned(
        taught, tried, positive, truth, groups, classes, attributes, classifier, found, error, shown, snippets
    )


def decoder_of(context: Context) -> np.ndarray:
    """float64[latents, d_model]."""
    decoder: np.ndarray = context.subject.dictionary.decoder.double().cpu().numpy()
    return decoder
