"""Pictures are drawn from any numbers and any text, the same bytes each time, and circuits with every node in place."""

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from tools.workbench.figures import HeatMap
from tools.workbench.pictures import Bar, Bars, Picture, circuit, layout, save

HOSTILE = "\x1b[31m$\\frac$ <b>\u202e\u4e2d\ud800"
EDGES = [("embed->L0MLP", -2.0), ("L0MLP->L3KV1.k", 0.5), ("L0MLP->L3H2.q", 0.25), ("L3H2->logits", 1.0)]
SHAPES = [
    HeatMap(rows=("L0", HOSTILE), columns=(HOSTILE, " the", "\n"), values=((0.0, None, 1e-9), (-3.0, 1.0, 2.0))),
    HeatMap(rows=("L0",), columns=tuple(map(str, range(300))), values=((0.0,) * 300,)),
    Bars((Bar(HOSTILE, 0.5, 0.4, 0.6), Bar("", -0.1, beside=True))),
    circuit(EDGES, shared=2),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_picture_is_the_same_each_time(tmp_path: Path, shape: HeatMap | Bars) -> None:
    picture = Picture(f"a title {HOSTILE} " * 8, shape, HOSTILE, f"Controls {HOSTILE}")
    files = [tmp_path / name for name in ("a.png", "b.png", "a.svg", "b.svg")]
    save(picture, *files[::2])
    save(picture, *files[1::2])
    png, again, svg, other = (path.read_bytes() for path in files)
    assert png == again
    assert svg == other
    assert not re.search(rb"\x1b|\d{4}-\d\d-\d\dT", svg)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    pixels = matplotlib.image.imread(files[0])
    assert np.ptp(pixels) > 0.5
    assert max(pixels.shape) < 3000


def test_a_scale_is_symmetric(tmp_path: Path) -> None:
    """The scale's ends are red and blue whatever the values are; the cell that is strongest has one of them."""
    for sign, (cell, other) in {1: (0, 2), -1: (2, 0)}.items():
        shape = HeatMap(rows=("L0",), columns=("a", "b", "c"), values=((sign * 2.0, 0.0, sign * 0.01),))
        save(Picture("t", shape, "m"), tmp_path / f"{sign}.png")
        pixels = matplotlib.image.imread(tmp_path / f"{sign}.png")
        dark = {
            at: int(((pixels[..., at] > 0.15) & (pixels[..., 2 - at] < 0.35 * pixels[..., at])).sum()) for at in (0, 2)
        }
        assert dark[cell] > 3 * dark[other] > 0


def test_a_circuit_has_every_node_at_its_height() -> None:
    shape = circuit(EDGES, shared=2)
    assert shape.reads == (("L3KV1", "L3H2"),)  # L3H3 reads it too, but is not drawn
    assert circuit(EDGES).reads == ()
    places = layout(shape)
    assert set(places) == {"embed", "L0MLP", "L3KV1", "L3H2", "logits"}
    heights = {name: y for name, (_, y) in places.items()}
    assert heights["embed"] < heights["L0MLP"] < heights["L3KV1"] < heights["L3H2"] < heights["logits"]
    assert len(set(places.values())) == len(places)
