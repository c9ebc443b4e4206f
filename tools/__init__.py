"""tools measures the subject model: one file, one tool. torch lives here and nowhere else."""
