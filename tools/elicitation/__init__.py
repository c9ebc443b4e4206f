"""What a model knows and does not say: asked for in many ways, and read from inside, beside the base model."""
