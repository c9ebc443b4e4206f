"""Harvested activations: immutable Parquet files, written shard by shard and read in place."""

from store.activations.layout import Firings, LatentStats, Peaks, Window
from store.activations.read import Harvest
from store.activations.write import HarvestWriter

__all__ = ["Firings", "Harvest", "HarvestWriter", "LatentStats", "Peaks", "Window"]
