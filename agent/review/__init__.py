"""Labels under a person's eyes: cards and the reviewer's desk."""
