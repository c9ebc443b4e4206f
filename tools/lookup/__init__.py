"""Read: what a latent fires on, what fires on a text, what a latent writes."""
