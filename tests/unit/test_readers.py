"""Result files of many programs: each family of formats, and every way to write the same text."""

from __future__ import annotations

import json

import pytest

from tests.support import results
from tests.support.results import FIRST, SECOND, THIRD, WHOLE, encode, timestamp
from whisper_parity.compare.readers import encoded, reading
from whisper_parity.compare.result import Result
from whisper_parity.errors import RecordError

TEXT = WHOLE.strip()
LINES = [sentence.strip() for sentence in (FIRST, SECOND, THIRD)]
IDS = encode(WHOLE)
PORT = results.ported(WHOLE)["tokens"]
REST = SECOND + THIRD
SPECIALS = [50258, 50259, 50359]

WITH_IDS = {
    "openai-whisper.json": results.transcribed(),
    "verbose_json.json": {"task": "transcribe", "language": "english", "duration": 12.5, "text": TEXT,
                          "words": [{"word": "The", "start": 0, "end": 0.2}], "segments": results.segments()},
    "faster_dict.json": {"segments": results.segments(), "language": "en"},
    "faster_list.json": results.segments(),
    "faster_tuple.json": [results.segments(), {"language": "en", "language_probability": 0.9}],
    "named_tuples.json": {"text": TEXT, "segments": [[1, 0, 0.0, 12.5, WHOLE, IDS, -0.2, 1.3, None]]},
    "printed.txt": f"Segment(id=1, start=0.0, end=4.2, text={FIRST!r}, tokens={encode(FIRST)!r}, words=None)\n"
                   f"Segment(id=2, start=4.2, text={REST!r}, tokens={encode(REST)!r}, avg_logprob=np.float64(-0.2))\n",
    "printed_list.txt": f"[Segment(id=1, text={WHOLE!r}, tokens={IDS!r}, words=[Word(start=0, word=' x')])]",
    "python.txt": repr({"text": TEXT, "tokens": IDS}),
    "generate.json": {"sequences": [PORT]},
    "ids.json": PORT,
    "batch_of_one.json": [PORT],
    "nested.json": {"text": TEXT, "tokens": [PORT]},
    "token_ids.json": {"text": TEXT, "token_ids": IDS},
    "camelCase.json": {"text": TEXT, "tokenIds": IDS},
    "floats.json": {"text": TEXT, "tokens": [float(token) for token in IDS]},
    "objects.json": {"text": TEXT, "tokens": [{"id": token, "p": 0.9} for token in IDS]},
    "ctranslate2.json": {"sequences": [["The", "Ġcommittee"]], "sequences_ids": [IDS]},
    "whispercpp.json": {"model": {"vocab": 51865}, "result": {"language": "en"}, "transcription": [
        {"offsets": {"from": 0, "to": 12500}, "text": WHOLE, "tokens": [{"text": "[_BEG_]", "id": 50364},
         *({"text": "", "id": token} for token in IDS)]}]},
    "whisperkit.json": {"text": TEXT, "language": "en", "segments": [
        {"start": 0, "end": 12.5, "text": f"<|startoftranscript|><|en|><|transcribe|><|0.00|>{WHOLE}<|12.50|>",
         "tokens": [*SPECIALS, timestamp(0), *IDS, timestamp(12.5), 50257]}]},
    "beside_segments.json": {"text": TEXT, "segments": [{"text": WHOLE, "start": 0, "end": 1}], "tokens": IDS},
    "service.json": {"status": "succeeded", "output": {"transcription": TEXT, "tokens": IDS}},
    "lines.jsonl": "\n".join(json.dumps(segment) for segment in results.segments()),
}  # fmt: skip
"""Ids and text of the three sentences."""

TEXTS_ALONE = {
    "openai_api.json": {"text": TEXT, "usage": {"type": "tokens"}},
    "logprobs.json": {"text": TEXT, "logprobs": [{"token": "The", "logprob": -0.1, "bytes": [84, 104, 101]}]},
    "diarized.json": {"segments": [{"start": 0.0, "end": 4.2, "text": LINES[0], "speaker": "A"},
                                   {"start": 4.2, "end": 12.5, "text": REST.strip(), "speaker": "B"}]},
    "whisperx.json": {"segments": [{"start": 0.0, "text": TEXT}], "word_segments": [], "language": "en"},
    "words.json": {"segments": [{"words": [{"word": word} for word in TEXT.split()]}]},
    "chunks.json": {"text": TEXT, "chunks": [{"timestamp": [0.0, None], "text": WHOLE}]},
    "pipeline_list.json": [{"text": TEXT}],
    "whispercpp_oj.json": {"result": {"language": "en"}, "transcription": [{"text": FIRST}, {"text": REST}]},
    "whispercpp_server.json": {"text": f"{TEXT}\n"},
    "sherpa.json": {"lang": "<|en|>", "text": TEXT, "timestamps": [0.1], "tokens": [" The", " committee"], "words": []},
    "string.json": TEXT and json.dumps(TEXT),
    "nemo.jsonl": json.dumps({"audio_filepath": "/a/b.wav", "pred_text": TEXT}),
    "a.srt": "1\r\n00:00:00,000 --> 00:00:04,200\r\n{}\r\n\r\n2\r\n"
             "00:00:04,200 --> 00:00:12,500\r\n<i>{}</i>\r\n{}\r\n",
    "a.vtt": "WEBVTT\nKind: captions\n\nNOTE a --> is no time\n\n1\n00:00.000 --> 00:04.200 align:start\n"
             "<v Bob>{}</v>\n\n"
             "00:04.200 --> 00:12.500\n{}\n{}\n",
    "speakers.srt": "1\n00:00:00,000 --> 00:00:04,200\n[SPEAKER_00]: {}\n\n2\n00:00:04,200 --> 00:00:12,500\n"
                    "[SPEAKER_01]: {} {}\n",
    "printed_lines.txt": "[00:00.000 --> 00:04.200]  {}\n[00:00:04.200 --> 00:00:12.500]   {} {}\n",
    "a.lrc": "[ti:a title]\n[00:00.00]{}\n[00:04.20]{}\n[00:10.00]{}\n",
    "a.tsv": "start\tend\ttext\n0\t4200\t{}\n4200\t8800\t{}\n10000\t12500\t{}\n",
    "a.csv": 'start,end,text\n0,4200," {}"\n4200,8800," {}"\n10000,12500," {}"\n',
    "a.txt": "{}\n{}\n{}\n",
    "no_suffix": "{} {} {}",
}  # fmt: skip


