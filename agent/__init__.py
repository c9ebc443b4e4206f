"""The room that decides what to do next: the command line, the overnight batch, the review."""
