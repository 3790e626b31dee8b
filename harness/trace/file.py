"""Traces as files, for comparison on another day and machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.decode.loop import TeacherForced
from whisper_parity.errors import OutputError, RecordError, first_line
from whisper_parity.model import vocabulary
from whisper_parity.system import inputs, serial
from whisper_parity.system.files import replacing
from whisper_parity.trace.trace import TRACE_VERSION, Trace, TraceHeader, WindowHeader, WindowTrace

AGAIN = "Delete it and run the clip again"
PROGRAM = "program."
"""In front of the names of a program's own tensors."""


def save(trace: Trace, path: Path) -> None:
    """Write a trace as safetensors, its header as JSON in the metadata; the file appears whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {}
    for window in trace.windows:
        tensors |= {f"{window.header.index}.{name}": value for name, value in _tensors(window).items()}
    tensors |= {f"{PROGRAM}{name}": np.ascontiguousarray(value) for name, value in trace.tensors.items()}
    tensors = tensors or {"empty": np.zeros(0, np.float32)}
    facts = {"trace": serial.dumps(trace.header)}
    try:
        with replacing(path) as partial:
            save_file(tensors, partial, metadata={**facts, "sha256": content_sha256(facts["trace"], tensors)})
            partial.chmod(0o644)  # safetensors creates files readable by their owner only; a run is shared
    except Exception as error:  # safetensors wraps OSError in its own type
        raise OutputError(
            f"{path}: cannot be written ({first_line(error)})", hint="Choose another --report-dir"
        ) from error


def load(path: Path) -> Trace:
    """Read a trace back.

    Raises:
        RecordError: missing, damaged, or not a trace of this version.
    """
    from safetensors import safe_open

    inputs.require_regular(path, inputs.MODEL_BYTES, RecordError, hint=AGAIN)
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        _require_version(facts["trace"])
        if content_sha256(facts["trace"], tensors) != facts["sha256"]:
            raise ValueError("damaged: its content is not what was written")
        header = serial.loads(TraceHeader, facts["trace"], str(path))
        _require_tokens(header)
        own = {name.removeprefix(PROGRAM): value for name, value in tensors.items() if name.startswith(PROGRAM)}
        return Trace(header, tuple(_window(window, tensors) for window in header.windows), own)
    except Exception as error:  # safetensors, numpy and bad values raise many types
        raise RecordError(f"{path}: not a whole trace ({first_line(error)})", hint=AGAIN) from error


def _require_version(header: str) -> None:
    version = inputs.parse_json(header, "header").get("trace_version")
    if version != TRACE_VERSION:
        raise ValueError(f"trace version {version}, this program reads {TRACE_VERSION}")


def _require_tokens(header: TraceHeader) -> None:
    """A token outside the vocabulary has no text, and windows out of order are not those of a clip."""
    lists = [header.tokens, header.timestamped_tokens]
    lists += [tokens for window in header.windows for tokens in (window.prompt, window.tokens, window.forced_tokens)]
    for tokens in lists:
        if (unknown := vocabulary.first_unknown(header.n_vocab, tokens)) is not None:
            raise ValueError(f"token {unknown} is outside a vocabulary of {header.n_vocab}")
    if [window.index for window in header.windows] != list(range(len(header.windows))):
        raise ValueError("its windows are not numbered in order")


def content_sha256(header: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """One hash over a trace's header and tensors, by name."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _tensors(window: WindowTrace) -> dict[str, NDArray[Any]]:
    forced = window.teacher_forced
    return {
        "encoder_output": np.ascontiguousarray(window.encoder_output),
        "logits": np.ascontiguousarray(forced.logits),
        "choices": np.ascontiguousarray(forced.choices),
        "runners_up": np.ascontiguousarray(forced.runners_up),
    }


def _window(header: WindowHeader, tensors: Mapping[str, NDArray[Any]]) -> WindowTrace:
    names = ("encoder_output", "logits", "choices", "runners_up")
    read = {name: tensors[f"{header.index}.{name}"] for name in names}
    try:
        forced = TeacherForced(
            header.forced_tokens, read["logits"], read["choices"], read["runners_up"], limited=header.forced_limited
        )
    except ValueError as error:
        where = f"tokens, logits and choices of window {header.index}"
        raise ValueError(f"{where} do not belong together: {error}") from error
    return WindowTrace(header, read["encoder_output"], forced)
