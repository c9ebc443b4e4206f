"""The overnight batch: which latents, what earlier runs left, the pipeline, the morning report."""
