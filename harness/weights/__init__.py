"""Weights: which of a checkpoint's tensors a shipped file holds, before anything runs."""
