"""Files, processes, the terminal: the base of every room."""
