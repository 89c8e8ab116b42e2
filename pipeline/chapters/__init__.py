"""What a cell of a notebook calls: parameters, runs and their store, boards and comparisons, claims, figures, the report."""
