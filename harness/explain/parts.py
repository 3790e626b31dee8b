"""Which half, whatever became of the tokens: the encoder's output, and the decoder on the reference's encoder output.

The encoder is held against the reference by what the run recorded. The decoder is run once: fed the reference's tokens
and the reference's encoder output, its logits lose what it loses alone. Both are judged by the limits of the edge, so
that a half is at fault exactly where its row could not pass with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.backend.stage import Edge
from whisper_parity.compare import tensor
from whisper_parity.compare.columns import ShiftedColumns
from whisper_parity.compare.comparison import compare
from whisper_parity.errors import UnavailableError
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.crossfeed import Pair, as_halves, with_table
from whisper_parity.explain.explanation import PartFinding
from whisper_parity.judge import tolerance, verdict
from whisper_parity.judge.verdict import Grade
from whisper_parity.trace import context
from whisper_parity.trace.trace import Trace, WindowTrace

MOST = 0.9
"""Share of the error's energy from which on one half makes it."""
TENSORS = {"encoder": "encoder_output", "decoder": "logits"}


def measured(bench: Bench, pair: Pair, traces: tuple[Trace, Trace]) -> tuple[PartFinding, ...]:
    """What encoder and decoder lose, each alone, on one window.

    Args:
        bench: a run.
        pair: of the window.
        traces: of reference and candidate, for their headers.

    Raises:
        UnavailableError: the candidate gives text only.
        ParityError: it cannot be opened or run here.
    """
    ours, theirs = context.as_far_as_fed(*(_of_window(trace, w) for trace, w in zip(traces, (pair.ours, pair.theirs))))
    _require_finite(pair)
    window = ours.windows[0]
    session = as_halves(bench.session(pair.candidate), pair.candidate)
    logits = replace(window.teacher_forced, logits=_logits(session, window))
    alone = {
        "encoder": replace(window, encoder_output=theirs.windows[0].encoder_output),
        "decoder": replace(window, teacher_forced=logits),
    }
    return tuple(_finding(bench, part, ours, hybrid, pair) for part, hybrid in alone.items())


def passes_with_table(bench: Bench, pair: Pair, traces: tuple[Trace, Trace], table: Float32) -> bool:
    """Whether the candidate's decoder is sound with the reference's token embedding, float32 [n_vocab, n_text_state].

    Args and errors are those of `measured`.
    """
    ours, _ = context.as_far_as_fed(*(_of_window(trace, w) for trace, w in zip(traces, (pair.ours, pair.theirs))))
    window = ours.windows[0]
    with with_table(bench, pair.candidate, table) as session:
        hybrid = replace(window, teacher_forced=replace(window.teacher_forced, logits=_logits(session, window)))
    return not _finding(bench, "decoder", ours, hybrid, pair).fails


def makes(parts: Sequence[PartFinding], pair: Pair) -> str:
    """The part that makes the error of the logits, where each half passes alone: one with nearly all of it, or "both".

    Errors of the two add up as energies: what the decoder loses alone is its share, the rest came with the encoder's.
    """
    alone = next((finding.snr_db for finding in parts if finding.part == "decoder"), math.nan)
    ours, theirs = (window.teacher_forced.logits for window in (pair.ours, pair.theirs))
    if ours.shape != theirs.shape or tensor.count_nonfinite(theirs) or not math.isfinite(alone):
        return "encoder" if alone == math.inf else "both"
    share = 10 ** ((tensor.measure(reference=ours, candidate=theirs).snr_db - alone) / 10)
    return "decoder" if share >= MOST else "encoder" if share <= 1 - MOST else "both"


def of(parts: Sequence[PartFinding], component: str) -> PartFinding | None:
    """What a half loses, where it left its limits; else None."""
    return next((finding for finding in parts if finding.part == component and finding.fails), None)


def failing(parts: Sequence[PartFinding]) -> tuple[str, ...]:
    """The parts at fault."""
    return tuple(finding.part for finding in parts if finding.fails)


def _of_window(trace: Trace, window: WindowTrace) -> Trace:
    return Trace(replace(trace.header, windows=(window.header,)), (window,))


def _require_finite(pair: Pair) -> None:
    ours = pair.ours.encoder_output, pair.ours.teacher_forced.logits
    if any(tensor.count_nonfinite(values) for values in ours):
        raise UnavailableError(f"{pair.reference} itself gives NaN or infinite values: nothing can be held against it")


def _logits(session: Halves, window: WindowTrace) -> Float32:
    """Of a decoder under the reference's tokens and encoder output, float32 [n_steps, n_vocab]."""
    steps, start = len(window.teacher_forced.logits), len(window.header.prompt) - 1
    fed = [*window.header.prompt, *window.teacher_forced.tokens[: steps - 1]]
    return session.decode(fed, window.encoder_output, range(start, start + steps))


def _finding(bench: Bench, part: str, ours: Trace, hybrid: WindowTrace, pair: Pair) -> PartFinding:
    compared = compare(ours, replace(ours, windows=(hybrid,)), bench.plan.checkpoint.dims.vocabulary)
    limits = tolerance.for_edge(bench.plan.tolerances, Edge(pair.reference, pair.candidate))
    what = part if part == "encoder" else f"{part}, fed the encoder output of {pair.reference}"
    if compared.broken:
        return PartFinding(part, -math.inf, True, f"{what}: {compared.broken.reason}")
    result, diff = verdict.tensor_results(compared, limits)[part == "decoder"], compared.worst(TENSORS[part])
    snr_db = math.nan if diff is None else diff.snr_db
    said = "identical" if snr_db == math.inf else result.reason
    fails = result.grade in (Grade.DRIFT, Grade.FAIL)
    return PartFinding(part, snr_db, fails, f"{what}: {said}", _shift_db(compared.columns, ours.windows[0]))


def _shift_db(shifted: Sequence[ShiftedColumns], window: WindowTrace) -> float | None:
    """10 log10(sum of the window's logits squared / sum of the shifts squared, over all steps)."""
    logits = window.teacher_forced.logits.astype(np.float64)
    moved = sum((item.last - item.first + 1) * item.shift**2 for item in shifted)
    return tensor.snr_db(float((logits**2).sum()), len(logits) * moved) if shifted else None
