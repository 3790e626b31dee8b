"""Bad input: one line (what, where, what to do), the documented exit code, other clips run, nothing is lost."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from tests.support import sound
from tests.support.refusals import Bomb, files_of, line_of, require_line, require_no_traceback, rows_of
from whisper_parity.fixtures import scripted
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as schema

STAGES = ("pytorch", "torchscript")
RUN = ("run", "--language", "en", "--stages", ",".join(STAGES))


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end."""

    folder: Path
    """Where clips and manifest lie."""
    result: Result
    run: Path


@pytest.fixture(scope="module")
def kept(parity_in, tmp_path_factory) -> Finished:
    """A run of one good clip, made before anything goes wrong."""
    folder = tmp_path_factory.mktemp("kept")
    good = sound.write_wav(folder / "good.wav", sound.warble(1.0))
    result = parity_in(folder)(*RUN, "--clips", good, "--run-id", "kept")
    require_no_traceback(result, 0)
    return Finished(folder, result, folder / "reports" / "kept")


@pytest.fixture
def refuse(kept: Finished, parity) -> Iterator[Callable[..., str]]:
    """The line with which a command is refused that would have continued the good run; that one stays as it is."""
    before = files_of(kept.run)

    def refused(*words: object, exit_code: int = 2) -> str:
        defaults = {"--clips": kept.folder / "good.wav", "--report-dir": kept.folder / "reports", "--run-id": "kept"}
        missing = [word for option, value in defaults.items() if option not in words for word in (option, value)]
        return line_of(parity("run", *words, *missing), exit_code)

    yield refused
    assert files_of(kept.run) == before


# Audio


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def encoded(codec: str, sample_format: str, keep: float = 1.0) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        sound.write(path, sound.warble(5.0), 16_000, codec, sample_format)
        cut(path, keep)

    return write


def flac_cut_between_two_frames(path: Path) -> None:
    encoded("flac", "s16")(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\xff\xf8", 0, len(content) * 9 // 10)])


def samples(*values: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        sound.write_wav(path, np.concatenate([sound.warble(0.5), np.array(values, np.float32)]))

    return write


def pictures_without_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])


def header_alone(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))


def content(of: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(of)


UNDECODABLE = "cannot be decoded as audio (Invalid data found when processing input). Is it complete, and a sound file?"
CUT_SHORT = "s that its header announces are missing. Copy it again"
BAD_AUDIO: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.wav": (lambda path: None, "no such audio file. Check the path, or the manifest line that names it"),
    "folder.wav": (Path.mkdir, "no such audio file. Check the path"),
    "empty.wav": (Path.touch, "the file is empty (0 bytes). Copy it again"),
    "cut-pcm.wav": (encoded("pcm_s16le", "s16", 0.9), f"cut short, 0.50 {CUT_SHORT}"),
    "cut-float.wav": (encoded("pcm_f32le", "flt", 0.5), f"cut short, 2.50 {CUT_SHORT}"),
    "cut-in-its-header.wav": (encoded("pcm_s16le", "s16", 0.0001), "cannot be decoded as audio"),
    "cut.flac": (encoded("flac", "s16", 0.7), UNDECODABLE),
    "cut-between-frames.flac": (flac_cut_between_two_frames, CUT_SHORT),
    "cut.mp3": (encoded("libmp3lame", "s16p", 0.6), CUT_SHORT),
    "cut.m4a": (encoded("aac", "fltp", 0.9), UNDECODABLE),
    "noise.wav": (content(np.random.default_rng(0).bytes(4096)), UNDECODABLE),
    "text.wav": (content(b"These are words, not sounds.\n" * 40), UNDECODABLE),
    "page.mp3": (content(b"<!DOCTYPE html><title>404</title>\n"), UNDECODABLE),
    "still.mp4": (pictures_without_sound, "no audio stream in it. Give a file with sound"),
    "no-samples.wav": (header_alone, "holds no audio samples. Give a clip of"),
    "nan.wav": (samples(np.nan), "a sample is NaN or infinite (first at 0.500 s). Export the clip again"),
    "infinite.wav": (samples(-np.inf, 0.0), "a sample is NaN or infinite (first at 0.5"),
}
"""How to write each file, and what is said about it behind its path."""


@pytest.fixture(scope="module")
def bad_audio(parity_in, tmp_path_factory) -> Finished:
    """One run over all of them, a good clip first and last and a silent one in between."""
    folder = tmp_path_factory.mktemp("bad-audio")
    for name, (write, _) in BAD_AUDIO.items():
        write(folder / name)
    for name in ("good-first.wav", "good-last.wav"):
        sound.write_wav(folder / name, sound.warble(1.0))
    sound.write_wav(folder / "silent.wav", np.zeros(16_000, np.float32))
    names = ("good-first.wav", "silent.wav", *BAD_AUDIO, "good-last.wav")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(f'{{"audio_filepath": "{name}", "name": "{name}"}}\n' for name in names), "utf-8")
    result = parity_in(folder)(*RUN, "--clips", "all", "--manifest", manifest, "--run-id", "bad-audio")
    return Finished(folder, result, folder / "reports" / "bad-audio")


