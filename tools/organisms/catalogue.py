"""Every organism by its name."""

from difflib import get_close_matches
from pathlib import Path

from store.errors import UserError
from tools.organisms import (
    backdoor,
    fictitious_facts,
    none,
    password_gated,
    quiet_promoter,
    refusal,
    suppressed_capital,
    taboo,
)
from tools.organisms.organism import Organism
from tools.workbench.adapters import Adapter

ORGANISMS: dict[str, Organism] = {
    organism.name: organism
    for organism in (
        suppressed_capital.ORGANISM,
        *password_gated.ORGANISMS,
        *taboo.ORGANISMS,
        refusal.ORGANISM,
        fictitious_facts.ORGANISM,
        backdoor.ORGANISM,
        quiet_promoter.ORGANISM,
        none.ORGANISM,
    )
}


def organism(name: str) -> Organism:
    """The organism called `name`; UserError listing the names when there is none."""
    if name not in ORGANISMS:
        near = get_close_matches(name, ORGANISMS, 1)
        which = f"did you mean {near[0]}?" if near else f"name one of {', '.join(ORGANISMS)}."
        raise UserError(f"There is no organism {name!r}: {which}")
    return ORGANISMS[name]


def find_adapter(name: str) -> Adapter | None:
    """What `--adapter` means: an organism's, or a folder's; None for the organism `none`, the base model itself."""
    if name in ORGANISMS:
        found = ORGANISMS[name]
        if found.recipe is None:
            return None
        if found.shipped is None:
            raise UserError(f"No adapter of {name} is shipped: make one with glossator organism train {name}.")
        return Adapter(found.shipped, name)
    if Path(name).expanduser().is_dir():
        return Adapter(Path(name).expanduser(), name)
    raise UserError(
        f"There is no adapter {name!r}: name a folder that holds one, or an organism ({', '.join(ORGANISMS)})."
    )
