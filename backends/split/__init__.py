"""Whisper in two halves: what every converted representation shares."""