@pytest.mark.parametrize("name", BAD_AUDIO)
def test_audio_that_cannot_be_used_is_a_row_that_says_why(bad_audio: Finished, name: str):
    """In every stage: invalid input, the file's path, what is wrong with it and what to do."""
    for stage in STAGES:
        row = rows_of(bad_audio.run)[name, stage]
        assert row.verdict.outcome is Outcome.INVALID_INPUT
        assert row.verdict.reason.startswith(f"{bad_audio.folder / name}: ")
        assert BAD_AUDIO[name][1] in row.verdict.reason
        assert f"--clips {name}" in row.reproduce
        require_line(bad_audio.result, row)


def test_other_clips_run_beside_bad_audio(bad_audio: Finished):
    """Those before and those behind it; the run as a whole is bad input."""
    require_no_traceback(bad_audio.result, 2)
    rows = rows_of(bad_audio.run)
    for name in ("good-first.wav", "good-last.wav", "silent.wav"):
        outcomes = [rows[name, stage].verdict.outcome for stage in STAGES]
        assert outcomes == [Outcome.REFERENCE, Outcome.PASS]
    report = schema.load(bad_audio.run)
    assert (report.finished, report.exit_code, report.verdict) == (True, 2, Outcome.INVALID_INPUT)


def test_silent_audio_runs_and_is_noted(bad_audio: Finished):
    """Whatever text comes out of it, the table says that nobody spoke."""
    (line,) = [line for line in bad_audio.result.stdout.splitlines() if line.startswith("note: silent.wav")]
    assert "the audio is silent (every sample is 0): any text is invented" in line
    assert all("silent" in rows_of(bad_audio.run)["silent.wav", stage].notes[0] for stage in STAGES)


def test_decoders_print_nothing_of_their_own(bad_audio: Finished, capfd):
    """Stderr stays with the one line of the harness, whatever FFmpeg has to say."""
    from whisper_parity.clips import audio
    from whisper_parity.errors import AudioError

    for name in BAD_AUDIO:
        with pytest.raises(AudioError):
            audio.load(bad_audio.folder / name)
    assert capfd.readouterr() == ("", "")


def test_whole_files_of_every_kind_are_read(tmp_path):
    """The check for files that were cut short refuses none that is whole, streamed ones of unknown length included."""
    from whisper_parity.clips import audio

    kinds = {"a.wav": "pcm_s16le s16", "b.wav": "adpcm_ms s16", "c.flac": "flac s16", "d.mp3": "libmp3lame s16p"}
    for name, kind in kinds.items():
        encoded(*kind.split())(tmp_path / name)
        assert len(audio.load(tmp_path / name)) == pytest.approx(80_000, abs=2000)
    for size in (b"\xff\xff\xff\xff", b"\x00\xf0\xff\x7f"):
        streamed = bytearray((tmp_path / "a.wav").read_bytes())
        at = streamed.index(b"data") + 4
        streamed[at : at + 4] = size
        (tmp_path / "streamed.wav").write_bytes(streamed)
        assert len(audio.load(tmp_path / "streamed.wav")) == 80_000


def test_audio_that_cannot_be_opened_is_a_row(parity, clip, tmp_path, monkeypatch):
    """No permission to read it: the row says so, the run goes on."""
    from harness import cache

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(cache, "file_sha256", refuse)
    result = parity(*RUN, "--clips", clip, "--run-id", "locked")
    require_no_traceback(result, 2)
    row = rows_of(tmp_path / "reports" / "locked")["warble", "pytorch"]
    assert row.verdict.reason == f"{clip}: cannot be read (Permission denied). Check its permissions"


def test_no_playlist_makes_a_network_connection(tmp_path):
    """What a manifest names is read from disk, and from nowhere else."""
    from whisper_parity.clips import audio
    from whisper_parity.errors import AudioError

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/secret.ts"
        playlist = tmp_path / "playlist.m3u8"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n", "utf-8")
        with pytest.raises(AudioError, match="cannot be decoded as audio"):
            audio.load(playlist)
        with pytest.raises(TimeoutError):
            server.accept()


# Manifests

