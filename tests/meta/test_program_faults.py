"""The seeded faults of parity-whisper do to its output what their names say, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from whisper.tokenizer import get_tokenizer

from tests.support import sound
from tests.support.programs import (
    LIST,
    Said,
    hear,
    hear_small,
    micro_folder,
    small_folder,
    snr_db,
    wav,
    worst_db,
)
from whisper_parity.backends.dla import app_tables
from whisper_parity.clips import audio, features

FRONT_END = {
    "padded_spectrogram": "plain", "symmetric_window": "plain", "edge_mirror": "loud", "filters_missing": "plain",
    "list_chunk": "list", "stereo_as_mono": "stereo", "rate_8k_as_16k": "slow", "overflow_30s": "long",
}  # fmt: skip
"""Faults of the front end, and the sound that shows each."""


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder whose networks are arithmetic."""
    return small_folder(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def micro(parity_in, tmp_path_factory) -> Path:
    """The micro model as the program's folder, with a limit of 24 tokens."""
    folder = micro_folder(parity_in, tmp_path_factory.mktemp("micro"))
    app_tables.write_rules(folder / "decode.json", app_tables.Rules(max_tokens=24))
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> dict[str, Path]:
    """Sounds that show a fault of the front end."""
    folder = tmp_path_factory.mktemp("sounds")
    tone, other = sound.warble(2.0), sound.warble(2.0, seed=3)
    files = {
        "plain": wav(tone, 16_000, "s16"),
        "loud": wav(np.where(np.arange(32_000) < 90, 0.9, tone), 16_000, "s16"),
        "list": wav(tone, 16_000, "s16", chunks=LIST),
        "stereo": wav(np.stack([tone, other], 1), 16_000, "s16"),
        "slow": wav(sound.warble(2.0, 8000), 8000, "s16"),
        "long": wav(sound.warble(31.0), 16_000, "s16"),
    }
    for name, data in files.items():
        (folder / f"{name}.wav").write_bytes(data)
    return {name: folder / f"{name}.wav" for name in files}


def shipped(folder: Path, name: str) -> Path:
    """A shipped clip as a WAV."""
    from tests.support.checkout import CHECKOUT

    target = folder / f"{name}.wav"
    target.write_bytes(wav(audio.read(CHECKOUT / "fixtures" / "clips" / f"{name}.flac").pcm / 32767, 16_000, "s16"))
    return target


@pytest.mark.parametrize("fault", FRONT_END)
def test_faults_of_the_front_end(tmp_path, faulty, small, sounds, fault):
    """Far from openai-whisper's features with the fault, at 100 dB without it."""
    source = sounds[FRONT_END[fault]]
    how = {"options": ["--language", "en", "--dump", tmp_path], "binary": faulty}
    sane = hear_small(small, source, **how)
    assert sane.code == 0
    assert worst_db(tmp_path, 0, source, 80) > (80 if fault == "rate_8k_as_16k" else 100)
    said = hear_small(small, source, env={"PARITY_FAULT": fault}, **how)
    assert said.code == 0
    reference = features.compute(source, 80).windows[0].input_features[0]
    found = np.fromfile(tmp_path / "0.0.input_features.f32", "<f4").reshape(reference.shape)
    assert snr_db(reference, found) < 70
    assert bool(said.lines[0]["warnings"]) == (fault == "filters_missing") == ("[WARN]" in said.stderr)
    assert len(said.lines[0]["windows"]) == 1 <= len(sane.lines[0]["windows"])


def window_of(said: Said) -> dict:
    assert said.code == 0
    return said.lines[0]["windows"][0]


@pytest.mark.parametrize(
    ("fault", "prompt"),
    [
        ("", [50258, 50260, 50359, 50363]),
        ("silent_english", [50258, 50259, 50359, 50363]),
        ("wrong_prompt_ids", [50258, 50260, 50360, 50364]),
        ("timestamps_mode", [50258, 50260, 50359]),
    ],
)
def test_faults_of_the_prompt(faulty, small, sounds, fault, prompt):
    """The ids that are fed are others; the language that is told is not."""
    said = hear_small(small, sounds["plain"], options=["--language", "zh"], env={"PARITY_FAULT": fault}, binary=faulty)
    assert window_of(said)["prompt"] == prompt
    assert said.lines[0]["language"] == "zh"


def test_faults_of_the_detokeniser(tmp_path, faulty, micro):
    """The tokens stay as they are, the text does not."""
    clips = [shipped(tmp_path, "en-comma-01"), shipped(tmp_path, "zh-question-02")]
    texts, tokens = {}, {}
    for fault in ("", "lost_blank", "table_shifted", "special_in_text", "split_utf8"):
        said = hear(micro, *clips, env={"PARITY_FAULT": fault}, options=["--language", "en"], binary=faulty)
        texts[fault] = [line["text"] for line in said.lines]
        tokens[fault] = [line["windows"][0]["tokens"] for line in said.lines]
    assert all(found == tokens[""] for found in tokens.values())
    words = get_tokenizer(True, num_languages=99)
    assert texts[""] == [words.decode([t for t in found if t < words.eot]).strip() for found in tokens[""]]
    assert texts["lost_blank"][0] == texts[""][0].replace(" ", "")
    assert texts["special_in_text"][0] == texts[""][0] + "<|endoftext|>"
    assert texts["table_shifted"][0] == words.decode([t + 1 for t in tokens[""][0][:-1]]).strip()
    pieces = [words.encoding.decode_single_token_bytes(token) for token in tokens[""][1][:-1]]
    apart = "".join(piece.decode("utf-8", "replace") for piece in pieces)
    assert texts["split_utf8"][1] == apart.strip() != texts[""][1]


def test_faults_of_the_loop(tmp_path, faulty, micro):
    """End-of-text that does not end, NaN that becomes id 0, and a decoder that is fed the same row at every place."""
    clip = shipped(tmp_path, "en-comma-01")

    def window(fault: str) -> dict:
        return window_of(hear(micro, clip, env={"PARITY_FAULT": fault}, options=["--language", "en"], binary=faulty))

    sane = window("")
    assert sane["ended"] == "eot"
    passed = window("eot_passed")
    assert passed["tokens"][: len(sane["tokens"])] == sane["tokens"]
    assert (len(passed["tokens"]), passed["ended"]) == (24, "length")
    nothing = window("nan_logits")
    assert (nothing["tokens"], nothing["ended"]) == ([0] * 24, "length")
    assert window("positions_zero")["tokens"] != sane["tokens"]


def test_a_failure_that_ends_well(faulty, small, sounds):
    """Inference fails, the text is empty, the exit code 0."""
    said = hear_small(small, sounds["plain"], env={"PARITY_FAULT": "exit_zero"}, binary=faulty)
    assert (said.code, said.lines[0]["text"], said.lines[0]["windows"]) == (0, "", [])
