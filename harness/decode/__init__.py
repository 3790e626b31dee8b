"""The one decode loop and its policies."""
