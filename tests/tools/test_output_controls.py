"""What steering with planted latents does to the next token: those that write stand clear, those that read do not."""

from pydoc_data.topics import topics

import numpy as np
import pytest

from store.activations import Harvest, HarvestWriter, Window
from store.ledger import Ledger
from tools.labelling.explain_by_output import Input, Measured, measured
from tools.organisms.planted.latents import planted
from tools.organisms.planted.noun import Kind
from tools.organisms.planted.subject import PlantedSubject
from tools.workbench.context import Context

LENGTH = 32  # tokens of a window
SILENT = ("french", *(pytest.param(name, marks=pytest.mark.slow) for name in ("units", "decoy 3")))
INDEX = {latent.name: index for index, latent in enumerate(planted())}


@pytest.fixture(scope="module")
def context(organism: PlantedSubject, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Text on which every planted latent fired once. They are out of the model, which is steered along their rows."""
    folder = tmp_path_factory.mktemp("planted")
    ids = [organism.tokenize([topics[key][:800]])[0] for key in sorted(topics)]
    rows = [[organism.bos, *each[: LENGTH - 1]] for each in ids if len(each) >= LENGTH][:60]
    windows = [Window(i, i, 0, np.array(row, np.int32)) for i, row in enumerate(rows)]
    n = organism.dictionary.n_latents
    writer = HarvestWriter(folder / "harvest", {"corpus_hash": "topics", "subject": "planted"}, n)
    place = np.arange(n)
    strengths = np.full(n, organism.strongest, np.float32)
    writer.write_shard(
        windows, place.astype(np.int32), place.astype(np.int32), place.astype(np.int16) % 8 + 1, strengths, sinks=60
    )
    writer.finish()
    return Context(organism, Ledger(folder / "store.duckdb"), Harvest(folder / "harvest"))


def steered(context: Context, name: str, prompts: int = 16) -> Measured:
    return measured(Input(latent=INDEX[name], prompts=prompts), context)


def test_a_latent_that_writes_stands_clear(context: Context) -> None:
    found = steered(context, "writes numbers", prompts=8)
    assert found.clear
    assert found.steered.kl > max(found.controls.randoms)
    assert max(found.controls.randoms) == found.controls.random_direction.kl
    assert " three" in found.steered.promoted
    assert "clear of its controls" in found.verdict


@pytest.mark.parametrize("name", SILENT)
def test_a_latent_that_writes_nothing_does_not(context: Context, name: str) -> None:
    found = steered(context, name, prompts=8)
    assert not found.clear
    assert "not clear of its controls" in found.verdict


@pytest.mark.slow
def test_of_all_planted_latents_only_writers_stand_clear(context: Context) -> None:
    clear = {latent.name for latent in planted() if steered(context, latent.name).clear}
    assert clear <= {latent.name for latent in planted() if latent.kind is Kind.WRITES}
    assert len(clear) >= 3
