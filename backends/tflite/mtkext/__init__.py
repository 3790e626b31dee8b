"""MTKEXT ops: what a file holds, and lowering them to built-in ops."""
