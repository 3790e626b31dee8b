"""A silent fall-back to the CPU is seen, warned of, and fails a run that requires its placement."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support import sound, tfliteruntime
from tests.support.checkout import CHECKOUT
from whisper_parity.backend.artifact import Artifact, ArtifactFile
from whisper_parity.backend.contract import Facts
from whisper_parity.backends.dla import placement as plans
from whisper_parity.backends.pytorch import PyTorchBackend, PyTorchSession
from whisper_parity.backends.tflite import placement
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder

STAGES = ("--stages", "pytorch,tflite")


@pytest.fixture(scope="module")
def artifacts(parity_in, tmp_path_factory) -> Path:
    """The tiny checkpoint's TFLite files, the encoder with one op more that XNNPACK does not take."""
    folder = tmp_path_factory.mktemp("artifacts")
    built = parity_in(folder)("build", "--stages", "tflite", "--out", folder)
    assert built.exit_code == 0, built.output
    (folder / "tflite.lineage.json").unlink()
    add_power(next(folder.glob("encoder_*.tflite")))
    return folder


@pytest.fixture
def run(parity, tmp_path):
    """`parity run` of pytorch and tflite on one clip."""
    clip = sound.write_wav(tmp_path / "one.wav", sound.warble(1.0))
    return lambda *words: parity("run", "--clips", clip, "--language", "en", *STAGES, "--run-id", "p", *words)


def add_power(path: Path) -> None:
    """Put POW(x, 1), which changes no number, behind the output."""
    classes, model = flatfile.schema(), flatfile.read(path)
    graph = model.subgraphs[0]
    old = int(graph.outputs[0])
    exponent, result = classes.TensorT(), classes.TensorT()
    buffer = classes.BufferT()
    buffer.data = np.ones(1, np.float32).view(np.uint8)
    model.buffers.append(buffer)
    exponent.name, exponent.shape, exponent.buffer = b"one", np.ones(1, np.int32), len(model.buffers) - 1
    result.name, result.shape, result.buffer = b"powered", graph.tensors[old].shape, 0
    graph.tensors += [exponent, result]
    one, new = len(graph.tensors) - 2, len(graph.tensors) - 1
    code, power = classes.OperatorCodeT(), classes.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = classes.BuiltinOperator.POW
    code.version = 1
    model.operatorCodes.append(code)
    power.opcodeIndex = len(model.operatorCodes) - 1
    power.inputs, power.outputs = np.array([old, one], np.int32), np.array([new], np.int32)
    graph.operators.append(power)
    graph.outputs = np.array([new], np.int32)
    for signature in model.signatureDefs or ():
        signature.outputs[0].tensorIndex = new
    flatfile.write(model, path)


class Mute:
    """A session that says nothing of its placement."""

    def __init__(self, session: PyTorchSession) -> None:
        self.facts = Facts(session.facts.label)
        self.encode, self.decode, self.greedy, self.usage = (
            session.encode, session.decode, session.greedy, session.usage,
        )  # fmt: skip


def test_a_whole_file_is_delegated_and_passes_where_placement_is_required(run, tmp_path):
    """Every node of both files by XNNPACK, PyTorch where its weights lie: nothing to warn of."""
    result = run("--require-placement")
    assert result.exit_code == 0, result.output
    report = records.load(RunFolder(tmp_path / "reports" / "p"))
    assert report.misplaced == ()
    tflite = report.stages[-1].placement
    assert [(each.component, each.target, each.share) for each in tflite] == [
        ("encoder", "XNNPACK", 1.0),
        ("decoder", "XNNPACK", 1.0),
    ]
    assert [each.target for each in report.stages[0].placement] == ["CPU", "CPU"]
    assert "warning: " not in result.stdout


def test_one_op_that_the_delegate_does_not_take_is_a_warning(run, artifacts, tmp_path):
    """A share below 1, the op by name; the run passes all the same."""
    result = run("--artifacts", artifacts)
    assert result.exit_code == 0, result.output
    encoder = records.load(RunFolder(tmp_path / "reports" / "p")).stages[-1].placement[0]
    assert encoder.nodes - encoder.delegated == 1
    assert encoder.share == pytest.approx(1 - 1 / encoder.nodes)
    warning = next(line for line in result.stdout.splitlines() if line.startswith("warning: "))
    assert warning.startswith(
        f"warning: tflite: encoder: {encoder.delegated} of {encoder.nodes} nodes on XNNPACK, 1 fell"
    )
    assert warning.endswith("left to the built-in kernels: POW x 1)")
    assert " fell back" in next(line for line in result.stdout.splitlines() if line.startswith(" tflite (given)"))


def test_and_a_failure_where_placement_is_required(run, artifacts, tmp_path):
    """Exit code 1, by the option or by parity.toml, with the verdict in the first line."""
    (tmp_path / "parity.toml").write_text("[run]\nrequire_placement = true\n")
    result = run("--artifacts", artifacts)
    report = records.load(RunFolder(tmp_path / "reports" / "p"))
    assert (result.exit_code, report.exit_code, report.verdict) == (1, 1, Outcome.FAILED)
    assert result.stdout.splitlines()[0] == "parity failed: 1 pass, 1 reference; not placed as required: tflite"
    assert "placement required: tflite: encoder: " in result.stdout


