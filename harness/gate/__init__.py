"""May this port be released? Rules, approved results and statistics over a recorded run."""
