"""A stage's results on a clip: recorded, saved, read back."""
