"""parity-whisper against openai-whisper: features, tokens, text; and everything that it refuses."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper
from whisper.model import Whisper
from whisper.tokenizer import get_tokenizer

from tests.support import sound
from tests.support.checkout import CHECKOUT
from tests.support.programs import (
    LIST,
    MICRO,
    Said,
    features_db,
    format_chunk,
    hear,
    hear_small,
    micro_folder,
    small_folder,
    snr_db,
    wav,
)  # fmt: skip
from whisper_parity.backends.dla import app_tables, native
from whisper_parity.clips import audio, features
from whisper_parity.decode import policy
from whisper_parity.errors import AudioError, BuildError, UnavailableError
from whisper_parity.model import checkpoint

pytestmark = pytest.mark.usefixtures("app_built")
CLIPS = CHECKOUT / "fixtures" / "clips"
SPOKEN = ("en-comma-01", "en-stereo-01", "zh-near-tie-02", "zh-mp3-01")
RATES = (8000, 11025, 16000, 22050, 32000, 44056, 44100, 48000, 96000)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder whose networks are arithmetic, of 80 mels."""
    return small_folder(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def wavs(tmp_path_factory) -> Callable[[str], Path]:
    """A shipped clip as a 16-bit WAV of 16 kHz, with the samples that the harness decodes."""
    folder = tmp_path_factory.mktemp("wavs")

    def converted(name: str) -> Path:
        (source,) = CLIPS.glob(f"{name}.*")
        target = folder / f"{name}.wav"
        target.write_bytes(wav(audio.read(source).pcm / 32767, 16_000, "s16"))
        assert np.array_equal(audio.read(target).pcm, audio.read(source).pcm)
        return target

    return converted


def good(tmp_path: Path, name: str = "good.wav") -> Path:
    path = tmp_path / name
    path.write_bytes(wav(sound.warble(0.4), 16_000, "s16"))
    return path


@pytest.mark.parametrize("n_mels", [80, 128])
def test_features_of_the_shipped_clips(tmp_path, wavs, n_mels):
    """At least 100 dB over every window, silence and noise included; both numbers of mels."""
    names = [*SPOKEN, "en-long-75s", "silence-03s", "noise-white-04s", "zh-short-1s", "en-clipped-01"]
    sounds = [wavs(name) for name in (names if n_mels == 80 else names[:3])]
    folder = small_folder(tmp_path / "model", n_mels, 51866 if n_mels == 128 else 51865)
    said = hear_small(folder, *sounds, options=["--language", "en", "--dump", tmp_path / "dump"])
    assert said.code == 0
    ratios = features_db(tmp_path / "dump", sounds, n_mels)
    assert min(ratios.values()) >= 100, ratios


def test_features_of_every_form_of_wav(tmp_path, small):
    """Widths, channels, chunks and rates: what ffmpeg and openai-whisper make of the same file."""
    stereo = np.stack([sound.warble(1.0), 0.4 * sound.warble(1.0, seed=3)], 1)
    forms = {
        f"{form}-{samples.ndim}-{'x' if extensible else ''}.wav": wav(
            samples, 16_000, form, extensible=extensible, chunks=LIST
        )
        for form in ("u8", "s16", "s24", "s32", "f32", "f64")
        for samples in (sound.warble(1.0), stereo)
        for extensible in (False, True)
    }
    rates = {
        f"{form}-{rate}.wav": wav(sound.warble(1.0, rate), rate, form) for form in ("s16", "f32") for rate in RATES
    }
    sounds = [tmp_path / name for name in (*forms, *rates)]
    for path, data in zip(sounds, (*forms.values(), *rates.values())):
        path.write_bytes(data)
    said = hear_small(small, *sounds, options=["--language", "en", "--dump", tmp_path / "dump"])
    assert (said.code, [line["warnings"] for line in said.lines]) == (0, [[]] * len(sounds))
    ratios = features_db(tmp_path / "dump", sounds, 80)
    assert min(ratios[name] for name in forms) >= 100, ratios
    assert min(ratios[name] for name in rates) >= 80, ratios


def test_odd_files_that_are_good(tmp_path, small):
    """A stream of unknown length, RF64, a lost last sample: read as ffmpeg does, and the loss is told."""
    plain = wav(sound.warble(0.5), 16_000, "s16")
    at = plain.index(b"data") + 4
    size = len(plain) - at - 4
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, size, size // 2, 0)
    files = {
        "stream.wav": plain[:at] + b"\xff" * 4 + plain[at + 4 :],
        "rf64.wav": b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + plain[12:at] + b"\xff" * 4 + plain[at + 4 :],
        "lost.wav": plain[:-5],
        "behind.wav": plain + LIST,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    sounds = [tmp_path / name for name in files]
    said = hear_small(small, *sounds, options=["--language", "en", "--dump", tmp_path / "dump"])
    assert said.code == 0
    assert min(features_db(tmp_path / "dump", sounds, 80).values()) >= 100
    warnings = [line["warnings"] for line in said.lines]
    assert warnings == [[], [], ["5 bytes that its data chunk announces are missing"], []]


def bad_wavs() -> dict[str, tuple[bytes, str]]:
    """Files that are no sound, and what the program says of each."""
    plain = wav(sound.warble(0.5), 16_000, "s16")
    data = plain[plain.index(b"data") :]

    def of_format(*numbers: int, **more: int) -> bytes:
        return b"RIFF\0\0\0\0WAVE" + format_chunk(*numbers, **more) + data

    return {
        "empty": (b"", "empty, or not a file"),
        "text": (b"this is no sound, it is text", "not a WAV file"),
        "cut-header": (plain[:30], "no fmt chunk"),
        "no-data": (plain[: plain.index(b"data")], "no data chunk"),
        "no-fmt": (b"RIFF\0\0\0\0WAVE" + data, "before any fmt chunk"),
        "cut": (plain[:6000], "cut short: "),
        "no-samples": (plain[: plain.index(b"data")] + b"data\0\0\0\0", "holds no audio samples"),
        "a-law": (of_format(6, 8, 1, 8000), "found A-law"),
        "adpcm": (of_format(2, 4, 1, 8000), "Microsoft ADPCM"),
        "12-bit": (of_format(1, 12, 1, 16000), "found 12 bit PCM"),
        "half": (of_format(3, 16, 1, 16000), "found 16 bit float"),
        "six": (of_format(1, 16, 6, 16000), "found 6; mix it down"),
        "none": (of_format(1, 16, 0, 16000), "found 0"),
        "rate": (of_format(1, 16, 1, 0), "a sample rate of 0 Hz"),
        "block": (plain.replace(struct.pack("<HH", 2, 16), struct.pack("<HH", 3, 16), 1), "says 3 bytes a frame"),
        "nan": (wav(np.array([0.0, np.nan]), 16_000, "f32"), "NaN or infinite"),
        "short": (wav(np.zeros(9), 44_100, "s16"), "too short to be converted"),
        "long": (wav(np.zeros(3 * 3600 * 1000 + 9), 1000, "u8"), "longer than 3 hours"),
        "guid": (wav(np.zeros(99), 16_000, "s16", extensible=True).replace(b"\x38\x9b\x71", b"abc"), "unknown kind"),
        "sides": (b"RIFF\0\0\0\0WAVE" + format_chunk(1, 16, 2, 16000, extensible=True, mask=0x30) + data, "mask 48"),
    }  # fmt: skip


def require_refused(said: Said, reasons: list[str]) -> None:
    """Each sound but the last is refused in a line that says why; the last one has a text."""
    assert said.code == 2
    assert [set(line) for line in said.lines[:-1]] == [{"sound", "error"}] * len(reasons)
    for line, reason in zip(said.lines, reasons):
        assert reason in line["error"], line
        assert "\n" not in line["error"]
    assert "text" in said.lines[-1]


def test_bad_sounds(tmp_path, small):
    """Each is one line with a reason; the program goes on, and its exit code says that not all is well."""
    files = bad_wavs()
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    sounds = [*(tmp_path / name for name in files), tmp_path / "missing.wav", tmp_path, good(tmp_path)]
    reasons = [*(reason for _, reason in files.values()), "No such file", "not a file"]
    require_refused(hear_small(small, *sounds, options=["--language", "en"]), reasons)


def test_the_harness_refuses_them_too(tmp_path):
    """What the program refuses for its content and not for its own limits, the harness does not hear either."""
    files = bad_wavs()
    for name in ("empty", "text", "cut-header", "no-data", "cut", "no-samples", "nan", "short", "long", "sides"):
        (tmp_path / f"{name}.wav").write_bytes(files[name][0])
        with pytest.raises(AudioError):
            audio.read(tmp_path / f"{name}.wav")


def test_what_is_wrong_with_the_folder_or_the_machine(tmp_path, small):
    """Exit code 3 and one line, before any sound is read."""
    sounds = [good(tmp_path)]

    def reason_of(name: str, content: bytes | None, **how: Path) -> str:
        broken = small_folder(tmp_path / f"broken-{name}")
        if content is None:
            (broken / name).unlink()
        else:
            (broken / name).write_bytes(content)
        said = hear_small(broken, *sounds, **how)
        assert said.code == 3
        return said.reason

    filters, words = (small / "mel_filters.txt").read_bytes(), (small / "vocab.txt").read_bytes()
    assert "mel_filters.txt: No such file" in reason_of("mel_filters.txt", None)
    assert "expected 16080 numbers, one a line, found 16079" in reason_of("mel_filters.txt", filters[:-16])
    assert "found more" in reason_of("mel_filters.txt", filters + b"1\n")
    assert "expected 51865 lines, found 51864" in reason_of("vocab.txt", words[: words.rindex(b"\n", 0, -1) + 1])
    assert "expected a line of id 2" in reason_of("vocab.txt", words.replace(b"\n2 ", b"\n3 ", 1))
    assert "vocab.txt:1: no base64" in reason_of("vocab.txt", words.replace(b"IQ==", b"I*==", 1))
    assert "not JSON" in reason_of("model.json", b"{")
    assert '"files": expected an object' in reason_of(
        "model.json", (small / "model.json").read_bytes().replace(b"files", b"file")
    )
    assert "expected shape (51865,4)" in reason_of("token_embedding.npy", npy(np.ones((51864, 4), np.float32)))
    assert "encoder.dla: No such file" in reason_of("encoder.dla", None)
    assert "no Neuron runtime" in reason_of("vocab.txt", words, library=tmp_path / "no.so")


def npy(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--language", "xx"], 'the model does not know "xx"'),
        (["--language"], "--language takes a value"),
        (["--task", "dance"], "expected transcribe or translate"),
        (["--api", "v3"], "expected auto, v1 or v2"),
        (["--fast"], "unknown option --fast"),
        (["--decode", "/nowhere.json"], "No such file"),
        (["--dump", "/nowhere/deep"], "No such file"),
    ],
)
def test_bad_command_lines(tmp_path, small, options, reason):
    """Exit code 2 and one line."""
    said = hear_small(small, options=[*options, *([] if options == ["--language"] else [good(tmp_path)])])
    assert (said.code, reason in said.reason) == (2, True), said.reason


def test_a_language_of_an_english_only_model(tmp_path):
    """It is refused instead of decoded as English."""
    folder = small_folder(tmp_path / "model", vocabulary=51864)
    said = hear_small(folder, good(tmp_path), options=["--language", "fr"])
    assert (said.code, '"fr", only en' in said.reason) == (2, True)
    window = hear_small(folder, good(tmp_path)).lines[0]["windows"][0]
    assert window["prompt"] == [50257, 50362]


@pytest.mark.parametrize("task", ["transcribe", "translate"])
@pytest.mark.parametrize("size", [51865, 51866])
def test_the_prompt_is_the_vocabularys(tmp_path, size, task):
    """Ids of start, language, task and no-timestamps of each vocabulary, as openai-whisper's tokenizer has them."""
    folder = small_folder(tmp_path / "model", vocabulary=size)
    said = hear_small(folder, good(tmp_path), options=["--language", "zh", "--task", task])
    words = get_tokenizer(True, num_languages=size - 51766, language="zh", task=task)
    assert said.lines[0]["windows"][0]["prompt"] == [*words.sot_sequence_including_notimestamps]
    assert said.lines[0]["language"] == "zh"


def test_rules_of_decoding(tmp_path, small):
    """Suppressed ids are not chosen, a prompt is fed as it is, the limit ends a window, and bad rules are refused."""
    sound_file, file = good(tmp_path), tmp_path / "decode.json"

    def window(rules: app_tables.Rules) -> dict:
        app_tables.write_rules(file, rules)
        (line,) = hear_small(small, sound_file, options=["--language", "en", "--decode", file]).lines
        return line["windows"][0]

    free = window(app_tables.Rules())
    assert (len(free["tokens"]), free["ended"]) == (5, "length")  # a room of 8, a prompt of 4
    chosen = free["tokens"][0]
    assert chosen not in window(app_tables.Rules(suppress=(chosen,)))["tokens"]
    first = window(app_tables.Rules(suppress_first=(chosen,)))["tokens"]
    assert first[0] != chosen
    assert window(app_tables.Rules(max_tokens=2))["tokens"] == free["tokens"][:2]
    assert window(app_tables.Rules(prompt=(50258, 7)))["prompt"] == [50258, 7]
    file.write_text('{"suppress": [51865]}')
    said = hear_small(small, sound_file, options=["--decode", file])
    assert (said.code, "id 51865 is outside a model of 51865" in said.reason) == (2, True)


WORDS = (
    b" a ", b"\xe2\x80\x83x\xe3\x80\x80", b"\x1c\x85\xc2\x85 \xc2\xa0", b"a\xe2\x80\xa8b\xe2\x80\xa9c\xc2\x85d",
    b"\xe4\xbd", b"\xa0\xff", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80",
    b'"\\\n\x00', b"\xef\xbf\xbd", b"",
)  # fmt: skip
"""Blanks of many kinds, and bytes that are no whole character by themselves or behind each other."""


@pytest.mark.parametrize("word", WORDS)
def test_bytes_become_text_as_in_python(tmp_path, word):
    """Joined over tokens, decoded with replacement, stripped."""
    folder, rules = small_folder(tmp_path / "model"), tmp_path / "decode.json"
    app_tables.write_rules(rules, app_tables.Rules(max_tokens=1))
    options = ["--language", "en", "--decode", rules]
    (chosen,) = hear_small(folder, good(tmp_path), options=options).lines[0]["windows"][0]["tokens"]
    lines = (folder / "vocab.txt").read_text().splitlines()
    lines[chosen] = f"{chosen} {base64.b64encode(word).decode() or '='}"
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")
    (line,) = hear_small(folder, good(tmp_path), options=["--language", "en"]).lines
    wanted = b"".join(word if token == chosen else spelled(lines[token]) for token in line["windows"][0]["tokens"])
    assert line["text"] == wanted.decode("utf-8", "replace").strip()


def spelled(line: str) -> bytes:
    return base64.b64decode(line.split(" ")[1])


def test_names_that_are_no_text(tmp_path, small):
    """Any bytes in a sound's name come out as JSON, with replacement."""
    rng = np.random.default_rng(0)
    names = [bytes(rng.integers(1, 256, 12, np.uint8)).replace(b"/", b"") for _ in range(300)]
    sounds = [os.fsencode(tmp_path) + b"/" + name for name in names]
    said = hear_small(small, *map(os.fsdecode, sounds), options=["--language", "en"])
    assert [line["sound"] for line in said.lines] == [path.decode("utf-8", "replace") for path in sounds]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("inference_error", "gave"), ("nan_output", "is NaN"), ("short_output", "did not write its whole output")],
)
def test_a_failing_runtime(tmp_path, small, fault, reason):
    """Exit code 1; the sound's line says what failed, and the closing line stands."""
    said = hear_small(small, good(tmp_path), options=["--language", "en"], env={"PARITY_SIM_FAULT": fault})
    assert (said.code, said.finished["clips"]) == (1, 1)
    assert reason in said.lines[0]["error"]


