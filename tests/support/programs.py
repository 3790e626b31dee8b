"""parity-whisper as a process, folders for it, and WAV files of every form."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import steppeddla
from tests.support.checkout import CHECKOUT
from tests.support.runners import ARITHMETIC, container
from whisper_parity.backend.layout import Layout
from whisper_parity.backends.dla import app_tables, native
from whisper_parity.backends.dla.app_tables import Artifacts
from whisper_parity.backends.split import fitting
from whisper_parity.clips import features
from whisper_parity.model import checkpoint
from whisper_parity.model.dims import Dims

MICRO = CHECKOUT / "fixtures" / "micro" / "micro.pt"
WIDTHS = {"u8": (1, 8), "s16": (1, 16), "s24": (1, 24), "s32": (1, 32), "f32": (3, 32), "f64": (3, 64)}
"""Forms of samples: WAVE's number of the format, and bits."""
GUID = bytes([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71])
LIST = b"LIST" + struct.pack("<I", 27) + b"INFOISFT\x0f\0\0\0a text of bytes\0"
"""A chunk of an odd size, with its pad byte: what editors and ffmpeg write in front of the samples."""


@dataclass(frozen=True)
class Said:
    """What the program said: its lines by sound, the last one, and how it ended."""

    lines: list[dict[str, Any]]
    finished: dict[str, Any]
    code: int
    stderr: str

    @property
    def reason(self) -> str:
        """The one line with which it refused to start."""
        assert not self.lines
        lines = [line for line in self.stderr.splitlines() if line.startswith("parity-whisper: ")]
        assert len(lines) == 1, self.stderr
        return lines[0]


def hear(
    folder: Path, *sounds: Path | str, options: Sequence[object] = (), env: Mapping[str, str] | None = None,
    binary: Path | None = None, library: Path | None = None,
) -> Said:  # fmt: skip
    """Run the program on sounds; `env` holds what the stand-in runtime and the faulty build read."""
    runtime = library or native.stand_in_runtime("both")
    words = [binary or native.app(), "--model", folder, "--library", runtime, *options, *sounds]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PARITY_")}
    litert = {"PARITY_SIM_LITERT": str(native.litert_library()), "ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run(
        [str(word) for word in words], capture_output=True, timeout=300, env={**clean, **litert, **(env or {})},
        check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in ran.stdout.decode().splitlines()]
    finished = lines.pop() if lines else {}
    assert not lines or finished == {"finished": True, "clips": len(sounds)}
    return Said(lines, finished, ran.returncode, ran.stderr.decode())


def small_folder(folder: Path, n_mels: int = 80, vocabulary: int = 51865) -> Path:
    """A folder whose networks are the stand-in's arithmetic: the front end and the loop are real, the text is not."""
    dims = Dims(n_mels, 1500, 4, 1, 1, vocabulary, 8, 4, 1, 1)
    folder.mkdir(parents=True, exist_ok=True)
    encoding = [1, dims.n_audio_ctx, dims.n_audio_state]
    container(folder / "encoder.dla", bytes(64), ([[1, n_mels, 3000]], [encoding]))
    container(folder / "decoder.dla", bytes(64), ([[1, 8, 4], encoding], [[1, 8, vocabulary]]))
    np.save(folder / "token_embedding.npy", np.ones((vocabulary, 4), np.float32))
    app_tables.write(folder, dims, Artifacts())
    return folder


def micro_folder(parity_in: Callable[[Path], Callable[..., Any]], folder: Path) -> Path:
    """The micro model as a folder of the program, its files from the tests' cache."""
    words = ("build", "--checkpoint", MICRO, "--stages", "dla:simulated", "--out", folder / "all")
    built = parity_in(folder)(*words)
    assert built.exit_code == 0, built.output
    app_tables.write(folder / "model", checkpoint.describe(MICRO).dims, Artifacts())
    names = {"encoder*.dla": "encoder.dla", "decoder*.dla": "decoder.dla", "*.npy": "token_embedding.npy"}
    for pattern, name in names.items():
        (file,) = (folder / "all").glob(pattern)
        (folder / "model" / name).symlink_to(file)
    return folder / "model"


