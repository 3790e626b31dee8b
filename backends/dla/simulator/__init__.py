"""A simulated device for tests, always labelled as one: an adbd over TCP, stand-in tools, and faults on demand."""
