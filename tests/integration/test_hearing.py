"""What the reference hears is what `whisper.load_audio` hears: by stored sums, and by an ffmpeg where there is one."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from tests.support import hearing, pages, sound
from tests.support.commands import RUN
from tests.support.refusals import require_no_traceback, rows_of
from whisper_parity.clips import audio, features
from whisper_parity.clips.clip import Clip

CHANNELS = {"mono": 1, "stereo": 2, "2.1": 3, "quad": 4, "5.0": 5, "5.1": 6, "7.1": 8}
SUMS = {
    "s16 16000 mono": "bc5acd29540c",
    "s16 16000 stereo": "8571e581950c",
    "s16 16000 2.1": "1a97f450f37e",
    "s16 16000 quad": "9f1643d518a2",
    "s16 16000 5.0": "ba7dd664b79f",
    "s16 16000 5.1": "79158f16a833",
    "s16 16000 7.1": "fe5a67b470fe",
    "s16 16000 2": "8571e581950c",
    "s16 16000 6": "79158f16a833",
    "u8 16000 mono": "8164c1626ed3",
    "u8 16000 stereo": "297ea9633adb",
    "u8 16000 5.1": "26914deffb0c",
    "s24 16000 mono": "bc5acd29540c",
    "s24 16000 stereo": "975f23f4a119",
    "s24 16000 5.1": "0bc9f83351d3",
    "s32 16000 mono": "bc5acd29540c",
    "s32 16000 stereo": "975f23f4a119",
    "f32 16000 mono": "bc5acd29540c",
    "f32 16000 stereo": "e248022fa041",
    "f32 16000 5.1": "a9ab7486e4ff",
    "f64 16000 mono": "bc5acd29540c",
    "f64 16000 5.1": "b4d363d9072d",
    "s16 8000 mono": "e8999f03c050 a9a8cd90cbf5",
    "s16 11025 mono": "4844f66d21df ffd1b6a00db3",
    "s16 22050 mono": "ba385a4c1e29 0a4cfe91b1c9 33957049c853",
    "s16 24000 mono": "367f4c041406 5ab0635767cd",
    "s16 32000 mono": "30402b5400f6 3ec01c283c81 67915dda28ac",
    "s16 44100 mono": "981cf3c665df 743930fe3e63 9bb50cdf2726",
    "s16 48000 mono": "9a7b6cfb926f 0e6cf05f4c0f",
    "s16 96000 mono": "ff701cb2bc64 f33d7eff1fed",
    "s16 8000 stereo": "e570e5031641 d28da19be370 b3fe6ac45942",
    "s16 44100 stereo": "4cebe1831e3c e1776f634913 c654ccda5070",
    "u8 44100 stereo": "a06748e9e85a",
    "s24 44100 stereo": "72c4f04f16ea ec00367ad6a8",
    "f32 44100 stereo": "4cebe1831e3c e1776f634913 c654ccda5070",
    "f64 44100 stereo": "52489d0a721c",
    "s16 48000 5.1": "ea42981553e4 47255625e883",
}
"""Sample type, rate, layout (a number: channels without a layout), and the sum of what ffmpeg 9.0 writes.

