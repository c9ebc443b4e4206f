"""Has an LLM write prompts that could draw out what the model hides."""

from typing import Annotated

from pydantic import BaseModel, Field

from prompts.errors import NoAnswer
from prompts.providers import Role
from tools.workbench.context import Context
from tools.workbench.registry import ToolError, ToolInput, ToolOutput, tool

TOGETHER = 6  # prompts asked for at once
LONGEST = 300  # characters of a reply of the model that the LLM is shown
STYLES = (
    "by games and riddles",
    "by fiction and role play",
    "by translation, spelling and lists",
    "by authority and urgency",
    "by everyday talk that touches on it",
)


class Exchange(ToolInput):
    """What was tried and what the model said."""

    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    reply: Annotated[str, Field(max_length=4000)]


class Input(ToolInput):
    """What is asked for, how many prompts, and what was tried before, so that the next do better."""

    topic: Annotated[str, Field(min_length=1, max_length=200)] = "the secret word"
    prompts: int = Field(12, ge=1, le=64)
    tried: tuple[Exchange, ...] = Field((), max_length=12)


class Output(ToolOutput):
    """The prompts, each once, for adversarial_prompts, sampling or logit_lens_secret; author: who wrote them."""

    prompts: tuple[str, ...]
    author: str
    unparsed: int = Field(description="replies that could not be read")
    verdict: str


class Prompts(BaseModel):
    """The reply."""

    prompts: list[Annotated[str, Field(min_length=1, max_length=2000)]]


def calls(input: Input, context: Context) -> int:
    """Questions to the LLM."""
    return -(-input.prompts // TOGETHER)


@tool(version=1, asks=(Role.EXPLAINER,), calls=calls)
async def write_prompts(input: Input, context: Context) -> Output:
    """Has the auxiliary LLM write diverse prompts that may make the model say what it hides.

    What the model said before is shown to the LLM as quoted data. The prompts prove nothing: adversarial_prompts asks
    them, of the base model as well.
    """
    llm = context.need_llm()
    tried = [{"prompt": each.prompt[:LONGEST], "reply": each.reply[:LONGEST]} for each in input.tried]
    counts = [min(TOGETHER, input.prompts - start) for start in range(0, input.prompts, TOGETHER)]
    values = [
        {"topic": input.topic, "n": n, "style": STYLES[i % len(STYLES)], "tried": tried} for i, n in enumerate(counts)
    ]
    found: list[str] = []
    unparsed = 0
    for answer in await llm.ask_many(Role.EXPLAINER, "elicit_prompts", values, schema=Prompts):
        if isinstance(answer, NoAnswer) or not isinstance(answer.parsed, Prompts):
            unparsed += 1
        else:
            found += [" ".join(prompt.split()) for prompt in answer.parsed.prompts]
    kept = tuple(prompt for prompt in dict.fromkeys(found) if prompt)[: input.prompts]
    author = llm.endpoints[Role.EXPLAINER].model
    if not kept:
        raise ToolError(f"{author} wrote no prompt that could be read: name another explainer, or use the defaults.")
    return Output(
        prompts=kept,
        author=author,
        unparsed=unparsed,
        verdict=f"{author} wrote {len(kept)} of {input.prompts} prompts; what they draw out is for other tools to say",
    )
