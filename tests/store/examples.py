"""One fact of every noun, with awkward values, each pointing at the others."""

from datetime import datetime

from store.types import (
    ActivationExample,
    Claim,
    Comparison,
    Conclusion,
    Experiment,
    Explanation,
    Fact,
    Hypothesis,
    Investigation,
    Judgement,
    LLMCall,
    Prediction,
    Review,
    Score,
    ToolOffer,
    ToolUse,
    Verdict,
)

AWKWARD = 'naïve 日本 🦆 "quoted" \\ back\nnew line\ttab \u2028 end'
LATENT = "smol/default/7"


def experiment(tool: str = "explain_latent", latent: str = LATENT, **changes) -> Experiment:
    values = {"version": 1, "subject": "f00d", "input": {"latent": latent}, "seed": 0, "output": {"ok": True}}
    if "error" in changes:
        values["output"] = None
    return Experiment(**{**values, "tool": tool, "latent": latent, "seconds": 0.1 + 0.2, "device": "cpu", **changes})


def explanation(latent: str = LATENT, **changes) -> Explanation:
    values = {"text": "ducks", "method": "explain_latent", "explainer": "qwen", "experiment": None}
    return Explanation(**{**values, "latent": latent, **changes})


def score(of: Explanation, scorer: str, value: float, run: Experiment, **changes) -> Score:
    values = {"judge": "qwen", "low": value - 0.1, "high": value + 0.1, "chance": 0.5, "floor": 0.51, "n": 40}
    values |= {"unparsed": 0, "experiment": run.id, "scorer": scorer, "value": value, "explanation": of.id}
    return Score(**{**values, **changes})


def llm_call(**changes) -> LLMCall:
    values = {
        "role": "judge",
        "template": "judge_detection.v1",
        "template_hash": "beef",
        "request": "cafe",
        "model": "qwen",
        "parameters": {"temperature": 0.0, "max_tokens": 1, "seed": None, "deep": {"list": [1, 2.5, "x"]}},
        "messages": ({"role": "user", "content": AWKWARD},),
        "reply": AWKWARD,
        "prompt_tokens": 10,
        "completion_tokens": 1,
        "seconds": 0.25,
    }
    return LLMCall(**{**values, **changes})


def every_noun() -> list[Fact]:
    asked = Investigation(
        thread=AWKWARD,
        question=AWKWARD,
        subject="f00d",
        model="smol",
        dictionary="default",
        dtype="float32",
        seed=-1,
        llm="qwen",
        native=True,
        limits={"rounds": 3, "usd": None},
    )
    call = llm_call(tool_calls=({"name": "frame", "arguments": AWKWARD},))
    rival = Hypothesis(about=LATENT, claim="dull", investigation=asked.id, dull=True)
    foretold = Prediction(
        hypothesis=rival.id,
        tool="minimal_pairs",
        input={"latent": 7},
        measure="share.value",
        comparison=Comparison.LESS,
        threshold=0.5,
        counterexample=True,
    )
    tested = experiment("minimal_pairs", input={"latent": 7}, output={"share": {"value": 1}}, prediction=foretold.id)
    claims = (
        Claim(sentence=AWKWARD, evidence=(tested.id,), hypothesis=rival.id, stance="against"),
        Claim(sentence="perhaps", conjecture=True, author="code"),
    )
    parent = Hypothesis(about=LATENT, claim=AWKWARD)
    child = Hypothesis(about=LATENT, claim="refined", refines=parent.id, created_at=datetime(2026, 1, 2, 3, 4, 5, 1))
    prediction = Prediction(
        hypothesis=child.id,
        tool="steer",
        input={"strength": 1.0, "integer": 1, "text": AWKWARD, "nothing": None},
        measure="effect.mean",
        comparison=Comparison.AT_LEAST,
        threshold=1e-300,
    )
    run = experiment(
        input={"b": [1e-17, -0.0, 123456789012345678], "a": {}},
        seed=-(2**63),
        controls={"random": 0.1},
        prediction=prediction.id,
    )
    failed = experiment(error=AWKWARD, latent=None, created_at=datetime(2026, 1, 1))
    told = explanation(
        text=AWKWARD,
        experiment=run.id,
        evidence=(ActivationExample(document=3, start=0, tokens=("<s>", AWKWARD), activations=(0.0, 1 / 3)),),
        graph={"root": [{"token": "a", "weight": 0.1}]},
    )
    better = explanation(text="mallards", method="person", explainer="none")
    return [
        parent,
        child,
        prediction,
        run,
        failed,
        told,
        better,
        score(told, "score_detection", 2 / 3, run),
        score(told, "score_fuzzing", 0.5, run, floor=None, unparsed=3),
        llm_call(logprobs={"1": -0.1, "0": -2.302585092994046}, usd=1e-7, finish_reason="stop"),
        llm_call(reply="", usd=None),
        Review(explanation=told.id, verdict=Verdict.REWRITE, reviewer=AWKWARD, note="", rewrite=better.id),
        Review(explanation=better.id, verdict=Verdict.ACCEPT, reviewer="me", note=AWKWARD),
        asked,
        call,
        rival,
        foretold,
        tested,
        ToolOffer(investigation=asked.id, step="predict", round=1, tools=("minimal_pairs", AWKWARD), call=call.id),
        ToolUse(investigation=asked.id, step="test", round=1, experiment=tested.id, why=AWKWARD),
        Judgement.of(foretold, tested),
        Conclusion(investigation=asked.id, reason="concluded", claims=claims),
    ]
