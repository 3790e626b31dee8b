"""The part of a large run that is worth a look: its worst clips, each with all its rows."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from whisper_parity.judge.verdict import Outcome, severity
from whisper_parity.run.report import Row
from whisper_parity.system import serial

CLIPS = 200
"""As many as a page holds with their sounds and is painted at once."""
CHARACTERS = 8_000_000
"""Most of all their rows as JSON: a row of hours of speech has a million."""


_Clip = tuple[tuple[float, ...], int, tuple[Row, ...]]
"""(how bad, minus its number, rows) of a clip."""


class Excerpt:
    """Gathers the worst clips of rows that come clip by clip; what it holds does not grow with their number."""

    def __init__(self, most: int = CLIPS) -> None:
        self._most = most
        self._worst: list[_Clip] = []
        self._clip: list[Row] = []
        self.clips = 0
        """So many were seen."""

    def add(self, row: Row) -> None:
        """The next row."""
        if self._clip and self._clip[0].clip != row.clip:
            self._end()
        self._clip.append(row)

    def rows(self) -> tuple[Row, ...]:
        """The rows of the worst clips that CHARACTERS have room for, in the order in which they came."""
        self._end()
        chosen: list[_Clip] = []
        size = 0
        for entry in sorted(self._worst, key=lambda entry: entry[:2], reverse=True):
            size += sum(len(serial.line(row)) for row in entry[2])
            if chosen and size > CHARACTERS:
                break
            chosen.append(entry)
        return tuple(row for _, _, rows in sorted(chosen, key=lambda entry: -entry[1]) for row in rows)

    def _end(self) -> None:
        if self._clip:
            self.clips += 1
            badness = tuple(-value for value in rank(self._clip))
            heapq.heappush(self._worst, (badness, -self.clips, tuple(self._clip)))  # no two compare by their rows
            if len(self._worst) > self._most:
                heapq.heappop(self._worst)
            self._clip = []


def outcome(rows: Sequence[Row]) -> Outcome:
    """The outcome that a clip is filed under: the worst of its cells."""
    judged = [row for row in rows if row.verdict.outcome is not Outcome.REFERENCE] or rows
    return max(judged, key=lambda row: severity(row.verdict)).verdict.outcome


def rank(rows: Sequence[Row]) -> tuple[float, ...]:
    """Sort key of a clip, worst first: verdict, words that change, lowest SNR [dB]."""
    worst = outcome(rows)
    comparisons = [row.judged.comparison for row in rows if row.judged]
    edits = sum(len(comparison.text.edits) for comparison in comparisons if comparison.text)
    snr = min((item.diff.snr_db for comparison in comparisons for item in comparison.tensors), default=math.inf)
    return -worst.exit_code, worst is not Outcome.DRIFT, -edits, snr
