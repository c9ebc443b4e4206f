"""What may be changed inside the model, said in one type that JSON can carry.

An `Edit` names an operation, a target and where it acts; `tools.workbench.editing` applies it. A strength is in units
of what it changes: the norm of the residual stream for a direction, dictionary units for a latent, the activation for
a neuron.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from store.types import Noun

Operation = Literal["add", "ablate", "clamp", "scale"]
Index = Annotated[int, Field(ge=0)]
KINDS = ("latent", "direction", "neuron", "head")


class Target(Noun):
    """Exactly one of a latent, a direction, a neuron and a head, and the places where it is changed.

    A latent lives at the dictionary's hook point. A direction is a vector [d_model] or the name of a saved one; it is
    changed in the residual stream entering each of `layers` (None: where it was found, or where the dictionary reads;
    "all": wherever a layer reads the stream). Neurons and heads are those of each of `layers`.
    """

    latent: Index | None = None
    direction: Annotated[str, Field(min_length=4)] | tuple[FiniteFloat, ...] | None = Field(
        default=None, description="name of a direction that find_direction or train_probe saved, or its numbers"
    )
    neuron: Index | None = None
    head: Index | None = None
    layers: tuple[Index, ...] | Literal["all"] | None = None
    positions: tuple[int, ...] | Literal["all", "prompt", "generated"] = Field(
        default="all", description="tokens of the prompt, BOS being 0 and -1 its last, or a part of the text"
    )
    include_sinks: bool = Field(default=False, description="also change BOS and other attention sinks")

    @property
    def kind(self) -> str:
        """One of "latent", "direction", "neuron" and "head"."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        named = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ValueError(f"name exactly one of {', '.join(KINDS)}; there are {len(named)}")
        if isinstance(self.direction, tuple) and not any(self.direction):
            raise ValueError("a direction of zeros points nowhere: give at least one number that is not 0")
        if self.latent is not None and self.layers is not None:
            raise ValueError("a latent lives at the dictionary's hook point: leave out layers, or give its direction")
        if (self.neuron is not None or self.head is not None) and not isinstance(self.layers, tuple):
            raise ValueError(f"say which layers' {self.kind} is meant, such as layers [12]")
        if self.layers == () or self.positions == ():
            raise ValueError("an empty list of layers or positions changes nothing: leave it out")
        return self


class Edit(Target):
    """One change of the model's activations, in the prompt and in every generated token.

    add: adds `strength` along the target. clamp: sets its activation or projection to `strength` (`when_active`: only
    where a latent fires). scale: multiplies its distance from `centre`. ablate: sets it to `centre`.
    Several edits of one place act in their order, but every latent is read before the first of them.
    """

    operation: Operation
    strength: FiniteFloat | None = Field(default=None, description="see the operation; none for ablate")
    centre: FiniteFloat = Field(
        default=0.0, description="what ablate and scale start from: a neutral projection or activation"
    )
    when_active: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.strength is None) != (self.operation == "ablate"):
            raise ValueError(f"{self.operation} takes {'no' if self.operation == 'ablate' else 'a'} strength")
        if self.when_active and (self.latent is None or self.operation != "clamp"):
            raise ValueError("when_active is for clamping a latent")
        if self.head is not None and self.operation in ("add", "clamp"):
            raise ValueError("a head has many numbers: ablate it or scale it")
        return self

    @classmethod
    def of(cls, target: Target, operation: Operation, strength: float | None = None, **more: Any) -> Self:
        """The target with an operation."""
        return cls(operation=operation, strength=strength, **dict(target), **more)
