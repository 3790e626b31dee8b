"""MediaTek's converter and interpreter, in their own Python."""
