"""Hostile inputs: a world of sound files, ways to spoil each, and a judge of what a command does with them."""
