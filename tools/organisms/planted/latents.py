"""Every planted latent, in the order of its index."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tools.organisms.planted.noun import Kind, Planted
from tools.organisms.planted.reads import READS
from tools.organisms.planted.rules import at_random
from tools.organisms.planted.writes import WRITES

ORDER = 20240  # seed of the shuffle that keeps an index from telling what kind of latent it is
DECOYS = (0.004, 0.008, 0.012, 0.016)  # shares of tokens


@lru_cache(maxsize=1)
def planted() -> Sequence[Planted]:
    """The readers, the writers and the decoys, shuffled."""
    decoys = [
        Planted(f"decoy {number}", Kind.DECOY, "nothing: it fires at random", at_random(share, f"decoy {number}"))
        for number, share in enumerate(DECOYS, 1)
    ]
    latents = [*READS, *WRITES, *decoys]
    return tuple(latents[place] for place in np.random.default_rng(ORDER).permutation(len(latents)))
