"""What all nouns are, and those that are no rows of the ledger."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def slug(name: str) -> str:
    """`name` as it is spelled inside a `LatentId`: "owner/model" becomes "owner--model", other signs a dash."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("/", "--")).lstrip("._-") or "unnamed"


def now() -> datetime:
    """The current time, UTC, without a zone (the ledger's TIMESTAMP)."""
    return datetime.now(UTC).replace(tzinfo=None)


def _without_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


UTCTime = Annotated[datetime, AfterValidator(_without_zone)]


class Noun(BaseModel):
    """Base of all nouns: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # ids refuse NaN, not hide it


class LatentId(Noun):
    """One latent of one dictionary of one model, spelled `model/dictionary/index` everywhere."""

    model: str
    dictionary: str
    index: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _spelled(self) -> Self:
        for part in (self.model, self.dictionary):
            if not SLUG.fullmatch(part):
                raise ValueError(f"{part!r} is not a name: letters, digits, '.', '_' and '-' only")
        return self

    def __str__(self) -> str:
        return f"{self.model}/{self.dictionary}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`; raises ValueError on any other spelling."""
        parts = text.split("/")
        if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit()) or parts[2] != str(int(parts[2])):
            raise ValueError(f"{text!r} is not a latent: write model/dictionary/index")
        return cls(model=parts[0], dictionary=parts[1], index=int(parts[2]))


class ActivationExample(Noun):
    """A stretch of one document and one latent's activation on each of its tokens.

    `tokens` and `activations` have equal length. Activations are in the units of the dictionary's encoder
    (dictionary units: decoder vectors have norm 1). `document` is the index in the harvest's corpus and
    `window` the harvest's window, where the whole context that the model saw is stored.
    """

    document: Annotated[int, Field(ge=0)]
    window: Annotated[int, Field(ge=0)] | None = None
    start: Annotated[int, Field(ge=0)]  # token offset of tokens[0] in its window, BOS at 0
    tokens: tuple[str, ...]
    activations: tuple[FiniteFloat, ...]
    unit: Literal["dictionary units"] = "dictionary units"

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.tokens) != len(self.activations) or not self.tokens:
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.activations)} activations")
        return self

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def peak(self) -> float:
        return max(self.activations)


class Problem(Noun):
    """A fault that `verify` found: where (a row of a table, or a file) and what is wrong there."""

    where: str
    what: str
