"""`parity inspect` and `parity mtk-check`, on files of the tests and on the real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.support import mtkfiles
from tests.support.mtkfiles import Given, Node, normal
from tests.support.refusals import line_of, require_no_traceback
from whisper_parity import cli
from whisper_parity.backends.tflite import commands
from whisper_parity.backends.tflite.mediatek import checking
from whisper_parity.backends.tflite.mtkext.inspection import FatalConstant, Port, inspect
from whisper_parity.backends.tflite.mtkext.lowering import lower
from whisper_parity.backends.tflite.mtkext.ops import Assumptions
from whisper_parity.errors import UnavailableError

WIDTH = 64


def call(*words: object) -> Result:
    """The commands as `parity` runs them: errors are one line and an exit code."""
    known = {each.name or "": each for each in (commands.inspect, commands.mtk_check)}
    return CliRunner().invoke(cli.Group("parity", commands=known), [str(word) for word in words])


def block(path: Path, **extra: Any) -> Path:
    """LayerNorm and GELU, with a mask that float16 does not hold."""
    mask = np.zeros((WIDTH,), np.float32)
    mask[:3], mask[3:5], mask[5] = -np.inf, -1e9, np.nan
    held: dict[str, Any] = {
        "x": Given((2, WIDTH)),
        "axis": np.array([-1], np.int32),
        "gamma": normal(WIDTH, seed=1) + 1,
        "beta": normal(WIDTH, seed=2),
        **{name: Given((2, WIDTH)) for name in ("normal", "y")},
        **extra,
    }
    nodes = [
        Node("MTKEXT_LAYER_NORMALIZATION", ["x", "axis", "gamma", "beta"], ["normal"], {"epsilon": 1e-5}),
        Node("MTKEXT_GELU", ["normal"], ["y"]),
    ]
    outputs = ["y"]
    if "z" in extra:
        nodes.append(Node("ADD", ["y", "mask"], ["z"]))
        held["mask"], outputs = mask, ["z"]
    return mtkfiles.write(path, nodes, held, ["x"], outputs)


def test_everything_is_found(tmp_path):
    """Who wrote it, what goes in and out by signature, ops, weights, constants beyond float16."""
    path = block(tmp_path / "block.tflite", z=Given((2, WIDTH)))
    found = inspect(path)
    assert found.description == mtkfiles.DESCRIPTION
    assert found.converter == "NeuroPilot converter 0.0.0 (stand-in)"
    assert found.inputs == (Port("in_x", (2, WIDTH), "float32"),)
    assert found.outputs == (Port("out_z", (2, WIDTH), "float32"),)
    assert found.ops == {"MTKEXT_LAYER_NORMALIZATION": 1, "MTKEXT_GELU": 1, "ADD": 1}
    assert [(op.name, op.index, dict(op.options)) for op in found.custom_ops] == [
        ("MTKEXT_LAYER_NORMALIZATION", 0, {"epsilon": pytest.approx(1e-5)}),
        ("MTKEXT_GELU", 1, {}),
    ]
    assert {kind: (held.tensors, held.size_bytes) for kind, held in found.weights.items()} == {
        "float32": (3, 3 * 4 * WIDTH),
        "int32": (1, 4),
    }
    (fatal,) = found.fatal_constants
    assert fatal == FatalConstant("mask", ("2 ADD",), WIDTH, 2, 3, 0, 1, -1e9, 0.0)
    assert (found.npu_findings, found.unread) == ((), ())
    assert found.size_bytes == path.stat().st_size


def test_what_an_npu_does_not_run_is_found(tmp_path):
    """Token inputs, a lookup, too many axes, options that cannot be read, unknown custom ops."""
    held = {
        "tokens": Given((1, 4), "int64"),
        "table": normal(10, 8),
        "rows": Given((1, 4, 8)),
        "wide": Given((1, 1, 1, 4, 8)),
        "y": Given((1, 1, 1, 4, 8)),
    }
    nodes = [
        Node("GATHER", ["table", "tokens"], ["rows"]),
        Node("MTKEXT_WARP", ["rows"], ["wide"], {"by": 2}),
        Node("MTKEXT_GELU", ["wide"], ["y"], b"approximate\x00\x01"),
    ]
    found = inspect(mtkfiles.write(tmp_path / "file.tflite", nodes, held, ["tokens"], ["y"]))
    said = "\n".join(found.npu_findings)
    for words in (
        "input in_tokens is int64 [1, 4]",
        "GATHER: 1 of an op that MDLA 5.3 does not run",
        "2 tensors of more than 4 axes, such as wide float32 [1, 1, 1, 4, 8]",
        "operator 2 MTKEXT_GELU: options that are not a flexbuffer map",
        "MTKEXT_WARP: a custom op that this project does not know",
    ):
        assert words in said


def test_constants_that_are_not_read_are_named(tmp_path):
    """A type that numpy lacks is no silence."""
    path = mtkfiles.write(tmp_path / "file.tflite", [], {"x": Given((1,)), "w": normal(2)}, ["x"], ["x"])
    from whisper_parity.backends.tflite.mtkext import flatfile, tensors

    model = flatfile.read(path)
    model.subgraphs[0].tensors[1].type = tensors.type_number("bfloat16")
    flatfile.write(model, path)
    assert inspect(path).unread == ("w: constants of bfloat16 are not read",)


def test_inspect_prints_a_short_report(tmp_path):
    result = call("inspect", block(tmp_path / "block.tflite", z=Given((2, WIDTH))))
    require_no_traceback(result, 0)
    lines = result.stdout.splitlines()
    assert lines[0] == f"description  {mtkfiles.DESCRIPTION}"
    assert "input        in_x float32 [2, 64]" in lines
    assert "ops          MTKEXT_LAYER_NORMALIZATION 1, MTKEXT_GELU 1, ADD 1" in lines
    assert "custom       1 x MTKEXT_GELU (1 inputs; no options), first at operator 1" in lines
    assert "fp16         2 beyond 65504, 3 -inf, 1 NaN of 64 in mask, taken by 2 ADD" in lines
    assert lines[-1] == "ready for MT8371: no: 1 constant beyond float16"
    assert len(lines) < 20


def adding(path: Path, added: np.ndarray, **ports: Any) -> Path:
    """A file that adds a constant to its input."""
    held = {"x": Given((2, WIDTH), **ports), "mask": added.astype(np.float32), "y": Given((2, WIDTH))}
    return mtkfiles.write(path, [Node("ADD", ["x", "mask"], ["y"])], held, ["x"], ["y"])


def mask(value: float) -> np.ndarray:
    """Zeros, and a value for what is not seen."""
    return np.where(np.arange(WIDTH) % 2, value, 0.0)


UNKNOWN = "ready for MT8390: not known: what an NPU refuses is known for mdla5.3 alone, and it has "
ADVICE = "; build it with --mask-value -10000, or with that number in the mask of your own exporter"


@pytest.mark.parametrize(
    ("added", "soc", "verdict"),
    [
        (mask(-np.inf), None, f"ready for MT8371: no: 1 mask beyond float16{ADVICE}"),
        (mask(-1e9), "MT8391", f"ready for MT8391: no: 1 mask beyond float16{ADVICE}"),
        (mask(-1e4), None, "ready for MT8371: yes, as far as is known without ncc-tflite, which has the last word"),
        (mask(np.inf), None, "ready for MT8371: no: 1 constant beyond float16"),
        (mask(-1e9) + 1, None, "ready for MT8371: no: 1 constant beyond float16"),
        (mask(-1e4), "MT8390", f"{UNKNOWN}mdla3.0"),
    ],
)  # fmt: skip
def test_the_last_line_is_a_verdict_for_the_soc(tmp_path, monkeypatch, added, soc, verdict):
    """The mask is told from other constants by its values, since it has a way out of its own."""
    monkeypatch.chdir(tmp_path)
    result = call("inspect", adding(tmp_path / "f.tflite", added), *(["--soc", soc] if soc else []))
    require_no_traceback(result, 0)
    assert result.stdout.splitlines()[-1] == verdict


def test_the_verdict_names_the_ops_and_the_soc_of_the_project(tmp_path, monkeypatch):
    """Ops that are refused, ids, custom ops, axes: each is counted and named."""
    held = {"tokens": Given((1, 4), "int64"), "table": normal(10, 8), "rows": Given((1, 4, 8)),
            "wide": Given((1, 1, 1, 4, 8))}  # fmt: skip
    nodes = [Node("GATHER", ["table", "tokens"], ["rows"]), Node("MTKEXT_WARP", ["rows"], ["wide"], {"by": 2})]
    path = mtkfiles.write(tmp_path / "file.tflite", nodes, held, ["tokens"], ["wide"])
    (tmp_path / "parity.toml").write_text('[backends.dla]\nsoc = "MT8391"\n')
    monkeypatch.chdir(tmp_path)
    assert call("inspect", path).stdout.splitlines()[-1] == (
        "ready for MT8391: no: 1 op that it does not run (GATHER), token ids as input (in_tokens): look them up "
        "outside, 1 custom op not understood (MTKEXT_WARP), 1 tensor of more than 4 axes"
    )
    assert "SoC 'MT1': expected one of MT8371" in line_of(call("inspect", path, "--soc", "MT1"), 2)


def test_inspect_writes_json(tmp_path):
    """Everything, in a form that every reader of JSON takes."""
    path = tmp_path / "file.tflite"
    node = Node("MTKEXT_GELU", ["x"], ["y"], {"approximate": False, "limit": float("inf"), "list": [1, 2]})
    mtkfiles.write(path, [node], {"x": Given((2,)), "y": Given((2,))}, ["x"], ["y"])
    result = call("inspect", path, "--json")
    require_no_traceback(result, 0)
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["ops"] == {"MTKEXT_GELU": 1}
    assert found["inputs"] == [{"name": "in_x", "shape": [2], "dtype": "float32"}]
    assert found["custom_ops"][0]["options"] == {"approximate": False, "limit": "inf", "list": [1, 2]}


@pytest.mark.parametrize("name", ["inspect", "mtk-check"])
def test_other_files_are_refused(tmp_path, name):
    """One line, exit code 2."""
    path = tmp_path / "other.tflite"
    path.write_bytes(b"no flatbuffer at all")
    assert "not a TFLite file (it has no TFL3 at byte 4). Build or copy it again" in line_of(call(name, path), 2)


def test_names_of_the_file_cannot_move_the_cursor(tmp_path):
    """Control characters are written as escapes."""
    path = mtkfiles.write(tmp_path / "f.tflite", [], {"x\x1b[2J": Given((1,))}, ["x\x1b[2J"], ["x\x1b[2J"])
    result = call("inspect", path)
    require_no_traceback(result, 0)
    assert "\x1b" not in result.stdout
    assert "x\\x1b[2J" in result.stdout


def test_the_real_file(shared_folder):
    """What is known of it from reading it by eye."""
    path = shared_folder / "mtkext" / "MTKEXT_CONV_2D.tflite"
    if not path.is_file():
        pytest.skip("shared/mtkext/MTKEXT_CONV_2D.tflite is not here")
    found = inspect(path)
    assert found.converter == "NeuroPilot converter 1.2.0+private"
    assert found.inputs == (Port("input", (2, 8, 9, 5), "int16"),)
    assert found.outputs == (Port("output", (2, 6, 3, 6), "int16"),)
    assert found.ops == {"MTKEXT_CONV_2D": 1}
    assert found.fatal_constants == found.npu_findings == ()
    require_no_traceback(call("inspect", path), 0)


@dataclass
class StandIn:
    """A stand-in of MediaTek's interpreter: LiteRT on the file lowered under one reading."""

    path: Path
    reading: Assumptions
    version: str = "0.0.0 (stand-in)"

    def run(self, name: str, arrays: list[Any], rows: Sequence[int] | None) -> list[Any]:
        assert (name, rows) == ("file", None)
        target = self.path.with_name("stand-in.tflite")
        lower(self.path, target, self.reading)
        return checking.replay(target, arrays, 1)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Assumptions], None]:
    """Puts a stand-in with a reading of its own where MediaTek's interpreter would be."""

    def install(reading: Assumptions) -> None:
        @contextmanager
        def executor(file: Path) -> Iterator[StandIn]:
            yield StandIn(file, reading)

        monkeypatch.setattr(commands, "executor", executor)

    return install


