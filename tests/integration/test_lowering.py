"""Files with MTKEXT ops, lowered and run by LiteRT, against torch; and files that must be refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.support import mtkfiles
from tests.support.mtkfiles import Given, Node, normal
from whisper_parity.backends.tflite.mtkext import flatfile, ops, tensors
from whisper_parity.backends.tflite.mtkext.lowering import Lowered, lower
from whisper_parity.backends.tflite.mtkext.ops import Assumptions
from whisper_parity.errors import ArtifactError

CLOSE = 1e-5
LAST = np.array([-1], np.int32)
ORDER = ["x", "axis", "gamma", "beta"]


def one(folder: Path, name: str, held: dict[str, Any], options: Any = None, out: Any = None, given: str = "x") -> Path:
    """A file of one op: its inputs as they are held, its output of x's shape unless told."""
    shape = held["x"].shape
    node = Node(name, list(held), ["y"], options)
    return mtkfiles.write(folder / "one.tflite", [node], {**held, "y": out or Given(shape)}, [given], ["y"])


def lowered(path: Path, *arrays: Any, assumptions: Assumptions | None = None) -> tuple[np.ndarray, Lowered]:
    target = path.with_name("lowered.tflite")
    done = lower(path, target, assumptions or Assumptions())
    return mtkfiles.run(target, *arrays), done


def require_close(found: np.ndarray, expected: torch.Tensor | np.ndarray) -> None:
    np.testing.assert_allclose(found, np.asarray(expected), rtol=CLOSE, atol=CLOSE)


def norm_operands(size: int, axis: int = -1) -> dict[str, Any]:
    return {"axis": np.array([axis], np.int32), "gamma": normal(size, seed=1) + 1, "beta": normal(size, seed=2)}


def test_layer_normalization(tmp_path):
    """Over the last axis, with gamma and beta, as torch has it."""
    x, operands = normal(1, 7, 64) * 3 + 1, norm_operands(64)
    path = one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", {"x": Given(x.shape), **operands}, {"epsilon": 1e-3})
    found, done = lowered(path, x)
    gamma, beta = torch.from_numpy(operands["gamma"]), torch.from_numpy(operands["beta"])
    require_close(found, F.layer_norm(torch.from_numpy(x), (64,), gamma, beta, 1e-3))
    assert done.replaced == {"MTKEXT_LAYER_NORMALIZATION": 1}
    assert [used.name for used in done.assumptions] == ["layer_norm_order"]
    assert done.assumptions[0].known_from.startswith("inferred")


