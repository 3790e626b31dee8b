"""A run over sets of clips in several formats: from folder to verdict, and back by the command of a row."""

from __future__ import annotations

import shlex

from tests.support import clipsets
from tests.support.commands import RUN
from tests.support.refusals import require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome


def test_clips_of_every_format_are_judged_and_reproduced(parity, tmp_path):
    """Texts are the truth; a row's command names its set, and judges that clip alone."""
    sets = [build(tmp_path / build.__name__) for build in clipsets.PLAIN]
    words = ",".join(str(path) for path in sets)
    result = parity(*RUN, "--clips", words, "--run-id", "sets", "--max-seconds", "1", "--sample", "6", "--seed", "3")
    require_no_traceback(result, 0)
    rows = rows_of(tmp_path / "reports" / "sets")
    outcomes = {key: row.verdict.outcome for key, row in rows.items()}
    assert set(outcomes.values()) == {Outcome.REFERENCE, Outcome.PASS}
    assert len(rows) == 12
    assert "note: 6 of 24 clips taken by --max-seconds 1 --sample 6 --seed 3" in result.stdout.splitlines()
    assert all(row.vs_transcript is not None for row in rows.values())
    listed = next(row for (_, stage), row in rows.items() if stage == "torchscript" and "--manifest" in row.reproduce)
    again = shlex.split(listed.reproduce)[1:]
    require_no_traceback(parity(*again, "--no-state", "--run-id", "again"), 0)
    repeated = rows_of(tmp_path / "reports" / "again")
    assert [stage for _, stage in repeated] == ["pytorch", "torchscript"]
    ((name, _), row) = list(repeated.items())[1]
    assert name in listed.clip  # without the set's name, which tells it from those of other sets
    assert (row.text, row.vs_transcript) == (listed.text, listed.vs_transcript)
