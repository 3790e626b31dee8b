"""What tests share: devices, traces, runs, sounds."""