def test_help():
    """It names every option and every exit code."""
    ran = subprocess.run([native.app(), "--help"], capture_output=True, text=True, check=True)
    for word in ("--model", "--language", "--task", "--decode", "--dump", "--library", "--api", "Exit code: 0"):
        assert word in ran.stdout


@pytest.fixture(scope="module")
def micro(parity_in, tmp_path_factory) -> Path:
    """The micro model as the program's folder."""
    return micro_folder(parity_in, tmp_path_factory.mktemp("micro"))


def reference_tokens(model: Whisper, source: Path, name: str, language: str) -> list[list[int]]:
    """Tokens of each window as openai-whisper decodes them under a policy."""
    options = dict(policy.named(name).options, language=language, fp16=False)
    options["sample_len"] = 448 if options["sample_len"] == 0 else options["sample_len"]
    return [
        whisper.decode(model, torch.from_numpy(window.input_features[0]), whisper.DecodingOptions(**options)).tokens
        for window in features.compute(source, 80).windows
    ]


def test_tokens_and_text_of_the_micro_model(tmp_path, micro, wavs):
    """Under both policies: openai-whisper's tokens on the same sounds, and its text of them."""
    model = whisper.load_model(str(MICRO), device="cpu")
    dims = checkpoint.describe(MICRO).dims
    names = {"en-comma-01": "en", "en-late-10s": "en", "zh-number-01": "zh", "zh-question-02": "zh"}
    for rules in ("plain", "whisper"):
        app_tables.write_rules(
            tmp_path / "decode.json", app_tables.rules(policy.concrete(policy.named(rules), dims, "en"), dims)
        )
        for language in ("en", "zh"):
            sounds = [wavs(name) for name, spoken in names.items() if spoken == language]
            said = hear(micro, *sounds, options=["--language", language, "--decode", tmp_path / "decode.json"])
            assert said.code == 0
            for line, source in zip(said.lines, sounds):
                require_same(line, reference_tokens(model, source, rules, language), language)


