"""The room that speaks to LLMs: versioned templates, one door out, every call recorded."""
