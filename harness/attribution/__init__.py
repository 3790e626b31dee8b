"""Why did this comma move? From a difference in text down to the layer that made it."""