def require_same(line: dict, tokens: list[list[int]], language: str) -> None:
    words = get_tokenizer(True, num_languages=99, language=language)
    assert [window["tokens"][:-1] for window in line["windows"]] == tokens
    assert [window["tokens"][-1] for window in line["windows"]] == [words.eot] * len(tokens)
    assert [window["ended"] for window in line["windows"]] == ["eot"] * len(tokens)
    texts = [words.decode([t for t in window if t < words.eot]).strip() for window in tokens]
    assert line["text"] == " ".join(filter(None, texts))


def test_languages_are_detected(micro, wavs):
    """Each sound's own, as openai-whisper detects it; a long sound keeps that of its first window."""
    sounds = [wavs(name) for name in ("zh-question-02", "en-comma-01", "en-long-75s")]
    said = hear(micro, *sounds, options=["--decode", limited(wavs("en-comma-01").parent)])
    assert [line["language"] for line in said.lines] == ["zh", "en", "en"]
    prompts = [[window["prompt"][1] for window in line["windows"]] for line in said.lines]
    assert prompts == [[50260], [50259], [50259] * 3]


def limited(folder: Path) -> Path:
    """Rules of six tokens a window."""
    app_tables.write_rules(folder / "six.json", app_tables.Rules(max_tokens=6))
    return folder / "six.json"


