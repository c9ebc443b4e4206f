"""Decode: what can be read from activations, and how much of it the text's surface tells as well."""
