"""The stretches of the harvest on which a latent fires most, on every decile of its firings, and at random."""

from pydantic import Field

from store.types import ActivationExample
from tools.workbench.context import Context
from tools.workbench.examples import WIDTH, Half, need_firings, snippets, spread, top
from tools.workbench.registry import ToolInput, ToolOutput, tool


class Input(ToolInput):
    """Which latent, and how many snippets of how many tokens."""

    latent: int
    top: int = Field(10, ge=0, le=100, description="snippets around the highest peaks")
    deciles: int = Field(10, ge=0, le=100, description="snippets around firings of every strength, one a stratum")
    random: int = Field(5, ge=0, le=100, description="snippets of random text, firing or not")
    width: int = Field(WIDTH, ge=4, le=255, description="tokens of a snippet")
    half: Half | None = Field(None, description="of the documents, for the top and the deciles; null: both")


class Output(ToolOutput):
    """Snippets with the latent's activation on each token; `density` is the share of tokens it fires on."""

    latent: str
    count: int
    density: float
    max: float
    top: tuple[ActivationExample, ...]
    deciles: tuple[ActivationExample, ...]
    random: tuple[ActivationExample, ...]


@tool(version=2)
def top_examples(input: Input, context: Context) -> Output:
    """Shows what a latent fires on: its strongest snippets, snippets from every decile of its firings, random text.

    Look at the deciles before naming a latent: the top alone makes most latents look narrower than they are.
    """
    subject, harvest = context.subject, context.need_harvest()
    latent = subject.latent(input.latent)
    count = need_firings(harvest, input.latent)
    stats = harvest.stats()
    rng = context.rng("top_examples", input.latent)
    windows = harvest.random_windows(input.random, seed=int(rng.integers(2**31)))
    positions = [int(rng.integers(1, len(window.tokens))) for window in windows]
    groups = {
        "top": top(harvest, input.latent, input.top, input.half, input.width),
        "deciles": spread(harvest, input.latent, input.deciles, input.half, rng, input.width) if input.deciles else [],
        "random": snippets(harvest, input.latent, windows, positions, input.width),
    }
    return Output(
        latent=str(latent),
        count=count,
        density=float(stats.density[input.latent]),
        max=float(stats.max[input.latent]),
        **{name: tuple(snippet.example(subject) for snippet in group) for name, group in groups.items()},
    )