def test_text_of_several_windows(micro, wavs):
    """Windows are decoded on their own; their texts are joined by a blank."""
    model = whisper.load_model(str(MICRO), device="cpu")
    source = wavs("en-long-75s")
    said = hear(micro, source, options=["--language", "en"])
    require_same(said.lines[0], reference_tokens(model, source, "plain", "en"), "en")


def test_dumped_encoder_output(tmp_path, micro, wavs):
    """It is the reference's, within the half precision of the file."""
    model = whisper.load_model(str(MICRO), device="cpu")
    source = wavs("en-comma-01")
    hear(micro, source, options=["--language", "en", "--dump", tmp_path, "--decode", limited(tmp_path)])
    mel = torch.from_numpy(features.compute(source, 80).windows[0].input_features)
    wanted = model.encoder(mel).detach().numpy()[0]
    assert snr_db(wanted, np.fromfile(tmp_path / "0.0.encoder_output.f32", "<f4").reshape(wanted.shape)) > 40


@pytest.fixture(scope="module")
def sanitized() -> Path:
    """A folder with the program and its fuzz target, built with sanitizers."""
    try:
        return native.app_checks(sanitize="address,undefined")
    except BuildError as error:
        pytest.skip(f"no sanitizers here: {error}")


def test_mutated_wavs_under_sanitizers(sanitized):
    """Thousands of mutations of WAV files of every form, the same each time."""
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run([sanitized / "wav-fuzz", "5000"], capture_output=True, text=True, env=env, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "5000 inputs\n", "")


