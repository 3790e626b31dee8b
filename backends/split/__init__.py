"""Whisper in two halves, shared by every converted representation."""
