"""Change what the model computes, and see what follows."""
