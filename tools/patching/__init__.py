"""Tools that localise a behaviour in the model: which places carry it, by patching, attribution and circuits."""
