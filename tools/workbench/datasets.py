"""The labelled data sets of the wheel `sae-probes` (Kantamneni et al. 2502.16681): texts with a target each."""

import csv
import io
import re
import zipfile
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import zstandard

from store.fetch import fetch_wheel
from tools.workbench.corpus import SAE_PROBES
from tools.workbench.registry import ToolError

SUFFIX = ".csv.zst"
OUT_OF_DISTRIBUTION = "_OOD"  # other texts for a probe of the set of that name, and no set of its own
MOST_CLASSES = 20  # more different targets that are all numbers are a quantity
POSITIVE = ("1", "true", "yes", "correct", "bigram", "entailment")  # which of two labels is the positive one


@dataclass(frozen=True)
class Dataset:
    """Texts, whether each is positive, and what positive and negative are called."""

    name: str
    texts: tuple[str, ...]
    positive: tuple[bool, ...]
    labels: tuple[str, str]

    def balanced(self, n: int, rng: np.random.Generator) -> "Dataset":
        """At most n texts, half of each label where there are enough."""
        truth = np.array(self.positive)
        sides = [rng.permutation(np.flatnonzero(truth == side))[: n // 2] for side in (True, False)]
        rows = np.sort(np.concatenate(sides)).tolist()
        texts, positive = tuple(self.texts[row] for row in rows), tuple(self.positive[row] for row in rows)
        return Dataset(self.name, texts, positive, self.labels)


@cache
def _files() -> dict[str, str]:
    """Each set's name and its file in the wheel, by the number in front."""
    with zipfile.ZipFile(fetch_wheel(*SAE_PROBES)) as wheel:
        paths = {Path(n).name.removesuffix(SUFFIX): n for n in wheel.namelist() if n.endswith(SUFFIX)}
    numbered = {name: path for name, path in paths.items() if re.match(r"\d+_", name)}
    own = [name for name in numbered if not name.endswith((OUT_OF_DISTRIBUTION, "_translations"))]
    return {name: numbered[name] for name in sorted(own, key=lambda name: int(name.partition("_")[0]))}


def dataset_names() -> list[str]:
    """Every set, in order of its number."""
    return list(_files())


@lru_cache(maxsize=4)
def targets(name: str) -> tuple[tuple[str, str], ...]:
    """(text, target) of each row of the set called `name`. ToolError when there is none."""
    if name not in _files():
        raise ToolError(f"There is no labelled data set {name!r}: glossator probe --list shows the {len(_files())}.")
    with zipfile.ZipFile(fetch_wheel(*SAE_PROBES)) as wheel, wheel.open(_files()[name]) as packed:
        text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode("utf-8")
    rows = csv.DictReader(io.StringIO(text))
    return tuple((row["prompt"], row["target"]) for row in rows if (row.get("prompt") or "").strip())


def dataset(name: str) -> Dataset:
    """The set called `name`. ToolError when there is none, and when it has more than two labels or numbers: a probe
    here tells two kinds apart."""
    rows = targets(name)
    labels = sorted({target for _, target in rows})
    if len(labels) != 2:
        what = "numbers" if len(labels) > MOST_CLASSES and all(map(_is_number, labels)) else "labels"
        raise ToolError(f"{name} has {len(labels)} different {what}: only sets of two labels are probed.")
    up = next((label for label in labels if label.lower() in POSITIVE), labels[0])
    down = next(label for label in labels if label != up)
    positive = tuple(target == up for _, target in rows)
    return Dataset(name, tuple(text for text, _ in rows), positive, (up, down))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
