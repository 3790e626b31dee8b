"""Which traces of a run stay: all, those that are worth a look, or none.

A trace is megabytes, a row kilobytes. Of a few clips all traces stay. Of many, a stage keeps those of its worst clips
and of what is not `pass`, each with what it was judged against; of the others the journal holds a compact record, and
`parity explain` records a clip again whose traces are gone.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from whisper_parity.backend.stage import Stage
from whisper_parity.errors import ConfigError
from whisper_parity.judge import verdict
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run.batches import BATCH
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Row

WORST = 10
"""Clips of each stage whose traces stay in a run of more than BATCH clips, where nobody says."""
NOT_PASS = 100
"""Most clips of a stage whose traces stay because they are not `pass`, the worst first: a stage that diverges on all
clips must not fill the disk."""
FORMS = "all, none, worst or worst:N"

_Rank = tuple[int, bool, float, int]
"""(exit code, drifts, minus the lowest SNR [dB], minus the position of its clip), the largest the worst."""


@dataclass(frozen=True, slots=True)
class Keeps:
    """What stays."""

    everything: bool = False
    worst: int = 0
    """Clips of each stage."""
    not_pass: bool = False
    """Whether what is not `pass` stays beside these."""

    def __str__(self) -> str:
        """As it is typed."""
        return "all" if self.everything else f"worst:{self.worst}" if self.not_pass else "none"


def keeps(text: str | None, clips: int) -> Keeps:
    """What `--traces` asks for; where nobody said, by the number of clips.

    Raises:
        ConfigError: another form than FORMS.
    """
    form, colon, number = (text or ("all" if clips <= BATCH else "worst")).partition(":")
    if form == "worst" and (not colon or (number.isascii() and number.isdigit() and len(number) < 7)):
        return Keeps(worst=int(number) if colon else WORST, not_pass=True)
    if form in ("all", "none") and not colon:
        return Keeps(everything=form == "all")
    raise ConfigError(f"traces {text!r:.60}: expected {FORMS}")


@dataclass(slots=True)
class _OfStage:
    """The worst clips of a stage so far."""

    worst: list[tuple[_Rank, str, bool]] = field(default_factory=list)
    """A heap of (rank, clip, whether it is not `pass`), the least bad first."""

    def add(self, rank: _Rank, row: Row, most: int) -> None:
        entry = rank, row.clip, row.verdict.outcome is not Outcome.PASS
        heapq.heappush(self.worst, entry)
        if len(self.worst) > most:
            heapq.heappop(self.worst)

    def kept(self, keep: Keeps) -> Iterator[str]:
        """Clips, the worst first."""
        for place, (_, clip, is_not_pass) in enumerate(sorted(self.worst, reverse=True)):
            if place < keep.worst or (keep.not_pass and is_not_pass):
                yield clip


class Retention:
    """Drops traces as the clips of a run are judged; a row that is added twice counts once if nothing was dropped."""

    def __init__(self, keep: Keeps, folder: RunFolder, stages: Iterable[Stage]) -> None:
        self._keep, self._folder = keep, folder
        self._stages = {stage.spec: stage for stage in stages}
        self._worst = {spec: _OfStage() for spec in self._stages}
        self._present: dict[str, None] = {}
        self._count = 0

    def add(self, row: Row) -> None:
        """Take a judged row into account; the order of rows is that of the run, whoever recorded them."""
        self._count += 1
        if self._keep.everything or row.stage not in self._worst:
            return
        self._present[row.clip] = None
        if row.verdict.outcome is not Outcome.REFERENCE:
            most = max(self._keep.worst, NOT_PASS if self._keep.not_pass else 0)
            self._worst[row.stage].add((*verdict.severity(row.verdict), -_lowest_db(row), -self._count), row, most)

    def drop(self) -> None:
        """Delete the traces that do not stay; called when all cells of the clips that were added are judged."""
        if self._keep.everything:
            return
        staying = {cell for spec, worst in self._worst.items() for cell in self._with_references(spec, worst)}
        for clip in list(self._present):
            gone = [spec for spec in self._stages if (clip, spec) not in staying]
            for spec in gone:
                for path in (self._folder.trace(clip, spec), self._folder.lock(clip, spec)):
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
            if len(gone) == len(self._stages):
                del self._present[clip]

    def _with_references(self, spec: str, worst: _OfStage) -> Iterator[tuple[str, str]]:
        stage = self._stages[spec]
        for clip in worst.kept(self._keep):
            yield from ((clip, name) for name in (spec, stage.parent, stage.root) if name)


def _lowest_db(row: Row) -> float:
    """The lowest SNR of a row [dB]; one that is no number is the lowest of all, and without tensors there is none."""
    sides = [side.comparison for side in (row.vs_parent, row.vs_root) if side]
    levels = [tensor.diff.snr_db for comparison in sides for tensor in comparison.tensors]
    return min((-math.inf if math.isnan(level) else level for level in levels), default=math.inf)
