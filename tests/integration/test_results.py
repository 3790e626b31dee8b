"""Result files of a real Whisper base port, and files made by hand."""

from __future__ import annotations

import json

import pytest

from whisper_parity.compare.results import compare_files


def recorded(shared_folder, clip):
    folder = shared_folder / "recorded" / "whisper_base"
    return compare_files(folder / f"baseline_{clip}.json", folder / f"pt_{clip}.json")


def test_the_real_english_clip_is_equal(shared_folder):
    """test_en: same text, same tokens."""
    found = recorded(shared_folder, "test_en")
    assert (found.text.equal, found.tokens.equal, found.exit_code) == (True, True, 0)


def test_the_real_jfk_clip_gains_one_comma_inside_a_segment(shared_folder):
    """jfk: one comma, and the baseline has no timestamp pair there: its only pair stands at step 15, behind "you,"."""
    found = recorded(shared_folder, "jfk")
    (edit,) = found.tokens.edits
    assert (edit.kind, edit.reference_start, edit.candidate_text) == ("insert", 5, ",")
    assert [each.edit_class for each in found.text.edits] == ["punctuation"]
    assert found.edits_at_boundaries == ()
    assert found.text.wer_normalised.errors == 0


def test_the_real_chinese_clip_gains_two_commas_at_segment_boundaries(shared_folder):
    """test_zh: both commas stand exactly where the baseline has a timestamp pair; CER leads."""
    found = recorded(shared_folder, "test_zh")
    assert [(edit.kind, edit.reference_start, edit.candidate_text) for edit in found.tokens.edits] == [
        ("insert", 6, ","),
        ("insert", 9, ","),
    ]
    assert found.edits_at_boundaries == (0, 1)
    assert (found.text.leading, found.text.cer_normalised.errors, found.text.cer.errors) == ("cer", 0, 2)


def test_the_command_prints_the_finding(parity, shared_folder):
    """Two files in, one finding out, exit code 1 for a difference."""
    folder = shared_folder / "recorded" / "whisper_base"
    result = parity("compare", folder / "baseline_test_zh.json", folder / "pt_test_zh.json")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == (
        "finding: all 2 edits stand at segment boundaries: the decode policy moved them, not the conversion"
    )


@pytest.fixture
def files(tmp_path):
    """A transcribe result with a segment boundary behind its second token, and a way to write a port's result."""
    tokens = [[50364, 400, 370, 50400], [50400, 452, 50500]]
    segments = [{"tokens": part, "start": 0, "end": 1, "text": ""} for part in tokens]
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({"text": " And so my", "language": "en", "segments": segments}))

    def write(name, tokens, text):
        path = tmp_path / name
        path.write_text(json.dumps({"text": text, "tokens": [50258, 50259, 50359, 50363, *tokens, 50257]}))
        return path

    return reference, write


def test_a_comma_at_the_boundary_is_the_policys(files):
    """Between the two timestamps."""
    reference, write = files
    found = compare_files(reference, write("at.json", [400, 370, 11, 452], "And so, my"))
    assert found.edits_at_boundaries == (0,)


def test_a_comma_one_token_beside_the_boundary_is_not(files):
    """The place is exact: one token off is no boundary."""
    reference, write = files
    found = compare_files(reference, write("off.json", [400, 11, 370, 452], "And, so my"))
    assert (len(found.tokens.edits), found.edits_at_boundaries) == (1, ())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not a JSON result file"),
        ("[]", "expected a JSON object"),
        ('{"text": "a"}', "no token list"),
        ('{"tokens": [1]}', 'no "text"'),
        ('{"text": "a", "tokens": [1, "b"]}', "no token list"),
        ('{"text": "a", "segments": [7]}', "no token list"),
        ('{"text": "a", "tokens": [51865]}', "token 51865 is outside a vocabulary of 51865"),
        ('{"text": "a", "tokens": [-1]}', "token -1 is outside"),
    ],
)
def test_what_is_no_result_is_one_line_and_exit_code_2(parity, files, tmp_path, content, named):
    """Named, without a traceback."""
    reference, _ = files
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    result = parity("compare", reference, bad)
    assert result.exit_code == 2
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