def test_mtk_check_without_an_interpreter_says_so(tmp_path, monkeypatch):
    """Exit code 3, one line of error, and the readings that it would try."""

    def executor(file: Path) -> Any:
        raise UnavailableError("MediaTek's interpreter is not configured", hint="Set MTK_PYTHON")

    monkeypatch.setattr(commands, "executor", executor)
    path = block(tmp_path / "block.tflite")
    result = call("mtk-check", path)
    said = line_of(result, 3)
    assert said.startswith("nothing was checked: MediaTek's interpreter is not configured. Set MTK_PYTHON")
    readings = result.stdout.splitlines()
    assert len(readings) == 6
    assert readings[0] == "reading      default"
    assert 'reading      gelu = "tanh", layer_norm_order = "x_axis_beta_gamma"' in readings


@pytest.mark.parametrize(
    ("secret", "words", "exit_code"),
    [
        (Assumptions(), "default", 0),
        (Assumptions(gelu="tanh"), 'gelu = "tanh"', 1),
        (Assumptions(layer_norm_order="x_axis_beta_gamma"), 'layer_norm_order = "x_axis_beta_gamma"', 1),
    ],
)
def test_mtk_check_finds_the_reading(tmp_path, interpreter, secret, words, exit_code):
    """Each candidate with its SNR and largest difference; the right one first, and only it fits."""
    interpreter(secret)
    result = call("mtk-check", block(tmp_path / "block.tflite"))
    require_no_traceback(result, exit_code)
    lines = [line for line in result.stdout.splitlines() if not line.startswith("reading")]
    assert lines[0] == f"fits         {words}: SNR inf dB, largest difference 0.00e+00"
    assert sum(line.startswith("fits") for line in lines) == 1
    assert lines[-1] == f"{words} computes what mtk 0.0.0 (stand-in) computes"
    assert sum("axis beta float32 [64]: expected one int32" in line for line in lines) == 2


