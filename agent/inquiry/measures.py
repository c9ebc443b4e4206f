"""What a prediction may be about: the numbers of a tool's output that a run decides, and the outcomes they leave."""

import math
import types
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent.state import Foretold
from store.types import Comparison

if TYPE_CHECKING:
    from tools.workbench.registry import Tool

Range = tuple[float | None, float | None]  # least and greatest; None: without end

CONTROLS = ("controls", "illusion")  # parts of an output that tell how far its other numbers can be believed
GIVEN = {  # what the input, the latent or the unedited model settle, or a control
    "chance", "floor", "n", "unparsed", "harvest_max", "prompts", "pairs", "tokens", "strength", "cost", "norm",
    "centre", "gap", "gap_random", "gap_active", "before", "clean", "corrupted", "latent", "layer", "position", "index",
    "sites", "edges", "agreement", "circuit_faithfulness.size", "logit_lens_secret.grade.shuffled",
    "logit_lens_secret.grade.base", "logit_lens_secret.grade.majority",
}  # fmt: skip
UPWARDS = (Comparison.GREATER, Comparison.AT_LEAST)
SHARE: Range = (0.0, 1.0)
SCORE = {"value": SHARE, "low": SHARE, "high": SHARE}
RANGES: dict[str, dict[str, Range]] = {  # of a tool's measures by path, where the field itself does not say
    "minimal_pairs": {
        "separated": SHARE,
        "low": SHARE,
        "high": SHARE,
        "fires_with": SHARE,
        "fires_without": SHARE,
        "p": SHARE,
        "contrast": (-1.0, 1.0),  # of the latent's maximum
    },
    "score_detection": SCORE,
    "score_fuzzing": SCORE,
    "behaviour_diff": {"p": SHARE, **{f"named.{name}": SHARE for name in SCORE}},
    "prefill_attack": {f"named.{name}": SHARE for name in SCORE},
    "logit_lens_secret": {
        **{f"grade.{name}": SHARE for name in ("accuracy", "low", "high", "said", "uttered")},
        "grade.beyond": (-1.0, 1.0),
        "grade.lacking": (-1.0, 1.0),
    },
    "model_diff": {"js": (0.0, math.log(2)), "focus.js": (0.0, math.log(2)), "focus.p": SHARE},
    "find_direction": {"auroc": SHARE, "low": SHARE, "high": SHARE},
    "train_probe": {"auroc": SHARE, "low": SHARE, "high": SHARE},
    "dose_response": {"curve.r2": (None, 1.0)},
    "ablate": {"effect.kl": (0.0, None)},
    "flip_projection": {"effect.kl": (0.0, None)},
    "steer": {"steered.kl": (0.0, None), "steered.perplexity": (1.0, None)},
    "steering_effects": {"size": (0.0, None)},
}


def measures(tool: "Tool") -> list[str]:
    """Dotted paths of the numbers in a tool's output that its run decides: no lists, no controls, nothing given."""
    return list(ranges(tool))


def ranges(tool: "Tool") -> dict[str, Range]:
    """The measures of a tool and the values that each can take."""
    known = RANGES.get(tool.name, {})

    def walk(model: type[BaseModel], path: str) -> dict[str, Range]:
        found: dict[str, Range] = {}
        for name, field in model.model_fields.items():
            kind = _kind(field.annotation)
            if name in CONTROLS or GIVEN & {name, f"{tool.name}.{path}{name}"}:
                continue
            if kind in (int, float):
                found[path + name] = _range(field) or known.get(path + name, (None, None))
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= walk(kind, f"{path}{name}.")
        return found

    return walk(tool.output, "")


def foregone(comparison: Comparison, threshold: float, range: Range) -> bool:
    """Whether every value in the range, or none, is an outcome that the prediction allows."""
    least, greatest = range
    upper = comparison in (Comparison.AT_LEAST, Comparison.LESS)  # the threshold belongs to what is above it
    below = least is not None and (threshold <= least if upper else threshold < least)
    above = greatest is not None and (threshold > greatest if upper else threshold >= greatest)
    return below or above


def disjoint(one: Foretold, other: Foretold) -> bool:
    """Whether no value of the same measure is an outcome that both predictions allow."""
    down, up = sorted((one, other), key=lambda each: each.comparison in UPWARDS)
    if one.measure != other.measure or down.comparison in UPWARDS or up.comparison not in UPWARDS:
        return False
    both = up.comparison == Comparison.AT_LEAST and down.comparison == Comparison.AT_MOST
    return down.threshold < up.threshold if both else down.threshold <= up.threshold


def _range(field: FieldInfo) -> Range | None:
    """The bounds that a field states; None when it states none."""
    least = next((value for each in field.metadata if (value := getattr(each, "ge", None)) is not None), None)
    greatest = next((value for each in field.metadata if (value := getattr(each, "le", None)) is not None), None)
    return None if least is None and greatest is None else (least, greatest)


def _kind(annotation: Any) -> Any:
    """The type of a field, without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _kind(members[0]) if len(members) == 1 else None
    return annotation
