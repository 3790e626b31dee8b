"""Makes `pytest -m parity` and its options known everywhere in this project."""

import os
from pathlib import Path

os.environ.setdefault("WHISPER_PARITY_CACHE", str(Path(__file__).parent / "build" / "cache"))

pytest_plugins = ["pytester"]
