"""The gate's result on a run: every rule with its limit and its actual, and one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

UNJUDGED = "not judged"
"""In place of a limit: the rule is switched off on this edge."""
NO_RESULT = "no result on"
"""How a rule's words begin where a clip that it needed has none."""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule, applied."""

    rule: str
    """Its name: "encoder_output_snr_db", "flips", "no_regression_rate", "approved", "expected_divergences"."""
    edge: str
    """"reference->candidate", or "" for the whole run."""
    language: str
    """A Whisper code, or "" for all."""
    limit: str
    """In words and numbers: "at least 60 dB"."""
    actual: str
    """"57.3 dB on en-comma-01"."""
    passed: bool
    clips: tuple[str, ...]
    """The deciding clips, worst first."""
    source: str
    """Where the limit comes from: "default", "parity.toml", "fixtures/approved/NAME.json"."""

    @property
    def outcome(self) -> str:
        """Every view counts by it: "passed", "failed" or "not judged"."""
        return UNJUDGED if self.limit == UNJUDGED else "passed" if self.passed else "failed"


@dataclass(frozen=True, slots=True)
class Statistic:
    """A paired statistic of one edge."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    name: str
    """"wer_delta", "no_regression_rate", "mcnemar_p", "mapsswe_p", "smallest_detectable_wer_change", ..."""
    edge: str
    language: str
    value: float | None
    """None where undefined, with the reason in `note`."""
    low: float | None
    """Lower end of its 95 % confidence interval; None where it has none."""
    high: float | None
    higher_is_better: bool | None
    """None for a figure without direction (a p value)."""
    note: str
    """Formula or source, sample size, and the meaning of the value, in words."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """The gate's judgement of one run."""

    run: str
    passed: bool
    exit_code: int
    sentence: str
    """"passed: 22 rules on 4 edges", "failed: 2 of 22 rules: ..."."""
    rules: tuple[RuleResult, ...]
    statistics: tuple[Statistic, ...]
    expected: tuple[str, ...]
    """Expected divergences that occurred, in words."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many rules passed, failed, were not judged; {} in a file of before this was written."""

    def rules_that(self, outcome: str) -> tuple[RuleResult, ...]:
        """The rules of one outcome: "passed", "failed" or "not judged"."""
        return tuple(rule for rule in self.rules if rule.outcome == outcome)
