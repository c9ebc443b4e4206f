"""The plumbing every tool stands on; it imports no tool."""
