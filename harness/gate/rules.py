"""The gate's rules: limits per edge and language from a reviewed file, with project overrides, applied to each edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.backend import stage
from whisper_parity.backend.registry import Backends
from whisper_parity.compare.finding import KINDS
from whisper_parity.compare.text import total
from whisper_parity.errors import ConfigError, ParityError
from whisper_parity.gate import evidence, measure
from whisper_parity.gate.evidence import CellEvidence, EdgeEvidence
from whisper_parity.gate.program_rules import BEFORE, BEHIND
from whisper_parity.gate.result import NO_RESULT, UNJUDGED, RuleResult
from whisper_parity.gate.rule import Measured, Rule, counted, number, worst_clip
from whisper_parity.judge import verdict
from whisper_parity.judge.tolerance import MULTIPLES, Tolerance

FILE = Path(__file__).with_name("rules.toml")

Table = Mapping[str, Mapping[str, Any]]

FROM_TOLERANCE = "tolerance"
NOT_JUDGED = "none"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and where it comes from."""

    value: float | None
    """None: not judged."""
    source: str


def load(backends: Backends, overrides: Table | None = None) -> dict[str, dict[str, Any]]:
    """Load and check the reviewed rules, ours and the backends', with a project's overrides.

    Every value is a pair (value, source).

    Raises:
        ConfigError: an edge of no installed backend, an unknown key, or a value of the wrong form.
    """
    table = {edge: _sourced(edge, values, DEFAULT, FILE.name) for edge, values in project.read_toml(FILE).items()}
    for _, of_backend in backends.limits():
        table |= {edge: _sourced(edge, values, DEFAULT, edge) for edge, values in of_backend.items()}
    for edge, values in (overrides or {}).items():
        _require_edge(edge, backends.names)
        if not isinstance(values, Mapping):
            raise ConfigError(f"[gate.edges] {edge!r}: expected a table of rules, found {values!r:.60}")
        added = _sourced(edge, values, project.FILE_NAME, project.FILE_NAME)
        table[edge] = _merged(table.get(edge, {}), added)
    return table


def limit(table: Table, edge: EdgeEvidence, name: str, language: str = "") -> Limit:
    """The limit of a rule on an edge: the most specific value, a language's own before the general one."""
    value, source = _look_up(table, edge, name, language)
    if value == NOT_JUDGED:
        return Limit(None, source)
    if value == FROM_TOLERANCE:
        bounds = getattr(edge.tolerance, name)
        return Limit(float(bounds.drifts), f"{source}, from the run's tolerances")
    return Limit(float(value), source)


def judge(edge: EdgeEvidence, table: Table) -> list[RuleResult]:
    """Every rule on one edge, in the order of the ladder; those of programs where a program shows what they judge."""
    rules = (*_of_programs(edge, BEFORE), *RULES, *_of_programs(edge, BEHIND))
    return [
        _apply(rule, edge, pairs, language, table) for rule in rules for language, pairs in _groups(rule, edge, table)
    ]


def _of_programs(edge: EdgeEvidence, rules: Sequence[Rule]) -> list[Rule]:
    """Rules of the rungs that a clip of this edge has."""
    rungs = {rung.rung for pair in edge.pairs if pair.row and pair.row.program for rung in pair.row.program.rungs}
    return [rule for rule in rules if rule.rung in rungs]


def premises(edge: EdgeEvidence) -> RuleResult:
    """Names, shapes, dtypes and finiteness hold on every clip; behind a broken premise nothing was compared."""
    broken = {pair.clip: pair.comparison.broken for pair in edge.pairs if pair.judged and pair.comparison.broken}
    reasons = [f"{b.tensor}: {b.premise} broken on {clip}: {b.reason}" for clip, b in broken.items() if b]
    words = f"{len(reasons)} broken; {reasons[0]}" if reasons else f"all hold on {counted(len(edge.pairs), 'clip')}"
    measured = Measured(None, words, tuple(broken))
    limit = "names, shapes, dtypes and finiteness hold"
    kept = not broken and bool(edge.pairs)
    return _result("premises", edge, "", limit, measured, DEFAULT, passed=kept, pairs=edge.pairs)


