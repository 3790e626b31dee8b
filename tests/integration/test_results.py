"""Result files of a real Whisper base port, and files made by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

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


REFUSED = {
    "{": "not JSON (Expecting property name",
    "[]": "found an empty list",
    "5": "found a number in JSON",
    "null": "found null in JSON",
    "{}": "no text and no tokens in an empty JSON object",
    '{"foo": 1, "bar": [2]}': 'no text and no tokens in a JSON object with "foo", "bar"',
    '{"text": null}': 'no text and no tokens in a JSON object with "text"',
    '{"text": 5}': '"text" is a number',
    '{"text": ["a", "b"]}': '"text" is a batch of 2 texts',
    '{"text": "a", "tokens": [1, "b"]}': "b is no token id",
    '{"text": "a", "tokens": [-100]}': "-100 is no token id",
    '{"text": "a", "tokens": [1.5]}': "1.5 is no token id",
    '{"text": "a", "tokens": [NaN]}': "nan is no token id",
    '{"text": "a", "tokens": [1e999]}': "inf is no token id",
    '{"text": "a", "tokens": [true]}': "True is no token id",
    '{"text": "a", "tokens": 7}': "its tokens are a number",
    '{"text": "a", "tokens": [[1], [2]]}': "a batch of 2 token lists",
    '{"text": "a", "segments": [7]}': "segment 0: expected an object, found a number",
    '{"text": "a", "segments": [[1, 2]]}': "segment 0: a list without a text",
    '{"segments": [{"text": 5}]}': "segment 0: its text is a number",
    '{"tokens": [60000]}': "no text, and it holds ids that are in none of Whisper's vocabularies",
    '{"text": "a", "tokens": [' + "9" * 5000 + "]}": "not JSON",
    '{"text": "a", "tokens": [' + "9" * 100 + "]}": "is no token id",
    "[" * 100_000: "nested too deep",
    '{"a":' * 5000 + "1" + "}" * 5000: "nested too deep",
    "": "the file is empty",
    "<html></html>": "found XML or HTML",
    "some words": "not JSON",
    '{"text": "a"': "not JSON",
}
"""What stands in a .json file, and what is said of it."""


@pytest.mark.parametrize("content", REFUSED, ids=lambda content: content[:40])
def test_what_is_no_result_is_one_line_and_exit_code_2(parity, files, tmp_path, content):
    """Named, without a traceback."""
    reference, _ = files
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    for command in ("compare", "explain"):
        result = parity(command, reference, bad)
        assert result.exit_code == 2
        assert REFUSED[content] in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_what_is_no_regular_file_is_refused_before_it_is_read(parity, files, tmp_path):
    """A pipe would wait for ever, a device never end."""
    reference, _ = files
    os.mkfifo(tmp_path / "pipe.json")
    for path, what in ((tmp_path / "pipe.json", "found a pipe"), (Path("/dev/zero"), "found a device")):
        result = parity("compare", reference, path)
        assert (result.exit_code, what in result.stderr) == (2, True)
    missing = parity("compare", reference, tmp_path / "missing.json")
    assert (missing.exit_code, "No such file" in missing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("long.txt", " ".join(f"w{i}" for i in range(30_001)), "30001 words, at most 30000 are compared"),
        ("long.txt", "x" * 200_001, "200001 characters, at most 200000 are compared"),
        ("long.json", json.dumps({"tokens": [400] * 50_001}), "50001 tokens, at most 50000 are compared"),
    ],
)
def test_a_result_that_is_too_long_is_refused(parity, files, tmp_path, name, content, said):
    """Time and memory grow with the square."""
    reference, _ = files
    (tmp_path / name).write_text(content)
    result = parity("compare", reference, tmp_path / name)
    assert (result.exit_code, said in result.stderr) == (2, True)


SAME = (
    "bom", "utf16", "faster_list", "faster_notext", "float_tokens", "token_ids", "webservice_faster", "whispercpp_full",
    "hf_generate_nested", "results.jsonl", "hf_chunks", "whisperx", "whispercpp_oj", "jfk.srt", "jfk.vtt", "jfk.txt",
)  # fmt: skip
TEXT_ALONE = ("hf_chunks", "whisperx", "whispercpp_oj", "jfk.srt", "jfk.vtt", "jfk.txt")


def field(shared_folder, name):
    return shared_folder / "field" / "results" / (name if "." in name else f"{name}.json")


@pytest.mark.parametrize("name", SAME)
def test_results_of_every_program_are_read(parity, shared_folder, name):
    """Rows 8 to 10 of the field: whisper.cpp, faster-whisper, WhisperX, Hugging Face, subtitles, encodings."""
    result = parity("compare", field(shared_folder, "openai_jfk"), field(shared_folder, name))
    lines = result.stdout.splitlines()
    assert result.exit_code == 0, result.output
    assert ("tokens not compared, texts alone: " in result.stdout) is (name in TEXT_ALONE)
    assert lines[-1] == f"finding: the same {'text' if name in TEXT_ALONE else 'tokens'}"


FIELD = {
    "halluc": "invented text: 'Thank you for watching and please subscribe.' (7 words) at step 15, between two "
    "segments of the reference, at 7.60 s",
    "loop_mid": "repetition loop: ' And so my fellow Americans  … your country can do for you,' x 3 from step 15 (4 in "
    "a row, the other text has 1)",
    "loop_mid2": "repetition loop: ' for you,' x 60 from step 15 (61 in a row, the other text has 1)",
    "mismatch": "text against tokens: mismatch.json: its text says 'totally different text' where its tokens decode to "
    "'And so my fellow Americans a … you can do for your country.'",
    "wrong_word": "changed words: 'ask' -> 'tell' at step 15",
    "lost_tail": "lost end: 'ask what you can do for your country.' (8 words) from step 15 of the reference",
    "lost_head": "lost beginning: 'And so my fellow Americans a … your country can do for you,' (14 words) from step 0 "
    "of the reference",
}


@pytest.mark.parametrize("name", FIELD)
def test_what_is_wrong_is_the_first_line(parity, shared_folder, name):
    """Rows 1, 2, 7 and 22; in `compare` and `explain`, and the policy is not blamed."""
    paths = [field(shared_folder, each) for each in ("openai_jfk", name)]
    result = parity("compare", *paths)
    lines = result.stdout.splitlines()
    assert (result.exit_code, lines[0]) == (1, f"finding: {FIELD[name]}")
    assert lines[-1].startswith(f"finding: {FIELD[name]}")
    assert "decode policy" not in result.stdout
    assert len(lines) < 20
    explained = parity("explain", *paths)
    assert FIELD[name] in explained.stdout or (name == "wrong_word" and "[ask -> tell]" in explained.stdout)
    assert "suspect the decode policy" not in explained.stdout


@pytest.mark.parametrize("first", ["en", "english", "en-US", "tok"])
@pytest.mark.parametrize("second", ["en", "english", "en-US", "tok"])
def test_spellings_of_a_language_are_one_language(parity, shared_folder, first, second):
    """Row 5: the English normaliser makes the two equal."""
    result = parity("compare", field(shared_folder, f"a_{first}"), field(shared_folder, f"b_{second}"))
    assert "normalised WER 0.0%, CER 0.0% (whisper.EnglishTextNormalizer)" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("no word is lost, invented or changed")


def test_an_english_only_vocabulary_is_found(parity, shared_folder):
    """Row 6: words, not rubble; also where the user says so, and a wrong word of the user's is a finding."""
    paths = field(shared_folder, "en_c"), field(shared_folder, "en_d")
    for words in ((), ("--n-vocab", "51864")):
        found = parity("compare", *paths, *words).stdout
        assert "finding: lost text: 'not' (1 word) from step 4 of the reference" in found
        assert "'fellow Americans' -> 'yellow Canadians'" in found
    wrong = parity("compare", *paths, "--n-vocab", "51865")
    assert wrong.exit_code == 1
    assert wrong.stdout.startswith(
        "finding: vocabulary: en_c.json: its tokens give its text in the vocabulary 51864, not in 51865"
    )


