"""What an investigation may use up; whichever limit is reached first ends it with an honest conclusion."""

from pydantic import BaseModel, ConfigDict, Field

from agent.settings import Settings


class Limits(BaseModel):
    """Hard limits of one question. None: no limit. `quiet_rounds`: rounds in a row without new information."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(3, ge=1)
    tool_calls: int = Field(24, ge=1)
    tokens: int | None = Field(200_000, ge=1)
    usd: float | None = Field(None, gt=0)
    minutes: float | None = Field(60.0, gt=0)
    quiet_rounds: int = Field(2, ge=1)
    unusable_replies: int = Field(4, ge=1)  # in a row, within one step
    approve_seconds: float = Field(300.0, gt=0)  # a tool estimated above this, or above so many dollars, asks first
    approve_usd: float = Field(1.0, gt=0)
    interactive: bool = False  # somebody is there to approve; in a batch such a tool is refused


def limits_of(settings: Settings, **given: float | None) -> Limits:
    """The limits of an investigation: those given, the setting in dollars, the defaults."""
    values = {name: value for name, value in given.items() if value is not None}
    return Limits.model_validate({"usd": settings.max_usd, **values})
