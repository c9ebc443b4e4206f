"""Explain latents, and score the explanations."""
