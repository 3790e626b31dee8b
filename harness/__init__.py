"""The flow from a clip to a verdict; it knows no representation (see docs/concepts.md)."""
