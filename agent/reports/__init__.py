"""A thread as a report for a colleague, with its figures."""
