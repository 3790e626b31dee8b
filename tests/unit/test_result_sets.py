"""Results of whole test sets: paired by id, counted as others count them, read by a stranger."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support import clipsets
from whisper_parity.compare import sets, text
from whisper_parity.compare.readers import reading
from whisper_parity.compare.sets import SetComparison
from whisper_parity.compare.text import ErrorCounts
from whisper_parity.errors import RecordError
from whisper_parity.gate import sets as judged
from whisper_parity.report import two_sets

NPU_ROWS = (
    ("237-134493-0007", "alexandra lets you sleep late",
     "out of the way i am going to show you how to make a video", (4, 0, 10), 5),
    ("1089-134691-0024", "stephanos dedalos", "steffin or steadless", (2, 0, 1), 2),
    ("2094-142345-0058", "by the by i have never seen your dairy i must see your dairy missus poyser", "bye bye",
     (2, 14, 0), 16),
    ("8463-294828-0005", "conseil was my manservant", "cause eh was my man servant", (2, 0, 2), 4),
    ("61-70968-0034", "a montfichet a montfichet gamewell to the rescue",
     "a month fish a month fish a game will to the rescue", (3, 0, 4), 8),
    ("6930-81414-0012", "said another voice which i recognized as voltaire is kaffar",
     "set another voice with direct nice vocal chairs", (6, 2, 0), 10),
    ("1580-141084-0007", "to morrow is the examination", "tomorrow was the examination", (2, 1, 0), 5),
    ("1995-1826-0025", "some time you will tell me please will not you", "sometimes your time please will not you",
     (3, 3, 0), 10),
    ("8555-284449-0009", "you are mate replied the sailor", "you are mate", (0, 3, 0), 6),
    ("8463-294825-0015", "gram roughly 128th of an ounce", "graham roughly 128th of announced", (2, 1, 0), 6),
)  # fmt: skip
"""(id, what was said, what whisper-tiny on an NPU says, (S, D, I), N): rows of a published run over LibriSpeech
test-clean (hhlqwq/mtk_models at 2a459a3, worst_samples.jsonl), normalised there."""


def rows(path: Path, results: Iterable[dict[str, Any]]) -> Path:
    return clipsets.json_lines(path, results)


def compared(first: Path, second: Path, **options: Any) -> SetComparison:
    return sets.compare_sets(first, second, (reading.read(first), reading.read(second)), **options)


Rows = Iterable[dict[str, Any]]


def two(tmp_path: Path, ours: Rows, theirs: Rows, **options: Any) -> SetComparison:
    return compared(rows(tmp_path / "a.jsonl", ours), rows(tmp_path / "b.jsonl", theirs), **options)


@pytest.mark.parametrize("row", NPU_ROWS, ids=lambda row: row[0])
def test_errors_are_counted_as_a_published_npu_run_counts_them(row):
    """Errors and length; of two alignments with as many errors each program takes one, so their kinds may differ."""
    _, said, predicted, kinds, length = row
    found = text.word_errors(reference=said, hypothesis=predicted)
    assert (found.errors, found.length) == (sum(kinds), length)


def test_totals_are_written_as_they_were_published():
    """4009 of 53027 words over test-clean: 7.5603 %."""
    total = ErrorCounts(53027 - 2910 - 452, 2910, 452, 647)
    assert f"{total.rate:.4%}" == "7.5603%"
    assert two_sets._counted(total) == "7.56% (4009 of 53027: 2910 S, 452 D, 647 I)"


def test_rows_of_an_npu_are_judged_against_their_own_truth(tmp_path):
    """sample_id, reference and prediction, as such runs write them; the reference program is right everywhere."""
    theirs = [{"sample_id": i, "reference": said, "prediction": words} for i, said, words, *_ in NPU_ROWS]
    ours = [{"sample_id": i, "text": said} for i, said, *_ in NPU_ROWS]
    found = two(tmp_path, ours, reversed(theirs), language="en")
    assert [clip.id for clip in found.clips] == [row[0] for row in NPU_ROWS]
    assert sum(candidate.errors for _, candidate, _ in found.judged()) >= 50
    assert sum(reference.errors for _, _, reference in found.judged()) == 0
    assert found.worst()[0].id in ("237-134493-0007", "2094-142345-0058")
    statistics = {one.name: one for one in judged.describe(found)}
    assert statistics["wer_delta"].low > 0
    assert statistics["improvement_probability"].value == 0
    assert statistics["sign_p"].value == pytest.approx(2 / 2 ** len(NPU_ROWS))


def test_pairs_are_found_by_id_or_by_file(tmp_path):
    """One program writes an id, the other one the path of its sound; the order does not matter."""
    ours = [{"id": name, "text": f"words of {name}"} for name in ("a", "b", "c")]
    theirs = [{"audio_filepath": f"/data/{name}.flac", "pred_text": f"words of {name}"} for name in ("c", "b", "d")]
    found = two(tmp_path, ours, theirs)
    assert [clip.id for clip in found.clips] == ["b", "c"]
    assert (found.only_reference, found.only_candidate, found.exit_code) == (("a",), ("d",), 1)
    assert all(clip.equal for clip in found.clips)


def test_text_beside_a_prediction_is_what_was_said(tmp_path):
    """As NeMo writes its manifests with predictions; openai's "text" alone is the prediction."""
    row = {"audio_filepath": "a.wav", "text": "what was said", "pred_text": "what was heard"}
    (result,) = reading.read(rows(tmp_path / "one.jsonl", [row]))
    assert (result.text, result.truth) == ("what was heard", "what was said")
    (result,) = reading.read(rows(tmp_path / "one.jsonl", [{"id": 7, "text": "what was heard"}]))
    assert (result.id, result.text, result.truth) == ("7", "what was heard", None)


