"""Which acts each step offers the LLM: few tools at a time, and the forms in which it answers."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.inquiry.auditing import FAMILY, HALF
from agent.inquiry.auditing import TESTS as AUDITING
from agent.inquiry.measures import measures
from agent.state import Case
from prompts.actions import Action, inlined
from prompts.providers import Role
from store.types import Comparison

if TYPE_CHECKING:
    from tools.workbench.registry import Tool

Sentence = Annotated[str, Field(min_length=1, max_length=300, pattern=r"\S")]
EXAMPLES, MINIMAL_PAIRS = "top_examples", "minimal_pairs"
TESTS = {  # the tools whose runs decide predictions, those that fit the question, the simplest first
    "latent": (MINIMAL_PAIRS, "score_detection", "ablate", "dose_response", "steering_effects"),
    "behaviour": ("ablate", "steer", "dose_response", "find_direction", "flip_projection", "activation_patching"),
    "pairs": ("activation_patching", "circuit_faithfulness", "direct_logit_attribution", "ablate", "steer"),
}
LOCALISING = (
    "contrast_pairs",
    "activation_patching",
    "attribution_patching",
    "edge_attribution",
    "feature_circuit",
    "head_profile",
)
FEW: dict[str, tuple[str, ...]] = {"activation_patching": ("site", "layers")}  # what a small LLM may say beside
TERSE_TESTS = 1  # of them, for a small LLM
DEFAULTS: dict[str, tuple[str, float]] = {  # where "above" begins when the LLM does not say: (measure, threshold)
    MINIMAL_PAIRS: ("separated", 0.5),  # more than half of the pairs
    "score_detection": ("low", 0.5),  # the 95 % interval clear of chance, an AUROC of 0.5
    "score_fuzzing": ("low", 0.5),
    "activation_patching": ("strongest.effect", 0.5),  # half of the way from one prompt to the other
}


class Form(BaseModel):
    """Base of what the LLM fills in."""

    model_config = ConfigDict(extra="forbid")


class Frame(Form):
    """Says what the question is about: a latent (give its index) or the model's behaviour, and what would answer it."""

    about: Literal["latent", "behaviour"]
    latent: int | None = None
    aim: Sentence


class Enough(Form):
    """Ends the looking around: what is known suffices for hypotheses."""


class Show(Form):
    """Shows the full output of an experiment in place of its short form."""

    experiment: str


class Dull(Form):
    account: Literal["frequency", "position", "token identity"]
    claim: Sentence


class State(Form):
    """States one to three hypotheses, and the dull rival that must be beaten: an account by frequency, by position or
    by the identity of single tokens."""

    hypotheses: list[Sentence] = Field(min_length=1, max_length=3)
    dull: Dull


class Expected(Form):
    hypothesis: str
    comparison: Comparison
    measure: str | None = None
    threshold: float | None = None


class Refine(Form):
    """Says what the verdicts mean and replaces a hypothesis by a better one, which will be tested."""

    reading: Sentence | None = None
    of: str
    claim: Sentence


class Finish(Form):
    """Says what the verdicts mean and goes on to the conclusion."""

    reading: Sentence


class Told(Form):
    hypothesis: str | None = None
    stance: Literal["for", "against"] | None = None
    evidence: list[str] = Field(default=[], max_length=8)
    sentence: Sentence


class Conclude(Form):
    """Answers the question, a claim a sentence, each with the experiments it rests on."""

    claims: list[Told] = Field(min_length=1, max_length=6)


def form(name: str, model: type[Form], case: Case) -> Action:
    """The form as an action; labels of hypotheses and experiments are limited to those there are."""
    labels = [h.label for h in case.hypotheses]
    runs = [run.label for run in case.runs if run.ok]
    names = {"hypothesis": labels, "of": labels, "evidence": runs, "experiment": runs}
    doc = " ".join((model.__doc__ or "").split())
    return Action(name, doc, _limited(inlined(model.model_json_schema()), names))


def looking(case: Case, terse: bool, roles: Collection[Role]) -> list["Tool"]:
    """The tools that fit: about the latent, or about texts and where a behaviour is, when the question names none.

    In an audit a tool that asks an LLM is among them when one of `roles` answers it.
    """
    from tools.workbench.registry import tools

    menu = tools()
    found = [tool for tool in menu.values() if tool.family == "lookup" and tool.name != MINIMAL_PAIRS]
    if case.audits:
        return [tool for tool in menu.values() if tool.family == FAMILY and set(tool.asks) <= set(roles)] + [
            tool for tool in found if not _needs_latent(tool)
        ]
    if case.latent is None:
        found = [tool for tool in found if not _needs_latent(tool)]
        found += [menu[name] for name in LOCALISING] if not terse else []
    if not terse:
        return found
    seen = {run.tool for run in case.runs}
    return [tool for tool in found if (own := _required(tool)) and not (own == ["latent"] and tool.name in seen)]


