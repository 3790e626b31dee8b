"""LiteRT's converter and quantiser, in worker processes."""
