"""What is ported: checkpoint, dimensions, vocabulary."""
