"""Whole files with MTKEXT ops, lowered: what stays as it was, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import mtkfiles
from tests.support.lowered import block
from tests.support.mtkfiles import normal
from whisper_parity.backends.tflite.mtkext import flatfile, ops, tensors
from whisper_parity.backends.tflite.mtkext.lowering import lower
from whisper_parity.errors import ArtifactError


def test_everything_else_stays(tmp_path):
    """Description, names, signature, weights; inputs and outputs in their places; unknown options are reported."""
    source = block(tmp_path / "block.tflite")
    done = lower(source, tmp_path / "lowered.tflite")
    before, after = flatfile.read(source), flatfile.read(tmp_path / "lowered.tflite")
    assert tensors.text(after.description) == mtkfiles.DESCRIPTION
    assert done.unknown_options == {"MTKEXT_LAYER_NORMALIZATION": {"hint": 3}}
    assert list(ops.custom_ops(after)) == []
    ours, theirs = before.subgraphs[0], after.subgraphs[0]
    assert [list(ours.inputs), list(ours.outputs)] == [list(theirs.inputs), list(theirs.outputs)]
    for each, other in zip(ours.tensors, theirs.tensors):
        assert (each.name, each.type, tensors.shape(each)) == (other.name, other.type, tensors.shape(other))
        np.testing.assert_array_equal(tensors.constant(before, each), tensors.constant(after, other))
    (signature,) = after.signatureDefs
    named = {each.name: each.tensorIndex for each in (*signature.inputs, *signature.outputs)}
    assert named == {b"in_x": ours.inputs[0], b"out_y": ours.outputs[0]}
    names = [each.name for each in theirs.tensors]
    assert len(set(names)) == len(names)


def test_a_file_without_custom_ops_passes_through(tmp_path):
    """Lowering twice gives the same numbers."""
    x = normal(1, 4, 16)
    lower(block(tmp_path / "block.tflite"), tmp_path / "once.tflite")
    done = lower(tmp_path / "once.tflite", tmp_path / "twice.tflite")
    assert (done.replaced, done.assumptions) == ({}, ())
    once, twice = (mtkfiles.run(tmp_path / f"{name}.tflite", x) for name in ("once", "twice"))
    np.testing.assert_array_equal(once, twice)


def test_it_is_never_written_over_its_source(tmp_path):
    """The same path for both is an error."""
    source = block(tmp_path / "block.tflite")
    with pytest.raises(ArtifactError, match="would be written over its source"):
        lower(source, tmp_path / "block.tflite")


def test_weights_are_copied_once(tmp_path):
    """64 MiB of weights cost the mapped file, one copy of it, and little else; so will base's 200 MB."""
    path = mtkfiles.write_large(tmp_path / "large.tflite", 16)
    size_mib = path.stat().st_size / 2**20
    seconds, grown_mib = mtkfiles.cost(path, tmp_path / "lowered.tflite")
    assert size_mib > 64
    assert seconds < 10
    assert size_mib < grown_mib < 2.5 * size_mib  # less than the one copy would mean that nothing was measured