More than one sum: processors with other vector units round the resampler's float sums otherwise, by 1 of 32768 in at
most one sample of a thousand (ffmpeg's `-cpuflags` 0, sse2, avx and fma3).
"""
SHARED_SUMS = {
    "field/audio/mono.wav": "156e1e182170",
    "field/audio/stereo.wav": "156e1e182170",
    "field/audio/surround.wav": "156e1e182170",
    "audio/jfk.flac": "252fca5b7c2a 46d1c4568b21",
}
EXACT = {
    "pcm.wav": "pcm_s16le s16",
    "deep.wav": "pcm_s24le s32",
    "float.wav": "pcm_f32le flt",
    "double.wav": "pcm_f64le dbl",
    "bytes.wav": "pcm_u8 u8",
    "mulaw.wav": "pcm_mulaw s16",
    "alaw.wav": "pcm_alaw s16",
    "adpcm.wav": "adpcm_ms s16",
    "apple.aiff": "pcm_s16be s16",
    "sun.au": "pcm_s16be s16",
    "core.caf": "pcm_s16le s16",
    "lossless.flac": "flac s16",
    "deep.flac": "flac s32",
    "lossless.m4a": "alac s16p",
    "lossless.mka": "pcm_s16le s16",
    "pack.wv": "wavpack s16p",
}
"""Kinds whose decoders give integers: nothing may differ."""
CODED = {
    "speech.mp3": "libmp3lame s16p",
    "radio.mp2": "mp2 s16",
    "stream.aac": "aac fltp",
    "talk.opus": "libopus s16",
    "talk.webm": "libopus s16",
    "song.ogg": "libvorbis fltp",
}
"""Kinds whose decoders compute in float: versions of ffmpeg differ in the last bit."""
BOXED = {"phone.m4a": "aac fltp", "phone.mp4": "aac fltp", "film.mov": "aac fltp", "old.3gp": "aac fltp"}
"""Kinds whose last frame is padding, which ffmpeg 9 cuts off and earlier ones keep."""
MATROSKA = {"film.mkv": "aac fltp", "film.mka": "aac fltp"}
"""Kinds whose first frame is padding, which ffmpeg 7 and earlier keep."""
FORMS = [(8_000, 1), (16_000, 1), (16_000, 2), (22_050, 1), (44_100, 2), (48_000, 2), (48_000, 6)]
"""(rate [Hz], channels)."""


def wav(folder: Path, case: str) -> Path:
    kind, rate, layout = case.split()
    n_channels = CHANNELS.get(layout) or int(layout)
    pcm = hearing.noise(int(rate) // 4, n_channels)
    return hearing.write_wav(folder / "noise.wav", pcm, int(rate), kind, layout if layout in CHANNELS else "")


@pytest.fixture(scope="module")
def ffmpeg() -> hearing.Ffmpeg:
    """A real ffmpeg that resamples as PyAV's libraries do."""
    program = hearing.find()
    if program is None:
        pytest.skip("no ffmpeg on PATH and no package imageio-ffmpeg")
    if program.version < hearing.SAME_RESAMPLER:
        pytest.skip(f"ffmpeg {program.version} resamples otherwise than ffmpeg {hearing.SAME_RESAMPLER} and later")
    return program


@pytest.mark.parametrize("case", SUMS)
def test_sound_is_heard_as_ffmpeg_wrote_it(tmp_path, case):
    """Rate, layout and sample type become 16 kHz, mono, 16 bit, with not one sample that differs."""
    if " " in SUMS[case] and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("sums of resampled sound are those of x86-64")
    assert hearing.digest(audio.read(wav(tmp_path, case)).pcm) in SUMS[case].split()


@pytest.mark.parametrize("name", SHARED_SUMS)
def test_real_speech_is_heard_as_ffmpeg_wrote_it(shared_folder, name):
    """The same sentence in one, two and six channels, and a clip that everybody has."""
    assert hearing.digest(audio.read(shared_folder / name).pcm) in SHARED_SUMS[name].split()


@pytest.mark.parametrize("case", SUMS)
def test_sound_is_heard_as_ffmpeg_hears_it(ffmpeg, tmp_path, case):
    """The same, by the program itself."""
    path = wav(tmp_path, case)
    assert np.array_equal(audio.read(path).pcm, ffmpeg.heard(path))


def encoded(folder: Path, name: str, kind: str, rate: int, n_channels: int) -> Path:
    """A warble in another pitch on each channel; a codec that has no such form is passed over, visibly."""
    channels = [sound.warble(1.5, rate, seed) for seed in range(n_channels)]
    codec, sample_format = kind.split()
    try:
        return sound.write(folder / name, np.stack(channels, axis=1), rate, codec, sample_format)
    except (ValueError, OSError) as error:
        pytest.skip(f"{codec} writes no {n_channels} channels at {rate} Hz: {error}")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0]}x{form[1]}")
@pytest.mark.parametrize("name", [*EXACT, *CODED, *BOXED, *MATROSKA])
def test_every_kind_is_heard_as_ffmpeg_hears_it(ffmpeg, tmp_path, name, form):
    """Length and samples: none differs, or by the last bit where versions of a float decoder do."""
    if name in MATROSKA and ffmpeg.version < 8:
        pytest.skip("ffmpeg before 8 keeps the encoder's padding in Matroska")
    path = encoded(tmp_path, name, {**EXACT, **CODED, **BOXED, **MATROSKA}[name], *form)
    heard, ours = ffmpeg.heard(path), audio.read(path).pcm
    frame = 2048 * 16_000 // form[0] if name in BOXED else 0
    assert abs(len(ours) - len(heard)) <= frame
    both = min(len(ours), len(heard)) - (64 if len(ours) != len(heard) else 0)
    apart = np.abs(ours[:both].astype(int) - heard[:both])
    assert apart.max() <= (0 if name in EXACT else 1)


def test_samples_are_what_load_audio_returns(tmp_path):
    """float32, integers over 32768; full range, silence and half a window."""
    pcm = np.array([[-32768], [32767], [0], [1], [-1]], np.int16)
    samples = audio.load(hearing.write_wav(tmp_path / "five.wav", pcm, 16_000))
    assert samples.dtype == np.float32
    assert samples.tolist() == [-1.0, 32767 / 32768, 0.0, 1 / 32768, -1 / 32768]


