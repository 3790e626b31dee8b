"""Sounds whose samples are the same on every machine, and what ffmpeg makes of them, where one is installed."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MASKS = {"mono": 0x4, "stereo": 0x3, "2.1": 0xB, "quad": 0x33, "5.0": 0x37, "5.1": 0x3F, "7.1": 0x63F}
"""Speakers of a layout, as a WAV header has them."""
PCM, FLOAT = 1, 3
SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")
"""The rest of a WAVEFORMATEXTENSIBLE's GUID behind its format code."""
SAME_RESAMPLER = 6
"""From this version on ffmpeg resamples 16-bit sound as PyAV's libraries do; 4.2 does not, 5 was not measured."""


@dataclass(frozen=True)
class Ffmpeg:
    """An ffmpeg program."""

    binary: str
    version: int
    """Its first number."""

    def heard(self, path: Path) -> NDArray[np.int16]:
        """What `whisper.load_audio` reads from it, before the division by 32768."""
        words = ["-nostdin", "-threads", "0", "-i", str(path), "-f", "s16le", "-ac", "1"]
        words += ["-acodec", "pcm_s16le", "-ar", "16000", "-"]
        return np.frombuffer(subprocess.run([self.binary, *words], capture_output=True, check=True).stdout, np.int16)


def find() -> Ffmpeg | None:
    """The program on PATH, else the one that the package imageio-ffmpeg brings; None without either."""
    binary = shutil.which("ffmpeg") or _packaged()
    if binary is None:
        return None
    said = subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout
    number = re.match(r"ffmpeg version n?(\d+)", said)
    return Ffmpeg(binary, int(number[1]) if number else SAME_RESAMPLER)  # a build of a commit has no number


def _packaged() -> str | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def noise(n: int, n_channels: int) -> NDArray[np.int16]:
    """Noise that no library decides, int16 [n, n_channels]: half of it quiet, half of it at full range."""
    content = np.frombuffer(hashlib.shake_128(b"sound").digest(2 * n * n_channels), "<i2").reshape(n, n_channels)
    return np.concatenate([content[: n // 2] >> 3, content[n // 2 :]]).astype(np.int16)


def write_wav(path: Path, pcm: NDArray[np.int16], rate: int, kind: str = "s16", layout: str = "") -> Path:
    """Write int16 [n, n_channels] as s16, u8, s24, s32, f32 or f64; with a speaker mask where a layout is named."""
    n_channels = pcm.shape[1]
    content, bits = _encoded(pcm, kind), int(kind[1:])
    block = n_channels * bits // 8
    code = FLOAT if kind[0] == "f" else PCM
    head = struct.pack("<HIIHH", n_channels, rate, rate * block, block, bits)
    form = struct.pack("<H", code) + head
    if layout:
        form = struct.pack("<H", 0xFFFE) + head + struct.pack("<HHIH", 22, bits, MASKS[layout], code) + SUBFORMAT
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(content)) + content
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def _encoded(pcm: NDArray[np.int16], kind: str) -> bytes:
    if kind == "u8":
        return ((pcm >> 8) + 128).astype(np.uint8).tobytes()
    if kind[0] == "f":
        return (pcm / 32768).astype(f"<f{int(kind[1:]) // 8}").tobytes()
    wide = (pcm.astype("<i4") << 16) + (pcm.astype("<i4") & 0xFF00)  # bits below the sixteenth, too
    if kind == "s24":
        return wide.reshape(-1, 1).view(np.uint8)[:, 1:].tobytes()
    return (wide if kind == "s32" else pcm.astype("<i2")).tobytes()


def digest(pcm: NDArray[np.int16]) -> str:
    """First digits of the SHA-256 of the samples, little endian."""
    return hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest()[:12]
