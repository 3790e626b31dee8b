"""What decides an artifact's content is part of its key: the lists of our own modules are those that are imported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from whisper_parity.backends import provenance
from whisper_parity.errors import UnavailableError

LISTED = {
    "backends/torchscript/__init__.py": ("backends.torchscript.tracing", "backends.split.modules"),
    "backends/tflite/__init__.py": ("backends.tflite.litert.convert", "backends.tflite.litert.worker"),
    "backends/dla/backend.py": ("backends.dla.compiler", "backends.dla.simulator.ncc_tflite"),
}
"""Which backend, and the modules that write its files: what these import of the split modules has to be listed."""
DECIDING = re.compile(
    r"backends\.split\.(modules|embedding|names)|backends\.dla\.simulator\.container|"
    r"backends\.tflite\.litert\.convert"
)
"""Modules whose code goes into files: an edit of one must not find old files in the cache."""


@pytest.mark.parametrize(("backend", "writers"), LISTED.items(), ids=lambda value: str(value)[:40])
def test_what_the_writers_of_files_import_is_listed(backend: str, writers: tuple[str, ...]):
    """A new helper module cannot be forgotten silently."""
    text = (CHECKOUT / backend).read_text("utf-8")
    listed = set(re.findall(r'"(backends\.[\w.]+)"', text))
    needed = {module for writer in writers for module in _deciding(writer)}
    if "dla" in backend:  # the stand-in quantises by LiteRT's quantiser, whose version is part of the key
        needed -= {"backends.tflite.litert.convert"}
    assert needed - listed == set()


def test_a_missing_extra_is_named():
    """What is installed is no fault; what is not names the extra that brings it."""
    provenance.require_extra("litert", "numpy")
    with pytest.raises(UnavailableError) as caught:
        provenance.require_extra("litert", "numpy", "no-such-converter")
    assert str(caught.value) == "no-such-converter is not installed. Run `pip install 'whisper-parity[litert]'`"


def _deciding(writer: str) -> set[str]:
    path = Path(CHECKOUT, *writer.split(".")).with_suffix(".py")
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            modules |= {name.removeprefix("whisper_parity.") for name in names}
    return {module for module in modules if DECIDING.fullmatch(module)} | {writer}
