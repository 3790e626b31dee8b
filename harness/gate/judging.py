"""From a recorded run to the gate's result: rules, approved results, expected divergences, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.gate import approved, evidence, expected, paired, rules
from whisper_parity.gate.approved import Approved, Difference
from whisper_parity.gate.evidence import EdgeEvidence
from whisper_parity.gate.result import UNJUDGED, GateResult, RuleResult, Statistic
from whisper_parity.gate.settings import Settings
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.system import serial


@dataclass(frozen=True)
class Judgement:
    """The gate's result and its difference to the approved one."""

    result: GateResult
    diff: tuple[str, ...]
    """Lines of the difference to the approved result; empty when equal."""
    has_approved: bool = True
    """Whether there is an approved result: without one every line of the difference is new."""


def gate(folder: RunFolder, settings: Settings, name: str | None = None) -> Judgement:
    """Judge a recorded run, and write gate.json into its folder.

    Raises:
        RecordError: no run, or an unreadable approved result.
        ConfigError: an invalid list of expected divergences.
    """
    judgement = judge(records.load(folder), settings, name)
    serial.write(folder.gate, judgement.result)
    return judgement


def judge(report: Report, settings: Settings, name: str | None = None) -> Judgement:
    """Judge a report; a result that differs from the approved one is written beside it."""
    report = report.held if report.pages else report
    file = approved.path(settings.folder, name or settings.approved or approved.default_name(report))
    signed = approved.load(file) if file.is_file() else None
    listed = expected.match(expected.load(settings.folder), report, file.stem)
    edges = evidence.edges(report, listed.excused)
    signed = approved.of_subset(signed, report) if signed else None
    differences = approved.differences(signed, report) if signed else _all_missing(report, file.stem)
    results = [
        _complete(report, settings),
        _stateless(report),
        _as_approved(file, signed, differences, report),
        *_per_edge(edges, settings, signed, file),
        _expected(listed, settings),
    ]
    _save_obtained(file, report, changed=not results[2].passed)
    result = _result(report, results, [statistic for edge in edges for statistic in paired.describe(edge)], listed)
    return Judgement(result, tuple(approved.diff(file, differences)), signed is not None)


def _per_edge(
    edges: Sequence[EdgeEvidence], settings: Settings, signed: Approved | None, file: Path
) -> list[RuleResult]:
    results = []
    for edge in edges:
        results += [rules.premises(edge), *rules.judge(edge, settings.table), _not_worse(edge, settings, signed, file)]
    return results


def _result(
    report: Report, results: Sequence[RuleResult], numbers: Sequence[Statistic], listed: expected.Matched
) -> GateResult:
    counts = {outcome: sum(rule.outcome == outcome for rule in results) for outcome in ("passed", "failed", UNJUDGED)}
    judged = [rule for rule in results if rule.outcome != UNJUDGED]
    failed = [rule for rule in judged if not rule.passed]
    causes = [f"{rule.rule}{f' on {rule.edge}' if rule.edge else ''}: {rule.actual}" for rule in failed[:3]]
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    edges = len({rule.edge for rule in judged if rule.edge})
    sentence = f"passed: {len(judged)} rules on {edges} edges"
    if failed:
        sentence = f"failed: {len(failed)} of {len(judged)} rules: {'; '.join(causes)}{more}"
    occurred = tuple(f"expected: {rule.words}" for rule in listed.occurred)
    elsewhere = tuple(f"not in this run: {rule.words}" for rule in listed.elsewhere)
    return GateResult(
        run=report.run,
        passed=not failed,
        exit_code=1 if failed else 0,
        sentence=sentence,
        rules=tuple(results),
        statistics=tuple(numbers),
        expected=(*occurred, *elsewhere),
        counts=counts,
    )


def _complete(report: Report, settings: Settings) -> RuleResult:
    """Every cell has a result, every stage required by the project exists, and something was compared."""
    cells = {(cell.clip, cell.stage): cell for cell in report.rows}
    required = [(clip, stage.spec) for clip in evidence.clips(report) for stage in report.stages]
    required = [key for key in required if not report.subset or key in cells]
    unresolved = [key for key in required if key not in cells or cells[key].verdict.outcome in evidence.NOT_RUN]
    bad = [f"{cell.clip}: {cell.verdict.reason}" for cell in report.rows if not cell.stage]
    absent = [stage for stage in settings.stages if stage not in {stage_info.spec for stage_info in report.stages}]
    reasons = [f"{clip} · {stage}: {_why(cells.get((clip, stage)))}" for clip, stage in unresolved] + bad
    reasons += [f"stage {stage} is not in this run" for stage in absent]
    reasons += [] if report.finished else ["the run is not finished"]
    reasons += [] if any(cell.judged for cell in report.rows) else ["nothing was compared"]
    whole = report.subset or f"{len(required)} of {len(required)} cells"
    actual = f"{len(reasons)} missing, first {reasons[0]}" if reasons else whole
    clips = tuple(
        dict.fromkeys([clip for clip, _ in unresolved] + [cell.clip for cell in report.rows if not cell.stage])
    )
    source = "parity.toml" if settings.stages else rules.DEFAULT
    return RuleResult("complete", "", "", "every stage has a result on every clip", actual, not reasons, clips, source)


