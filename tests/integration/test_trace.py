"""Traces on disk: what was written is read back, and what does not belong together is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.traces import N_VOCAB, TOKENS, forge, trace
from whisper_parity.decode.loop import TeacherForced
from whisper_parity.errors import RecordError
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace, WindowTrace

STEPS = len(TOKENS) + 1


def test_a_trace_is_read_back_as_it_was_written(tmp_path):
    """Header and tensors, bit for bit."""
    whole, path = trace(noise=0.1), tmp_path / "one.safetensors"
    file.save(whole, path)
    found = file.load(path)
    assert found.header == whole.header
    (ours,), (theirs,) = whole.windows, found.windows
    assert np.array_equal(ours.encoder_output, theirs.encoder_output)
    for name in ("logits", "choices", "runners_up"):
        assert np.array_equal(getattr(ours.teacher_forced, name), getattr(theirs.teacher_forced, name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("choices", np.zeros(STEPS - 1, np.int64)),
        ("choices", np.full(STEPS, N_VOCAB)),
        ("choices", np.full(STEPS, -1)),
        ("choices", np.zeros(STEPS, np.float32)),
        ("runners_up", np.zeros((STEPS, 1), np.int64)),
        ("runners_up", np.zeros(STEPS + 1, np.int64)),
        ("logits", np.zeros((STEPS - 1, N_VOCAB), np.float32)),
        ("logits", np.zeros((STEPS, 4), np.float32)),
        ("logits", np.zeros(STEPS, np.float32)),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path, name, value):
    """A record is a file that anybody may have written: lengths that differ, tokens that no vocabulary has."""
    path = tmp_path / "torn.safetensors"
    file.save(trace(), path)
    forge(path, tensors={f"0.{name}": np.ascontiguousarray(value)})
    with pytest.raises(RecordError, match="tokens, logits and choices of window 0 do not belong together") as found:
        file.load(path)
    assert len(str(found.value).splitlines()) == 1


def test_a_window_that_reached_the_limit_is_read_back(tmp_path):
    """One row for each token and none behind the last one: a loop that the policy's limit ended."""
    whole = trace()
    window = whole.windows[0]
    forced = window.teacher_forced
    cut = TeacherForced(forced.tokens, forced.logits[:-1], forced.choices[:-1], forced.runners_up[:-1], limited=True)
    header = replace(window.header, ended="length", forced_limited=True)
    limited = Trace(replace(whole.header, windows=(header,)), (WindowTrace(header, window.encoder_output, cut),))
    path = tmp_path / "limited.safetensors"
    file.save(limited, path)
    (read,) = file.load(path).windows
    assert (read.header.ended, read.teacher_forced.limited) == ("length", True)
    assert read.teacher_forced.tokens == forced.tokens
    np.testing.assert_array_equal(read.teacher_forced.logits, cut.logits)


@pytest.mark.parametrize("limited", [True, False])
def test_a_row_too_many_or_too_few_is_no_record(limited):
    """The invariant stands in the dataclass: nobody can make what cannot be read back."""
    forced = trace().windows[0].teacher_forced
    kept = slice(None) if limited else slice(-1)
    with pytest.raises(ValueError, match="for 8 tokens"):
        TeacherForced(
            forced.tokens, forced.logits[kept], forced.choices[kept], forced.runners_up[kept], limited=limited
        )


def test_an_end_that_nobody_knows_is_no_record():
    """End-of-text, the limit, or values that are not finite."""
    with pytest.raises(ValueError, match="ended 'tired'"):
        replace(trace().windows[0].header, ended="tired")
