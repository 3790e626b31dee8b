"""Expected divergences excuse exactly what they name, and go red when they no longer occur."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import runs
from tests.support.gates import EDGE, failed, rule
from whisper_parity.errors import ConfigError
from whisper_parity.gate import approved

pytestmark = pytest.mark.usefixtures("not_in_ci")


def expect(folder: Path, *entries: dict[str, str]) -> None:
    """Write the list of expected divergences."""
    body = ("\n".join(f"{key} = {value!r}" for key, value in each.items()) for each in entries)
    (folder / "expected.toml").write_text("\n".join(f"[[expected]]\n{each}\n" for each in body))


ENTRY = {"clip": "two", "stage": "tflite", "class": "word", "reason": "a near tie", "date": "2026-01-31"}


def test_an_expected_divergence_is_not_held_against_the_edge(gate, tmp_path):
    """Text, flips and regressed clips are judged without it, and the result names it."""
    changed = runs.report({("two", "tflite"): runs.saying("And so my fellow Martians, ask not")})
    approved.approve(changed, tmp_path)
    assert ("text_rate", EDGE, "en") in failed(gate(changed))
    expect(tmp_path, ENTRY)
    found = gate(changed)
    assert {name for name, *_ in failed(found)} == set()
    assert found.result.expected == ("expected: two · tflite · word (2026-01-31): a near tie",)


def test_an_expected_divergence_excuses_its_class_only(gate, tmp_path):
    """A lost comma beside the expected word counts."""
    changed = runs.report({("two", "tflite"): runs.saying("And so my fellow Martians ask not")})
    expect(tmp_path, ENTRY)
    names = {name for name, *_ in failed(gate(changed))}
    assert {"text_rate", "punctuation_per_thousand"} <= names


def test_an_expected_divergence_that_is_gone(gate, tmp_path):
    """Strict: the list may not keep what no longer happens."""
    expect(tmp_path, ENTRY)
    found = gate(runs.report())
    assert failed(found) == [("expected_divergences", "", "")]
    result = rule(found, "expected_divergences", "")
    assert result.actual == "no longer occurs: two · tflite · word (2026-01-31): a near tie"
    assert (result.clips, result.limit) == (("two",), "every entry occurs")


def test_an_expected_divergence_of_a_cell_without_result(gate, tmp_path):
    """Whether it still occurs cannot be told, so the rule does not pass."""
    expect(tmp_path, ENTRY)
    result = rule(gate(runs.failed(runs.report(), "two", "tflite")), "expected_divergences", "")
    assert (result.passed, result.actual.partition(":")[0]) == (False, "unknown, the cell has no result")


def test_entries_of_other_runs_are_named_and_left_aside(gate, tmp_path):
    """A clip that is not in this run, and another approved result's entry."""
    expect(tmp_path, {**ENTRY, "clip": "elsewhere"}, {**ENTRY, "approved": "other"})
    found = gate(runs.report())
    assert failed(found) == []
    assert found.result.expected == ("not in this run: elsewhere · tflite · word (2026-01-31): a near tie",)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reason": " "}, "no reason"),
        ({"date": None}, "no date"),
        ({"date": "soon"}, "no date"),
        ({"clip": None}, "no clip"),
        ({"class": "mood"}, "no class 'mood'"),
        ({"who": "me"}, "unknown key who"),
    ],
)
def test_entries_that_say_too_little(gate, tmp_path, change, named):
    """An entry without reason or date is an error, and so is one with an unknown key or class."""
    entry = {key: value for key, value in {**ENTRY, **change}.items() if value is not None}
    expect(tmp_path, entry)
    with pytest.raises(ConfigError, match=named):
        gate(runs.report())


def test_an_entry_that_is_there_twice(gate, tmp_path):
    """It is an error: one of the two would be overlooked."""
    expect(tmp_path, ENTRY, ENTRY)
    with pytest.raises(ConfigError, match="twice"):
        gate(runs.report())
