"""Files, processes, the terminal: what every room stands on."""
