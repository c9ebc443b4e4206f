"""Activations in Parquet: harvests, written shard by shard and read in place, and vectors read at chosen tokens."""

from store.activations.layout import Firings, LatentStats, Peaks, Window
from store.activations.read import Harvest
from store.activations.vectors import Vectors
from store.activations.write import HarvestWriter

__all__ = ["Firings", "Harvest", "HarvestWriter", "LatentStats", "Peaks", "Vectors", "Window"]
