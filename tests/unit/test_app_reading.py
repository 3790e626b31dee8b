"""What programs print, read: both forms of MTK_model_zoo, whisper-cli, JSON of any form, and what goes wrong."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from tests.support import standins
from tests.support.standins import EOT, PROMPT, TEXT, TOKENS
from whisper_parity.backend.account import Account, AccountWindow
from whisper_parity.backends.app import description, reading, scripts, settings, tensors
from whisper_parity.backends.app.description import Pull
from whisper_parity.backends.app.output import Output
from whisper_parity.errors import BackendError, ConfigError
from whisper_parity.model.dims import Dims

DIMS = Dims(80, 1500, 512, 8, 6, 51865, 448, 512, 8, 6)


def read(preset: str, output: Output, **own: object) -> Account:
    patterns = description.of(settings.read({"preset": preset, **own})).patterns
    return reading.account(output, patterns, DIMS, by="the program")


def refused(preset: str, output: Output, **own: object) -> str:
    with pytest.raises(BackendError) as caught:
        read(preset, output, **own)
    return str(caught.value)


def test_the_kv_program_tells_everything():
    """Text with its blank, all tokens with end-of-text, prompt, language by its token, end, times in seconds."""
    account = read("mtk-model-zoo", Output(standins.kv_output().encode(), exit_code=0))
    assert account.text == TEXT
    assert account.windows == (AccountWindow(PROMPT, (*TOKENS, EOT), "eot"),)
    assert (account.language, account.seconds, account.warnings, account.errors) == ("en", {"inference": 0.988}, (), ())


def test_the_kv_program_at_its_limit_and_its_warnings():
    """[WARN] and [ERROR] lines come on standard error, and are kept in its words."""
    said = standins.kv_output(tokens=(*TOKENS, 11), end="length").encode()
    account = read("mtk-model-zoo", Output(said, b"[WARN] Mel filters not found, using 0.01\n[ERROR] no vocab.txt\n"))
    assert account.windows[0].ended == "length"
    assert account.warnings == ("Reached max cache length (448)", "Mel filters not found, using 0.01")
    assert account.errors == ("no vocab.txt",)


def test_an_empty_text_is_a_text():
    """Silence: a line without a character between the marks."""
    assert read("mtk-model-zoo", Output(standins.kv_output("", (EOT,)).encode())).text == ""


def test_the_fixed_program_prints_a_text_alone():
    """The same text twice is one result; there are no token ids."""
    account = read("mtk-model-zoo-fixed", Output(standins.fixed_output('he said "yes"').encode()))
    assert (account.text, account.names_tokens) == ('he said "yes"', False)
    assert account.windows == (AccountWindow(PROMPT),)


def test_exit_code_0_on_failure_is_no_result():
    """The program's own last error line, not the banner."""
    said = Output(b"=== Inference ===\n", b"[ERROR] Failed to run encoder\n", exit_code=0)
    expected = "the program gave no result (exit code 0): Failed to run encoder"
    assert refused("mtk-model-zoo", said) == expected
    assert refused("mtk-model-zoo-fixed", said) == expected
    assert refused("mtk-model-zoo", Output(exit_code=139)) == (
        "the program gave no result (exit code 139): it printed nothing"
    )


def test_an_exit_code_with_a_text_is_recorded():
    """It proves nothing, and is a finding."""
    assert read("mtk-model-zoo-fixed", Output(standins.fixed_output().encode(), exit_code=3)).exit_code == 3


def test_invalid_utf_8_stays_visible():
    """A byte of half a character is no U+FFFD, which could be the program's own."""
    said = standins.fixed_output("caf@").encode().replace(b"@", b"\xc3")
    assert read("mtk-model-zoo-fixed", Output(said)).text == "caf\\xc3"


def test_results_that_differ_are_refused():
    """Several texts for one sound: nobody may choose one silently."""
    said = standins.kv_output(" one") + standins.kv_output(" two")
    assert "2 results that differ for one sound: ' one' and ' two'" in refused("mtk-model-zoo", Output(said.encode()))


def test_whisper_cli_json():
    """Ids of every segment, its language, and the lines beside the file."""
    output = Output(
        b"", b"whisper_print_timings:   encode time =   120.50 ms\nread_audio_data: error: x\n",
        standins.whisper_cli_json().encode(),
    )  # fmt: skip
    account = read("whisper-cli", output)
    assert (account.text, account.language, account.tokens) == (TEXT.strip(), "en", (50364, *TOKENS))
    assert account.seconds == {"encode": 0.1205}


def test_generic_json_in_all_its_places():
    """A file, standard output, one line between others, an object over several lines."""
    result = {"text": TEXT, "tokens": [*PROMPT, *TOKENS, EOT]}
    for said in (
        Output(json.dumps(result).encode()),
        Output(b"noise", result=json.dumps(result, indent=1).encode()),
        Output(b"loading {\n" + json.dumps(result).encode() + b"\ndone\n"),
        Output(b"loading\n" + json.dumps(result, indent=2).encode() + b"\ndone\n"),
    ):
        account = read("generic-json", said)
        assert (account.text, account.windows) == (TEXT, (AccountWindow(PROMPT, (*TOKENS, EOT)),))


