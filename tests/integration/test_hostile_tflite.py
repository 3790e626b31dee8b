"""Files that are not TFLite, are damaged or would exhaust memory: lowering refuses them and never crashes or hangs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.lowered import block, refusal
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.backends.tflite.mtkext.lowering import lower
from whisper_parity.errors import ArtifactError


@pytest.mark.parametrize("content", [b"", b"x", b"model\n" * 100, bytes(5000), b"\x10\x00\x00\x00TFL3" + b"\xff" * 500])
def test_other_files_are_refused(tmp_path, content):
    """Empty, too short, text, zeros, and an identifier with noise behind it."""
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    refusal(path)


def test_a_missing_file_is_refused(tmp_path):
    """With the system's own words."""
    with pytest.raises(ArtifactError, match="No such file"):
        lower(tmp_path / "none.tflite", tmp_path / "lowered.tflite")


def test_truncated_files_are_refused(tmp_path):
    """Wherever they are cut before the padding at the end."""
    whole = block(tmp_path / "block.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    for length in range(0, len(whole) - 4, 41):
        path.write_bytes(whole[:length])
        assert _refused(path), length


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_never_crash_or_hang(tmp_path, seed):
    """A hundred mutants for each seed: an ArtifactError of one line, or a lowered file; each within seconds."""
    generator = np.random.default_rng(seed)
    whole = block(tmp_path / "block.tflite", {"approximate": True}).read_bytes()
    path, refused = tmp_path / "mutant.tflite", 0
    for _ in range(100):
        mutant = bytearray(whole)
        for _ in range(int(generator.integers(1, 6))):
            place = int(generator.integers(0, len(mutant) - 4))
            size = int(generator.choice([1, 2, 4]))
            mutant[place : place + size] = (
                generator.bytes(size) if generator.random() < 0.5 else b"\xff\xff\xff\x7f"[:size]
            )
        path.write_bytes(mutant)
        started = time.monotonic()
        refused += _refused(path)
        assert time.monotonic() - started < 5
    assert 10 < refused < 100  # the mutations bite, and not all of them


def _refused(path: Path) -> bool:
    said = ""
    try:
        lower(path, path.with_name("lowered.tflite"))
    except ArtifactError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
    return bool(said)


def test_vectors_that_overlap_are_refused(tmp_path):
    """A file whose thousand buffers all are its one large vector would unpack into gigabytes."""
    classes, path = flatfile.schema(), tmp_path / "bomb.tflite"
    import flatbuffers

    builder = flatbuffers.Builder(2**22)
    data = builder.CreateNumpyVector(np.zeros(2**20, np.uint8))
    buffers = []
    for _ in range(1000):
        classes.BufferStart(builder)
        classes.BufferAddData(builder, data)
        buffers.append(classes.BufferEnd(builder))
    classes.ModelStartBuffersVector(builder, len(buffers))
    for each in buffers:
        builder.PrependUOffsetTRelative(each)
    vector = builder.EndVector()
    classes.ModelStart(builder)
    classes.ModelAddVersion(builder, 3)
    classes.ModelAddBuffers(builder, vector)
    builder.Finish(classes.ModelEnd(builder), b"TFL3")
    path.write_bytes(builder.Output())
    assert "its strings and vectors overlap" in refusal(path)


def test_more_tables_than_any_model_are_refused(tmp_path):
    """A million buffers that are all the same one."""
    classes, path = flatfile.schema(), tmp_path / "bomb.tflite"
    import flatbuffers

    builder = flatbuffers.Builder(2**23)
    classes.BufferStart(builder)
    buffer = classes.BufferEnd(builder)
    classes.ModelStartBuffersVector(builder, 10**6)
    for _ in range(10**6):
        builder.PrependUOffsetTRelative(buffer)
    vector = builder.EndVector()
    classes.ModelStart(builder)
    classes.ModelAddVersion(builder, 3)
    classes.ModelAddBuffers(builder, vector)
    builder.Finish(classes.ModelEnd(builder), b"TFL3")
    path.write_bytes(builder.Output())
    assert "more than 200000 tables" in refusal(path)


def test_files_beyond_two_gigabytes_are_refused(tmp_path):
    """By their size alone; weights behind the flatbuffer have to lie in the file."""
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(3 * 2**30)  # a hole: takes no space
    assert "3.0 GiB, at most 2.0 GiB are read. Give a TFLite file of at most 2 GB" in refusal(large)
    model = flatfile.read(block(tmp_path / "block.tflite"))
    model.buffers[1].offset, model.buffers[1].size = 4096, 64
    flatfile.write(model, tmp_path / "behind.tflite")
    assert "weights at 4096 to 4160 of " in refusal(tmp_path / "behind.tflite")
