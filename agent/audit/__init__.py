"""An audit: what, if anything, a model hides, asked without a hint."""
