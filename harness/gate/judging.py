"""From a recorded run to the gate's result: rules, approved results, expected divergences, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.gate import approved, evidence, expected, paired, rules
from whisper_parity.gate.approved import Approved, Difference
from whisper_parity.gate.evidence import EdgeEvidence
from whisper_parity.gate.result import GateResult, RuleResult, Statistic
from whisper_parity.gate.settings import Settings
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.system import serial


@dataclass(frozen=True)
class Judgement:
    """The gate's result, and what is shown beside it."""

    result: GateResult
    diff: tuple[str, ...]
    """Lines of the difference to the approved result; empty when there is none."""


def gate(folder: RunFolder, settings: Settings, name: str | None = None) -> Judgement:
    """Judge a recorded run, and write gate.json into its folder.

    Raises:
        RecordError: no run, or an approved result that cannot be read.
        ConfigError: a list of expected divergences that cannot be used.
    """
    judgement = judge(records.load(folder), settings, name)
    serial.write(folder.gate, judgement.result)
    return judgement


def judge(report: Report, settings: Settings, name: str | None = None) -> Judgement:
    """Judge a report; what was obtained is left beside the approved file when it is not as approved."""
    file = approved.path(settings.folder, name or settings.approved or approved.default_name(report))
    known = approved.load(file) if file.is_file() else None
    listed = expected.match(expected.load(settings.folder), report, file.stem)
    edges = evidence.edges(report, listed.excused)
    known = approved.of_subset(known, report) if known else None
    found = approved.differences(known, report) if known else _all_missing(report, file.stem)
    results = [
        _complete(report, settings),
        _stateless(report),
        _as_approved(file, known, found, report),
        *_per_edge(edges, settings, known, file),
        _expected(listed, settings),
    ]
    _leave_obtained(file, report, changed=not results[2].passed)
    result = _result(report, results, [each for edge in edges for each in paired.describe(edge)], listed)
    return Judgement(result, tuple(approved.diff(file, found)))


def _per_edge(
    edges: Sequence[EdgeEvidence], settings: Settings, known: Approved | None, file: Path
) -> list[RuleResult]:
    found = []
    for edge in edges:
        found += [rules.premises(edge), *rules.judge(edge, settings.table), _not_worse(edge, settings, known, file)]
    return found


def _result(
    report: Report, results: Sequence[RuleResult], numbers: Sequence[Statistic], listed: expected.Found
) -> GateResult:
    judged = [each for each in results if each.limit != rules.UNJUDGED]
    failed = [each for each in judged if not each.passed]
    said = [f"{each.rule}{f' on {each.edge}' if each.edge else ''}: {each.actual}" for each in failed[:3]]
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    edges = len({each.edge for each in judged if each.edge})
    sentence = f"passed: {len(judged)} rules on {edges} edges"
    if failed:
        sentence = f"failed: {len(failed)} of {len(judged)} rules: {'; '.join(said)}{more}"
    occurred = tuple(f"expected: {each.words}" for each in listed.occurred)
    elsewhere = tuple(f"not in this run: {each.words}" for each in listed.elsewhere)
    return GateResult(
        run=report.run,
        passed=not failed,
        exit_code=1 if failed else 0,
        sentence=sentence,
        rules=tuple(results),
        statistics=tuple(numbers),
        expected=(*occurred, *elsewhere),
    )


def _complete(report: Report, settings: Settings) -> RuleResult:
    """Every cell has a result, every stage that the project asks for is there, and something was compared."""
    cells = {(row.clip, row.stage): row for row in report.rows}
    wanted = [(clip, stage.spec) for clip in evidence.clips(report) for stage in report.stages]
    wanted = [key for key in wanted if not report.subset or key in cells]
    lacking = [key for key in wanted if key not in cells or cells[key].verdict.outcome in evidence.NOT_RUN]
    bad = [f"{row.clip}: {row.verdict.reason}" for row in report.rows if not row.stage]
    absent = [stage for stage in settings.stages if stage not in {each.spec for each in report.stages}]
    said = [f"{clip} · {stage}: {_why(cells.get((clip, stage)))}" for clip, stage in lacking] + bad
    said += [f"stage {stage} was not asked for" for stage in absent]
    said += [] if report.finished else ["the run is not finished"]
    said += [] if any(row.judged for row in report.rows) else ["nothing was compared"]
    whole = report.subset or f"{len(wanted)} of {len(wanted)} cells"
    actual = f"{len(said)} missing, first {said[0]}" if said else whole
    clips = tuple(dict.fromkeys([clip for clip, _ in lacking] + [row.clip for row in report.rows if not row.stage]))
    source = "parity.toml" if settings.stages else rules.DEFAULT
    return RuleResult("complete", "", "", "every stage has a result on every clip", actual, not said, clips, source)