def _groups(rule: Rule, edge: EdgeEvidence, table: Table) -> list[tuple[str, Sequence[CellEvidence]]]:
    """(language, its pairs): split by language where the rule requires it or a language has its own limit."""
    languages = edge.languages()
    separate = [code for code in languages if rule.by_language or _has_own(table, edge, rule.name, code)]
    codes = [code for code in separate if code]
    if not codes:
        return [("", edge.pairs)]
    rest = tuple(pair for pair in edge.pairs if pair.language not in codes)
    groups: list[tuple[str, Sequence[CellEvidence]]] = [
        (code, evidence.of_language(edge.pairs, code)) for code in codes
    ]
    return groups + ([("", rest)] if any(pair.language for pair in rest) else [])


def _apply(rule: Rule, edge: EdgeEvidence, pairs: Sequence[CellEvidence], language: str, table: Table) -> RuleResult:
    allowed = limit(table, edge, rule.name, language)
    if allowed.value is None:
        return RuleResult(rule.name, edge.name, language, UNJUDGED, NOT_JUDGED, True, (), allowed.source)
    judged = [pair for pair in pairs if not pair.missing and not pair.comparison.broken]
    measured = rule.measure(rule.name, judged, edge.tolerance)
    passed = measured.value is not None and measure.within(rule.name, measured.value, allowed.value)
    words = rule.limit.format(number(rule.name, allowed.value))
    return _result(rule.name, edge, language, words, measured, allowed.source, passed=passed, pairs=pairs)


def _result(
    name: str,
    edge: EdgeEvidence,
    language: str,
    limit: str,
    measured: Measured,
    source: str,
    *,
    passed: bool,
    pairs: Sequence[CellEvidence],
) -> RuleResult:
    """The result of a rule; it never passes with a clip that has no result."""
    missing = [pair for pair in pairs if pair.missing or (pair.comparison.broken and name != "premises")]
    if not missing:
        return RuleResult(name, edge.name, language, limit, measured.words, passed, measured.clips, source)
    first = missing[0]
    reason = first.missing or "a premise is broken"
    words = (
        f"{NO_RESULT} {len(missing)} of {counted(len(pairs), 'clip')}, first {first.clip} ({reason}); {measured.words}"
    )
    clips = (*(pair.clip for pair in missing), *measured.clips)
    return RuleResult(name, edge.name, language, limit, words, False, tuple(dict.fromkeys(clips)), source)


def _worst_clip(name: str, pairs: Sequence[CellEvidence], _: Tolerance) -> Measured:
    """The worst clip of a figure; unknown when a clip lacks the figure."""
    figure = getattr(measure, name)
    return worst_clip(name, {pair.clip: figure(pair.comparison) for pair in pairs})


def _faults(_: str, pairs: Sequence[CellEvidence], tolerance: Tolerance) -> Measured:
    return _no_steps(pairs) or _summed(_flips(pairs, tolerance, faults=True), 1, "fault")


def _ties(_: str, pairs: Sequence[CellEvidence], tolerance: Tolerance) -> Measured:
    ties = _flips(pairs, tolerance, faults=False)
    return _no_steps(pairs) or _per_thousand(ties, sum(pair.comparison.steps for pair in pairs), "tie", "step")


def _steps_at_risk(_: str, pairs: Sequence[CellEvidence], __: Tolerance) -> Measured:
    counts = {pair.clip: pair.comparison.steps_at_risk for pair in pairs}
    steps = sum(pair.comparison.steps for pair in pairs)
    return _no_steps(pairs) or _per_thousand(counts, steps, "step at risk", "step")


def _flips(pairs: Sequence[CellEvidence], tolerance: Tolerance, *, faults: bool) -> dict[str, int]:
    """Faults, or ties, per clip, without those of expected divergences."""
    return {
        pair.clip: 0
        if pair.expected
        else sum(
            (verdict.flip_kind(flip, pair.comparison, tolerance) == "fault") is faults for flip in pair.comparison.flips
        )
        for pair in pairs
    }


def _no_steps(pairs: Sequence[CellEvidence]) -> Measured | None:
    """An unknown measurement where a clip has no logits: flips cannot be counted there."""
    unknown = tuple(pair.clip for pair in pairs if not pair.comparison.steps)
    if unknown or not pairs:
        return Measured(None, f"no logits on {counted(len(unknown), 'clip')}" if unknown else "no clip", unknown)
    return None


