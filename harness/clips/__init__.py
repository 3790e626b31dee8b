"""Audio to windows."""
