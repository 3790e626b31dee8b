"""Two sets of results side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from whisper_parity.compare import text
from whisper_parity.compare.finding import cut
from whisper_parity.compare.sets import PairedClip, SetComparison
from whisper_parity.compare.text import EDIT_CLASSES, ErrorCounts
from whisper_parity.gate.result import Statistic
from whisper_parity.report import gated
from whisper_parity.report.numbers import UNKNOWN
from whisper_parity.system import terminal

LONGEST = 200
"""Characters of a text."""
NAMED = 5
"""Ids that a line lists."""


@dataclass(frozen=True, slots=True)
class SetReport:
    """What `--json` writes."""

    comparison: SetComparison
    statistics: tuple[Statistic, ...]


def show(report: SetReport, console: Console) -> None:
    """Print the comparison of two sets."""
    for line in lines(report):
        terminal.line(console, line)


def lines(report: SetReport) -> list[str]:
    """What was paired, how far the two are apart, what it means against the truth, the worst clips; one sentence."""
    compared = report.comparison
    return [
        *_pairs(compared),
        *_apart(compared),
        *_found(compared),
        *_against_truth(compared, report.statistics),
        *(line for clip in compared.worst() for line in _worst(clip)),
        _closing(compared, report.statistics),
    ]


def _pairs(compared: SetComparison) -> Iterator[str]:
    yield f"{len(compared.clips)} clips of {compared.reference} (reference) and {compared.candidate} (candidate)"
    for ids, where in ((compared.only_reference, "the reference"), (compared.only_candidate, "the candidate")):
        if ids:
            yield f"finding: {len(ids)} only in {where}: {_named(ids)}"
    if compared.repeated:
        yield f"finding: {len(compared.repeated)} ids stand twice and are not paired: {_named(compared.repeated)}"
    if compared.unnamed:
        yield f"finding: {compared.unnamed} results without an id or a file are not paired"


def _apart(compared: SetComparison) -> Iterator[str]:
    equal = sum(clip.equal for clip in compared.clips)
    yield f"texts equal in {_share(equal, len(compared.clips))}"
    tokens = [clip.tokens_equal for clip in compared.clips if clip.tokens_equal is not None]
    if tokens:
        yield f"token ids equal, as they are written, in {_share(sum(tokens), len(tokens))}"
    metric = compared.metric.upper()
    yield f"candidate against reference: {metric} {_counted(compared.errors)} ({compared.normaliser})"
    edits = Counter(kind for clip in compared.clips for kind, count in clip.edits.items() for _ in range(count))
    clips = Counter(kind for clip in compared.clips for kind in clip.edits)
    if edits:
        yield "edits: " + ", ".join(f"{edits[k]} {k} in {clips[k]} clips" for k in EDIT_CLASSES if edits[k])


def _found(compared: SetComparison) -> Iterator[str]:
    kinds = dict.fromkeys(item.kind for clip in compared.clips for item in clip.findings)
    for kind in kinds:
        ids = [clip.id for clip in compared.clips if any(item.kind == kind for item in clip.findings)]
        yield f"finding: {kind} in {len(ids)} clips: {_named(ids)}"


def _against_truth(compared: SetComparison, statistics: Sequence[Statistic]) -> Iterator[str]:
    judged = list(compared.judged())
    if not judged:
        yield "against the truth: unknown; give the texts with --reference"
        return
    metric = compared.metric.upper()
    missing = len(compared.clips) - len(judged)
    of = f", {missing} clips without a text aside" if missing else ""
    yield f"against the truth{of}: reference {metric} {_counted(text.total(ours for _, _, ours in judged))}"
    yield f"against the truth{of}: candidate {metric} {_counted(text.total(theirs for _, theirs, _ in judged))}"
    for one in statistics:
        name = gated.FIGURES.get(one.name.replace("cer", "wer"), one.name)
        yield f"  {name}: {gated.figure(one)} ({one.note})"


def _worst(clip: PairedClip) -> Iterator[str]:
    what = "more errors" if clip.reference_errors is not None else "errors"
    named = "".join(f"; {item.sentence}" for item in clip.findings[:2])
    yield f"worst: {clip.id}: {clip.added} {what}{named}"
    if clip.truth is not None:
        yield f"  truth     {cut(clip.truth, LONGEST)}"
    yield f"  reference {cut(clip.reference, LONGEST)}"
    yield f"  candidate {cut(clip.candidate, LONGEST)}"


def _closing(compared: SetComparison, statistics: Sequence[Statistic]) -> str:
    delta = next((one for one in statistics if one.name == f"{compared.metric}_delta"), None)
    differing = sum(not clip.equal for clip in compared.clips)
    if compared.exit_code == 0:
        return f"finding: the same text in all {len(compared.clips)} clips"
    if delta is None or delta.value is None or delta.low is None or delta.high is None:
        return f"finding: {differing} of {len(compared.clips)} clips differ"
    verdict = _verdict(delta.low, delta.high)
    return f"finding: {differing} of {len(compared.clips)} clips differ; against the truth the candidate {verdict}"


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return "is worse: the interval of the difference is above 0"
    if high < 0:
        return "is better: the interval of the difference is below 0"
    return "is not shown to be worse or better: the interval of the difference holds 0"


def _counted(counts: ErrorCounts) -> str:
    """As a rate with what it was counted from."""
    rate = UNKNOWN if counts.rate is None else f"{counts.rate:.2%}"
    parts = f"{counts.substitutions} S, {counts.deletions} D, {counts.insertions} I"
    return f"{rate} ({counts.errors} of {counts.length}: {parts})"


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.1%})"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
