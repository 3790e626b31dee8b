"""From two traces, results or texts to numbers."""
