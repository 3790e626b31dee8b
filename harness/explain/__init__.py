"""Why did it move: difference, edge, part, unit, weight."""
