"""The way to a device: adb, its files, its lock, what can break."""