def _why(cell: Row | None) -> str:
    return f"{cell.verdict.outcome.value}: {cell.verdict.reason}" if cell else "not run"


def _stateless(report: Report) -> RuleResult:
    """No stage's result depends on earlier calls, where that was checked."""
    bad = [check for check in report.states if check.failed]
    checked = sum(check.checked for check in report.states)
    actual = f"{checked} checks, none depends" if checked else "not checked in this run"
    if bad:
        actual = f"{bad[0].stage}, {bad[0].sequence}: {bad[0].reason}"
    clips = tuple(dict.fromkeys(clip for check in bad for clip in check.clips))
    limit = "no result depends on what ran before, caches are kept rightly" if checked else UNJUDGED
    return RuleResult("stateless", "", "", limit, actual, not bad, clips, rules.DEFAULT)


def _as_approved(file: Path, signed: Approved | None, differences: Sequence[Difference], report: Report) -> RuleResult:
    limit = "texts and tokens exactly as approved"
    clips = tuple(dict.fromkeys(difference.clip for difference in differences if difference.clip))
    cells = sum(bool(cell.stage) for cell in report.rows)
    if signed is None:
        actual = f"no approved result {file.name}: look at the run, then `parity approve {report.run}`"
        return RuleResult("approved", "", "", limit, actual, False, clips, _shown(file))
    actual = f"{cells} of {cells} cells as approved"
    if differences:
        first = differences[0]
        change = f"{first.expected or 'not approved'} -> {first.obtained or 'not in this run'}"
        count = len({difference.where for difference in differences})
        actual = f"{count} differ, first {first.where}: {first.name} {change}"
    return RuleResult("approved", "", "", limit, actual, not differences, clips, _shown(file))


def _not_worse(edge: EdgeEvidence, settings: Settings, signed: Approved | None, file: Path) -> RuleResult:
    allowed = rules.limit(settings.table, edge, "worse_by_db")
    name = "not_worse_than_approved"
    if allowed.value is None:
        return RuleResult(name, edge.name, "", UNJUDGED, rules.NOT_JUDGED, True, (), allowed.source)
    limit = f"flips and errors as approved, SNR at most {allowed.value:g} dB below"
    missing = [pair.clip for pair in edge.pairs if pair.missing]
    if signed is None or missing:
        actual = f"no result on {missing[0]}" if missing else "no approved result"
        return RuleResult(name, edge.name, "", limit, actual, False, tuple(missing), _shown(file))
    worse, compared = approved.worse_metrics(signed, edge, allowed.value)
    actual = f"{compared} figures, none worse"
    if worse:
        first = worse[0]
        actual = f"{len(worse)} worse, first {first.clip}: {first.name} {first.expected} -> {first.obtained}"
    clips = tuple(dict.fromkeys(difference.clip for difference in worse))
    return RuleResult(name, edge.name, "", limit, actual, not worse, clips, _shown(file))


def _expected(matched: expected.Matched, settings: Settings) -> RuleResult:
    listed = len(matched.occurred) + len(matched.gone) + len(matched.unknown)
    reasons = [f"no longer occurs: {entry.words}" for entry in matched.gone]
    reasons += [f"unknown, the cell has no result: {entry.words}" for entry in matched.unknown]
    actual = "; ".join(reasons) or f"{listed} of {listed} occur"
    clips = tuple(dict.fromkeys(entry.clip for entry in (*matched.gone, *matched.unknown)))
    source = _shown(settings.folder / expected.FILE)
    return RuleResult("expected_divergences", "", "", "every entry occurs", actual, not reasons, clips, source)


def _all_missing(report: Report, name: str) -> list[Difference]:
    cells = approved.summarise(report, name).cells
    return [Difference(cell.clip, cell.stage, "text", "", repr(cell.text)) for cell in cells]


def _save_obtained(file: Path, report: Report, *, changed: bool) -> None:
    obtained = approved.obtained_path(file)
    if changed:
        approved.save(obtained, approved.summarise(report, file.stem))
    else:
        obtained.unlink(missing_ok=True)


def _shown(file: Path) -> str:
    """The last three names of a file inside the project, the last two of another file."""
    return "/".join(file.parts[-3:] if file.is_relative_to(project.folder()) else file.parts[-2:])
