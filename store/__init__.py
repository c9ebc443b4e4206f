"""store remembers: the nouns, the ledger, harvested activations and downloads. duckdb lives here and nowhere else."""
