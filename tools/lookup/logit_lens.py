"""What the model would say if it stopped after each layer."""

from typing import Annotated

import torch
from pydantic import Field

from tools.workbench.context import Context
from tools.workbench.figures import HeatMap
from tools.workbench.lens import log_probabilities, streams
from tools.workbench.metrics import encode, single_tokens
from tools.workbench.registry import ToolInput, ToolOutput, tool

COLUMNS = 32  # of the map: the last tokens
UNRELATED = 16  # tokens of the baseline
SETTLED = 0.5  # of the probability that the model gives in the end


class Input(ToolInput):
    """The text, read after its last token, and the word that is followed through the layers."""

    text: Annotated[str, Field(min_length=1, max_length=4000)]
    word: str | None = Field(None, description="one token, with its leading space; by default what the model says")
    n: int = Field(5, ge=1, le=50, description="tokens told for each layer")


class TokenProbability(ToolOutput):
    """A token and its probability."""

    label: str
    value: float


class LayerReading(ToolOutput):
    """The residual stream after a layer, read by the unembedding: the likeliest tokens, the word's log-probability and
    rank (1: the likeliest), and how far this is from what the model says in the end: KL(end || here), nats. baseline:
    the word's median log-probability at that layer after the tokens of unrelated text."""

    label: str
    top: tuple[TokenProbability, ...]
    log_probability: float
    rank: int
    baseline: float
    kl: float


class Output(ToolOutput):
    """One reading for each layer, the embedding first. settled: the first layer from which the word keeps half of its
    last probability; None when it never has it before the end. map: for each layer x token, the log-probability of
    what the model itself says in the end after that token."""

    word: str
    layers: tuple[LayerReading, ...]
    settled: str | None
    map: HeatMap
    verdict: str


@tool(version=1)
def logit_lens(input: Input, context: Context) -> Output:
    """Reads every layer's residual stream with the final norm and unembedding: when does the model know what it says?

    Early layers are read badly by it (nostalgebraist 2020); a word counts as seen where it is far above its baseline on
    unrelated text, which says whether the layer would name it anyway.
    """
    subject = context.subject
    (ids,) = encode(subject, [input.text])
    residuals = streams(subject, torch.tensor([ids]))[:, 0]
    shown = min(COLUMNS, len(ids))
    lens = [log_probabilities(subject, each[-shown:]) for each in residuals]  # [layers + 1] of [shown, vocabulary]
    end = lens[-1]
    word = single_tokens(subject, [input.word])[0] if input.word is not None else int(end[-1].argmax())
    spelled = subject.token_strings([word])[0]
    unrelated = streams(subject, subject.calibration_tokens[:1, -UNRELATED - 1 :])[:, 0, 1:]
    said = end.argmax(-1)
    names = ["embedding", *(f"after L{layer}" for layer in range(subject.n_layers))]
    readings, rows = [], []
    for done, (name, here, other) in enumerate(zip(names, lens, unrelated, strict=True), 1):
        last = here[-1]
        likeliest = last.topk(input.n)
        strings = subject.token_strings(likeliest.indices.tolist())
        readings.append(
            LayerReading(
                label=name,
                top=tuple(
                    TokenProbability(label=string, value=float(value))
                    for string, value in zip(strings, likeliest.values.exp(), strict=True)
                ),
                log_probability=float(last[word]),
                rank=1 + int((last > last[word]).sum()),
                baseline=float(log_probabilities(subject, other)[:, word].median()),
                kl=float((end[-1].exp() * (end[-1] - last)).sum().clamp(min=0)),
            )
        )
        rows.append(here.gather(-1, said[:, None])[:, 0])
        context.progress(done, len(names))
    final = readings[-1]
    half = final.log_probability + torch.tensor(SETTLED).log().item()
    late = next((i for i in reversed(range(len(readings))) if readings[i].log_probability < half), -1) + 1
    settled = names[late] if late < len(names) - 1 else None
    first = next((each for each in readings if each.rank == 1), None)
    above = max(readings[:-1], key=lambda each: each.log_probability - each.baseline)
    verdict = (
        f"the model says {subject.token_strings([int(said[-1])])[0]!r}; {spelled!r} ends with log-probability "
        f"{final.log_probability:.2f} (rank {final.rank}), "
        + (f"keeps half of that probability from {settled} on" if settled else "which it reaches at the end alone")
        + (f", is first the likeliest {first.label}" if first else ", is never the likeliest")
        + f", and stands furthest above unrelated text {above.label} ({above.log_probability:.2f} against "
        f"{above.baseline:.2f})"
    )
    return Output(
        word=spelled,
        layers=tuple(readings),
        settled=settled,
        map=HeatMap.of(names, subject.token_strings(ids)[-shown:], torch.stack(rows)),
        verdict=verdict,
    )