def test_a_script_variant_is_named_and_no_edit_cuts_a_character(parity, shared_folder):
    """Row 11."""
    result = parity("compare", field(shared_folder, "zh_trad"), field(shared_folder, "zh_simp"))
    assert result.stdout.splitlines()[0] == (
        "remark: script variant: the reference writes traditional Chinese, the candidate simplified"
    )
    assert "\ufffd" not in result.stdout
    assert "replace '紹' -> '绍'" in result.stdout


def test_the_port_of_large_v3_turbo_is_told_what_is_wrong_with_it(parity, shared_folder):
    """The prompt of another vocabulary, end-of-text passed nine times, loops up to 448 tokens: in a few lines."""
    folder = shared_folder / "recorded" / "whisper_turbo_kv"
    paths = folder / "baseline_test_en.json", folder / "torchscript_test_en.json"
    result = parity("compare", *paths)
    lines = result.stdout.splitlines()
    assert (result.exit_code, len(lines) < 40) == (1, True)
    kinds = [line.split(": ")[1] for line in lines if line.startswith("finding: ")][:-1]
    assert kinds == ["wrong prompt", *["repetition loop"] * 4, "end-of-text passed", "token limit", "invented text"]
    assert "50359 <|translate|> 50363 <|nospeech|>" in lines[0]
    assert "repetition loop: ' of the middle class' x 32 from step 96" in result.stdout
    assert "end-of-text passed: torchscript_test_en.json: 9 times, first at token 28 of 448" in result.stdout
    assert (
        "token limit: torchscript_test_en.json: stops after 448 tokens, the decoder's context of 448" in result.stdout
    )
    whole = json.loads(parity("compare", *paths, "--json").stdout)
    assert sum(len(edit["candidate_tokens"]) for edit in whole["tokens"]["edits"]) > 300
    assert len(parity("explain", *paths).stdout.splitlines()) < 40


@pytest.mark.parametrize("clip", ["jfk", "test_en", "test_zh"])
def test_sound_pairs_have_no_finding(parity, shared_folder, clip):
    """Commas are commas, in both directions."""
    folder = shared_folder / "recorded" / "whisper_base"
    for pair in (("baseline", "pt"), ("pt", "baseline")):
        whole = json.loads(parity("compare", *(folder / f"{name}_{clip}.json" for name in pair), "--json").stdout)
        assert whole["findings"] == []


def test_a_long_list_of_edits_is_folded(parity, files, tmp_path):
    """Its beginning and its end are shown; all of it is in the JSON."""
    ours, theirs = (" ".join(f"{word}{i}" if i % 2 else "and" for i in range(80)) for word in ("one", "two"))
    paths = []
    for name, text in (("a.txt", ours), ("b.txt", theirs)):
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    result = parity("compare", *paths)
    assert "  ... 29 more, all of them in --json" in result.stdout
    assert len(json.loads(parity("compare", *paths, "--json").stdout)["text"]["edits"]) == 40


def test_two_runs_have_no_json(parity, tmp_path):
    """They have a report each."""
    assert parity("compare", "one", "two", "--json").exit_code == 2