def read(tmp_path, name, content) -> Result:
    path = results.write(tmp_path, name, content)
    return reading.for_clip(reading.read(path), "", path)


@pytest.mark.parametrize("name", WITH_IDS)
def test_ids_and_text_are_read(name, tmp_path):
    """All ids in the order of the file; the text as it is, or put together from its segments."""
    result = read(tmp_path, name, WITH_IDS[name])
    assert result.name == name
    assert result.text is None or " ".join(result.text.split()) == TEXT
    assert result.parts is not None
    assert [token for part in result.parts for token in part if token < 50257] == IDS


def test_what_python_would_warn_of_is_read_in_silence(tmp_path, recwarn):
    """A backslash that escapes nothing, a number that runs into a name."""
    assert read(tmp_path, "a.txt", r"{'text': 'a \d b', 'x': 1if 1else 2}").text == r"a \d b"
    assert not recwarn.list


@pytest.mark.parametrize("name", TEXTS_ALONE)
def test_texts_without_ids_are_texts_alone(name, tmp_path):
    """Marks of a format are no part of the text."""
    content = TEXTS_ALONE[name]
    written = content.format(*LINES) if isinstance(content, str) and "{}" in content else content
    result = read(tmp_path, name, written)
    assert (" ".join((result.text or "").split()), result.parts) == (TEXT, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.json", "a.srt", "a.txt", "a.jsonl"])
def test_an_encoding_is_found_by_its_mark_or_its_zeros(encoding, name, tmp_path):
    """As PowerShell and Windows programs write them."""
    text = json.dumps({"text": TEXT}) if "json" in name else TEXT
    text = f"1\n00:00:00,000 --> 00:00:12,500\n{text}\n" if name == "a.srt" else text
    assert read(tmp_path, name, text.encode(encoding)).text == TEXT


def test_segments_keep_their_times(tmp_path):
    """In seconds, from numbers, clocks, pairs and whisper.cpp's milliseconds."""
    forms = (
        results.transcribed(),
        {"segments": [{"start": "00:00:00,000", "end": "4.2s", "text": FIRST}, {"text": REST}]},
        {"chunks": [{"timestamp": [0.0, 4.2], "text": FIRST}]},
        {"transcription": [{"offsets": {"from": 0, "to": 4200}, "text": FIRST}]},
    )
    for form in forms:
        first = read(tmp_path, "a.json", form).segments[0]
        assert (first.start, first.end) == (0.0, 4.2)


@pytest.mark.parametrize(
    ("content", "language"),
    [
        ({"text": "a", "language": "en-US"}, "en-US"),
        ({"text": "a", "detected_language": "english"}, "english"),
        ({"text": "a", "lang": "<|en|>"}, "<|en|>"),
        ({"result": {"language": "de"}, "params": {"language": "auto"}, "transcription": []}, "de"),
        ({"text": "a", "language": None, "language_detected": "fr"}, "fr"),
        ({"text": "a", "language": 5}, None),
        ({"text": "a"}, None),
    ],
)
def test_a_language_is_what_the_file_says(content, language, tmp_path):
    """As it is written; `languages.code` reads it."""
    assert read(tmp_path, "a.json", content).language == language


def test_a_list_of_several_clips_is_asked_for_one(tmp_path):
    """By the audio file that the other result names; without it they are listed."""
    lines = [{"file": "/sounds/one.wav", "text": "one"}, {"file": "two.wav", "text": "two"}]
    path = results.write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))
    both = reading.read(path)
    assert reading.for_clip(both, "two.wav", path).text == "two"
    with pytest.raises(RecordError, match=r"2 results \(one\.wav, two\.wav\), and none of three\.wav\. Give a file"):
        reading.for_clip(both, "three.wav", path)
    with pytest.raises(RecordError, match=r"2 results \(one\.wav, two\.wav\)\. Give"):
        reading.for_clip(both, "", path)


def test_a_batch_of_several_texts_or_lists_is_refused(tmp_path):
    """Which one is meant is not guessed."""
    for content in ({"tokens": [[1], [2]]}, {"text": ["a", "b"]}):
        with pytest.raises(RecordError, match=r"a batch of 2"):
            read(tmp_path, "a.json", content)


def test_silence_is_an_empty_text(tmp_path):
    """A result without a segment, and subtitles without a line."""
    for name, content in (
        ("a.json", {"segments": [], "language": "en"}),
        ("a.srt", ""),
        ("a.vtt", "WEBVTT\n"),
        ("a.txt", ""),
    ):
        assert read(tmp_path, name, content).text == ""


@pytest.mark.parametrize(("start", "what"), encoded.BINARY.items())
def test_models_sounds_and_archives_are_named(start, what, tmp_path):
    """By their first bytes."""
    with pytest.raises(RecordError) as refusal:
        read(tmp_path, "a.json", start + b"\x00\x01")
    assert f"expected a result, found {what}" in str(refusal.value)