def _why(row: Row | None) -> str:
    return f"{row.verdict.outcome.value}: {row.verdict.reason}" if row else "not run"


def _stateless(report: Report) -> RuleResult:
    """No stage's result depends on what ran before, where that was checked."""
    bad = [each for each in report.states if each.stateful]
    actual = f"{len(report.states)} checks, none depends" if report.states else "not checked in this run"
    if bad:
        actual = f"{bad[0].stage}, {bad[0].sequence}: {bad[0].reason}"
    clips = tuple(dict.fromkeys(clip for each in bad for clip in each.clips))
    return RuleResult("stateless", "", "", "no result depends on what ran before" if report.states else rules.UNJUDGED,
                      actual, not bad, clips, rules.DEFAULT)  # fmt: skip


def _as_approved(file: Path, known: Approved | None, found: Sequence[Difference], report: Report) -> RuleResult:
    limit = "texts and tokens exactly as approved"
    clips = tuple(dict.fromkeys(each.clip for each in found if each.clip))
    cells = sum(bool(row.stage) for row in report.rows)
    if known is None:
        actual = f"no approved result {file.name}: look at the run, then `parity approve {report.run}`"
        return RuleResult("approved", "", "", limit, actual, False, clips, _shown(file))
    actual = f"{cells} of {cells} cells as approved"
    if found:
        first = found[0]
        pair = f"{first.expected or 'not approved'} -> {first.obtained or 'not in this run'}"
        actual = f"{len({each.where for each in found})} differ, first {first.where}: {first.name} {pair}"
    return RuleResult("approved", "", "", limit, actual, not found, clips, _shown(file))


def _not_worse(edge: EdgeEvidence, settings: Settings, known: Approved | None, file: Path) -> RuleResult:
    allowed = rules.limit(settings.table, edge, "worse_by_db")
    name = "not_worse_than_approved"
    if allowed.value is None:
        return RuleResult(name, edge.name, "", rules.UNJUDGED, rules.NOT_JUDGED, True, (), allowed.source)
    limit = f"flips and errors as approved, SNR at most {allowed.value:g} dB below"
    missing = [pair.clip for pair in edge.pairs if pair.missing]
    if known is None or missing:
        actual = f"no result on {missing[0]}" if missing else "no approved result"
        return RuleResult(name, edge.name, "", limit, actual, False, tuple(missing), _shown(file))
    found, compared = approved.worse_metrics(known, edge, allowed.value)
    actual = f"{compared} figures, none worse"
    if found:
        first = found[0]
        actual = f"{len(found)} worse, first {first.clip}: {first.name} {first.expected} -> {first.obtained}"
    clips = tuple(dict.fromkeys(each.clip for each in found))
    return RuleResult(name, edge.name, "", limit, actual, not found, clips, _shown(file))


def _expected(found: expected.Found, settings: Settings) -> RuleResult:
    listed = len(found.occurred) + len(found.gone) + len(found.unknown)
    said = [f"no longer occurs: {each.words}" for each in found.gone]
    said += [f"cannot be told, the cell has no result: {each.words}" for each in found.unknown]
    actual = "; ".join(said) or f"{listed} of {listed} occur"
    clips = tuple(dict.fromkeys(each.clip for each in (*found.gone, *found.unknown)))
    source = _shown(settings.folder / expected.FILE)
    return RuleResult("expected_divergences", "", "", "every entry occurs", actual, not said, clips, source)


def _all_missing(report: Report, name: str) -> list[Difference]:
    cells = approved.summarise(report, name).cells
    return [Difference(cell.clip, cell.stage, "text", "", repr(cell.text)) for cell in cells]


def _leave_obtained(file: Path, report: Report, *, changed: bool) -> None:
    obtained = approved.obtained_path(file)
    if changed:
        approved.save(obtained, approved.summarise(report, file.stem))
    else:
        obtained.unlink(missing_ok=True)


def _shown(file: Path) -> str:
    """A file of the project by its place in it, another one by its last two names."""
    return "/".join(file.parts[-3:] if file.is_relative_to(project.folder()) else file.parts[-2:])
