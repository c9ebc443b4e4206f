"""How good is what the other rooms say? Benchmarks with known truth."""
