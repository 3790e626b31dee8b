"""Sets of clips, one module for each format in which people keep them; `formats` lists them."""
