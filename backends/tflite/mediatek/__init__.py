"""MediaTek's converter and interpreter, in a Python of their own."""
