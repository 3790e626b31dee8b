"""The report: JSON first, views of it after."""
