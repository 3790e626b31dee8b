"""Traces on disk: what was written is read back, and what does not belong together is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.traces import N_VOCAB, TOKENS, changed, trace
from whisper_parity.errors import RecordError
from whisper_parity.trace import file

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
    file.save(changed(trace(), **{name: value}), path)
    with pytest.raises(RecordError, match="tokens, logits and choices of window 0 do not belong together") as found:
        file.load(path)
    assert len(str(found.value).splitlines()) == 1
