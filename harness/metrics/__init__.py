"""Pure functions over arrays, token lists and texts; numpy and scoring libraries only."""
