"""All that a stage did with a clip, saved so that it can be compared on another day and machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import serial
from harness.atomic import replacing
from harness.backend import Usage
from harness.decode import TeacherForced
from harness.errors import OutputError, RecordError, first_line

TRACE_VERSION = 2


@dataclass(frozen=True)
class WindowHeader:
    """What a trace holds of a window beside its tensors."""

    index: int
    input_features_sha256: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """Free-running, timestamps included, without prompt and end-of-text."""
    ended: str
    """"eot", "length" or "nonfinite"."""
    forced_tokens: tuple[int, ...]
    """The tokens that were fed for the teacher-forced logits."""
    encoder_calls: int
    decoder_calls: int
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class WindowTrace:
    """One window: its header and its tensors."""

    header: WindowHeader
    encoder_output: NDArray[np.float32]
    """float32 [1, n_audio_ctx, n_audio_state]."""
    teacher_forced: TeacherForced


@dataclass(frozen=True)
class TraceHeader:
    """What a trace holds beside tensors."""

    trace_version: int
    clip: str
    stage: str
    label: str
    """What really ran: "tflite (LiteRT 2.3.0)"."""
    artifact_sha256: str
    audio_sha256: str
    n_vocab: int
    policy: str
    language: str | None
    audio_s: float
    silent: bool
    text: str
    """Texts of all windows, joined."""
    tokens: tuple[int, ...]
    """Text tokens of all windows: no specials, no timestamps."""
    timestamped_tokens: tuple[int, ...]
    """All tokens as decoded, with timestamps where the policy takes them."""
    segments: tuple[tuple[float, float, str], ...]
    """(start [s], end [s], text), where the stage gives them."""
    step_by_step: bool
    """The row-invariance check failed: decoded without drafts."""
    seconds: float
    """Wall time of encoding and decoding."""
    windows: tuple[WindowHeader, ...]
    usage: Usage | None = None
    """What a stage that runs on a device spent there and on the way."""
    notes: tuple[str, ...] = ()
    """What the session says of itself: assumptions that decide its numbers."""


@dataclass(frozen=True)
class Trace:
    """All that a stage did with a clip."""

    header: TraceHeader
    windows: tuple[WindowTrace, ...]
    """Empty for a stage that gives text and tokens only."""


def file_name(clip: str, stage: str) -> str:
    """Name of a trace's file: "en-01--tflite-int8.safetensors"."""
    return f"{clip}--{stage.replace(':', '-')}.safetensors"


def save(trace: Trace, path: Path) -> None:
    """Write a trace as safetensors, its header as JSON in the metadata; the file appears whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {}
    for window in trace.windows:
        tensors |= {f"{window.header.index}.{name}": value for name, value in _tensors(window).items()}
    tensors = tensors or {"empty": np.zeros(0, np.float32)}
    try:
        with replacing(path) as partial:
            save_file(tensors, partial, metadata={"trace": serial.dumps(trace.header)})
            partial.chmod(0o644)  # safetensors makes files for their owner alone; a run is shared
    except Exception as error:  # safetensors wraps OSError in a type of its own
        raise OutputError(
            f"{path}: cannot be written ({first_line(error)})", hint="Choose another --report-dir"
        ) from error


def load(path: Path) -> Trace:
    """Read a trace back.

    Raises:
        RecordError: missing, cut short, or not a trace of this version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = serial.loads(TraceHeader, (file.metadata() or {})["trace"], str(path))
            windows = tuple(_window(window, file) for window in header.windows)
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise RecordError(
            f"{path}: not a whole trace ({first_line(error)})", hint="Delete it and run the clip again"
        ) from error
    if header.trace_version != TRACE_VERSION:
        raise RecordError(f"{path}: trace version {header.trace_version}, this program reads {TRACE_VERSION}")
    return Trace(header, windows)


def _tensors(window: WindowTrace) -> dict[str, NDArray[Any]]:
    forced = window.teacher_forced
    return {
        "encoder_output": np.ascontiguousarray(window.encoder_output),
        "logits": np.ascontiguousarray(forced.logits),
        "choices": np.ascontiguousarray(forced.choices),
        "runners_up": np.ascontiguousarray(forced.runners_up),
    }


def _window(header: WindowHeader, file: Any) -> WindowTrace:
    read = {
        name: file.get_tensor(f"{header.index}.{name}")
        for name in ("encoder_output", "logits", "choices", "runners_up")
    }
    forced = TeacherForced(header.forced_tokens, read["logits"], read["choices"], read["runners_up"])
    if not _agree(forced):
        raise KeyError(f"tokens, logits and choices of window {header.index} do not belong together")
    return WindowTrace(header, read["encoder_output"], forced)


def _agree(forced: TeacherForced) -> bool:
    """One row of logits, one choice and one runner-up for each token that was fed, and for what follows them."""
    steps, chosen = len(forced.tokens) + 1, (forced.choices, forced.runners_up)
    if forced.logits.ndim != 2 or any(each.shape != (steps,) or each.dtype.kind != "i" for each in chosen):
        return False
    return len(forced.logits) == steps and all(((each >= 0) & (each < forced.logits.shape[1])).all() for each in chosen)