def test_mtk_check_writes_json(tmp_path, interpreter):
    interpreter(Assumptions(gelu="tanh"))
    result = call("mtk-check", block(tmp_path / "block.tflite"), "--json", "--seed", 7)
    require_no_traceback(result, 1)
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["reference"], found["seed"]) == ("mtk 0.0.0 (stand-in)", 7)
    best, second = found["fits"][:2]
    assert (best["changes"], best["snr_db"], best["max_abs_err"]) == ({"gelu": "tanh"}, "Infinity", 0.0)
    assert 1e-5 < second["max_abs_err"] < 4.8e-4  # erf and tanh differ by at most 4.73e-4


def test_mtk_check_says_when_readings_cannot_be_told_apart(tmp_path, interpreter):
    """The option decides what the assumption would, so both readings compute the same."""
    interpreter(Assumptions())
    node = Node("MTKEXT_GELU", ["x"], ["y"], {"approximate": True})
    held = {"x": Given((2, 400)), "y": Given((2, 400))}
    result = call("mtk-check", mtkfiles.write(tmp_path / "f.tflite", [node], held, ["x"], ["y"]))
    require_no_traceback(result, 0)
    assert result.stdout.splitlines()[-1].startswith("2 readings compute the same on this file")


@pytest.mark.parametrize(
    ("port", "smallest", "largest"),
    [
        (Port("a", (1000,), "float32"), -6, 6),
        (Port("b", (1000,), "int64"), 0, 99),
        (Port("c", (1000,), "int16"), -32768, 32767),
        (Port("d", (1000,), "bool"), 0, 1),
    ],
)
def test_inputs_are_made_up_in_their_type(port, smallest, largest):
    """The same for the same seed."""
    (found,), (again,) = checking.sample([port], 3), checking.sample([port], 3)
    np.testing.assert_array_equal(found, again)
    assert (found.dtype.name, found.shape) == (port.dtype, port.shape)
    assert smallest <= found.min() < found.max() <= largest