def _text_rate(name: str, pairs: Sequence[CellEvidence], _: Tolerance) -> Measured:
    texts = {pair.clip: pair.comparison.text for pair in pairs}
    counts = {clip: text.leading_counts for clip, text in texts.items() if text}
    if len(counts) < len(texts) or not texts:
        return Measured(None, "no texts", tuple(clip for clip, text in texts.items() if not text))
    errors = {pair.clip: 0 if pair.expected else counts[pair.clip].errors for pair in pairs}
    return _rate(name, errors, total(counts.values()).length)


def _text_delta(name: str, pairs: Sequence[CellEvidence], _: Tolerance) -> Measured:
    unknown = tuple(pair.clip for pair in pairs if not pair.truth)
    if unknown or not pairs:
        return Measured(None, f"nothing to count errors against on {counted(len(unknown), 'clip')}", unknown)
    errors = {
        pair.clip: 0 if pair.expected else pair.truth[0].errors - pair.truth[1].errors for pair in pairs if pair.truth
    }
    return _rate(name, errors, sum(pair.truth[1].length for pair in pairs if pair.truth), sign="+")


def _punctuation(_: str, pairs: Sequence[CellEvidence], __: Tolerance) -> Measured:
    edits = {pair.clip: measure.punctuation(pair.comparison) for pair in pairs}
    counts = {pair.clip: 0 if pair.expected else int(edits[pair.clip] or 0) for pair in pairs}
    if None in edits.values() or not pairs:
        return Measured(None, "no texts", tuple(clip for clip, value in edits.items() if value is None))
    lengths = [pair.comparison.text.leading_counts.length for pair in pairs if pair.comparison.text]
    return _per_thousand(counts, sum(lengths), "edit of punctuation or case", "unit of text")


def _no_regression(name: str, pairs: Sequence[CellEvidence], _: Tolerance) -> Measured:
    unknown = tuple(pair.clip for pair in pairs if not pair.truth)
    if unknown or not pairs:
        return Measured(None, f"nothing to count errors against on {counted(len(unknown), 'clip')}", unknown)
    more = {pair.clip: 0 if pair.expected else pair.truth[0].errors - pair.truth[1].errors
            for pair in pairs if pair.truth}  # fmt: skip
    worse = sorted((clip for clip, count in more.items() if count > 0), key=lambda clip: -more[clip])
    share = 1 - len(worse) / len(more)
    return Measured(share, f"{number(name, share)}: {len(worse)} of {counted(len(more), 'clip')} worse", tuple(worse))


def _findings(_: str, pairs: Sequence[CellEvidence], tolerance: Tolerance) -> Measured:
    by_clip = {
        pair.clip: () if pair.expected else verdict.failing_findings(pair.comparison, tolerance) for pair in pairs
    }
    worst = [(clip, items[0]) for clip, items in by_clip.items() if items]
    ranked = sorted(worst, key=lambda at: (KINDS.index(at[1].kind), -at[1].count))
    words = counted(len(ranked), "clip") + (f", {ranked[0][0]}: {ranked[0][1].sentence}" if ranked else "")
    return Measured(len(ranked), words, tuple(clip for clip, _ in ranked))


def _summed(counts: Mapping[str, int], scale: float, what: str) -> Measured:
    count: int = sum(counts.values())
    worst = sorted((clip for clip, count in counts.items() if count > 0), key=lambda clip: -counts[clip])
    return Measured(count * scale, counted(count, what), tuple(worst))


def _per_thousand(counts: Mapping[str, int], length: int, what: str, unit: str) -> Measured:
    """Counts per thousand units; over zero units, zero counts give 0 and any other number is unknown."""
    summed = _summed(counts, 1000 / length if length else 0.0, what)
    if not length and summed.clips:
        return Measured(None, f"{summed.words} in 0 {unit}s", summed.clips)
    return Measured(
        summed.value, f"{summed.value:.3g} per thousand: {summed.words} in {counted(length, unit)}", summed.clips
    )


def _rate(name: str, errors: Mapping[str, int], length: int, sign: str = "") -> Measured:
    """Errors over a length in words; over length 0 they are unknown, unless there are none (or fewer than before)."""
    count = sum(errors.values())
    worst = sorted((clip for clip, count in errors.items() if count > 0), key=lambda clip: -errors[clip])
    if not length:
        return Measured(
            0.0 if count <= 0 else None, f"n/a: {counted(count, 'error')} against empty texts", tuple(worst)
        )
    rate = count / length
    percent = f"{rate:{sign}.2%}" if sign else number(name, rate)
    errors_shown = f"{count:+d}" if sign else str(count)
    return Measured(rate, f"{percent} ({errors_shown} of {length})", tuple(worst))


