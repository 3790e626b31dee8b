"""Audio that cannot be used is a row that says why; other clips run, and nothing is fetched over the network."""

from __future__ import annotations

import os
import socket
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support import hearing, sound
from tests.support.commands import RUN, STAGES, Finished
from tests.support.damage import content, cut
from tests.support.refusals import require_line, require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder


def encoded(codec: str, sample_format: str, keep: float = 1.0) -> Callable[[Path], None]:
    """Writes a clip by one of FFmpeg's codecs, and keeps only a share of it."""

    def write(path: Path) -> None:
        sound.write(path, sound.warble(5.0), 16_000, codec, sample_format)
        cut(path, keep)

    return write


def flac_cut_between_two_frames(path: Path) -> None:
    encoded("flac", "s16")(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\xff\xf8", 0, len(content) * 9 // 10)])


def samples(*values: float) -> Callable[[Path], None]:
    """Writes half a second of sound with these samples behind it."""

    def write(path: Path) -> None:
        sound.write_wav(path, np.concatenate([sound.warble(0.5), np.array(values, np.float32)]))

    return write


def nine_channels(path: Path) -> None:
    hearing.write_wav(path, hearing.noise(1600, 9), 16_000)


def mostly_damaged(path: Path) -> None:
    """Frame headers of an MP3 file with noise behind them."""
    sound.write(path, sound.warble(5.0), 16_000, "libmp3lame", "s16p", {"write_xing": "0"})
    spoiled, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for at in range(len(spoiled) // 10, len(spoiled) - 8, 96):
        spoiled[at : at + 90] = rng.integers(0, 256, 90, np.uint8).tobytes()
    path.write_bytes(spoiled)


def pictures_without_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])


def header_alone(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))


def socket_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # an address holds a hundred bytes


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(9 * 2**30)  # without a block on the disk


def playlist_of(neighbour: str) -> Callable[[Path], object]:
    """A playlist that names a file beside it."""
    return content(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{neighbour}\n#EXT-X-ENDLIST\n".encode())


CHECK = "Check the path, or the manifest line that names it"
UNDECODABLE = "cannot be decoded as audio (Invalid data found when processing input). Is it complete, and a sound file?"
CUT_SHORT = "s that its header announces are missing. Copy it again"
BAD_AUDIO: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.wav": (lambda path: None, f"cannot be read (No such file or directory). {CHECK}"),
    "folder.wav": (Path.mkdir, f"expected a file, found a folder. {CHECK}"),
    "pipe.wav": (os.mkfifo, f"expected a file, found a pipe. {CHECK}"),
    "socket.wav": (socket_file, f"expected a file, found a socket. {CHECK}"),
    "huge.wav": (huge, f"9.0 GiB, at most 8.0 GiB are read. {CHECK}"),
    "empty.wav": (Path.touch, "the file is empty (0 bytes). Copy it again"),
    "list.m3u8": (playlist_of("good-first.wav"), UNDECODABLE),
    "list.ffconcat": (content(b"ffconcat version 1.0\nfile good-first.wav\n"), "cannot be decoded as audio"),
    "nine.wav": (nine_channels, "9 channels in no known layout cannot be mixed down. Export it as mono or stereo"),
    "damaged.mp3": (mostly_damaged, "packets are damaged). Is it complete, and a sound file?"),
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
"""How to write each file, and what the row says about it after its path."""


@pytest.fixture(scope="module")
def bad_audio(parity_in, tmp_path_factory) -> Finished:
    """One run over all of BAD_AUDIO, with a good clip first and last and a silent one in between."""
    folder = tmp_path_factory.mktemp("bad-audio")
    for name, (write, _) in BAD_AUDIO.items():
        write(folder / name)
    for name in ("good-first.wav", "good-last.wav"):
        sound.write_wav(folder / name, sound.warble(1.0))
    sound.write_wav(folder / "silent.wav", np.zeros(16_000, np.float32))
    names = ("good-first.wav", "silent.wav", *BAD_AUDIO, "good-last.wav")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(f'{{"audio_filepath": "{name}", "name": "{name}"}}\n' for name in names), "utf-8")
    result = parity_in(folder)(*RUN, "--clips", "all", "--manifest", manifest, "--run-id", "bad-audio", "-v")
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
    """Clips before and after it run; the run as a whole is bad input."""
    require_no_traceback(bad_audio.result, 2)
    rows = rows_of(bad_audio.run)
    for name in ("good-first.wav", "good-last.wav", "silent.wav"):
        outcomes = [rows[name, stage].verdict.outcome for stage in STAGES]
        assert outcomes == [Outcome.REFERENCE, Outcome.PASS]
    report = records.load(RunFolder(bad_audio.run))
    assert (report.finished, report.exit_code, report.verdict) == (True, 2, Outcome.INVALID_INPUT)


def test_silent_audio_runs_and_is_noted(bad_audio: Finished):
    """Whatever text comes out of it, a note under the table says that the clip is silent."""
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
    """The check for files that were cut short accepts every whole one, streamed ones of unknown length included."""
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
    from whisper_parity.clips import features

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(features, "file_sha256", refuse)
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