ELSEWHERE = "points outside the manifest's folder. Put the file inside it"
BAD_LINES: dict[str, tuple[str, str]] = {
    "not JSON": ("good.wav", "not JSON ("),
    "cut short": ('{"audio_filepath": "good.wa', "not JSON ("),
    "a list": ('["good.wav"]', "expected a JSON object, found list. "),
    "nested without end": ("[" * 100_000, "not JSON ("),
    "a number of 5000 digits": ('{"audio_filepath": "good.wav", "seconds": ' + "9" * 5000 + "}", "not JSON ("),
    "half a surrogate pair": (r'{"audio_filepath": "good.wav", "name": "other", "text": "\ud800"}', "not JSON ("),
    "no path": ('{"text": "hello"}', '"audio_filepath" is missing. Add the audio file\'s path'),
    "empty path": ('{"audio_filepath": ""}', "\"audio_filepath\" must be a path, found ''. Add"),
    "path of a wrong type": (
        '{"audio_filepath": ["good.wav"]}',
        "must be a path, found ['good.wav']. Add",
    ),
    "text of a wrong type": ('{"audio_filepath": "good.wav", "text": 5}', '"text" must be a str. Found 5'),
    "language of a wrong type": ('{"audio_filepath": "good.wav", "lang": ["en"]}', '"lang" must be a str. Found'),
    "tags of a wrong type": ('{"audio_filepath": "good.wav", "tags": "default"}', '"tags" must be a list. Found'),
    "name of a wrong type": ('{"audio_filepath": "good.wav", "name": {}}', '"name" must be a str. Found {}'),
    "the same name again": (
        '{"audio_filepath": "twin.wav", "name": "good"}',
        'a second clip named good. Give it a "name"',
    ),
    "above its folder": ('{"audio_filepath": "../secret.wav"}', f"'../secret.wav' {ELSEWHERE}"),
    "above by a detour": ('{"audio_filepath": "sub/../../secret.wav"}', ELSEWHERE),
    "absolute": ('{"audio_filepath": "/etc/passwd"}', f"'/etc/passwd' {ELSEWHERE}"),
    "through a link": ('{"audio_filepath": "link.wav"}', f"'link.wav' {ELSEWHERE}"),
    "through a linked folder": ('{"audio_filepath": "linked/secret.wav"}', ELSEWHERE),
    "links in a circle": ('{"audio_filepath": "circle.wav"}', "'circle.wav' is no usable path ("),
    "with a zero byte": (r'{"audio_filepath": "good\u0000.wav"}', "is no usable path ("),
    "too long for a file": ('{"audio_filepath": "' + "x" * 300 + '.wav"}', "is no usable path ("),
}


@pytest.fixture(scope="module")
def bad_manifest(parity_in, tmp_path_factory) -> Finished:
    """One run over all of them, with a good line first and one of an unknown language last."""
    folder = tmp_path_factory.mktemp("outside") / "clips"
    folder.mkdir()
    for path in (folder / "good.wav", folder / "twin.wav", folder.parent / "secret.wav"):
        sound.write_wav(path, sound.warble(1.0))
    (folder / "link.wav").symlink_to(folder.parent / "secret.wav")
    (folder / "linked").symlink_to(folder.parent, target_is_directory=True)
    (folder / "circle.wav").symlink_to("circle.wav")
    first = json.dumps({"audio_filepath": "good.wav", "text": "first\u2028second"}, ensure_ascii=False)
    last = json.dumps({"audio_filepath": "twin.wav", "lang": "klingon"})
    manifest = folder / "manifest.jsonl"
    lines = [first, *(line for line, _ in BAD_LINES.values()), "", last]
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    result = parity_in(folder)(*RUN, "--manifest", manifest, "--run-id", "bad-manifest")
    return Finished(folder, result, folder / "reports" / "bad-manifest")


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_of_a_manifest_is_a_row_with_its_number(bad_manifest: Finished, case: str):
    """Which file, which line, what is wrong with it and what to do; nothing outside the folder is opened."""
    number = 2 + list(BAD_LINES).index(case)
    row = rows_of(bad_manifest.run)[f"line-{number}", ""]
    assert row.verdict.outcome is Outcome.INVALID_INPUT
    assert row.verdict.reason.startswith(f"{bad_manifest.folder / 'manifest.jsonl'}:{number}: ")
    assert BAD_LINES[case][1] in row.verdict.reason
    assert len(row.verdict.reason) < 600
    require_line(bad_manifest.result, row)


def test_a_line_of_an_unknown_language_is_a_row_of_every_stage(bad_manifest: Finished):
    """The language is named, and what one looks like."""
    for stage in STAGES:
        row = rows_of(bad_manifest.run)["twin", stage]
        assert row.verdict.outcome is Outcome.INVALID_INPUT
        assert row.verdict.reason == "unknown language 'klingon'. Use a Whisper code such as en, zh or de"
        require_line(bad_manifest.result, row)


def test_the_good_line_of_a_bad_manifest_runs(bad_manifest: Finished):
    """A line separator inside its text ends no line."""
    require_no_traceback(bad_manifest.result, 2)
    rows = rows_of(bad_manifest.run)
    assert [rows["good", stage].verdict.outcome for stage in STAGES] == [Outcome.REFERENCE, Outcome.PASS]
    assert rows["good", "pytorch"].vs_transcript.reference == "first\u2028second"
    assert len(rows) == len(BAD_LINES) + 2 * len(STAGES)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "cannot be read ([Errno 2]"),
        (Path.mkdir, "cannot be read ([Errno 21]"),
        (Path.touch, 'holds no clip. Write one JSON object a line with "audio_filepath"'),
        (content(b"\n \n"), "holds no clip. Write one JSON object a line"),
        (content(b"\xff\xfe{}\n"), "cannot be read ('utf-8' codec"),
    ],
    ids=["missing", "a folder", "empty", "blank lines", "not UTF-8"],
)
def test_a_manifest_that_cannot_be_used(refuse, tmp_path, write, said):
    """Nothing runs; the file is named, and what belongs there."""
    manifest = tmp_path / "clips.jsonl"
    write(manifest)
    line = refuse("--clips", "all", "--manifest", manifest)
    assert line.startswith(f"{manifest}: {said}")
    assert "JSON" in line


