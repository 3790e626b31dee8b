"""Whether a recorded trace fits the run that is to use it: what does not is never judged, nor blamed on the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from whisper_parity.clips.clip import Clip
from whisper_parity.model import vocabulary
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Row
from whisper_parity.trace.trace import Trace, WindowTrace


def misfit(trace: Trace, plan: Plan, stage: str, clip: Clip, fed: Sequence[str]) -> str:
    """How a trace differs from what this run records for a stage and clip, in words; "" when it fits.

    Args:
        trace: as recorded.
        plan: of the run.
        stage: that recorded it.
        clip: that it is of.
        fed: hashes of the input features of the clip's windows.
    """
    return next(_misfits(trace, plan, stage, clip, fed), "")


def of_row(trace: Trace, row: Row, policy: str) -> str:
    """How a trace differs from the judged row that its run wrote, in words; "" when it fits.

    Args:
        trace: as recorded.
        row: of the run's report.
        policy: of the run.
    """
    return next(_misfits_of_row(trace, row, policy), "")


def _misfits_of_row(trace: Trace, row: Row, policy: str) -> Iterator[str]:
    header = trace.header
    for name, value in {"stage": row.stage, "clip": row.clip, "policy": policy, "tokens": row.token_ids}.items():
        if getattr(header, name) != value:
            yield f"its {name} is not that of its row"
    if row.encoder_calls and not trace.windows:
        yield "it has no windows"
    if any(window.teacher_forced.logits.shape[1] != header.n_vocab for window in trace.windows):
        yield f"its logits are not those of a vocabulary of {header.n_vocab}"


def _misfits(trace: Trace, plan: Plan, stage: str, clip: Clip, fed: Sequence[str]) -> Iterator[str]:
    header, dims = trace.header, plan.checkpoint_of(stage).dims
    expected = {"stage": stage, "clip": clip.name, "policy": plan.policy.name, "n_vocab": dims.n_vocab,
                "vocabulary": dims.vocabulary}  # fmt: skip
    for name, value in expected.items():
        if (recorded := getattr(header, name)) != value:
            yield f"it is of {name} {recorded}, the run asks for {value}"
    if header.tokens != vocabulary.spoken(dims.vocabulary, header.timestamped_tokens):
        yield "its text tokens are not those among its tokens"
    if not trace.windows:
        return
    recorded_fed = [window.header.input_features_sha256 for window in trace.windows]
    if recorded_fed != list(fed):
        yield f"its {len(recorded_fed)} window(s) were fed other input features than the clip's {len(fed)}"
    if header.timestamped_tokens != tuple(token for window in trace.windows for token in window.header.tokens):
        yield "its tokens are not those of its windows"
    for window in trace.windows:
        yield from _misfits_of_window(window, (1, dims.n_audio_ctx, dims.n_audio_state), dims.n_vocab)


def _misfits_of_window(window: WindowTrace, shape: tuple[int, ...], n_vocab: int) -> Iterator[str]:
    where, forced = f"window {window.header.index}", window.teacher_forced
    for name, array, expected in (
        ("encoder_output", window.encoder_output, shape),
        ("logits", forced.logits, (len(forced.choices), n_vocab)),
    ):
        if array.dtype != np.float32 or array.shape != expected:
            yield f"{where}: {name} is {array.dtype} {list(array.shape)}, expected float32 {list(expected)}"
