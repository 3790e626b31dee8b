"""Input features that somebody wrote to a file: .npy, text, or raw float32 or float16."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from whisper_parity.compare.front_end.layout import BANDS
from whisper_parity.compare.front_end.recipe import Floats
from whisper_parity.errors import InputError
from whisper_parity.system import inputs

MAX_BYTES = 64 * inputs.MIB
"""A window of 128 bands in float64 has 3 MiB; as text four times as much."""
TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".log")
HINT = "Give .npy, raw float32 or float16, or text with one number after the other"


def read(path: Path, n_frames: int) -> Floats:
    """Features as they were written: the shape of a .npy file, flat otherwise.

    Args:
        path: the file; it is untrusted, and nothing in it is executed.
        n_frames: of a window, by which raw float16 is told from float32.

    Raises:
        InputError: missing, too large, empty, or not numbers.
    """
    content = inputs.read(path, MAX_BYTES, hint="Check the path")
    if not content:
        raise InputError(f"{path}: the file is empty (0 bytes)", hint=HINT)
    if content.startswith(b"\x93NUMPY"):
        return _npy(content, path)
    return _text(content, path) if path.suffix.lower() in TEXT_SUFFIXES else _raw(content, path, n_frames)


def bands(array: Floats, n_frames: int, path: Path) -> int:
    """Mel bands by shape or size: 80 or 128.

    Raises:
        InputError: neither is seen in it.
    """
    for count in BANDS:
        if array.size == count * n_frames:
            return count
    for count in BANDS:
        if count in array.shape[-2:]:
            return count
    raise InputError(
        f"{path}: {array.size} numbers, expected {' or '.join(f'{n * n_frames} ({n} x {n_frames})' for n in BANDS)}",
        hint="Name --mels 80 or 128, and --frames where a window has others",
    )


def _npy(content: bytes, path: Path) -> Floats:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, MemoryError) as error:
        raise InputError(f"{path}: not a .npy file that can be read (damaged, or of objects)", hint=HINT) from error
    if array.dtype.kind not in "fiu" or not array.size:
        raise InputError(f"{path}: {array.dtype} {list(array.shape)}, expected numbers", hint=HINT)
    return np.asarray(array if array.dtype.kind == "f" else array.astype(np.float64))


def _raw(content: bytes, path: Path, n_frames: int) -> Floats:
    """float32, unless only float16 gives a known number of bands."""
    sizes = {count * n_frames for count in BANDS}
    is_half = len(content) // 2 in sizes and len(content) // 4 not in sizes
    width = 2 if is_half else 4
    if len(content) % width:
        raise InputError(f"{path}: {len(content)} bytes are no whole number of float{8 * width}", hint=HINT)
    return np.frombuffer(content, f"<f{width}")


def _text(content: bytes, path: Path) -> Floats:
    words = content.replace(b",", b" ").replace(b";", b" ").split()
    try:
        return np.array([float(word) for word in words], np.float64)
    except ValueError as error:
        raise InputError(f"{path}: {error}"[:200], hint=HINT) from error