RULES = (
    Rule("encoder_output_snr_db", "tensor", "at least {} dB", _worst_clip),
    Rule("logits_snr_db", "logits", "at least {} dB", _worst_clip),
    Rule("kl_max", "logits", "at most {} nat", _worst_clip),
    Rule("top_movement", "logits", "at most {} logit", _worst_clip),
    Rule("faults", "token", "at most {}", _faults),
    Rule("ties_per_thousand", "token", "at most {} per thousand steps", _ties),
    Rule("steps_at_risk_per_thousand", "token", "at most {} per thousand steps", _steps_at_risk),
    Rule("text_rate", "text", "at most {}", _text_rate, by_language=True),
    Rule("text_delta", "text", "at most {} more", _text_delta, by_language=True),
    Rule("punctuation_per_thousand", "text", "at most {} per thousand", _punctuation, by_language=True),
    Rule("no_regression_rate", "text", "at least {} of the clips", _no_regression),
    Rule("findings", "text", "at most {} clips", _findings),
)

KEYS = frozenset({rule.name for rule in (*BEFORE, *RULES, *BEHIND)} | {"worse_by_db"})


def _look_up(table: Table, edge: EdgeEvidence, name: str, language: str) -> tuple[Any, str]:
    for section in edge.edge.sections:
        values = table.get(section, {})
        for sourced in (values.get(language, {}).get(name) if language else None, values.get(name)):
            if sourced is not None:
                return sourced  # type: ignore[no-any-return]
    raise ConfigError(f"{FILE.name}: no limit for {name} on {edge.name}", hint="Add it under [default]")


def _has_own(table: Table, edge: EdgeEvidence, name: str, language: str) -> bool:
    return bool(language) and any(name in table.get(section, {}).get(language, {}) for section in edge.edge.sections)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: {**under[key], **over[key]} for key in over if isinstance(over[key], dict) and key in under}
    return {**under, **over, **both}


def _sourced(edge: str, values: Mapping[str, Any], source: str, where: str) -> dict[str, Any]:
    """Check values and pair each with its source; tables of languages are one level down."""
    sourced: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            _check_language(edge, key, where)
            sourced[key] = _sourced(f"{edge}.{key}", value, source, where)
        elif key != "reason":
            _check_value(edge, key, value, where)
            sourced[key] = (value, source)
        elif not isinstance(value, str):
            raise ConfigError(f"{where}: gate edge {edge!r}, reason: expected text, found {value!r:.60}")
    return sourced


def _check_value(edge: str, key: str, value: Any, where: str) -> None:
    if key not in KEYS:
        raise ConfigError(f"{where}: gate edge {edge!r}: no rule {key!r}", hint=f"Known: {', '.join(sorted(KEYS))}")
    can_borrow = key in (*MULTIPLES, "features_snr_db") and key in KEYS
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    if not is_number and value != NOT_JUDGED and not (can_borrow and value == FROM_TOLERANCE):
        words = '"none" or "tolerance"' if can_borrow else '"none"'
        raise ConfigError(f"{where}: gate edge {edge!r}, {key}: expected a number, {words}, found {value!r:.60}")


def _check_language(edge: str, key: str, where: str) -> None:
    from whisper_parity.decode import policy

    if "." in edge.rpartition(stage.ARROW)[2]:
        raise ConfigError(f"{where}: gate edge {edge!r}: {key!r} is a table inside a language's table")
    try:
        policy.check_language(key)
    except ParityError as error:
        raise ConfigError(f"{where}: gate edge {edge!r}: {error}") from error


def _require_edge(section: str, backends: Sequence[str]) -> None:
    """Reject a misspelt edge, whose rules would never be applied."""
    edge = stage.Edge.parse(section)
    if section != "default" and (edge is None or not edge.is_among(backends)):
        raise ConfigError(
            f"[gate.edges] {section!r}: no such edge", hint=f'Write "reference->candidate" of {", ".join(backends)}'
        )
