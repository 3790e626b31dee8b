"""parity-whisper on decoders with a KV cache: every layout, told or found by sizes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sound
from tests.support.checkout import CHECKOUT
from tests.support.programs import MICRO, cached_folder, hear, hear_small, wav
from whisper_parity.backend.layout import Layout
from whisper_parity.backends.split import layouts
from whisper_parity.clips import audio
from whisper_parity.model.dims import Dims

pytestmark = pytest.mark.usefixtures("app_built")
DIMS = Dims(80, 1500, 16, 2, 1, 51865, 10, 16, 2, 3)
OPTIONS = ("--language", "en")
ENGLISH = ["en-comma-01", "en-number-01"]


def shipped(name: str) -> Layout:
    return next(layout for layout in layouts.shipped() if layout.name == name)


def spoken(folder: Path, name: str = "a.wav") -> Path:
    (folder / name).write_bytes(wav(sound.warble(0.4), 16_000, "s16"))
    return folder / name


def said_in(folder: Path, **changes: Any) -> None:
    """Change model.json; None for what is left out."""
    content = json.loads((folder / "model.json").read_text())
    named = {key: value for key, value in {**content, **changes}.items() if value is not None}
    (folder / "model.json").write_text(json.dumps(named))


@pytest.mark.parametrize("halves", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("name", ["cross-cached", "cross-encoder", "one-hot", "sliding", "stacked"])
def test_every_layout_is_run(tmp_path, name, halves):
    """Two sounds, each to the limit of the cache; types that the compiler changed are seen by sizes."""
    layout = shipped(name)
    assert layout.mask is not None
    layout = replace(layout, mask=replace(layout.mask, closed=-2.0))  # -1e9 is infinite in float16, and so its sum
    folder = cached_folder(tmp_path / "model", layout, DIMS, halves=halves)
    how = [*OPTIONS, "--dump", tmp_path / "dump"]
    said = hear_small(folder, spoken(tmp_path), spoken(tmp_path, "b.wav"), options=how)
    assert said.code == 0, said
    windows = [window for line in said.lines for window in line["windows"]]
    assert [(len(window["tokens"]), window["ended"]) for window in windows] == [(5, "length")] * 2  # 8 slots, 4 taken
    gives = any(port.role == "encoder_output" for port in shipped(name).inputs)
    assert len(list((tmp_path / "dump").glob("*.encoder_output.f32"))) == (2 if gives else 0)


@pytest.mark.parametrize("halves", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("has_dead_inputs", [True, False])
def test_the_original_projects_layout_is_told_by_sizes(tmp_path, has_dead_inputs, halves):
    """A model.json that says no layout, as one writes it for files of one's own."""
    layout = shipped("stacked")
    if not has_dead_inputs:
        layout = replace(layout, inputs=layout.inputs[:6], outputs=layout.outputs[:3])
    folder = cached_folder(tmp_path / "model", layout, DIMS, halves=halves)
    told = hear_small(folder, spoken(tmp_path), options=OPTIONS)
    said_in(folder, steps=None)
    found = hear_small(folder, spoken(tmp_path), options=OPTIONS)
    if halves:  # it is run: the mask of -1e9 is infinite in float16, and so is what this arithmetic makes of it
        assert [said.lines[0]["error"] for said in (told, found)] == ["step 0: the logit of id 0 is infinite"] * 2
    else:
        assert (told.code, found.code) == (0, 0), found
        assert found.lines[0]["windows"][0]["tokens"] == told.lines[0]["windows"][0]["tokens"]


def test_a_folder_that_is_none_is_refused(tmp_path):
    """Exit code 3 and one line that names the file and what it should hold."""

    def reason(break_it: Callable[[Path], Any], name: str = "stacked") -> str:
        folder = cached_folder(tmp_path / f"model{len(list(tmp_path.iterdir()))}", shipped(name), DIMS)
        break_it(folder)
        said = hear_small(folder, spoken(tmp_path), options=OPTIONS)
        assert said.code == 3
        return said.reason

    other = np.ones((7, 16), np.float32)
    assert "inputs of 207460" in reason(lambda folder: said_in(folder, steps=None), "one-hot")
    assert "not those of `stacked`" in reason(lambda folder: said_in(folder, steps=None), "sliding")
    assert '"steps": expected base64' in reason(lambda folder: said_in(folder, steps="?"))
    assert '"steps": LAYOUT: ' in reason(lambda folder: said_in(folder, steps="/" * 96))
    assert "the payload ends too early" in reason(lambda folder: said_in(folder, steps="AAAA"))
    assert "ids of the vocabulary: model.json states 51866" in reason(lambda folder: said_in(folder, n_vocab=51866))
    assert "position embedding: expected shape (8,16)" in reason(
        lambda folder: np.save(folder / "position_embedding.npy", other)
    )
    files = {"encoder": "encoder.dla", "decoder": "decoder.dla", "token_embedding": "token_embedding.npy"}
    files |= {"mel_filters": "mel_filters.txt", "vocabulary": "vocab.txt"}
    assert '"position_embedding": expected a file' in reason(lambda folder: said_in(folder, files=files))


@pytest.fixture(scope="module")
def micro(parity_in, tmp_path_factory) -> Path:
    """The micro model as `parity build` makes it."""
    folder = tmp_path_factory.mktemp("built")
    built = parity_in(folder)("build", "--checkpoint", MICRO, "--stages", "app:simulated-kv", "--out", folder / "all")
    assert built.exit_code == 0, built.output
    return folder / "all"


def test_sounds_of_the_micro_model(tmp_path, micro):
    """What was built, on two sounds in either order: the same texts, with a layout or without."""
    sounds = [tmp_path / f"{name}.wav" for name in ENGLISH]
    for path in sounds:
        pcm = audio.read(CHECKOUT / "fixtures" / "clips" / f"{path.stem}.flac").pcm
        path.write_bytes(wav(pcm / 32767, 16_000, "s16"))
    first, second = hear(micro, *sounds, options=OPTIONS).lines
    assert first["text"] == "I lost the chair, so he remembered this old boat."
    assert second["text"] == "Breakfast is at 87, but we took every big letter."
    said_in(micro, steps=None)
    detected, again = hear(micro, *sounds[::-1]).lines  # the language is asked first, and its token kept
    assert [line["text"] for line in (detected, again)] == [second["text"], first["text"]]
    assert (detected["language"], detected["windows"][0]["prompt"]) == ("en", first["windows"][0]["prompt"])
