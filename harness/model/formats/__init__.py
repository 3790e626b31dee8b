"""Checkpoint formats: each is told by its content and read into openai-whisper's names, without running its code."""