@pytest.mark.parametrize("build", clipsets.PLAIN, ids=lambda build: build.__name__)
def test_what_was_said_comes_from_a_set_of_clips(tmp_path, build):
    """Any format of --clips; a folder of sounds has no list."""
    if build is clipsets.sounds:
        return
    truths = sets.truths_of(build(tmp_path))
    assert truths == dict(zip(clipsets.NAMES, clipsets.TEXTS))


def test_what_was_said_may_be_json_lines(tmp_path):
    """id and text."""
    truths = sets.truths_of(
        rows(tmp_path / "t.jsonl", [{"utt_id": "a", "text": "one"}, {"utt_id": "b", "text": "two"}])
    )
    assert truths == {"a": "one", "b": "two"}
    found = two(
        tmp_path, [{"id": i, "text": "one"} for i in "ab"], [{"id": i, "text": "two"} for i in "ab"], truths=truths
    )
    assert [(c.errors, r.errors) for _, c, r in found.judged()] == [(1, 0), (0, 1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [("text", "a-1 one two\nb-2 three\n"), ("x.trans.txt", "a-1\tone two\nb-2\tthree\n"),
     ("ref.trn", "one two (a-1)\nthree (b-2)\n")],
)  # fmt: skip
def test_what_was_said_may_be_a_line_for_each_id(tmp_path, name, content):
    """As Kaldi, LibriSpeech and NIST write it; results in trn are a set as well."""
    (tmp_path / name).write_text(content, "utf-8")
    assert sets.truths_of(tmp_path / name) == {"a-1": "one two", "b-2": "three"}
    if name.endswith(".trn"):
        (tmp_path / "hyp.trn").write_text("three (b-2)\none too (a-1)\n", "utf-8")
        found = compared(tmp_path / name, tmp_path / "hyp.trn")
        assert [(clip.id, clip.equal) for clip in found.clips] == [("a-1", False), ("b-2", True)]


def test_results_may_be_lines_of_id_and_text(tmp_path):
    """As Kaldi and ESPnet write hypotheses; a text of several lines whose words are no ids stays a text."""
    for name, words in (("ref", "one two"), ("hyp", "one too")):
        (tmp_path / name).write_text(f"84-121-0001 {words}\n84-121-0002 three\n", "utf-8")
    found = compared(tmp_path / "ref", tmp_path / "hyp")
    assert [(clip.id, clip.equal) for clip in found.clips] == [("84-121-0001", False), ("84-121-0002", True)]
    (tmp_path / "said.txt").write_text("well-known in 1999\nThe 2nd line\n", "utf-8")
    (result,) = reading.read(tmp_path / "said.txt")
    assert (result.form, result.text) == ("plain text", "well-known in 1999 The 2nd line")


def test_lines_with_one_id_twice_are_refused(tmp_path):
    """Which of them was said?"""
    (tmp_path / "text").write_text("a one\na two\n", "utf-8")
    with pytest.raises(RecordError, match="no text with an id, or an id twice"):
        sets.truths_of(tmp_path / "text")


def test_chinese_sets_are_counted_in_characters(tmp_path):
    """By their script, where no language is said."""
    found = two(
        tmp_path, [{"id": i, "text": "今天天气很好"} for i in "ab"], [{"id": i, "text": "今天天气不好"} for i in "ab"]
    )
    assert (found.metric, found.errors.errors, found.errors.length) == ("cer", 2, 12)


def test_sets_without_a_common_id_are_refused(tmp_path):
    """With ids of both."""
    with pytest.raises(RecordError, match=r"no clip is in both \('a', 'b', ...; no ids\). Give each result an \"id\""):
        two(tmp_path, [{"id": i, "text": "x"} for i in "ab"], [{"text": "x"}] * 2)


def test_equal_sets_are_the_same(tmp_path):
    """Exit code 0, one sentence."""
    same = [{"id": i, "text": f"text {i}", "tokens": [1, 2]} for i in "ab"]
    found = two(tmp_path, same, same)
    assert found.exit_code == 0
    said = two_sets.lines(two_sets.SetReport(found, ()))
    assert said[-1] == "finding: the same text in all 2 clips"
    assert "token ids equal, as they are written, in 2 of 2 (100.0%)" in said


def test_what_json_writes_can_be_read(tmp_path, parity):
    """The whole comparison, with the statistics."""
    ours = rows(tmp_path / "a.jsonl", [{"id": i, "text": "one two", "reference": "one two"} for i in "abc"])
    theirs = rows(tmp_path / "b.jsonl", [{"id": i, "text": "one too", "reference": "one two"} for i in "abc"])
    result = parity("compare", ours, theirs, "--json")
    assert result.exit_code == 1
    written = json.loads(result.stdout)
    assert len(written["comparison"]["clips"]) == 3
    assert {one["name"] for one in written["statistics"]} >= {"wer_delta", "mapsswe_p", "mcnemar_p"}


@pytest.mark.parametrize("words", [("--reference", "t.jsonl"), ("--language", "en")])
def test_options_of_sets_are_refused_for_single_results(tmp_path, parity, words):
    """Nothing is ignored."""
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("hello", "utf-8")
    result = parity("compare", tmp_path / "a.txt", tmp_path / "b.txt", *words)
    assert result.exit_code == 2
    assert "--reference and --language are for results of whole sets. Give JSON lines" in result.output
