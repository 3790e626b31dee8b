"""What `parity --help` says of the commands of our backends, read without importing them."""

DEVICE = "Devices: what is attached, what is on them, a simulated one."
INSPECT = "What a TFLite file holds, and what an NPU minds of it."
MTK_CHECK = "Which reading of MTKEXT ops is MediaTek's."
