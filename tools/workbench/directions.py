"""Directions that tools found, each an immutable safetensors file named by its content's hash.

A name is all another tool, or a later replay, needs: `Context.directions` is the workspace's folder of them.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from store.disk import appearing
from store.ids import content_hash
from tools.workbench.registry import ToolError

LATENTS = ".latents"  # behind the hook of a probe of latents
SHOWN = 5  # names listed when one is not found


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of one model's activations: of the residual stream, or of another place that a probe read.

    vector: float32[d], norm 1, on the CPU. hook: where it was found, `.latents` behind it where they were read. norm:
    its length there, such as that of a difference of means. centre: the projection halfway between the two classes;
    slope: log-odds of the positive class per unit of projection beyond it (0: it is no classifier). method: the tool or
    method that found it.
    """

    vector: Tensor
    model: str
    hook: str
    method: str
    norm: float = 1.0
    centre: float = 0.0
    slope: float = 0.0

    @property
    def metadata(self) -> dict[str, str]:
        """All but the vector, as a safetensors file carries it."""
        numbers = {name: repr(float(getattr(self, name))) for name in ("norm", "centre", "slope")}
        return {"model": self.model, "hook": self.hook, "method": self.method, **numbers}

    @property
    def name(self) -> str:
        """24 hex digits of the hash of vector and metadata."""
        return content_hash([self.vector.tolist(), self.metadata])


class Directions:
    """The directions kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, direction: Direction) -> str:
        """Keeps the direction and returns its name; one that is there already is left alone."""
        path = self.folder / f"{direction.name}.safetensors"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with appearing(path) as part:
                save_file({"vector": direction.vector.contiguous()}, part, direction.metadata)
        return direction.name

    def names(self) -> list[str]:
        """Every name, the newest first."""
        files = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.stem for path in files]

    def of_stream(self, name: str, model: str) -> Direction:
        """The direction called `name`, of the residual stream of the model called `model`. ToolError otherwise."""
        found = self.load(name)
        if found.model != model:
            raise ToolError(f"The direction {name!r} is of {found.model}, not of {model}: find one there.")
        if ".hook_resid_" not in found.hook or found.hook.endswith(LATENTS):
            raise ToolError(
                f"The probe {name!r} reads {found.hook} and is no direction of the residual stream: train one there "
                "with train_probe and kind resid_pre."
            )
        return found

    def load(self, name: str) -> Direction:
        """The direction called `name`, or whose name alone begins so. ToolError when there is none or it is damaged."""
        found = [other for other in self.names() if other.startswith(name)]
        if len(found) != 1:
            have = f"it has {', '.join(self.names()[:SHOWN])}" if self.names() else "find one with find_direction"
            raise ToolError(f"The workspace has {len(found) or 'no'} directions named {name!r}: {have}.")
        path = self.folder / f"{found[0]}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                m = file.metadata() or {}
                direction = Direction(
                    vector=file.get_tensor("vector").to(torch.float32),
                    model=m["model"],
                    hook=m["hook"],
                    method=m["method"],
                    norm=float(m["norm"]),
                    centre=float(m["centre"]),
                    slope=float(m["slope"]),
                )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ToolError(f"{path} cannot be read ({error}): delete it and find the direction again.") from None
        if direction.name != found[0]:
            raise ToolError(f"{path} is not what its name says: delete it and find the direction again.")
        return direction
