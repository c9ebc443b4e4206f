"""An investigation: its tools, limits, runs, threads and conclusion; the graph itself is agent/graph.py."""
