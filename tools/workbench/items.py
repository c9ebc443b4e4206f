"""Words of one kind, such as the days of the week, each in the same texts: their activations at the word."""

from collections.abc import Sequence

import numpy as np

from tools.workbench.activations import Case, read_activations
from tools.workbench.context import Context
from tools.workbench.labelled import locate
from tools.workbench.metrics import encode, single_tokens
from tools.workbench.registry import ToolError
from tools.workbench.sites import At
from tools.workbench.subject import Subject


def item_cases(subject: Subject, items: Sequence[str], templates: Sequence[str]) -> list[Case]:
    """Every item in every template, of which {} is the place, template by template; read at the item. ToolError for an
    item that is named twice or is several tokens, and for a template without its place."""
    if len(set(items)) < len(items):
        raise ToolError("A word is named twice: name each once, in their order.")
    single_tokens(subject, [f" {item}" for item in items])
    cases = []
    for template in templates:
        if template.count(" {}") != 1:
            raise ToolError(f"{template!r} must hold {{}} once, after a space: write it where the word stands.")
        for item, ids in zip(items, encode(subject, [template.replace("{}", item) for item in items]), strict=True):
            span = tuple(locate(subject, ids, item))
            cases.append(Case(tuple(ids), span[-1:], span))
    return cases


def read_items(context: Context, cases: Sequence[Case], n: int, sites: Sequence[At]) -> dict[At, np.ndarray]:
    """float64[templates, n, d_model] of each site, at the item, of the cases of n items."""
    found = read_activations(context, cases, sites)
    if not found.read.all():
        raise ToolError("One of the words is an attention sink there: name other words or texts.")
    return {site: x.astype(np.float64).reshape(-1, n, x.shape[1]) for site, x in found.values.items()}
