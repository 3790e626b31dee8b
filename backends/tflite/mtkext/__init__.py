"""MTKEXT ops: inspect files that hold them, and lower them to built-in ops."""