def test_a_stage_that_does_not_say_where_it_runs_fails_too(run, monkeypatch, tmp_path):
    """Nobody knows is not the same as all is well."""
    opened = PyTorchBackend.open

    @contextmanager
    def open_mute(self, found, threads):
        with opened(self, found, threads) as session:
            yield Mute(session)

    monkeypatch.setattr(PyTorchBackend, "open", open_mute)
    result = run("--require-placement", "--fresh")
    assert result.exit_code == 1
    assert records.load(RunFolder(tmp_path / "reports" / "p")).misplaced == (
        "pytorch: placement unknown, its runtime does not report it",
    )


def test_nodes_are_counted_as_the_interpreter_places_them(artifacts, scripted_checkpoint):
    """XNNPACK switched off: no node is delegated; with it: all but POW, whichever part of the graph it splits."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = str(next(artifacts.glob("encoder_*.tflite")))
    found = {}
    for kind in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        interpreter = Interpreter(model_path=path, experimental_op_resolver_type=kind)
        interpreter.allocate_tensors()
        found[kind] = placement.placement("encoder", interpreter)
    with_delegate, without = found.values()
    assert (without.delegated, without.share, without.fell_back) == (0, 0.0, True)
    assert with_delegate.nodes == without.nodes == with_delegate.delegated + 1


def test_a_delegate_in_two_parts_is_counted_whole():
    """A node between two parts stays on the CPU; what only the second part reads is not the first one's."""

    def node(index, name, inputs, outputs):
        return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}

    chain = [node(0, "ADD", [0, 9], [1]), node(1, "MUL", [1, 9], [2]), node(2, "POW", [2, 9], [3])]
    chain += [node(3, "ADD", [3, -1], [4]), node(4, "GELU", [4], [5])]
    parts = [node(5, "DELEGATE", [0, 9], [2]), node(6, "DELEGATE", [3], [5])]
    assert placement.delegated([*chain, *parts]) == (frozenset({0, 1, 3, 4}), 5)
    assert placement.delegated([*chain, parts[1]]) == (frozenset({3, 4}), 5)
    assert placement.delegated(chain) == (frozenset(), 5)


PLAN = {"compiler": "ncc-tflite 8.2.31", "encoder": {"targets": ["MDLA_5_3"]}, "decoder": {"targets": ["MDLA_5_3"]}}


@pytest.mark.parametrize(
    ("record", "fell_back", "targets", "note"),
    [
        (PLAN, [False, False], ["MDLA_5_3", "MDLA_5_3"], "execution plan of ncc-tflite 8.2.31: MDLA_5_3"),
        (
            {**PLAN, "encoder": {"targets": ["MDLA_5_3", "MVPU"]}},
            [True, False],
            ["MDLA_5_3", "MDLA_5_3"],
            "execution plan of ncc-tflite 8.2.31: MDLA_5_3, MVPU",
        ),
        ({**PLAN, "encoder": {"targets": ["CPU"]}}, [True, False], ["MDLA", "MDLA_5_3"], ": CPU"),
        ({**PLAN, "encoder": {"targets": []}}, [False, False], ["", "MDLA_5_3"], "names no engine"),
        (None, [False, False], ["", ""], "no record of its compilation"),
        ([1], [False, False], ["", ""], "no record of its compilation"),
        ({**PLAN, "compiler": "8 (stand-in of the simulator)"}, [False, False], ["MDLA_5_3"] * 2, "(simulated: "),
    ],
)
def test_the_engines_of_a_dla_file_are_those_of_its_execution_plan(tmp_path, record, fell_back, targets, note):
    """Another engine in it is a fall-back; without a plan nobody can say."""
    files = {}
    if record is not None:
        (tmp_path / "compilation.json").write_text(json.dumps(record))
        files["compilation"] = ArtifactFile("compilation.json", "", 1)
    found = plans.of_plan(Artifact("dla", tmp_path, files, None, "built"))
    assert [each.fell_back for each in found] == fell_back
    assert [each.target for each in found] == targets
    assert note in found[0].note


def test_tflite_runtime_lists_its_ops_too(cache_dir, scripted_checkpoint, artifacts, tmp_path):
    """The same private method, the same answer: asked of the interpreter where it is installed."""
    python = tfliteruntime.interpreter(cache_dir)
    code = (
        "import sys; from tflite_runtime.interpreter import Interpreter;"
        "from whisper_parity.backends.tflite import placement as placing;"
        "i = Interpreter(model_path=sys.argv[1]); i.allocate_tensors(); p = placing.placement('encoder', i);"
        "print(p.nodes, p.delegated, p.note)"
    )
    path = next(artifacts.glob("encoder_*.tflite"))
    ran = subprocess.run([python, "-c", code, path], capture_output=True, text=True, cwd=CHECKOUT)
    assert ran.returncode == 0, ran.stderr
    nodes, delegated = map(int, ran.stdout.split()[:2])
    assert 0 <= delegated < nodes
    assert "POW x 1" in ran.stdout
