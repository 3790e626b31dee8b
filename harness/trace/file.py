"""Traces as files, for comparison on another day and machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.decode.loop import TeacherForced
from whisper_parity.errors import OutputError, RecordError, first_line
from whisper_parity.system import inputs, serial
from whisper_parity.system.files import replacing
from whisper_parity.trace.trace import TRACE_VERSION, Trace, TraceHeader, WindowHeader, WindowTrace

AGAIN = "Delete it and run the clip again"


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
            partial.chmod(0o644)  # safetensors creates files readable by their owner only; a run is shared
    except Exception as error:  # safetensors wraps OSError in its own type
        raise OutputError(
            f"{path}: cannot be written ({first_line(error)})", hint="Choose another --report-dir"
        ) from error


def load(path: Path) -> Trace:
    """Read a trace back.

    Raises:
        RecordError: missing, cut short, or not a trace of this version.
    """
    from safetensors import SafetensorError, safe_open

    inputs.require_regular(path, inputs.MODEL_BYTES, RecordError, hint=AGAIN)
    try:
        with safe_open(path, framework="numpy") as file:
            header = serial.loads(TraceHeader, (file.metadata() or {})["trace"], str(path))
            windows = tuple(_window(window, file) for window in header.windows)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RecordError(f"{path}: not a whole trace ({first_line(error)})", hint=AGAIN) from error
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
    try:
        forced = TeacherForced(
            header.forced_tokens, read["logits"], read["choices"], read["runners_up"], limited=header.forced_limited
        )
    except ValueError as error:
        where = f"tokens, logits and choices of window {header.index}"
        raise ValueError(f"{where} do not belong together: {error}") from error
    return WindowTrace(header, read["encoder_output"], forced)
