"""A device to test with, a simulator and called one: an adbd over TCP, stand-in tools, and faults on demand."""