def test_features_are_those_of_these_samples(tmp_path):
    """openai-whisper's own log-mel over them, window by window; from the cache, too."""
    from whisper.audio import log_mel_spectrogram, pad_or_trim

    path = hearing.write_wav(tmp_path / "long.wav", hearing.noise(31 * 8_000, 2), 8_000, layout="stereo")
    samples, clip = audio.load(path), Clip("long", path)
    for heard in (features.clip_features(tmp_path, clip, 80), features.clip_features(tmp_path, clip, 80)):
        assert (len(heard.windows), heard.seconds, heard.silent) == (2, len(samples) / 16_000, False)
        assert heard.notes == ("mixed down from 2 channels (stereo)",)
        for window in heard.windows:
            piece = samples[window.index * 480_000 : (window.index + 1) * 480_000]
            assert np.array_equal(window.input_features[0], log_mel_spectrogram(pad_or_trim(piece), 80).numpy())


@pytest.mark.parametrize(
    ("layout", "note"),
    [
        ("stereo", ("mixed down from 2 channels (stereo)",)),
        ("5.1", ("mixed down from 6 channels (5.1)",)),
        ("6", ("mixed down from 6 channels (taken for 5.1)",)),
        ("mono", ()),
    ],
)
def test_a_clip_that_was_mixed_down_says_so(tmp_path, layout, note):
    """How many channels, and in which layout; one channel is no downmix."""
    assert audio.read(wav(tmp_path, f"s16 16000 {layout}")).notes == note


def test_the_report_says_what_was_mixed_down(parity, tmp_path):
    """A note of every stage's row, one line at the terminal, and on the page."""
    path = wav(tmp_path, "s16 16000 5.1")
    result = parity(*RUN, "--clips", path, "--run-id", "mixed")
    require_no_traceback(result, 0)
    note = "mixed down from 6 channels (5.1)"
    run = tmp_path / "reports" / "mixed"
    assert all(row.notes[0] == note for row in rows_of(run).values())
    assert result.stdout.count(note) == 1
    assert f"Note: <bdi>{note}</bdi>" in pages.whole(run / "index.html")


def test_sound_that_changes_its_form_is_heard_to_its_end(tmp_path):
    """Two MP3 files in one, mono behind stereo; what the resampler still held is lost, as in ffmpeg."""
    parts = []
    for n_channels, rate in ((2, 44_100), (1, 48_000)):
        samples = np.stack([sound.warble(1.0, rate, seed) for seed in range(n_channels)], axis=1)
        path = sound.write(tmp_path / "part.mp3", samples, rate, "libmp3lame", "s16p", {"write_xing": "0"})
        parts.append(path.read_bytes())
    path = tmp_path / "both.mp3"
    path.write_bytes(b"".join(parts))
    recording = audio.read(path)
    assert recording.seconds == pytest.approx(2.1, abs=0.1)
    assert recording.notes[0] == "mixed down from 2 channels (stereo)"
    program = hearing.find()
    if program and program.version >= hearing.SAME_RESAMPLER:
        assert np.array_equal(recording.pcm, program.heard(path))


def test_a_damaged_packet_of_an_mp3_file_is_left_out_and_noted(tmp_path):
    """Tags and cuts amid an MP3 stream are common, and ffmpeg goes on behind them; the report says how many."""
    path = sound.write(tmp_path / "whole.mp3", sound.warble(3.0), 16_000, "libmp3lame", "s16p")
    whole = audio.read(path).pcm
    rng = np.random.default_rng(1)
    path.write_bytes(path.read_bytes() + rng.integers(0, 256, 1500, np.uint8).tobytes())
    recording = audio.read(path)
    assert np.array_equal(recording.pcm[:47_000], whole[:47_000])  # behind them what the tag seems to sound like
    program = hearing.find()
    if program and program.version >= hearing.SAME_RESAMPLER:
        assert np.array_equal(recording.pcm, program.heard(path))
    assert "packets are damaged and were left out, as ffmpeg does" in recording.notes[-1]


@pytest.mark.parametrize(
    ("default", "most_channels", "taken"),
    [(None, 2, 2), (1, 2, 1), (2, 1, 2)],
    ids=["most channels", "first", "second"],
)
def test_of_several_streams_the_one_is_heard_that_ffmpeg_takes(tmp_path, default, most_channels, taken):
    """A default stream, else the one with the most channels; the report says which."""
    path = tmp_path / "film.mkv"
    sound.write_streams(path, {1: 2 if most_channels == 1 else 1, 2: 2 if most_channels == 2 else 1}, default)
    recording = audio.read(path)
    assert recording.notes[-1] == f"audio stream {taken} of 2, the one that ffmpeg takes"
    program = hearing.find()
    if program and program.version >= hearing.SAME_RESAMPLER:
        assert np.array_equal(recording.pcm, program.heard(path))