def test_a_run_under_sanitizers(sanitized, tmp_path, small, wavs):
    """Good and bad sounds, every access checked."""
    files = bad_wavs()
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    sounds = [*(tmp_path / name for name in files if name != "long"), wavs("zh-comma-01"), good(tmp_path)]
    said = hear_small(small, *sounds, options=["--dump", tmp_path / "dump"], binary=sanitized / "parity-whisper")
    assert said.code == 2
    assert ["text" in line for line in said.lines[-2:]] == [True, True]
    assert "runtime error" not in said.stderr
    assert "Sanitizer" not in said.stderr


def test_the_aarch64_build_starts_on_old_systems():
    """Built by zig it asks for no glibc newer than promised, and for no C++ library of the system."""
    if not importlib.util.find_spec("ziglang"):
        pytest.skip("ziglang is not installed: run `pip install ziglang`")
    binary = native.app("aarch64").read_bytes()
    needed = [tuple(map(int, version.split(b"."))) for version in re.findall(rb"GLIBC_([0-9.]+[0-9])", binary)]
    assert max(needed) <= tuple(map(int, native.GLIBC.split(".")))
    assert b"libstdc++.so" not in binary


def test_the_product_has_no_fault_in_it(app_built):
    """The hooks of the seeded faults are not in what ships."""
    binary = native.app().read_bytes()
    assert b"PARITY_FAULT" not in binary
    assert b"padded_spectrogram" not in binary


def test_a_compiler_that_is_missing(tmp_path, monkeypatch):
    """No binary, and what to install."""
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(BuildError, match=r"configuring app failed.*Install a C\+\+17 compiler"):
        native.app(folder=tmp_path)
    with pytest.raises(UnavailableError, match="Targets: host, aarch64, android"):
        native.app("toaster", folder=tmp_path)
