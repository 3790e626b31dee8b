"""Vega as one script, and the plots' specifications: built once per version, kept beside the built artifacts."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from whisper_parity.errors import BuildError, RecordError, mapped
from whisper_parity.report.html import plots
from whisper_parity.system import serial
from whisper_parity.system.machine import require_extra

PACKAGES = ("altair", "vl-convert-python")
SNIPPET = "window.vegaEmbed = vegaEmbed;"


@dataclass(frozen=True, slots=True)
class Engine:
    """The script and specifications that draw the plots."""

    script: str
    """Vega, Vega-Lite and Vega-Embed for a <script> tag; free of </script>."""
    specifications: dict[str, dict[str, Any]]


NOTHING_DRAWN = Engine("", {})
"""Where no plot can be drawn: the page is written without them."""


def engine(folder: Path | None) -> Engine:
    """Read the engine from the cache, or build it once, in five seconds.

    Args:
        folder: the cache; None to build without caching.

    Raises:
        UnavailableError: the packages that draw are not installed.
        BuildError: the library gives no script that can be inlined.
    """
    require()
    if folder is None:
        return _build()
    path = folder / "pages" / f"{_key()}.json"
    try:
        return serial.read(Engine, path)
    except RecordError:
        fresh = _build()
        serial.write(path, fresh)
        return fresh


def require() -> None:
    """Refuse to draw without what draws.

    Raises:
        UnavailableError: a package is not installed.
    """
    require_extra("pages", *PACKAGES)


def source_hash(script: str) -> str:
    """An inline script's source in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _build() -> Engine:
    import vl_convert

    with mapped(BuildError, "the plots' script cannot be built"):
        script = vl_convert.javascript_bundle(SNIPPET)
        specifications = plots.specifications()
    if "</script" in script.lower() or "<!--" in script:
        raise BuildError("the plots' script holds an end of script", hint="Install the pinned vl-convert-python")
    return Engine(script, specifications)


def _key() -> str:
    installed = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    source = Path(plots.__file__).read_text("utf-8")
    return hashlib.sha256("\n".join([*installed, SNIPPET, source]).encode()).hexdigest()[:32]
