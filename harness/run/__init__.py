"""A run: options, plan, folder, sessions, cells, report."""
