"""The layouts of decoders with a KV cache that public ports have, and those of a project's own."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from whisper_parity import project
from whisper_parity.backend.layout import Layout
from whisper_parity.system import serial

OURS = "stacked"
"""The layout in which we build."""


@functools.cache
def shipped() -> tuple[Layout, ...]:
    """Those of this package, by the names of their files."""
    return tuple(_read(path) for path in sorted(Path(__file__).parent.glob("*.toml")))


def known(own: Mapping[str, Layout]) -> tuple[Layout, ...]:
    """The shipped ones and a project's own: one that is called as a shipped one stands in its place."""
    named = {layout.name: layout for layout in shipped()}
    return tuple({**named, **{name: replace(layout, name=name) for name, layout in own.items()}}.values())


def ours() -> Layout:
    """The layout in which we build."""
    return next(layout for layout in shipped() if layout.name == OURS)


def _read(path: Path) -> Layout:
    content = {**project.read_toml(path), "name": path.stem}
    return serial.loads(Layout, json.dumps(content), str(path))