def test_our_own_program_and_its_error():
    """Windows with prompt, tokens and end each; a line with an error is no result."""
    window = {"prompt": list(PROMPT), "tokens": list(TOKENS), "ended": "eot", "seconds": {"encode": 1.0}}
    line = {"sound": "s", "text": "a b", "language": "en", "windows": [window, {**window, "ended": "length"}],
            "seconds": {"total": 2.5}, "peak_memory_bytes": 4096, "warnings": ["5 bytes are missing"]}  # fmt: skip
    end = {"finished": True, "clips": 1}
    account = read("parity-whisper", Output("\n".join(map(json.dumps, (line, end))).encode(), exit_code=0))
    assert [(w.prompt, w.tokens, w.ended) for w in account.windows] == [
        (PROMPT, TOKENS, "eot"), (PROMPT, TOKENS, "length")
    ]  # fmt: skip
    assert (account.seconds, account.peak_memory_bytes) == ({"total": 2.5}, 4096)
    assert account.warnings == ("5 bytes are missing",)
    failed = Output("\n".join(map(json.dumps, ({"sound": "s", "error": "no RIFF"}, end))).encode(), exit_code=2)
    assert refused("parity-whisper", failed) == "the program gave no result (exit code 2): no RIFF"


def test_an_expression_that_backtracks_is_stopped(monkeypatch):
    """Nested repetitions over a line that almost matches: an error that names the expression, in time."""
    monkeypatch.setattr("whisper_parity.backends.app.patterns.LIMIT_S", 0.5)
    own = {"patterns": {"text": "(?P<text>(?:a|aa|a.)+)+b$"}}
    said = Output(b"a" * 5000 + b"c")
    assert "not done with the program's output after" in refused("generic-json", said, **own)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"preset": "nothing"}, "preset 'nothing': expected one of generic-json, mtk-model-zoo"),
        ({"patterns": {"text": "(?P<text>["}}, "is no regular expression"),
        ({"patterns": {"text": "Result: .*"}}, "has no group (?P<text>...)"),
        ({"patterns": {"txt": "x"}}, "no field 'txt'"),
        ({"patterns": {"text": "$.a b"}}, "no path from character 4 on"),
        ({"argv": ("{program}", "{sond}")}, "nothing is called 'sond'"),
        ({"argv": ("{program}",)}, "expected {program} first and {sound} in it"),
        ({"output": "../result.json"}, "in the program's working folder"),
        ({"pull": {"input_features": {"file": "/etc/passwd", "shape": [1]}}}, "in the program's working folder"),
        ({"pull": {"logits": {"file": "x", "shape": [1]}}}, "no such tensor"),
        ({"pull": {"input_features": {"file": "x", "shape": ["n_melz"]}}}, "expected whole numbers and n_mels"),
        ({"environment": {"A;B": "1"}}, "expected the name of a variable"),
    ],
)
def test_settings_are_checked_before_anything_runs(own, words):
    """One line that names the key."""
    with pytest.raises(ConfigError) as caught:
        description.of(settings.read({"preset": "generic-json", **own}))
    assert words in str(caught.value)
    assert str(caught.value).startswith("[backends.app")


def test_tensors_keep_what_was_written():
    """Raw float32 and float16 in their shape, more numbers flat, .npy in its own shape; text is refused."""
    pull = Pull("x", "float32", ("n_mels", 2))
    assert tensors.read(np.ones(160, "<f4").tobytes(), pull, DIMS, "input_features").shape == (80, 2)
    assert tensors.read(np.ones(99, "<f4").tobytes(), pull, DIMS, "input_features").shape == (99,)
    half = Pull("x", "float16", (4,))
    assert tensors.read(np.ones(4, "<f2").tobytes(), half, DIMS, "input_features").tolist() == [1, 1, 1, 1]
    with pytest.raises(BackendError, match="3 bytes are no float32"):
        tensors.read(b"abc", pull, DIMS, "input_features")
    with pytest.raises(BackendError, match=r"no \.npy array"):
        tensors.read(b"\x93NUMPY\x01\x00", pull, DIMS, "input_features")


def test_no_name_reaches_the_shell_unquoted(tmp_path):
    """Links, arguments and values with everything that a shell obeys arrive as they are."""
    evil = "a b;$(touch X)`touch X`'\"\n*"
    (tmp_path / "file").write_text("content")
    program = standins.path_of(tmp_path / "p", 'printf "%s|" "$1" "$A"; cat "./$1"\n')
    links = {evil: str(tmp_path / "file"), "p": str(program)}
    text = scripts.text(
        str(tmp_path / "run"), links, ["./p", evil], {"A": evil}, [scripts.STDOUT, evil], limit_s=9, largest=1 << 20
    )
    printed = subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=False).stdout
    assert scripts.ran(printed, [scripts.STDOUT, evil]).code == 0
    assert (tmp_path / "run" / scripts.STDOUT).read_text() == f"{evil}|{evil}|content"
    assert not [*tmp_path.rglob("X")]
