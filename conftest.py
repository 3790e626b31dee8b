"""Makes `pytest -m parity` and its options known everywhere in this project."""

pytest_plugins = ["harness.pytest_plugin", "pytester"]
