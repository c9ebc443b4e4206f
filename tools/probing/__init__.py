"""What can be read off the inside of a model, and how far to trust the reading."""
