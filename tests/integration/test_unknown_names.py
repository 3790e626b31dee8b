"""A name that is unknown is refused before anything runs; one that two files share is made longer."""

from __future__ import annotations

import shutil

import pytest

from tests.support.commands import RUN
from tests.support.refusals import line_of, require_no_traceback, rows_of

NO_CHECKPOINT = "neither a file or folder, nor a Whisper name, nor in Hugging Face's cache. Names: tiny.en, tiny"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stages", "pytorch,onnx"), "no backend called 'onnx'. Use one of whisper, pytorch, torchscript, tflite"),
        (
            ("--stages", "tflite:int4"),
            "stage 'tflite:int4': tflite has no variant 'int4'. Did you mean int8? Variants: fp32, fp16, int8, kv",
        ),
        (("--stages", "pytorch:fp16"), "stage 'pytorch:fp16': pytorch has no variant 'fp16'. Write pytorch"),
        (("--stages", "tflite:"), "stage 'tflite:': tflite has no variant ''. Variants: fp32"),
        (("--stages", "pytorch,,tflite"), "--stages: expected names separated by commas, found 'pytorch,,tflite'"),
        (("--policy", "beam"), "no policy called 'beam'. Use one of whisper, plain"),
        (("--language", "xx"), "unknown language 'xx'. Use a Whisper code such as en, zh or de"),
        (
            ("--language", "English"),
            "unknown language 'English'. Did you mean en? Use a Whisper code such as en, zh or de",
        ),
        (
            ("--checkpoint", "huge"),
            f"huge: {NO_CHECKPOINT}",
        ),
        (
            ("--checkpoint", "x" * 300),
            NO_CHECKPOINT,
        ),
        (("--mask-value", "10000"), "mask value '10000': expected a negative number. Use -inf or -10000"),
        (("--mask-value", "nan"), "mask value 'nan': expected a negative number. Use -inf or -10000"),
        (("--run-id", "../elsewhere"), "run id '../elsewhere': use letters, digits, '.', '_' and '-'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(refuse, words, said):
    """The line lists what can be used instead, and nothing runs."""
    assert said in refuse(*words)


@pytest.mark.parametrize("name", ["nobody", "missing.wav", "x" * 300, "a\nb"])
def test_an_unknown_clip_is_refused_with_the_manifest_to_look_into(refuse, tmp_path, name):
    """A name or a file that does not exist is more likely a typo than a clip."""
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text('{"audio_filepath": "a.wav", "tags": ["short"]}\n', "utf-8")
    line = refuse("--clips", name, "--manifest", manifest)
    assert line.startswith(f"no clip, tag or audio file called {name!r}. Use default, all, a file, ")
    assert line.endswith(f"one of the tags short or a name in {manifest}")


def test_a_run_that_is_not_there_is_refused(parity, tmp_path):
    """`parity report` and `parity compare` say where they looked, and what makes one."""
    said = f"no run called nothing: looked in {tmp_path} and in {tmp_path / 'reports'}. There is none yet: `parity run`"
    assert line_of(parity("report", "nothing"), 2).startswith(said)
    assert line_of(parity("compare", "nothing", "nothing"), 2).startswith(said)


def test_two_files_of_one_name_both_run(parity, tmp_path, clip):
    """Neither is passed over: each is named by as much of its path as tells it apart."""
    (tmp_path / "other").mkdir()
    twin = shutil.copy(clip, tmp_path / "other" / clip.name)
    require_no_traceback(parity(*RUN, "--clips", f"{clip},{twin}", "--run-id", "twins"), 0)
    clips = {name for name, _ in rows_of(tmp_path / "reports" / "twins")}
    assert len(clips) == 2
    assert all("warble.wav" in name for name in clips)
