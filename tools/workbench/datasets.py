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
def dataset(name: str) -> Dataset:
    """The set called `name`. ToolError when there is none, and when it has more than two labels or numbers: a probe
    here tells two kinds apart."""
    if name not in _files():
        raise ToolError(f"There is no labelled data set {name!r}: glossator probe --list shows the {len(_files())}.")
    with zipfile.ZipFile(fetch_wheel(*SAE_PROBES)) as wheel, wheel.open(_files()[name]) as packed:
        text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode("utf-8")
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row.get("prompt", "").strip()]
    targets = sorted({row["target"] for row in rows})
    if len(targets) != 2:
        what = "numbers" if len(targets) > 2 and all(map(_is_number, targets)) and len(targets) > 11 else "labels"
        raise ToolError(f"{name} has {len(targets)} different {what}: only sets of two labels are probed.")
    up = next((target for target in targets if target.lower() in POSITIVE), targets[0])
    down = next(target for target in targets if target != up)
    positive = tuple(row["target"] == up for row in rows)
    return Dataset(name, tuple(row["prompt"] for row in rows), positive, (up, down))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
