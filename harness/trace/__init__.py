"""What a stage did with a clip: recorded, saved, read back."""
