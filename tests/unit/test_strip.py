"""The strip of steps of the page."""

from __future__ import annotations

import dataclasses

from tests.support.traces import N_VOCAB, TOKENS, flipped, trace
from whisper_parity.backend.stage import Edge
from whisper_parity.compare.comparison import compare
from whisper_parity.judge import tolerance
from whisper_parity.project import read_toml
from whisper_parity.report.html.strip import strip
from whisper_parity.trace.context import as_far_as_fed
from whisper_parity.trace.trace import Trace

LIMITS = tolerance.for_edge(read_toml(tolerance.FILE), Edge("pytorch", "tflite"))


def with_room(original: Trace, steps: int) -> Trace:
    """A copy of a decoder that had room for so many steps."""
    window = original.windows[0]
    forced = dataclasses.replace(
        window.teacher_forced,
        tokens=TOKENS[:steps],
        logits=window.teacher_forced.logits[:steps],
        choices=window.teacher_forced.choices[:steps],
        runners_up=window.teacher_forced.runners_up[:steps],
        limited=True,
    )
    of_window = dataclasses.replace(window.header, forced_tokens=forced.tokens, forced_limited=True)
    header = dataclasses.replace(original.header, n_text_ctx=200, windows=(of_window,))
    return Trace(header, (dataclasses.replace(window, header=of_window, teacher_forced=forced),))


def test_a_decoder_with_less_room_is_drawn_as_far_as_it_was_fed():
    """Its page was no page once: the reference's steps behind the last one have no counterpart."""
    reference, candidate = trace(), with_room(flipped(trace("tflite"), 2, 99, 1.0), 4)
    comparison = compare(*as_far_as_fed(reference, candidate), N_VOCAB)
    drawn = strip(reference, candidate, comparison, LIMITS, str)
    assert drawn is not None
    assert [step.step for step in drawn.steps] == [0, 1, 2, 3]
    assert [difference.flip.step for difference in drawn.differences] == [2]