def test_a_manifest_of_bad_lines_alone_is_reported(parity, tmp_path):
    """No clip to run is no reason to write no report."""
    (tmp_path / "clips.jsonl").write_text("{}\n", "utf-8")
    result = parity(*RUN, "--manifest", "clips.jsonl", "--run-id", "none")
    require_no_traceback(result, 2)
    assert list(rows_of(tmp_path / "reports" / "none")) == [("line-1", "")]


# Checkpoints


def saved(**changes: Any) -> dict[str, Any]:
    """A tiny Whisper in openai-whisper's format, its dimensions changed."""
    made = tiny()
    return {"dims": {**made["dims"], **changes}, "model_state_dict": made["model_state_dict"]}


def tiny() -> dict[str, Any]:
    dims = scripted.dimensions(n_state=8)
    return {"dims": dict(vars(dims)), "model_state_dict": scripted.model(dims, steps=2).state_dict()}


NOT_FITTING = "the weights do not fit the dimensions: "
NO_FORMAT = "Give a Whisper .pt file with dims and model_state_dict, or a name such as base"
BAD_CHECKPOINTS: dict[str, tuple[Callable[[], Any], str]] = {
    "random bytes": (lambda: np.random.default_rng(1).bytes(5000), NO_FORMAT),
    "text": (lambda: b"base.pt\n", NO_FORMAT),
    "empty": (lambda: b"", NO_FORMAT),
    "a list": (lambda: [1, 2], "expected the keys dims and model_state_dict, found list. A Hugging Face"),
    "without the keys": (lambda: {"encoder.weight": torch.zeros(2)}, "found encoder.weight. A Hugging Face"),
    "without weights": (lambda: {"dims": tiny()["dims"]}, "expected the keys dims and model_state_dict, found dims. "),
    "dims of a wrong type": (lambda: saved(n_mels="80"), "dims must hold n_audio_ctx, n_audio_head"),
    "a dimension that is true": (lambda: saved(n_text_layer=True), "as positive numbers, found {"),
    "a dimension of 0": (lambda: saved(n_text_layer=0), "as positive numbers, found {"),
    "a dimension too many": (lambda: saved(n_ears=2), "Save vars(model.dims) of openai-whisper"),
    "dims that are a list": (lambda: {**tiny(), "dims": [80, 1500]}, "as positive numbers, found [80, 1500]. Save"),
    "unknown mel bands": (lambda: saved(n_mels=64), "n_mels is 64. openai-whisper has filters for 80 and 128"),
    "unknown vocabulary": (lambda: saved(n_vocab=50257), "n_vocab is 50257. Whisper's vocabularies are 51864"),
    "another window": (lambda: saved(n_audio_ctx=750), "n_audio_ctx is 750. Windows are 30 s"),
    "heads that do not divide": (lambda: saved(n_text_head=3), "multiples of n_audio_head 2 and n_text_head 3. Are"),
    "weights of another size": (
        lambda: saved(n_audio_state=16, n_text_state=16),
        f"{NOT_FITTING}encoder.conv1.weight should be [16, 80, 3], found [8, 80, 3]. Is the file complete",
    ),
    "another vocabulary's weights": (
        lambda: saved(n_vocab=51866),
        f"{NOT_FITTING}decoder.token_embedding.weight should be [51866, 8], found [51865, 8]",
    ),
    "a million layers": (lambda: saved(n_audio_layer=10**6), f"{NOT_FITTING}encoder.blocks.999999.attn_ln.weight"),
    "weights that are a list": (lambda: {**tiny(), "model_state_dict": [1]}, f"{NOT_FITTING}encoder.conv1.weight"),
    "weights that are text": (
        lambda: {**tiny(), "model_state_dict": dict.fromkeys(tiny()["model_state_dict"], "0.5")},
        f"{NOT_FITTING}encoder.conv1.weight should be [8, 80, 3], found none",
    ),
}


