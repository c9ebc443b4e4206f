"""Model organisms: models whose truth is known because it was put there."""