def testing(case: Case, terse: bool, roles: Collection[Role]) -> list["Tool"]:
    """The tools whose runs can decide a prediction about what is asked: few, so that each is read.

    A tool that asks an LLM is among them when one of `roles` answers it.
    """
    from tools.workbench.registry import tools

    menu = tools()
    names = TESTS["pairs" if case.contrast else "behaviour" if case.latent is None else "latent"]
    names = AUDITING if case.audits else names
    found = [menu[name] for name in names if name in menu and set(menu[name].asks) <= set(roles)]
    return found[:TERSE_TESTS] if terse else found


def look(tool: "Tool", case: Case, terse: bool) -> Action:
    """A tool as an action that runs it."""
    return Action(tool.name, tool.doc.partition("\n")[0], _arguments(tool, case, terse))


def test(tool: "Tool", case: Case, terse: bool) -> Action:
    """A tool as an action that registers a test with it: its input, and what each hypothesis expects."""
    arguments = {"input": _arguments(tool, case, terse), "expect": _expectations(tool, case)}
    schema = {"type": "object", "properties": arguments, "required": list(arguments), "additionalProperties": False}
    default = DEFAULTS.get(tool.name)
    by = f" Unless you say otherwise, compared is {default[0]} with {default[1]:g}." if default else ""
    return Action(tool.name, tool.doc.partition("\n")[0] + by, schema)


def _expectations(tool: "Tool", case: Case) -> dict[str, Any]:
    """What each hypothesis expects: a measure, a comparison and a threshold."""
    labels = open_labels(case)
    item = {
        "type": "object",
        "properties": {
            "hypothesis": {"enum": labels},
            "measure": {"enum": measures(tool)},
            "comparison": {"enum": list(Comparison)},
            "threshold": {"type": "number"},
        },
        "required": ["hypothesis", "comparison"] + ([] if tool.name in DEFAULTS else ["measure", "threshold"]),
        "additionalProperties": False,
    }
    return {"type": "array", "items": item, "minItems": 1, "maxItems": len(labels)}


def open_labels(case: Case) -> list[str]:
    """The hypotheses that may still be tested: those no prediction of which has failed."""
    return [h.label for h in case.hypotheses if case.standing(h.label) != "refuted"]


def _needs_latent(tool: "Tool") -> bool:
    return "latent" in tool.input.model_fields and tool.input.model_fields["latent"].is_required()


def takes_pairs(tool: "Tool") -> bool:
    """Whether it works on pairs of prompts, from a template or given."""
    return {"template", "pairs"} <= tool.input.model_fields.keys()


def _required(tool: "Tool") -> list[str]:
    return [name for name, field in tool.input.model_fields.items() if field.is_required()]


def _arguments(tool: "Tool", case: Case, terse: bool) -> dict[str, Any]:
    """The schema of a tool's input. A small LLM fills in only what must be; the latent in question fills itself in."""
    schema = inlined(tool.input.model_json_schema())
    properties = dict(schema.get("properties", {}))
    required = list(schema.get("required", []))
    properties.pop("level", None)  # is set by how many tests were made
    if case.audits:
        properties.pop(HALF, None)  # is set by whether it is a test
    if terse:
        kept = (*required, *FEW.get(tool.name, ()))
        properties = {name: part for name, part in properties.items() if name in kept}
    if terse and case.latent is not None:
        properties.pop("latent", None)
        required = [name for name in required if name != "latent"]
    schema = {name: part for name, part in schema.items() if name != "description"}
    return {**schema, "properties": properties, "required": required}


def _limited(part: Any, names: dict[str, list[str]]) -> Any:
    """The schema with every string called by one of `names` (or in a list called so) limited to its values."""
    if isinstance(part, list):
        return [_limited(inner, names) for inner in part]
    if not isinstance(part, dict):
        return part
    found = {name: _limited(inner, names) for name, inner in part.items()}
    for name, values in names.items():
        field = found.get("properties", {}).get(name)
        if not values or not isinstance(field, dict):
            continue
        if field.get("type") == "array":
            found["properties"][name] = {**field, "items": {"enum": values}}
        elif "anyOf" in field:
            found["properties"][name] = {"enum": [*values, None]}
        else:
            found["properties"][name] = {"enum": values}
    return found


def signature(action: Action) -> str:
    """An action in a line, for an LLM that sees no schema: name, arguments, what it does."""
    return f"{action.name}({', '.join(_told(action.schema))}): {action.doc}"


def _told(schema: dict[str, Any]) -> Sequence[str]:
    told = []
    for name, part in schema.get("properties", {}).items():
        inner = part.get("items", part)
        nested = _told(inner) if "properties" in inner else ()
        shape = f" {{{', '.join(nested)}}}" if nested else ""
        told.append(f"{name}{shape}" + (", ..." if part.get("type") == "array" and nested else ""))
    return told
