"""Latents whose meaning is known by construction, planted in the real model."""
