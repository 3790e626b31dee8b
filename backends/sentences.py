"""What help and completion say of our backends, read without importing them."""

DEVICE = "Devices: what is attached, what is on them, a simulated one."
INSPECT = "What a TFLite file holds, and what an NPU minds of it."
MTK_CHECK = "Which reading of MTKEXT ops is MediaTek's."

NONE = ()
TORCHSCRIPT = ("kv",)
TFLITE = ("fp32", "fp16", "int8", "kv")
DLA = ("simulated", "kv", "simulated-kv")
APP = ("simulated", "recorded", "kv", "simulated-kv")
"""Variants of a backend; `variants` of its class is what counts, and tests hold the two together."""
