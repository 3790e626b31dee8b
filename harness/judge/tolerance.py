"""Tolerances: data in a reviewed file, per edge, overridable per project."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import Edge
from whisper_parity.errors import ConfigError
from whisper_parity.judge import noise

FILE = Path(__file__).with_name("tolerances.toml")

Table = Mapping[str, Mapping[str, Any]]

TIE_SIGMAS = 3.0
"""A flip is a tie when its margin is at most this many times the floor of its edge."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Two bounds of a metric: it passes up to `passes`, drifts up to `drifts`, and fails beyond."""

    passes: float
    drifts: float
    higher_is_better: bool = False

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            ConfigError: a bound is NaN, or the two are in the wrong order.
        """
        stricter, looser = (self.passes, self.drifts) if self.higher_is_better else (self.drifts, self.passes)
        if math.isnan(self.passes) or math.isnan(self.drifts) or stricter < looser:
            order = "at least" if self.higher_is_better else "at most"
            raise ConfigError(
                f"limits [{self.passes:g}, {self.drifts:g}]: expected [pass, drift], the first {order} the second"
            )


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The limits of one edge."""

    features_snr_db: Limit
    """Of the input features that a program computed itself."""
    encoder_output_snr_db: Limit
    logits_snr_db: Limit
    kl_max: Limit
    top_movement: Limit
    text_rate: Limit
    lost_words: Limit
    punctuation_edits: Limit
    max_tie_margin: float
    """Widest margin of a tie [logit]: TIE_SIGMAS times the floor of this kind of edge."""
    token_difference: str
    """"drift" or "fail"."""
    finding: str
    """"drift" or "fail"."""
    reason: str

    @property
    def floor(self) -> float:
        """Root mean square movement of (choice, runner-up) that a sound port of this kind may have [logit]."""
        return self.max_tie_margin / TIE_SIGMAS


HIGHER_IS_BETTER = ("features_snr_db", "encoder_output_snr_db", "logits_snr_db")
LIMITS = (*HIGHER_IS_BETTER, "kl_max", "top_movement", "text_rate", "lost_words", "punctuation_edits")
GRADES = ("token_difference", "finding")
MULTIPLES = ("encoder_output_snr_db", "logits_snr_db", "kl_max", "top_movement", "max_tie_margin")
"""Limits that can be multiples of measured noise: "3 x threads"."""
_OR_MULTIPLES = ', or multiples of noise as "3 x threads"'


def load(backends: Backends, overrides: Table | None = None) -> dict[str, dict[str, Any]]:
    """Load and check the reviewed limits, ours and the backends', with a project's overrides.

    Raises:
        ConfigError: an edge of no installed backend, an unknown key, or a value of the wrong form.
    """
    table = {edge: dict(values) for edge, values in project.read_toml(FILE).items()}
    for of_backend, _ in backends.limits():
        table |= {edge: dict(values) for edge, values in of_backend.items()}
    for edge, values in (overrides or {}).items():
        _require_edge(edge, backends.names)
        if not isinstance(values, Mapping):
            raise ConfigError(f"[tolerances] {edge!r}: expected a table of values, found {values!r:.60}")
        _check(edge, values, project.FILE_NAME)
        table[edge] = {**table.get(edge, {}), **values}
    for edge, values in table.items():
        _check(edge, values, FILE.name)
    return table


def for_edge(table: Table, edge: Edge) -> Tolerance:
    """The tolerance of an edge, specific values before general ones; expects multiples already resolved."""
    merged: dict[str, Any] = {}
    for section in reversed(edge.sections):
        merged |= table.get(section, {})
    values: dict[str, Any] = {key: _limit(key, value) if key in LIMITS else value for key, value in merged.items()}
    return Tolerance(**{**values, "max_tie_margin": float(values["max_tie_margin"])})


def _limit(key: str, value: Any) -> Limit:
    passes, drifts = map(float, value)
    return Limit(passes, drifts, key in HIGHER_IS_BETTER)


def _require_edge(section: str, backends: Sequence[str]) -> None:
    """Reject a misspelt edge, whose tolerance would never be applied."""
    edge = Edge.parse(section)
    if section != "default" and (edge is None or not edge.is_among(backends)):
        raise ConfigError(
            f"[tolerances] {section!r}: no such edge", hint=f'Write "reference->candidate" of {", ".join(backends)}'
        )


def _check(edge: str, values: Mapping[str, Any], where: str) -> None:
    for key, value in values.items():
        if key in LIMITS:
            good = isinstance(value, list) and len(value) == 2 and all(_is_limit(key, bound) for bound in value)
            expected = f"two numbers{_OR_MULTIPLES if key in MULTIPLES else ''}, [pass, drift]"
        elif key == "max_tie_margin":
            good, expected = _is_limit(key, value), f"a number{_OR_MULTIPLES}"
        elif key in GRADES:
            good, expected = value in ("drift", "fail"), '"drift" or "fail"'
        else:
            good, expected = key == "reason" and isinstance(value, str), f"one of the keys in {FILE.name}"
        if not good:
            raise ConfigError(f"{where}: tolerance {edge!r}, {key}: expected {expected}, found {value!r:.60}")
        if key in LIMITS and all(map(_is_number, value)):
            _require_order(edge, key, value, where)


def _require_order(edge: str, key: str, value: Any, where: str) -> None:
    try:
        _limit(key, value)
    except ConfigError as error:
        raise ConfigError(f"{where}: tolerance {edge!r}, {key}: {error}") from error


def _is_limit(key: str, value: Any) -> bool:
    return _is_number(value) or (key in MULTIPLES and noise.is_multiple(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
