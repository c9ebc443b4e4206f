"""Load, train and evaluate dictionaries (sparse autoencoders)."""
