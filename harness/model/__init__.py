"""The ported model: checkpoint, dimensions, vocabulary."""