@pytest.mark.parametrize("case", BAD_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_refused(refuse, tmp_path, case):
    """Before anything is built or run: the file, what was expected and found, what to give."""
    make, said = BAD_CHECKPOINTS[case]
    path = tmp_path / "model.pt"
    made = make()
    path.write_bytes(made) if isinstance(made, bytes) else torch.save(made, path)
    line = refuse("--checkpoint", path)
    assert line.startswith(f"{path}: ")
    assert said in line


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_a_checkpoint_that_was_cut_short_is_refused(refuse, scripted_checkpoint, tmp_path, keep):
    """A download that broke off."""
    path = shutil.copy(scripted_checkpoint, tmp_path / "model.pt")
    cut(path, keep)
    assert refuse("--checkpoint", path).startswith(f"{path}: not a PyTorch checkpoint (")


@pytest.mark.parametrize("save", [torch.save, lambda made, path: path.write_bytes(pickle.dumps(made))])
@pytest.mark.parametrize("hide", [lambda bomb: bomb, lambda bomb: {"dims": bomb, "model_state_dict": {}}])
def test_a_checkpoint_executes_nothing(refuse, tmp_path, save, hide):
    """A pickle that would make a folder makes none."""
    path, marker = tmp_path / "model.pt", tmp_path / "executed"
    save(hide(Bomb(marker)), path)
    assert refuse("--checkpoint", path).startswith(f"{path}: not a PyTorch checkpoint (")
    assert not marker.exists()


def test_a_weight_that_is_missing_is_a_row_of_every_stage(parity, clip, tmp_path):
    """What only openai-whisper's own loader sees."""
    made = tiny()
    del made["model_state_dict"]["decoder.ln.bias"]
    torch.save(made, tmp_path / "model.pt")
    result = parity(*RUN, "--clips", clip, "--checkpoint", "model.pt", "--run-id", "one")
    require_no_traceback(result, 2)
    for row in rows_of(tmp_path / "reports" / "one").values():
        assert row.verdict.outcome is Outcome.INVALID_INPUT
        assert "model.pt: the weights do not fit the dimensions (Error(s) in loading" in row.verdict.reason
        require_line(result, row)


def test_a_bad_checkpoint_builds_nothing(parity, tmp_path):
    """`parity build` refuses as `parity run` does, and leaves no folder."""
    (tmp_path / "model.pt").write_bytes(b"no model")
    line = line_of(parity("build", "--checkpoint", "model.pt", "--stages", "torchscript", "--out", "made"), 2)
    assert line.startswith("model.pt: not a PyTorch checkpoint (")
    assert not (tmp_path / "made").exists()


# Names that nobody knows


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stages", "pytorch,onnx"), "no backend called 'onnx'. Use one of whisper, pytorch, torchscript, tflite"),
        (("--stages", "tflite:int4"), "stage 'tflite:int4': tflite has no variant 'int4'. Variants: fp32, fp16, int8"),
        (("--stages", "pytorch:fp16"), "stage 'pytorch:fp16': pytorch has no variant 'fp16'. Write pytorch"),
        (("--stages", "tflite:"), "stage 'tflite:': tflite has no variant ''. Variants: fp32"),
        (("--stages", "pytorch,,tflite"), "--stages: expected names separated by commas, found 'pytorch,,tflite'"),
        (("--policy", "beam"), "no policy called 'beam'. Use one of whisper, plain"),
        (("--language", "xx"), "unknown language 'xx'. Use a Whisper code such as en, zh or de"),
        (("--language", "English"), "unknown language 'English'. Use a Whisper code such as en, zh or de"),
        (("--checkpoint", "huge"), "huge: neither a file nor a Whisper name. Names: tiny.en, tiny"),
        (("--checkpoint", "x" * 300), "neither a file nor a Whisper name. Names: tiny.en, tiny"),
        (("--mask-value", "10000"), "mask value '10000': expected a negative number. Use -inf or -10000"),
        (("--mask-value", "nan"), "mask value 'nan': expected a negative number. Use -inf or -10000"),
        (("--run-id", "../elsewhere"), "run id '../elsewhere': use letters, digits, '.', '_' and '-'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(refuse, words, said):
    """Before anything runs."""
    assert said in refuse(*words)


@pytest.mark.parametrize("name", ["nobody", "missing.wav", "x" * 300, "a\nb"])
def test_an_unknown_clip_is_refused_with_the_manifest_to_look_into(refuse, tmp_path, name):
    """A name or a file that is not there: more likely a slip than a clip."""
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text('{"audio_filepath": "a.wav", "tags": ["short"]}\n', "utf-8")
    line = refuse("--clips", name, "--manifest", manifest)
    assert line.startswith(f"no clip, tag or audio file called {name!r}. Use default, all, a file, ")
    assert line.endswith(f"one of the tags short or a name in {manifest}")


def test_a_run_that_is_not_there_is_refused(parity):
    """`parity report` and `parity compare` say what a run is."""
    said = "nothing: neither a run nor a result file. Give a folder with report.json, or two JSON results"
    assert line_of(parity("report", "nothing"), 2) == said
    assert line_of(parity("compare", "nothing", "nothing"), 2) == said


def test_two_files_of_one_name_are_refused(refuse, tmp_path, clip):
    """One of them would be passed over in silence."""
    (tmp_path / "other").mkdir()
    twin = shutil.copy(clip, tmp_path / "other" / clip.name)
    line = refuse("--clips", f"{clip},{twin}")
    assert line == f"two clips are called warble: {clip} and {twin}. Rename one, or name both in a manifest"


# parity.toml

EXPECTED_TABLE = "must be a table, found 5. Write ["
BAD_TOML: dict[str, tuple[str, str]] = {
    "not TOML": ("stages pytorch", "parity.toml: not TOML ("),
    "cut short": ('[run]\nstages = "pyto', "parity.toml: not TOML ("),
    "unknown backend": (
        "[backends.dlaa]\nsoc = 1",
        "[backends.dlaa]: no such backend. Known: whisper, pytorch",
    ),
    "backend without settings": (
        "[backends.pytorch]\nx = 1",
        "[backends.pytorch]: pytorch has no settings",
    ),
    "unknown setting": ("[backends.dla]\nsok = 1", "parity.toml [backends.dla] sok: "),
    "unknown SoC": ('[backends.dla]\nsoc = "MT1"', "SoC 'MT1': expected one of MT8371"),
    "unknown section": ("[runs]\n", "parity.toml: unknown key runs. Known: backends, gate, policies, run, tolerances"),
    "unknown key": ("[run]\nstage = 'pytorch'\n", "parity.toml: unknown key [run] stage. Known: artifacts, cache, "),
    "run that is no table": ("run = 5\n", f"parity.toml: [run] {EXPECTED_TABLE}run]"),
    "policies that are no table": ("policies = 5\n", f"parity.toml: [policies] {EXPECTED_TABLE}policies]"),
    "tolerances that are no table": ("tolerances = 5\n", f"parity.toml: [tolerances] {EXPECTED_TABLE}tolerances]"),
    "a policy that is no table": ("[policies]\nx = 5\n", "every entry of [policies] must be a table. Write [policies."),
    "stages of a wrong type": ("[run]\nstages = 5\n", "parity.toml [run] stages: expected names separated by commas"),
    "clips of a wrong type": ("[run]\nclips = [1]\n", "parity.toml [run] clips: expected names separated by commas"),
    "threads of a wrong type": ("[run]\nthreads = '2'\n", "threads: expected a number from 1 to 1024, found '2'"),
    "threads that are true": ("[run]\nthreads = true\n", "threads: expected a number from 1 to 1024, found True"),
    "checkpoint of a wrong type": ("[run]\ncheckpoint = 5\n", "parity.toml [run] checkpoint: expected text, found 5"),
    "artifacts of a wrong type": ("[run]\nartifacts = 5\n", "parity.toml [run] artifacts: expected text, found 5"),
    "manifest of a wrong type": ("[run]\nmanifest = []\n", "parity.toml [run] manifest: expected text, found []"),
    "policy of a wrong type": ("[run]\npolicy = ['plain']\n", "parity.toml [run] policy: expected text, found ["),
    "language of a wrong type": ("[run]\nlanguage = {}\n", "parity.toml [run] language: expected text, found {}"),
    "mask of a wrong type": ("[run]\nmask_value = true\n", "parity.toml [run] mask_value: expected text, found True"),
    "policy that is unknown": (
        "[run]\npolicy = 'x'\n[policies.y]\n",
        "no policy called 'x'. Use one of whisper, plain, y",
    ),
    "option of a policy": ("[run]\npolicy = 'x'\n[policies.x]\nbeam = 5\n", "policy 'x': unknown option beam. Options"),
    "option of a wrong type": (
        "[run]\npolicy = 'x'\n[policies.x]\nsample_len = 'all'\n",
        "policy 'x': sample_len cannot be 'all'. Give int",
    ),
    "negative length": ("[run]\npolicy = 'x'\n[policies.x]\nsample_len = -1\n", "sample_len cannot be -1. Give int"),
    "policies in a circle": (
        "[run]\npolicy = 'x'\n[policies.x]\nbase = 'y'\n[policies.y]\nbase = 'x'\n",
        "no policy called 'x'",
    ),
    "unknown tolerance": ("[tolerances.default]\nwer = 5\n", "tolerance 'default', wer: expected one of the keys in"),
    "tolerance of a wrong type": (
        "[tolerances.default]\nkl_max = 'small'\n",
        "kl_max: expected two numbers, or multiples of noise as \"3 x threads\", [pass, drift], found 'small'",
    ),
}


@pytest.mark.parametrize("case", BAD_TOML)
def test_a_bad_parity_toml_is_refused(parity, cache_dir, scripted_checkpoint, clip, tmp_path, case):
    """The file, the key, what was expected and found; a run that was there is left alone."""
    text, said = BAD_TOML[case]
    (tmp_path / "parity.toml").write_text(text, "utf-8")
    words = {"clips": clip, "checkpoint": scripted_checkpoint, "threads": "2", "manifest": "no.jsonl"}
    given = [word for key, value in words.items() if f"\n{key} = " not in text for word in (f"--{key}", str(value))]
    from whisper_parity.cli import main

    found = CliRunner().invoke(main, ["run", *given, "--report-dir", str(tmp_path / "reports"), "--cache", "cache"])
    assert said in line_of(found, 2)
    assert not (tmp_path / "reports").exists()


def test_a_parity_toml_that_is_not_utf8_is_refused(refuse, tmp_path):
    """Bytes of another encoding."""
    (tmp_path / "parity.toml").write_bytes(b'[run]\npolicy = "\xe9"\n')
    assert "parity.toml: not TOML ('utf-8' codec can't decode" in refuse()


@pytest.mark.parametrize("option", ["suppress_tokens = [99999]", "prompt = [99999]", "suppress_tokens = 'x'"])
def test_a_policy_of_unknown_tokens_is_a_row(parity, clip, tmp_path, option):
    """What only shows when the vocabulary is known."""
    (tmp_path / "parity.toml").write_text(f"[policies.mine]\n{option}\n", "utf-8")
    result = parity(*RUN, "--clips", clip, "--policy", "mine", "--run-id", "one")
    require_no_traceback(result, 2)
    row = rows_of(tmp_path / "reports" / "one")["warble", "pytorch"]
    assert row.verdict.outcome is Outcome.INVALID_INPUT
    assert row.verdict.reason.startswith("policy 'mine': ")
    require_line(result, row)


# Folders that cannot be written


@pytest.fixture
def blocked(tmp_path) -> Path:
    """A path below a regular file: nobody can write there, root included."""
    (tmp_path / "file").write_text("kept", "utf-8")
    return tmp_path / "file" / "below"


def test_reports_that_cannot_be_written_are_an_environment_error(refuse, blocked):
    """Exit code 3, and what to choose."""
    line = refuse("--report-dir", blocked, exit_code=3)
    assert line.startswith(f"{blocked}")
    assert line.endswith("cannot be written (Not a directory). Choose another --report-dir")
    assert blocked.parent.read_text("utf-8") == "kept"


def test_reports_cannot_be_written_into_a_file(refuse, blocked):
    """The folder is a file."""
    line = refuse("--report-dir", blocked.parent, exit_code=3)
    assert line.endswith("cannot be written (Not a directory). Choose another --report-dir")
    assert blocked.parent.read_text("utf-8") == "kept"


def test_a_cache_that_cannot_be_written_is_a_row(parity, clip, blocked, tmp_path):
    """The report is written all the same: exit code 3, and what to choose."""
    result = parity(*RUN, "--clips", clip, "--cache", blocked, "--run-id", "one")
    require_no_traceback(result, 3)
    rows = rows_of(tmp_path / "reports" / "one")
    for row in rows.values():
        assert row.verdict.outcome is Outcome.FAILED
        assert str(blocked) in row.verdict.reason
        assert row.verdict.reason.endswith("cannot be written (Not a directory). Choose another --cache")
        require_line(result, row)
    assert len(rows) == 2


def test_artifacts_cannot_be_exported_into_a_file(parity, blocked):
    """`parity build --out` says so in one line."""
    line = line_of(parity("build", "--stages", "torchscript", "--out", blocked), 3)
    assert line == f"{blocked}: cannot be written (Not a directory). Choose another folder"


def test_artifacts_cannot_be_built_below_a_file(parity, blocked):
    """`parity build --cache` says so in one line."""
    line = line_of(parity("build", "--stages", "torchscript", "--cache", blocked), 3)
    assert line == f"{blocked}: cannot be written (Not a directory). Choose another folder"


def test_a_disk_that_is_full_is_one_line(parity, clip, monkeypatch):
    """Wherever the file system gives up."""
    from whisper_parity.run import collect

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "report.json")

    monkeypatch.setattr(collect, "collect", full)
    result = parity(*RUN, "--clips", clip, "--run-id", "one")
    assert line_of(result, 3) == "[Errno 28] No space left on device: 'report.json'"


# Nothing is lost


def test_a_bad_clip_joins_a_run_and_the_good_rows_stay(parity, kept, tmp_path):
    """A run continued with a clip that cannot be used keeps traces and rows of the good one."""
    again = tmp_path / "reports" / "kept"
    shutil.copytree(kept.run, again)
    before = files_of(again)
    (tmp_path / "empty.wav").touch()
    result = parity(*RUN, "--clips", f"{kept.folder / 'good.wav'},empty.wav", "--run-id", "kept")
    require_no_traceback(result, 2)
    after = files_of(again)
    assert {name for name in before if name.startswith("traces/")} <= set(after)
    assert all(after[name] == known for name, known in before.items() if name.startswith(("traces/", "run.json")))
    outcomes = {key: row.verdict.outcome for key, row in rows_of(again).items()}
    assert outcomes == {
        ("good", "pytorch"): Outcome.REFERENCE,
        ("good", "torchscript"): Outcome.PASS,
        ("empty", "pytorch"): Outcome.INVALID_INPUT,
        ("empty", "torchscript"): Outcome.INVALID_INPUT,
    }


def test_a_trace_that_was_cut_short_is_named_and_the_rest_runs(parity, kept, tmp_path):
    """The file to delete stands in the row; the other stage keeps its trace."""
    again = tmp_path / "reports" / "kept"
    shutil.copytree(kept.run, again)
    (trace,) = (again / "traces").glob("*--torchscript.safetensors")
    cut(trace, 0.5)
    words = (*RUN, "--clips", kept.folder / "good.wav", "--run-id", "kept")
    result = parity(*words)
    require_no_traceback(result, 2)
    row = rows_of(again)["good", "torchscript"]
    assert row.verdict.reason.startswith(f"{trace}: not a whole trace (")
    assert row.verdict.reason.endswith("Delete it and run the clip again")
    assert rows_of(again)["good", "pytorch"].verdict.outcome is Outcome.REFERENCE
    trace.unlink()
    require_no_traceback(parity(*words), 0)


def test_an_interrupted_run_is_continued(parity, kept, tmp_path, monkeypatch):
    """Ctrl-C in the second stage: what was recorded before is there, and is not recorded again."""
    from whisper_parity.run import evaluation

    judged = evaluation.Evaluation.row

    def interrupted(self: Any, stage: Any, clip: Any) -> Any:
        if stage.spec == "torchscript":
            raise KeyboardInterrupt
        return judged(self, stage, clip)

    words = (*RUN, "--clips", kept.folder / "good.wav", "--run-id", "cut")
    with monkeypatch.context() as patched:
        patched.setattr(evaluation.Evaluation, "row", interrupted)
        assert parity(*words).exit_code == 1
    folder = tmp_path / "reports" / "cut"
    before = files_of(folder / "traces")
    assert list(before) == ["good--pytorch.safetensors"]
    require_no_traceback(parity(*words), 0)
    assert before.items() <= files_of(folder / "traces").items()
    assert schema.load(folder).finished


# Hostile file names

HOSTILE = (
    "two words.wav",
    'it\'s "quoted".wav',
    "$(touch executed).wav",
    "`touch executed`; touch executed.wav",
    "two\nlines.wav",
    "\x1b[31mred\x1b[0m.wav",
    "-n.wav",
    "--policy=plain.wav",
    "12:30.wav",
    "[bold]a,b[] .wav",
    "100%s {0}.wav",
    "..hidden..wav",
    "会議 ✓.wav",
    "default.wav",
    "latin-\udce9.wav",
    "x" * 240 + ".wav",
)


@pytest.fixture(scope="module")
def hostile(parity_in, tmp_path_factory) -> Finished:
    """A folder of clips under such names, all with the same sound, run by the root alone."""
    folder = tmp_path_factory.mktemp("hostile")
    good = sound.write_wav(folder / "clip.wav", sound.warble(1.0)).read_bytes()
    (folder / "clips").mkdir()
    for name in HOSTILE:
        (folder / "clips" / name).write_bytes(good)
    words = ("run", "--language", "en", "--stages", "pytorch", "--clips", folder / "clips", "--run-id", "hostile")
    return Finished(folder, parity_in(folder)(*words), folder / "reports" / "hostile")


def test_hostile_file_names_run(hostile: Finished):
    """Each is a row of its own under a name that is safe everywhere, on a line of its own; nothing is executed."""
    require_no_traceback(hostile.result, 1)  # one stage alone: nothing is compared
    report = schema.load(hostile.run)
    assert {row.verdict.outcome for row in report.rows} == {Outcome.REFERENCE}
    names = {row.clip for row in report.rows}
    assert len(names) == len(HOSTILE)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) for name in names)
    assert all(line.isprintable() for line in hostile.result.output.splitlines())
    assert not list(hostile.folder.rglob("executed"))


