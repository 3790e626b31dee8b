"""Devices that fail again and again: each clip is judged once. `python -m benchmarks.soak` takes a thousand."""

from __future__ import annotations

import re
from collections import Counter

from tests.support.refusals import require_no_traceback
from tests.support.soaking import soak

CLIPS = 10


def test_each_clip_is_judged_once_whatever_happens_to_its_devices(
    tmp_path, parity_in, scripted_checkpoint, cache_dir, runner_built
):
    """One is unplugged, one reboots, one hangs, over and over; clips go to whichever is there."""
    done = soak(tmp_path, CLIPS, parity_in, scripted_checkpoint, cache_dir)
    require_no_traceback(done.result, 0)
    assert done.report.finished
    assert set(done.judged.values()) == {1}
    assert Counter(stage for _, stage in done.judged) == dict.fromkeys(("pytorch", "tflite", "dla"), CLIPS)
    assert {row.verdict.outcome.value for row in done.report.rows if row.stage == "dla"} <= {"pass", "drift"}
    assert "tried again, since [hang]" in done.notes
    assert re.search(r"\[(unplugged|offline|runner gone|no device|adb server lost)\]", done.notes)