def cached_folder(folder: Path, layout: Layout, dims: Dims, *, slots: int = 8, halves: bool = False) -> Path:
    """The same with a KV cache: a decoder in a layout, of arithmetic."""
    fitted = fitting.usual(layout, dims, slots)
    folder.mkdir(parents=True, exist_ok=True)
    steppeddla.files(folder, fitted, dims, halves=halves)
    np.save(folder / "token_embedding.npy", np.ones((dims.n_vocab, dims.n_text_state), np.float32))
    np.save(folder / "position_embedding.npy", np.ones((dims.n_text_ctx, dims.n_text_state), np.float32))
    app_tables.write(folder, dims, Artifacts(position_embedding="position_embedding.npy", fitted=fitted))
    return folder


def hear_small(folder: Path, *sounds: Path | str, env: Mapping[str, str] | None = None, **how: Any) -> Said:
    """`hear` with the stand-in's arithmetic in place of a model."""
    return hear(folder, *sounds, env={**ARITHMETIC, **(env or {})}, **how)


def wav(samples: np.ndarray, rate: int, form: str, *, extensible: bool = False, chunks: bytes = b"") -> bytes:
    """A WAV file of float samples in [-1, 1], [n] or [n, 2]; `chunks` stand in front of its data chunk."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    data = coded(samples.ravel(), form)
    number, bits = WIDTHS[form]
    body = format_chunk(number, bits, channels, rate, extensible=extensible)
    body += chunks + b"data" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def format_chunk(number: int, bits: int, channels: int, rate: int, *, extensible: bool = False, mask: int = 0) -> bytes:
    """A fmt chunk, also of a format that nobody has."""
    frame = channels * bits // 8
    fields = struct.pack("<HHIIHH", 0xFFFE if extensible else number, channels, rate, rate * frame, frame, bits)
    fields += struct.pack("<HHIH", 22, bits, mask, number) + GUID if extensible else b""
    return b"fmt " + struct.pack("<I", len(fields)) + fields


def coded(samples: np.ndarray, form: str) -> bytes:
    """Float samples in [-1, 1] as WAVE holds them."""
    wide = samples.astype(np.float64)
    if form == "u8":
        return np.clip(np.round(wide * 127) + 128, 0, 255).astype("u1").tobytes()
    if form == "s24":
        return np.round(wide * 8388607).astype("<i4").view("u1").reshape(-1, 4)[:, :3].tobytes()
    if form.startswith("s"):
        return np.round(wide * (2 ** (WIDTHS[form][1] - 1) - 1)).astype(f"<i{WIDTHS[form][1] // 8}").tobytes()
    return wide.astype(f"<f{WIDTHS[form][1] // 8}").tobytes()


def features_db(folder: Path, sounds: Iterable[Path], n_mels: int) -> dict[str, float]:
    """SNR [dB] of each sound's worst window of dumped input features against openai-whisper's."""
    return {sound.name: worst_db(folder, index, sound, n_mels) for index, sound in enumerate(sounds)}


def worst_db(folder: Path, index: int, sound: Path, n_mels: int) -> float:
    """SNR [dB] of the worst window of the dumped input features of the `index`th sound."""
    reference = [window.input_features[0] for window in features.compute(sound, n_mels).windows]
    assert len(list(folder.glob(f"{index}.*.input_features.f32"))) == len(reference)
    dumped = [np.fromfile(folder / f"{index}.{w}.input_features.f32", "<f4") for w in range(len(reference))]
    return min(snr_db(wanted, found.reshape(wanted.shape)) for wanted, found in zip(reference, dumped))


def snr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Signal to noise [dB]; 999 for equal arrays."""
    noise = np.square(reference.astype(np.float64) - other).sum()
    return 999.0 if noise == 0 else float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))
