"""The DLA stage: files compiled by ncc-tflite, run on a device that adb reaches, or on a simulated one."""
