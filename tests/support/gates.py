"""A gate's judgement of a run made by hand: what failed, one rule's result, and noise that makes rules fail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support import runs, traces
from whisper_parity.gate.judging import Judgement
from whisper_parity.gate.result import RuleResult

EDGE = "torchscript->tflite"

Gate = Callable[..., Judgement]


def failed(judged: Judgement) -> list[tuple[str, str, str]]:
    """(rule, edge, language) of the rules that failed."""
    return [(each.rule, each.edge, each.language) for each in judged.result.rules if not each.passed]


def rule(judged: Judgement, name: str, edge: str = EDGE, language: str = "") -> RuleResult:
    """One rule's result."""
    found = [each for each in judged.result.rules if (each.rule, each.edge, each.language) == (name, edge, language)]
    assert len(found) == 1, [(each.rule, each.edge, each.language) for each in judged.result.rules]
    return found[0]


def noisy(amount: float) -> runs.Change:
    """The encoder output and the logits moved by Gaussian noise."""

    def change(found):
        window = found.windows[0]
        rng = np.random.default_rng(5)
        moved = [a + amount * rng.standard_normal(a.shape, dtype=np.float32)
                 for a in (window.encoder_output, window.teacher_forced.logits)]  # fmt: skip
        return traces.changed(found, encoder_output=moved[0], logits=moved[1])

    return change