def test_hostile_file_names_survive_the_shell(hostile: Finished):
    """The command that repeats a row is one line that a shell splits into the words that were meant."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    commands = [row.reproduce for row in schema.load(hostile.run).rows]
    assert all(command.isprintable() for command in commands)
    script = "\n".join(f"printf '%s\\0' {command}" for command in commands)
    found = subprocess.run([bash, "-c", script], capture_output=True, check=True).stdout.split(b"\0")
    clips = {os.fsdecode(after) for word, after in itertools.pairwise(found) if word == b"--clips"}
    assert clips == {str(hostile.folder / "clips" / name) for name in HOSTILE}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_a_hostile_name_is_read(hostile: Finished, monkeypatch, name):
    """Given by its name alone, from its own folder: "12:30.wav" is no protocol called 12."""
    from whisper_parity.clips import audio

    monkeypatch.chdir(hostile.folder / "clips")
    assert len(audio.load(Path(name))) == 16_000


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_a_hostile_name_is_refused_on_one_printable_line(hostile: Finished, parity, monkeypatch, name):
    """Given by its name alone, from its own folder: the row says which file, and the terminal is safe."""
    folder = hostile.folder / "empty"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    Path(name).touch()
    result = parity("run", "--stages", "pytorch", "--clips", name, "--run-id", "one")
    require_no_traceback(result, 2)
    report, page = result.stderr.splitlines()
    assert page.startswith("page: ")
    (row,) = rows_of(Path(report.removeprefix("report: ")).parent).values()
    assert row.verdict.reason.endswith("the file is empty (0 bytes). Copy it again")
    require_line(result, row)
