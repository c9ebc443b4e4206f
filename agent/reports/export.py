"""A thread as a report that a colleague can read without the tool: claims, predictions, evidence, figures."""

import json
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from agent.inquiry.brief import brief, numbers
from agent.inquiry.dossier import Dossier, verdict
from agent.reports.figures import figure, thresholds
from agent.screen.shapes import figures
from agent.screen.show import clean
from store.types import Experiment

FORMATS = ("md", "html")
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")
LEADING = re.compile(r"^(\s*\d*)([-+=.)])(?=\s|[-=]*$)")  # at the start of a line: a list, a rule or a heading
INPUT_SHOWN = 1500  # characters


def report(found: list[Dossier], format: str) -> str:
    """The report on the investigations of one thread, in Markdown or HTML. All text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("agent.reports"),
        autoescape=format == "html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless if format == "html" else escaped,
    )
    return environment.get_template(f"report.{format}").render(
        thread=found[0].investigation.thread, investigations=[_section(dossier) for dossier in found]
    )


def _section(dossier: Dossier) -> dict[str, Any]:
    row, calls = dossier.investigation, dossier.calls
    prices = [call.usd for call in calls]
    adapters = [run.adapter for run in dossier.evidence.experiments.values() if run.adapter]
    return {
        "row": row,
        "adapter": adapters[0] if adapters else None,
        "asked_at": f"{row.created_at:%Y-%m-%d %H:%M} UTC",
        "ended": dossier.conclusion.reason if dossier.conclusion else "still open",
        "claims": [_claim(dossier, claim) for claim in (dossier.conclusion.claims if dossier.conclusion else ())],
        "hypotheses": [
            {
                "row": hypothesis,
                "standing": dossier.evidence.standing(hypothesis.id),
                "parent": dossier.evidence.hypotheses.get(hypothesis.refines or ""),
                "predictions": [
                    {
                        "row": prediction,
                        "verdict": verdict(prediction, judgement),
                        "label": dossier.label(judgement.experiment) if judgement else None,
                    }
                    for prediction, judgement in dossier.predictions(hypothesis)
                ],
            }
            for hypothesis in dossier.evidence.hypotheses.values()
        ],
        "outcomes": _outcomes(dossier),
        "experiments": [_experiment(dossier, run) for run in dossier.evidence.experiments.values()],
        "calls": len(calls),
        "tokens": sum(call.prompt_tokens + call.completion_tokens for call in calls),
        "usd": None if None in prices else sum(price for price in prices if price is not None),
    }


def _claim(dossier: Dossier, claim: Any) -> dict[str, Any]:
    return {"row": claim, "labels": [dossier.label(id) for id in claim.evidence]}


def _experiment(dossier: Dossier, run: Experiment) -> dict[str, Any]:
    use = next(use for use in dossier.uses if use.experiment == run.id)
    return {
        "row": run,
        "label": dossier.label(run.id),
        "why": use.why,
        "verdict": brief(run).verdict,
        "input": json.dumps(run.input, ensure_ascii=False)[:INPUT_SHOWN],
        "numbers": [(name, f"{value:.4g}") for name, value in numbers(run.output or {}).items()],
        "pairs": _pairs(run),
        "figures": [(name, [Markup(figure(shape)) for shape in found]) for name, found in figures(run.output or {})],
    }


def _pairs(run: Experiment) -> list[dict[str, Any]]:
    """The texts of minimal pairs with what was measured on them."""
    if run.tool != "minimal_pairs" or run.output is None:
        return []
    return [
        {
            "text": texts["text"],
            "other": read["other"],
            "with": f"{read['with_cause']:.3g}",
            "without": f"{read['without_cause']:.3g}",
        }
        for texts, read in zip(run.input["pairs"], run.output["pairs"], strict=True)
    ]


def _outcomes(dossier: Dossier) -> Markup | None:
    """Predicted and measured, for every prediction that was decided."""
    rows = []
    names = {h.id: f"H{number}" for number, h in enumerate(dossier.evidence.hypotheses.values(), 1)}
    for judgement in dossier.evidence.judgements:
        prediction = dossier.evidence.predictions[judgement.prediction]
        if judgement.held is not None and judgement.value is not None:
            comparison = str(prediction.comparison)
            label = f"{names[prediction.hypothesis]}: {prediction.measure} {comparison} {prediction.threshold:.3g}"
            rows.append((label, prediction.threshold, comparison, judgement.value, judgement.held))
    return Markup(thresholds(rows)) if rows else None


def _harmless(value: Any) -> Any:
    """Text without characters that steer what reads it; the environment escapes it."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else clean(value)


def escaped(value: Any) -> Any:
    """Text on one line, with everything that Markdown or HTML would read as markup escaped."""
    if isinstance(value, Markup):
        return str(value)
    if not isinstance(value, str):
        return value
    return LEADING.sub(r"\1\\\2", SPECIAL.sub(r"\\\1", clean(value)))
