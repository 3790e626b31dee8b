"""A set of results that is broken in one way: that way is named, with its clips, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clipsets import json_lines

Rows = list[dict[str, Any]]
SENTENCES = (
    "we walked along the river until the sun went down behind the hills",
    "the train to the coast leaves at a quarter past nine every morning",
    "nobody had told her that the old library would close in autumn",
    "he opened the window and listened to the rain on the roof",
    "there are more boats in the harbour than people in the town",
    "my grandmother kept her letters in a wooden box under the bed",
)
ROWS: Rows = [{"id": f"clip-{i}", "text": words, "reference": words} for i, words in enumerate(SENTENCES)]


def lost(rows: Rows) -> Rows:
    return rows[:2] + rows[3:]


def invented(rows: Rows) -> Rows:
    return [*rows, {"id": "clip-9", "text": "nobody said this"}]


def doubled(rows: Rows) -> Rows:
    return [*rows, rows[1]]


def unnamed(rows: Rows) -> Rows:
    return [*rows, {"text": "a result without a name"}]


def looping(rows: Rows) -> Rows:
    changed = {**rows[2], "text": f"{rows[2]['text']} {'would close in autumn ' * 12}"}
    return [*rows[:2], changed, *rows[3:]]


def cut_short(rows: Rows) -> Rows:
    changed = {**rows[4], "text": "there are more boats"}
    return [*rows[:4], changed, *rows[5:]]


def shifted(rows: Rows) -> Rows:
    """Every text under the id of the next clip."""
    return [{**row, "text": rows[i - 1]["text"]} for i, row in enumerate(rows)]


def a_comma_more(rows: Rows) -> Rows:
    return [{**rows[0], "text": rows[0]["text"].replace("river", "river,")}, *rows[1:]]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lost, ["finding: 1 only in the reference: clip-2"]),
        (invented, ["finding: 1 only in the candidate: clip-9"]),
        (doubled, ["finding: 1 ids stand twice and are not paired: clip-1"]),
        (unnamed, ["finding: 1 results without an id or a file are not paired"]),
        (looping, ["finding: repetition loop in 1 clips: clip-2"]),
        (cut_short, ["finding: lost end in 1 clips: clip-4"]),
        (a_comma_more, []),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damage_to_a_set_is_named(tmp_path: Path, parity, damage: Callable[[Rows], Rows], said: list[str]):
    """Exit code 1, and the lines that say what it is."""
    ours, theirs = json_lines(tmp_path / "a.jsonl", ROWS), json_lines(tmp_path / "b.jsonl", damage(ROWS))
    result = parity("compare", ours, theirs, "--language", "en")
    assert result.exit_code == 1
    found = [line for line in result.stdout.splitlines() if line.startswith("finding: ")]
    assert found[:-1] == said


def test_results_under_the_ids_of_others_are_worse(tmp_path: Path, parity):
    """A shifted list: every clip is changed, and the interval of the difference is above 0."""
    ours, theirs = json_lines(tmp_path / "a.jsonl", ROWS), json_lines(tmp_path / "b.jsonl", shifted(ROWS))
    last = parity("compare", ours, theirs, "--language", "en").stdout.splitlines()[-1]
    assert last == (
        "finding: 6 of 6 clips differ; against the truth the candidate is worse: "
        "the interval of the difference is above 0"
    )


def test_a_mark_alone_is_no_error_and_no_sign_of_worse(tmp_path: Path, parity):
    """A comma is an edit of the class punctuation; the words are right."""
    ours, theirs = json_lines(tmp_path / "a.jsonl", ROWS), json_lines(tmp_path / "b.jsonl", a_comma_more(ROWS))
    lines = parity("compare", ours, theirs, "--language", "en").stdout.splitlines()
    assert "edits: 1 punctuation in 1 clips" in lines
    assert lines[-1].endswith("is not shown to be worse or better: the interval of the difference holds 0")
