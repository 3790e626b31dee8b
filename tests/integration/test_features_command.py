"""`parity features SOUND FILE`: every form of file, the verdict and its exit code, and refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from whisper_parity.clips import features


@pytest.fixture
def whispers(clip: Path) -> np.ndarray:
    """Whisper's own features of the clip, float32 [1, 80, 3000]."""
    return features.compute(clip, 80).windows[0].input_features


@pytest.fixture
def padded(whispers: np.ndarray) -> np.ndarray:
    """With 0.0 behind the sound."""
    array = whispers.copy()
    array[:, :, 200:] = 0.0
    return array


def test_every_form_of_file_is_read(parity, clip: Path, whispers: np.ndarray, tmp_path: Path):
    """.npy of any float type, raw float32 and float16, and text."""
    np.save(tmp_path / "a.npy", whispers)
    np.save(tmp_path / "b.npy", whispers[0].astype(np.float64))
    whispers.tofile(tmp_path / "c.bin")
    whispers.astype(np.float16).tofile(tmp_path / "d.raw")
    np.savetxt(tmp_path / "e.txt", whispers.reshape(-1))
    for name in ("a.npy", "b.npy", "c.bin", "d.raw", "e.txt"):
        result = parity("features", clip, tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "verdict     this is Whisper's log-mel" in result.output


def test_a_padded_spectrogram_is_named(parity, clip: Path, padded: np.ndarray, tmp_path: Path):
    """Exit code 1, the three figures, and the cause; as JSON too."""
    np.save(tmp_path / "padded.npy", padded)
    result = parity("features", clip, tmp_path / "padded.npy")
    assert result.exit_code == 1
    cause = "spectrogram padded with 0.0 from frame 200 on, where Whisper pads the sound with silence"
    assert f"cause       {cause} (" in result.output
    assert "speech      identical" in result.output
    assert "padding     0.00 dB" in result.output
    parsed = json.loads(parity("features", clip, tmp_path / "padded.npy", "--json").output)
    assert parsed["front_end"]["causes"][0]["sentence"] == cause
    assert parsed["effect"] is None


def test_a_checkpoint_says_what_becomes_of_the_text(
    parity, clip: Path, padded: np.ndarray, scripted_checkpoint: Path, tmp_path: Path
):
    """The scripted checkpoint says the same to every sound: the front end alone changes nothing."""
    np.save(tmp_path / "padded.npy", padded)
    words = ("--checkpoint", scripted_checkpoint, "--language", "en")
    result = parity("features", clip, tmp_path / "padded.npy", *words)
    assert "text        the front end alone changes nothing: the same tokens come out" in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", b"", "the file is empty (0 bytes)"),
        ("b.npy", b"\x93NUMPY\x01\x00junk", "not a .npy file that can be read"),
        ("c.txt", b"0.1 0.2 nothing", "could not convert string to float"),
        ("d.bin", b"\0" * 40, "10 numbers, expected 240000 (80 x 3000) or 384000 (128 x 3000)"),
        ("e.bin", b"\0" * 41, "41 bytes are no whole number of float32"),
    ],
)
def test_what_is_no_file_of_features_is_refused(
    parity, clip: Path, tmp_path: Path, name: str, content: bytes, words: str
):
    """One line, exit code 2."""
    (tmp_path / name).write_bytes(content)
    result = parity("features", clip, tmp_path / name)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_pickled_objects_and_hostile_headers_are_refused(parity, clip: Path, tmp_path: Path):
    """Nothing in a .npy file is executed, and a header that promises terabytes allocates none."""
    np.save(tmp_path / "objects.npy", np.array([print], dtype=object), allow_pickle=True)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 80), }".ljust(117) + b"\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    for name in ("objects.npy", "huge.npy"):
        result = parity("features", clip, tmp_path / name)
        assert result.exit_code == 2, result.output
        assert "not a .npy file that can be read" in result.output


def test_a_window_that_is_not_there_and_a_missing_sound(parity, clip: Path, whispers: np.ndarray, tmp_path: Path):
    np.save(tmp_path / "a.npy", whispers)
    late = parity("features", clip, tmp_path / "a.npy", "--window", 3)
    assert late.exit_code == 2
    assert "no window 3, the sound has 1" in late.output
    missing = parity("features", tmp_path / "none.wav", tmp_path / "a.npy")
    assert missing.exit_code == 2
    assert "none.wav" in missing.output


def test_features_that_a_checkpoint_cannot_take(
    parity, clip: Path, whispers: np.ndarray, scripted_checkpoint: Path, tmp_path: Path
):
    """Another shape is measured, but not fed."""
    np.save(tmp_path / "turned.npy", whispers[0].T)
    result = parity("features", clip, tmp_path / "turned.npy", "--checkpoint", scripted_checkpoint)
    assert result.exit_code == 2
    assert "its encoder takes features [1, 80, 3000], found [3000, 80]" in result.output
