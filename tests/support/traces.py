"""Traces made by hand, to compare and to break."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from whisper_parity.decode.loop import TeacherForced
from whisper_parity.model import vocabulary
from whisper_parity.trace import file
from whisper_parity.trace.trace import TRACE_VERSION, Trace, TraceHeader, WindowHeader, WindowTrace

N_VOCAB = 51865
TOKENS = (400, 370, 452, 7177, 6280, 11, 1029, 406)
TEXT = "And so my fellow Americans, ask not"
PROMPT = (50258, 50259, 50359, 50363)
SPANISH = (50258, 50262, 50359, 50363)


def trace(stage: str = "pytorch", seed: int = 0, noise: float = 0.0) -> Trace:
    """One window whose choices are TOKENS and end-of-text, each 5 logits above the runner-up, plus Gaussian noise."""
    rng = np.random.default_rng(7)
    logits = rng.standard_normal((len(TOKENS) + 1, N_VOCAB), dtype=np.float32)
    chosen = np.array([*TOKENS, 50257])
    logits[np.arange(len(chosen)), chosen] = 15.0
    logits[np.arange(len(chosen)), 13] = 10.0
    encoder_output = rng.standard_normal((1, 20, 8), dtype=np.float32)
    jitter = np.random.default_rng(seed + 1)
    logits += noise * jitter.standard_normal(logits.shape, dtype=np.float32)
    encoder_output += noise * jitter.standard_normal(encoder_output.shape, dtype=np.float32)
    forced = TeacherForced(TOKENS, logits, chosen, np.full(len(chosen), 13))
    header = WindowHeader(0, "features", PROMPT, TOKENS, "eot", TOKENS, 1, 1, 0.1, 0.1)
    whole = trace_header(stage, header)
    return Trace(whole, (WindowTrace(header, encoder_output, forced),))


def trace_header(stage: str, *windows: WindowHeader, language: str = "en") -> TraceHeader:
    """Of a trace with these windows."""
    whole = tuple(token for window in windows for token in window.tokens)
    spoken = vocabulary.spoken(N_VOCAB, whole)
    return TraceHeader(
        TRACE_VERSION,
        "jfk",
        stage,
        f"{stage} (test)",
        "artifact",
        "audio",
        N_VOCAB,
        "whisper",
        language,
        11.0,
        False,
        TEXT,
        spoken,
        whole,
        (),
        False,
        0.2,
        windows,
    )


def changed(original: Trace, **changes) -> Trace:
    """A copy whose window has another encoder_output, logits or choices, or whose header has other fields."""
    window = original.windows[0]
    forced_fields = {key: changes.pop(key) for key in ("logits", "choices", "runners_up") if key in changes}
    forced = dataclasses.replace(window.teacher_forced, **forced_fields)
    encoder_output = changes.pop("encoder_output", window.encoder_output)
    window = dataclasses.replace(window, encoder_output=encoder_output, teacher_forced=forced)
    header = dataclasses.replace(original.header, **changes)
    return Trace(header, (window,))


def flipped(original: Trace, step: int, token: int, margin: float) -> Trace:
    """A copy in which `token` beats the reference's choice at `step` by `margin`."""
    forced = original.windows[0].teacher_forced
    logits, choices = forced.logits.copy(), forced.choices.copy()
    logits[step, token] = logits[step, choices[step]] + margin
    choices[step] = token
    return changed(original, logits=logits, choices=choices)


def tokens(text: str | Sequence[int]) -> tuple[int, ...]:
    """A text's tokens; tokens as they are."""
    return tuple(vocabulary.tokenizer(N_VOCAB).encoding.encode(text) if isinstance(text, str) else text)


def forge(path: Path, *, tensors: Mapping[str, Any] | None = None, **header: Any) -> None:
    """Rewrite a recorded trace with other tensors or header fields, under a hash that fits."""
    with safe_open(path, framework="numpy") as known:
        facts = json.loads(known.metadata()["trace"]) | header
        arrays = {key: known.get_tensor(key) for key in known.keys()} | dict(tensors or {})  # noqa: SIM118
    text = json.dumps(facts)
    save_file(arrays, path, {"trace": text, "sha256": file.content_sha256(text, arrays)})


def says(
    *windows: str | Sequence[int],
    stage: str = "tflite",
    prompt: tuple[int, ...] = PROMPT,
    flips: Collection[tuple[int, int]] = (),
    language: str = "en",
) -> Trace:
    """A trace that says these texts, one a window; fed the reference's, it chooses otherwise at (window, step)."""
    made = []
    for index, said in enumerate(map(tokens, windows)):
        header = WindowHeader(index, "features", prompt, said, "eot", said, 1, 1, 0.1, 0.1)
        choices = np.array([int((index, step) in flips) for step in range(len(said) + 1)])
        forced = TeacherForced(said, np.zeros((len(choices), 2), np.float32), choices, 1 - choices)
        made.append(WindowTrace(header, np.zeros((1, 1, 1), np.float32), forced))
    header = trace_header(stage, *(window.header for window in made), language=language)
    return Trace(header, tuple(made))