@pytest.mark.parametrize("axis", [1, -2])
def test_layer_normalization_over_another_axis(tmp_path, axis):
    """Gamma and beta follow the axis."""
    x, operands = normal(2, 6, 5), norm_operands(6, axis)
    found, _ = lowered(one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", {"x": Given(x.shape), **operands}), x)
    moved = torch.from_numpy(x).movedim(1, -1)
    expected = F.layer_norm(moved, (6,), *(torch.from_numpy(operands[name]) for name in ("gamma", "beta")))
    require_close(found, expected.movedim(-1, 1))


def test_layer_normalization_without_gamma_beta_and_epsilon(tmp_path):
    """Both may be absent; a missing epsilon takes the default, and the result says so."""
    x = normal(3, 8) * 1e-3
    found, done = lowered(one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", {"x": Given(x.shape), "axis": LAST}), x)
    require_close(found, F.layer_norm(torch.from_numpy(x), (8,), eps=1e-5))
    assert {used.name: used.value for used in done.assumptions} == {
        "layer_norm_order": "x_axis_gamma_beta",
        "layer_norm_epsilon": 1e-5,
    }


def test_layer_normalization_in_another_order(tmp_path):
    """When the site says so; under the default it does not fit."""
    x, operands = normal(3, 8), norm_operands(8)
    held = {"x": Given(x.shape), **{name: operands[name] for name in ("gamma", "beta", "axis")}}
    path = one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", held)
    with pytest.raises(ArtifactError, match="operator 0 MTKEXT_LAYER_NORMALIZATION: axis gamma float32"):
        lowered(path, x)
    found, _ = lowered(path, x, assumptions=Assumptions(layer_norm_order="x_gamma_beta_axis"))
    gamma, beta = torch.from_numpy(operands["gamma"]), torch.from_numpy(operands["beta"])
    require_close(found, F.layer_norm(torch.from_numpy(x), (8,), gamma, beta))


@pytest.mark.parametrize("epsilon", [1e-6, None])
def test_rms_normalization(tmp_path, epsilon):
    """As torch has it, its default epsilon included."""
    x, operands = normal(2, 5, 32), norm_operands(32)
    options = None if epsilon is None else {"epsilon": epsilon}
    found, _ = lowered(one(tmp_path, "MTKEXT_RMS_NORMALIZATION", {"x": Given(x.shape), **operands}, options), x)
    expected = F.rms_norm(torch.from_numpy(x), (32,), torch.from_numpy(operands["gamma"]), epsilon)
    require_close(found, expected.numpy() + operands["beta"])


@pytest.mark.parametrize(
    ("options", "assumptions", "kind"),
    [
        (None, Assumptions(), "none"),
        (None, Assumptions(gelu="tanh"), "tanh"),
        ({"approximate": True}, Assumptions(), "tanh"),
        ({"approximate": 1}, Assumptions(), "tanh"),
        ({"approximate": "tanh"}, Assumptions(), "tanh"),
        ({"approximate": False}, Assumptions(gelu="tanh"), "none"),
        ({"approximate": True}, Assumptions(gelu_option=""), "none"),
        ({"mode": 1}, Assumptions(gelu_option="mode"), "tanh"),
    ],
)
def test_gelu(tmp_path, options, assumptions, kind):
    """Exact or tanh, by its option or by assumption, which are listed."""
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    found, done = lowered(one(tmp_path, "MTKEXT_GELU", {"x": Given(x.shape)}, options), x, assumptions=assumptions)
    require_close(found, F.gelu(torch.from_numpy(x), approximate=kind))
    assert [used.name for used in done.assumptions] == ["gelu", "gelu_option"]


def test_silu(tmp_path):
    x = np.linspace(-20, 20, 999, dtype=np.float32)
    found, done = lowered(one(tmp_path, "MTKEXT_SILU", {"x": Given(x.shape)}), x)
    require_close(found, F.silu(torch.from_numpy(x)))
    assert done.assumptions == ()


def test_rsqrt(tmp_path):
    x = np.linspace(0.01, 9, 500, dtype=np.float32)
    found, _ = lowered(one(tmp_path, "MTKEXT_RSQRT", {"x": Given(x.shape)}), x)
    require_close(found, 1 / np.sqrt(x))


@pytest.mark.parametrize("other", [(2, 3, 4), (4,), (3, 1)])
def test_squared_difference(tmp_path, other):
    """Broadcast, too."""
    x, y = normal(2, 3, 4), normal(*other, seed=1)
    found, _ = lowered(one(tmp_path, "MTKEXT_SQUARED_DIFFERENCE", {"x": Given(x.shape), "other": y}), x)
    require_close(found, (x - y) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_tile(tmp_path, dtype):
    """Of any type that LiteRT repeats."""
    x = (normal(2, 3) * 100).astype(dtype)
    held = {"x": Given(x.shape, dtype), "multiples": np.array([2, 3], np.int32)}
    found, _ = lowered(one(tmp_path, "MTKEXT_TILE", held, out=Given((4, 9), dtype)), x)
    np.testing.assert_array_equal(found, np.tile(x, (2, 3)))


CONVOLUTIONS = [
    ({}, (1, 9, 8, 6), {"stride": 1, "padding": "same"}),
    ({"padding": 1}, (1, 7, 6, 6), {"stride": 1, "padding": 0}),
    ({"padding": 1, "stride_h": 2, "stride_w": 3}, (1, 4, 2, 6), {"stride": (2, 3), "padding": 0}),
    ({"padding": 1, "dilation_h_factor": 3, "dilation_w_factor": 2}, (1, 3, 4, 6), {"dilation": (3, 2)}),
]


@pytest.mark.parametrize(("options", "shape", "torch_options"), CONVOLUTIONS)
@pytest.mark.parametrize("activation", [0, 1, 3])
def test_conv_2d(tmp_path, options, shape, torch_options, activation):
    """NHWC by OHWI, as torch computes it in NCHW; missing options take their defaults, which are listed."""
    x, filters, bias = normal(1, 9, 8, 5), normal(6, 3, 3, 5, seed=1), normal(6, seed=2)
    held = {"x": Given(x.shape), "filter": filters, "bias": bias}
    given = {**options, "fused_activation_function": activation}
    found, done = lowered(one(tmp_path, "MTKEXT_CONV_2D", held, given, Given(shape)), x)
    moved = [torch.from_numpy(np.moveaxis(each, 3, 1).copy()) for each in (x, filters)]
    expected = F.conv2d(*moved, torch.from_numpy(bias), **torch_options).movedim(1, 3)
    clipped = {0: expected, 1: expected.relu(), 3: F.relu6(expected)}[activation]
    require_close(found, clipped)
    missing = {f"MTKEXT_CONV_2D.{key}" for key in ops.OPTIONS["MTKEXT_CONV_2D"]} - {
        f"MTKEXT_CONV_2D.{key}" for key in given
    }
    assert {used.name for used in done.assumptions} == missing


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_fully_connected(tmp_path, keep, with_bias):
    """With and without its bias, its leading axes kept or joined."""
    x, weight, bias = normal(2, 3, 8), normal(5, 8, seed=1), normal(5, seed=2) if with_bias else None
    held = {"x": Given(x.shape), "weight": weight, **({"bias": bias} if with_bias else {})}
    shape = (2, 3, 5) if keep else (6, 5)
    options = {"keep_num_dims": keep, "fused_activation_function": 1}
    found, _ = lowered(one(tmp_path, "MTKEXT_FULLY_CONNECTED", held, options, Given(shape)), x)
    linear = F.linear(torch.from_numpy(x), torch.from_numpy(weight), None if bias is None else torch.from_numpy(bias))
    require_close(found, linear.relu().reshape(shape))


def test_half_precision_weights_are_widened(tmp_path):
    """float16 constants of a float32 op."""
    x, weight = normal(4, 8), normal(5, 8, seed=1).astype(np.float16)
    held = {"x": Given(x.shape), "weight": weight}
    found, _ = lowered(one(tmp_path, "MTKEXT_FULLY_CONNECTED", held, {"keep_num_dims": True}, Given((4, 5))), x)
    require_close(found, x @ weight.astype(np.float32).T)


def test_the_real_file(shared_folder, tmp_path):
    """Quantised to 16 bits, dilated, RELU: what torch computes from its options, to one step of its output."""
    path = shared_folder / "mtkext" / "MTKEXT_CONV_2D.tflite"
    if not path.is_file():
        pytest.skip("shared/mtkext/MTKEXT_CONV_2D.tflite is not here")
    model = flatfile.read(path)
    (op,) = ops.custom_ops(model)
    held = [model.subgraphs[0].tensors[index] for index in (*op.inputs, *op.outputs)]
    scales = [float(each.quantization.scale[0]) for each in held]
    x = np.random.default_rng(0).integers(-1000, 1000, tensors.shape(held[0]), np.int16)
    done = lower(path, tmp_path / "lowered.tflite")
    found = mtkfiles.run(tmp_path / "lowered.tflite", x)

    filters, bias = (tensors.constant(model, each).astype(np.float64) for each in held[1:3])
    stride = op.options["stride_h"], op.options["stride_w"]
    dilation = op.options["dilation_h_factor"], op.options["dilation_w_factor"]
    assert (op.options["padding"], op.options["fused_activation_function"]) == (1, 1)  # VALID, RELU
    moved = [torch.from_numpy(np.moveaxis(each, 3, 1).copy()) for each in (x * scales[0], filters * scales[1])]
    real = F.conv2d(*moved, torch.from_numpy(bias * scales[2]), stride=stride, dilation=dilation).relu().movedim(1, 3)
    expected = np.clip(np.round(real.numpy() / scales[3]), -32768, 32767)
    assert found.dtype == np.int16
    assert 0 < np.count_nonzero(expected) < expected.size  # RELU did something, and not everything
    assert np.abs(found - expected).max() <= 1
    assert done.replaced == {"MTKEXT_CONV_2D": 1}
    assert (done.assumptions, done.unknown_options) == ((), {})
    assert done.notes == ("MTKEXT_CONV_2D: quantised tensors are computed in float32",)


def block(path: Path, gelu_options: Any = None) -> Path:
    """LayerNorm, a linear layer, GELU: a piece of Whisper as MediaTek's converter is thought to write it."""
    width, operands = 16, norm_operands(16)
    held = {
        "x": Given((1, 4, width)),
        **operands,
        "weight": normal(width, width, seed=3),
        "bias": normal(width, seed=4),
    }
    held |= {name: Given((1, 4, width)) for name in ("normal", "linear", "y")}
    nodes = [
        Node("MTKEXT_LAYER_NORMALIZATION", ORDER, ["normal"], {"epsilon": 1e-5, "hint": 3}),
        Node("MTKEXT_FULLY_CONNECTED", ["normal", "weight", "bias"], ["linear"], {"keep_num_dims": True}),
        Node("MTKEXT_GELU", ["linear"], ["y"], gelu_options),
    ]
    return mtkfiles.write(path, nodes, held, ["x"], ["y"])


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


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        lower(path, path.with_name("refused.tflite"))
    assert len(str(caught.value).splitlines()) == 1
    assert not path.with_name("refused.tflite").exists()
    return str(caught.value)


def test_an_unknown_op_is_refused(tmp_path):
    """By name, index, inputs and option keys."""
    said = refusal(one(tmp_path, "MTKEXT_WARP", {"x": Given((2, 3))}, {"angle": 1.0, "mode": 2}))
    assert "operator 0 MTKEXT_WARP: not a custom op that can be lowered; known: MTKEXT_CONV_2D" in said
    assert "inputs: x float32 [2, 3]; options: angle, mode" in said


X = Given((2, 8))
MISFITS: dict[str, tuple[str, dict[str, Any], Any, Any, str]] = {
    "too few inputs": ("MTKEXT_LAYER_NORMALIZATION", {"x": X}, None, None, "expected 2 to 4 inputs and one output"),
    "gamma alone": (
        "MTKEXT_LAYER_NORMALIZATION",
        {"x": X, "axis": LAST, "gamma": normal(8)},
        None,
        None,
        "the last two both or neither",
    ),
    "gamma of another size": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": LAST, "gamma": normal(7), "beta": normal(8)},
        None,
        None,
        "gamma: expected [8], found [7]",
    ),
    "axis out of range": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": np.array([2], np.int32)},
        None,
        None,
        "expected one int32 within rank 2",
    ),
    "axis not constant": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": Given((1,), "int32")},
        None,
        None,
        "axis: expected a constant",
    ),
    "epsilon negative": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": LAST},
        {"epsilon": -1.0},
        None,
        "epsilon -1.0: expected a number from 0 to 1",
    ),
    "epsilon of text": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": LAST},
        {"epsilon": "no"},
        None,
        "option epsilon: expected float, found 'no'",
    ),
    "another output": ("MTKEXT_GELU", {"x": X}, None, Given((2, 9)), "output: expected [2, 8], found [2, 9]"),
    "integers": ("MTKEXT_GELU", {"x": Given((2, 8), "int64")}, None, None, "x int64 [2, 8]: expected float32"),
    "integers out": ("MTKEXT_SILU", {"x": X}, None, Given((2, 8), "int8"), "output y int8 [2, 8]: expected float32"),
    "unknown kind of GELU": ("MTKEXT_GELU", {"x": X}, {"approximate": 7}, None, "option approximate: expected true"),
    "options truncated": ("MTKEXT_GELU", {"x": X}, b"approximate\x00\x01", None, "not a flexbuffer map"),
    "no broadcast": ("MTKEXT_SQUARED_DIFFERENCE", {"x": X, "o": normal(3)}, None, None, "inputs do not broadcast"),
    "multiples of another rank": (
        "MTKEXT_TILE",
        {"x": X, "multiples": np.array([2], np.int32)},
        None,
        None,
        "multiples: expected 2 positive integers",
    ),
    "filter of other channels": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 2, 2, 4)},
        None,
        None,
        "filter [2, 2, 2, 4] does not fit x [1, 4, 4, 3]",
    ),
    "stride of zero": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 2, 2, 3)},
        {"stride_w": 0},
        None,
        "option stride_w: expected 1 to 4096, found 0",
    ),
    "activation without a kernel": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 2, 2, 3)},
        {"fused_activation_function": 5},
        None,
        "option fused_activation_function: expected 0 to 3, found 5",
    ),
    "filter larger than x": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 5, 2, 3)},
        {"padding": 1},
        None,
        "filter [2, 5, 2, 3] is larger than x [1, 4, 4, 3]",
    ),
    "weight of another width": (
        "MTKEXT_FULLY_CONNECTED",
        {"x": X, "weight": normal(4, 7)},
        None,
        None,
        "weight [4, 7] does not fit x [2, 8]",
    ),
    "bias of another size": (
        "MTKEXT_FULLY_CONNECTED",
        {"x": X, "weight": normal(4, 8), "bias": normal(5)},
        None,
        Given((2, 4)),
        "bias: expected [4], found [5]",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_operands_that_do_not_fit_are_refused(tmp_path, case):
    """In one line with the op, its index, its inputs and option keys; nothing is written."""
    name, held, options, out, said = MISFITS[case]
    message = refusal(one(tmp_path, name, held, options, out))
    assert f"operator 0 {name}: " in message
    assert "; inputs: x " in message
    assert said in message


def test_a_constant_shorter_than_its_shape_is_refused(tmp_path):
    """Its bytes are counted before they are read."""
    path = one(tmp_path, "MTKEXT_RMS_NORMALIZATION", {"x": X, "axis": LAST})
    model = flatfile.read(path)
    model.buffers[1].data = model.buffers[1].data[:2]
    flatfile.write(model, tmp_path / "short.tflite")
    assert "needs 4 bytes and has 2" in refusal(tmp_path / "short.tflite")


def test_it_is_never_written_over_its_source(tmp_path):
    source = block(tmp_path / "block.tflite")
    with pytest.raises(ArtifactError, match="would be written over its source"):
        lower(source, tmp_path / "block.tflite")


@pytest.mark.parametrize("content", [b"", b"x", b"model\n" * 100, bytes(5000), b"\x10\x00\x00\x00TFL3" + b"\xff" * 500])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    refusal(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        lower(tmp_path / "none.tflite", tmp_path / "lowered.tflite")


def test_truncated_files_are_refused(tmp_path):
    """Cut anywhere before the padding at the end."""
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
    """A million tensors that are all the same one."""
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
    """By their size alone, and where their weights lie behind the flatbuffer."""
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(3 * 2**30)  # a hole: takes no space
    assert "3.0 GiB; files beyond 2 GB are not supported" in refusal(large)
    model = flatfile.read(block(tmp_path / "block.tflite"))
    model.buffers[1].offset, model.buffers[1].size = 4096, 64
    flatfile.write(model, tmp_path / "behind.tflite")
    assert "weights behind the flatbuffer" in refusal(tmp_path / "behind.tflite")


def test_weights_are_copied_once(tmp_path):
    """64 MiB of weights: the file as it is mapped, one copy of it, and little else; base's 200 MB take as much each."""
    path = mtkfiles.write_large(tmp_path / "large.tflite", 16)
    size_mib = path.stat().st_size / 2**20
    seconds, grown_mib = mtkfiles.cost(path, tmp_path / "lowered.tflite")
    assert size_mib > 64
    assert seconds < 10
    assert size_mib < grown_mib < 2.5 * size_mib  # less than the one copy would mean that nothing was measured
