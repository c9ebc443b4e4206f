"""Edits on the real model: what they may say, that they do what they say, and that every generated token has them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from store.errors import UserError
from tools.workbench.causal import along
from tools.workbench.directions import Direction, Directions
from tools.workbench.editing import Change, Moves, prepare
from tools.workbench.edits import Edit
from tools.workbench.generation import generate
from tools.workbench.subject import Subject

TEXT = "The committee met in Paris on Tuesday, and nobody could agree on the minutes of the last meeting."
NEW = 8  # tokens to write


@pytest.fixture
def directions(tmp_path: Path) -> Directions:
    return Directions(tmp_path / "directions")


def made(subject: Subject, directions: Directions, **edit: Any) -> list[Change]:
    return prepare(subject, [Edit(**edit)], directions)


def active(subject: Subject) -> int:
    """The latent that fires most on the text."""
    return int(subject.activations(subject.to_tokens(TEXT)).sum((0, 1)).argmax())


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"operation": "add", "strength": 1}, "exactly one of"),
        ({"operation": "add", "strength": 1, "latent": 1, "neuron": 2, "layers": [3]}, "exactly one of"),
        ({"operation": "add", "latent": 1}, "add takes a strength"),
        ({"operation": "ablate", "latent": 1, "strength": 2}, "ablate takes no strength"),
        ({"operation": "add", "latent": 1, "strength": float("nan")}, "finite"),
        ({"operation": "add", "latent": -1, "strength": 1}, "greater than or equal to 0"),
        ({"operation": "add", "latent": 1, "strength": 1, "layers": [2]}, "dictionary's hook point"),
        ({"operation": "ablate", "neuron": 1}, "which layers"),
        ({"operation": "clamp", "head": 1, "layers": [2], "strength": 1}, "ablate it or scale it"),
        ({"operation": "ablate", "direction": [0.0, 0.0]}, "points nowhere"),
        ({"operation": "ablate", "direction": [float("inf"), 1.0]}, "finite"),
        ({"operation": "ablate", "latent": 1, "positions": []}, "changes nothing"),
        ({"operation": "add", "latent": 1, "strength": 1, "when_active": True}, "for clamping a latent"),
        ({"operation": "melt", "latent": 1}, "'add', 'ablate', 'clamp' or 'scale'"),
    ],
)
def test_an_edit_that_means_nothing_is_refused(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Edit.model_validate(bad)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"operation": "ablate", "neuron": 3, "layers": [30]}, "Layer 30 does not exist.*0 to 29"),
        ({"operation": "ablate", "neuron": 1536, "layers": [3]}, "Neuron 1536 does not exist.*0 to 1535"),
        ({"operation": "ablate", "head": 9, "layers": [3]}, "Head 9 does not exist.*0 to 8"),
        ({"operation": "ablate", "latent": 4608}, "from 0 to 4607"),
        ({"operation": "ablate", "direction": [1.0, 2.0]}, "2 numbers and .* needs 576"),
        ({"operation": "ablate", "direction": "abcdef"}, "no directions named 'abcdef'"),
        ({"operation": "add", "latent": 1, "strength": 1e9}, "at most"),
        ({"operation": "scale", "latent": 1, "strength": -1e9}, "at most 100"),
    ],
)
def test_what_the_model_does_not_have_is_refused(
    subject: Subject, directions: Directions, bad: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        made(subject, directions, **bad)


def test_positions_that_a_prompt_does_not_have_are_refused(subject: Subject, directions: Directions) -> None:
    tokens = subject.to_tokens("a short text")
    for position, reason in ((7, "Position 7 does not exist.*4 tokens"), (0, "BOS")):
        changes = made(subject, directions, operation="add", latent=1, strength=1, positions=[position])
        with pytest.raises(UserError, match=reason):
            subject.logits(tokens, changes)


def test_an_edit_survives_json() -> None:
    edit = Edit(operation="clamp", latent=4, strength=-3.5, when_active=True, positions=(1, -1))
    assert Edit.model_validate_json(edit.model_dump_json()) == edit


def test_a_latent_is_set_and_the_error_stays(subject: Subject, directions: Directions) -> None:
    """x' - x is the latent's difference times its decoder row, on every token but the sink, and nothing else."""
    tokens, latent = subject.to_tokens(TEXT), active(subject)
    before = subject.residual(tokens)
    activation = subject.dictionary.encode(before)[..., latent]
    row = subject.dictionary.decoder[latent]
    for operation, strength, wanted in (
        ("ablate", None, torch.zeros_like(activation)),
        ("clamp", 7.0, torch.full_like(activation, 7)),
        ("scale", 3.0, 3 * activation),
        ("add", 5.0, activation + 5),
    ):
        changes = made(subject, directions, operation=operation, latent=latent, strength=strength)
        after = subject.value_at(subject.hook, tokens, changes)
        expected = before + (wanted - activation)[..., None] * row
        expected[:, 0] = before[:, 0]
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-2)
    changes = made(subject, directions, operation="clamp", latent=latent, strength=-20, when_active=True)
    moved = (subject.value_at(subject.hook, tokens, changes) - before).norm(dim=-1)[0]
    assert ((moved > 1) == (subject.activations(tokens)[0, :, latent] > 0)).all()


def test_a_direction_is_projected_out(subject: Subject, directions: Directions) -> None:
    tokens = subject.to_tokens(TEXT)
    vector = torch.randn(576, generator=torch.Generator().manual_seed(0))
    name = directions.save(Direction(vector / vector.norm(), subject.name, "blocks.9.hook_resid_pre", "test"))
    unit = vector / vector.norm()
    for operation, strength, factor in (("ablate", None, 0.0), ("scale", -1.0, -1.0)):
        changes = made(subject, directions, operation=operation, direction=name, strength=strength)
        assert [change.hook for change in changes] == ["blocks.9.hook_resid_pre"]
        before = subject.value_at("blocks.9.hook_resid_pre", tokens)
        after = subject.value_at("blocks.9.hook_resid_pre", tokens, changes)
        torch.testing.assert_close((after @ unit)[:, 1:], factor * (before @ unit)[:, 1:], rtol=1e-3, atol=1e-2)
        assert torch.equal(after[:, 0], before[:, 0])


def test_a_direction_given_by_its_numbers_has_length_1_whatever_theirs(
    subject: Subject, directions: Directions
) -> None:
    numbers = torch.randn(576, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = (numbers / numbers.norm()).float()
    for size in (1e-300, 1e-30, 1.0, 1e38, 1e300):
        (change,) = made(subject, directions, operation="ablate", direction=(size * numbers).tolist())
        assert change.read is not None
        torch.testing.assert_close(change.read, unit)


def test_neurons_and_heads_are_those_of_the_weights(subject: Subject, directions: Directions) -> None:
    """Ablating one equals taking its column out of the matrix that reads it."""
    tokens = subject.to_tokens(TEXT)
    for edit, matrix, columns in (
        ({"neuron": 77}, "mlp.out", slice(77, 78)),
        ({"head": 5}, "attn.o", slice(5 * 64, 6 * 64)),
    ):
        changes = made(subject, directions, operation="ablate", layers=[12], include_sinks=True, **edit)
        edited = subject.logits(tokens, changes)
        weight = subject.model.blocks[12].get_submodule(matrix).original_component.weight
        kept = weight[:, columns].clone()
        try:
            with torch.no_grad():
                weight[:, columns] = 0
            torch.testing.assert_close(edited, subject.logits(tokens), rtol=1e-4, atol=1e-3)
        finally:
            with torch.no_grad():
                weight[:, columns] = kept
        assert (edited - subject.logits(tokens)).abs().max() > 1e-2


@pytest.mark.parametrize(
    "edit",
    [
        {"operation": "add", "latent": 100, "strength": 60.0},
        {"operation": "add", "latent": 100, "strength": 60.0, "positions": "generated"},
        {"operation": "add", "latent": 100, "strength": 90.0, "positions": [2, -1]},
        {"operation": "ablate", "direction": "vector", "layers": "all"},
        {"operation": "scale", "head": 3, "layers": [5, 20], "strength": 4.0},
    ],
)
def test_generating_with_the_cache_equals_running_the_whole_text(
    subject: Subject, directions: Directions, edit: dict[str, Any]
) -> None:
    vector = tuple(torch.randn(576, generator=torch.Generator().manual_seed(1)).tolist())
    if edit.get("direction"):
        edit = {**edit, "direction": vector}
    changes = made(subject, directions, **edit)
    prompts = torch.cat([subject.to_tokens(text) for text in ("The weather today is", "My first dog was")])
    written = generate(subject, prompts, NEW, changes)
    s = prompts.shape[1]
    logits = subject.logits(written, changes, prompt=s)
    assert torch.equal(written[:, s:], logits[:, s - 1 : -1].argmax(-1))
    unedited = subject.logits(written)[:, s - 1 : -1].argmax(-1)
    assert not torch.equal(written[:, s:], unedited), "the edit changes what is written"


def test_sinks_are_those_of_the_unedited_text(subject: Subject, directions: Directions) -> None:
    """What a strong edit makes long at one layer is still edited at the next."""
    tokens = subject.to_tokens("a short text")
    strong, weak = {"strength": 60 * subject.layer_norms[12]}, {"strength": 1.0}
    vector = tuple(torch.randn(576, generator=torch.Generator().manual_seed(2)).tolist())
    changes = [
        change
        for layer, more in ((12, strong), (13, weak))
        for change in made(subject, directions, operation="add", direction=vector, layers=[layer], **more)
    ]
    moves = Moves()
    subject.logits(tokens, changes, moves=moves)
    assert moves.n == 2 * (tokens.shape[1] - 1)


def test_directions_read_together_are_those_read_alone(subject: Subject, directions: Directions) -> None:
    """As rows of one batch, each at the size that the ablation has at every place."""
    tokens = subject.to_tokens("a short text")
    vector = tuple(subject.residual(tokens)[0, 1:].mean(0).tolist())
    group = made(subject, directions, operation="ablate", direction=vector, layers=[3, 9])
    units = torch.nn.functional.normalize(torch.randn(2, 576, generator=torch.Generator().manual_seed(3)), dim=1)
    both = subject.logits(tokens.repeat(2, 1), along(group, units))
    for row, unit in zip(both, units, strict=True):
        torch.testing.assert_close(row[None], subject.logits(tokens, along(group, unit)), rtol=1e-3, atol=1e-2)
    own, control, repeated = Moves(), Moves(), Moves()
    subject.logits(tokens, group, moves=own)
    subject.logits(tokens.repeat(2, 1), along(group, units), moves=control)
    untraced = [change.along(units[0]) for change in group]
    subject.logits(tokens, untraced, moves=repeated)
    assert control.mean == pytest.approx(own.mean, rel=0.3)
    assert control.mean < repeated.mean, "nothing is taken twice"


def test_generated_tokens_are_steered_too(subject: Subject, directions: Directions) -> None:
    """An edit of the generated tokens alone leaves the first of them, and changes a later one."""
    prompts = subject.to_tokens("The weather today is")
    changes = made(subject, directions, operation="add", latent=100, strength=200.0, positions="generated")
    plain, steered = generate(subject, prompts, NEW), generate(subject, prompts, NEW, changes)
    assert torch.equal(plain[:, :6], steered[:, :6])
    assert not torch.equal(plain[:, : steered.shape[1]], steered[:, : plain.shape[1]])


def test_sampling_depends_on_the_seed_alone(subject: Subject) -> None:
    prompts = subject.to_tokens("Once upon a time")
    first, again, other = (generate(subject, prompts, 4, temperature=1.0, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_directions_are_kept_by_their_content(directions: Directions) -> None:
    vector = torch.nn.functional.normalize(torch.arange(1.0, 9.0), dim=0)
    name = directions.save(Direction(vector, "m", "blocks.1.hook_resid_pre", "test", norm=3.5, centre=-0.25))
    assert directions.save(Direction(vector, "m", "blocks.1.hook_resid_pre", "test", norm=3.5, centre=-0.25)) == name
    found = directions.load(name[:6])
    assert torch.equal(found.vector, vector)
    assert (found.norm, found.centre, found.hook) == (3.5, -0.25, "blocks.1.hook_resid_pre")
    other = directions.save(Direction(vector, "m", "blocks.1.hook_resid_pre", "test", norm=3.0))
    (directions.folder / f"{name}.safetensors").write_bytes((directions.folder / f"{other}.safetensors").read_bytes())
    with pytest.raises(UserError, match="not what its name says"):
        directions.load(name)
    (directions.folder / f"{name}.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        directions.load(name)
