"""Rules on what a program does by itself: its front end, prompt, detokeniser and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from whisper_parity.gate import measure
from whisper_parity.gate.evidence import CellEvidence
from whisper_parity.gate.rule import Measured, Rule, counted, worst_clip
from whisper_parity.judge import program
from whisper_parity.judge.tolerance import Tolerance


def _features(name: str, pairs: Sequence[CellEvidence], _: Tolerance) -> Measured:
    """The worst clip of a program's own front end; features that cannot be compared keep no limit."""
    return worst_clip(name, {pair.clip: measure.features_snr_db(pair.row) if pair.row else None for pair in pairs})


def _program_faults(rung: str) -> Callable[[str, Sequence[CellEvidence], Tolerance], Measured]:
    """Clips on which a rung of a program fails."""

    def count(_: str, pairs: Sequence[CellEvidence], __: Tolerance) -> Measured:
        failing = {
            pair.clip: result.reason
            for pair in pairs
            if pair.row and pair.row.program and not pair.expected
            for result in pair.row.program.failing
            if result.rung == rung
        }
        first = next(iter(failing.items()), None)
        words = counted(len(failing), "clip") + (f", {first[0]}: {first[1]}" if first else "")
        return Measured(len(failing), words, tuple(failing))

    return count


BEFORE = (
    Rule("features_snr_db", program.FEATURES, "at least {} dB", _features),
    Rule("prompt_faults", program.PROMPT, "at most {} clips", _program_faults(program.PROMPT)),
)
"""Of a program by itself, in front of the rules of its edge."""
BEHIND = (
    Rule("detokenise_faults", program.DETOKENISE, "at most {} clips", _program_faults(program.DETOKENISE)),
    Rule("end_faults", program.END, "at most {} clips", _program_faults(program.END)),
)
"""Behind them."""
