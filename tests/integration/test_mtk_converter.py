"""MediaTek's converter and interpreter behind a Python of their own, a stand-in in their place: never MediaTek's."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support import mtkfiles, mtkpython, sites
from tests.support.mtkfiles import Given, Node, normal
from tests.support.refusals import line_of, require_no_traceback
from whisper_parity import cli, project
from whisper_parity.backend import build, registry
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.facets import Configurable
from whisper_parity.backend.settings import environment_of
from whisper_parity.backends.tflite import TFLiteBackend, graph, settings
from whisper_parity.backends.tflite.mediatek import mtk, mtk_build, mtk_worker
from whisper_parity.backends.tflite.mtkext import flatfile, lowered
from whisper_parity.backends.tflite.mtkext.inspection import inspect
from whisper_parity.errors import BuildError, ConfigError, UnavailableError
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint
from whisper_parity.project import Project
from whisper_parity.run import options as run_options
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder

VERSION = "8.16.0+standin"
DESCRIPTION = f"Exported by NeuroPilot converter v{VERSION} (stand-in)"
FILES = {"encoder": "encoder_{}_80x3000.tflite", "decoder": "decoder_{}_448.tflite"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MediaTek tools but those that a test names, and none left to the next test."""
    for name in environment_of(settings.Settings):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with the stand-in."""
    return mtkpython.make(tmp_path_factory.mktemp("mtk") / "venv")


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., None]:
    """Writes [backends.tflite] of parity.toml."""

    def write(**table: Any) -> None:
        lines = [f"{key} = {json.dumps(str(value))}" for key, value in table.items()]
        (tmp_path / "parity.toml").write_text("\n".join(["[backends.tflite]", *lines]) + "\n", "utf-8")

    return write


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where lowered files of this test go."""
    monkeypatch.setenv(project.CACHE_VARIABLE, str(tmp_path))
    return tmp_path / "lowered"


@pytest.fixture(scope="module")
def built(python: Path, cache_dir: Path, scripted_checkpoint: Path) -> Artifact:
    """The tiny checkpoint's files by the stand-in's converter."""
    found = checkpoint.describe(scripted_checkpoint)
    site = {"converter": "mtk", "mtk_python": str(python)}
    return build.obtain(sites.workshop(found, mtkpython.cache(cache_dir), tflite=site), "tflite")


@pytest.fixture
def kept_there(cache_dir: Path) -> tuple[object, ...]:
    """The option that names the stand-in's cache."""
    return ("--cache", mtkpython.cache(cache_dir))


def row_of(tmp_path: Path, run_id: str, stage: str = "tflite") -> report.Row:
    rows = report.load(RunFolder(tmp_path / "reports" / run_id)).rows
    return next(row for row in rows if row.stage == stage)


def external(built: Artifact, folder: Path) -> Path:
    """The files as a user has them: without lineage."""
    build.export(built, folder)
    for record in folder.glob("*.lineage.json"):
        record.unlink()
    return folder


def test_build_writes_the_usual_files_and_a_truthful_lineage(
    parity, site, python, tmp_path, scripted_checkpoint, kept_there
):
    """From the TorchScript files; the converter, its version and options, and each file's own description."""
    site(converter="mtk", mtk_python=python)
    result = parity("build", "--stages", "torchscript,tflite", "--out", tmp_path / "out", *kept_there)
    require_no_traceback(result, 0)
    record = json.loads((tmp_path / "out" / "tflite.lineage.json").read_text("utf-8"))
    script = json.loads((tmp_path / "out" / "torchscript.lineage.json").read_text("utf-8"))
    assert record["parent_sha256"] == script["sha256"]
    assert record["tools"]["mtk_converter"] == VERSION
    assert record["tools"]["mtk_converter options"] == "quantize=False"
    assert "litert-torch" not in record["tools"]
    for role, name in FILES.items():
        assert record["files"][role]["name"] == name.format(scripted_checkpoint.stem)
    conversion = json.loads((tmp_path / "out" / record["files"]["conversion"]["name"]).read_text("utf-8"))
    for role, name in FILES.items():
        found = inspect(tmp_path / "out" / name.format(scripted_checkpoint.stem))
        assert conversion[role]["description"] == found.description == DESCRIPTION
        assert conversion[role]["ops"]["MTKEXT_LAYER_NORMALIZATION"] == (3 if role == "encoder" else 4)
    assert [port["name"] for port in conversion["decoder"]["inputs"]] == ["token_embeddings", "encoder_output"]


def test_a_run_in_the_stand_ins_interpreter_is_named_after_it(parity, site, python, clip, tmp_path, kept_there):
    """Every stage passes; label and report say what converted and what ran."""
    site(converter="mtk", mtk_python=python)
    words = ("--stages", "pytorch,torchscript,tflite", "--clips", clip, "--language", "en", "--run-id", "mtk")
    require_no_traceback(parity("run", *words, *kept_there), 0)
    row = row_of(tmp_path, "mtk")
    assert (row.label, row.verdict.outcome) == (f"tflite (mtk {VERSION})", Outcome.PASS)
    text = (tmp_path / "reports" / "mtk" / "report.json").read_text("utf-8")
    assert f'"mtk_converter":"{VERSION}"' in text.replace(" ", "")


def test_without_an_sdk_the_files_are_lowered_once(parity, built, clip, tmp_path, kept):
    """Label and report say so, and what was assumed; a second run finds the lowered files by their hash."""
    folder = external(built, tmp_path / "given")
    words = ("--artifacts", folder, "--stages", "tflite", "--clips", clip, "--language", "en")
    require_no_traceback(parity("run", *words, "--run-id", "one"), 0)
    row = row_of(tmp_path, "one")
    assert (row.label.startswith("tflite (LiteRT "), row.label.endswith(", MTKEXT lowered)")) == (True, True)
    note, confined = row.notes
    assert confined.startswith("given files, run in a child process: ")
    assert note.startswith("MTKEXT ops of the encoder and decoder: assumed: ")
    assert "layer_norm_order = x_axis_gamma_beta" in note
    assert "gelu_option = approximate" in note
    made = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.tflite")}
    assert len(made) == 2
    require_no_traceback(parity("run", *words, "--run-id", "two"), 0)
    assert {path.name: path.stat().st_mtime_ns for path in kept.glob("*.tflite")} == made


@pytest.mark.parametrize(
    ("interpreter", "label"), [("litert", ", MTKEXT lowered)"), ("mtk", f"tflite (mtk {VERSION})"), ("auto", VERSION)]
)
def test_the_interpreter_can_be_chosen(built, python, kept, interpreter, label):
    """Auto takes MediaTek's where it is."""
    backend = TFLiteBackend(settings.read({"interpreter": interpreter, "mtk_python": str(python)}))
    with backend.open(built, 2) as opened:
        assert label in opened.facts.label


def test_auto_leaves_stock_files_to_litert(python, cache_dir, scripted_checkpoint, kept):
    """No MTKEXT op, and not MediaTek's description: nothing of MediaTek's is started."""
    found = checkpoint.describe(scripted_checkpoint)
    stock = build.obtain(sites.workshop(found, cache_dir), "tflite")
    with TFLiteBackend(settings.read({"mtk_python": "/nowhere/python"})).open(stock, 2) as opened:
        assert opened.facts.label.startswith("tflite (LiteRT ")
        assert "lowered" not in opened.facts.label
    assert not kept.exists()


def test_lowering_a_stand_ins_file_gives_what_the_stock_conversion_gives(built, cache_dir, scripted_checkpoint, kept):
    """Encoder and decoder, to 1e-5 of the largest number."""
    found = checkpoint.describe(scripted_checkpoint)
    stock = build.obtain(sites.workshop(found, cache_dir), "tflite")
    features = normal(1, 80, 3000)
    backend, rows = TFLiteBackend(settings.Settings()), list(range(8))
    with backend.open(stock, 2) as theirs, backend.open(built, 2) as ours:
        assert ours.facts.label.endswith("MTKEXT lowered)")
        encoded = theirs.encode(features)
        pairs = {
            "encoder": (encoded, ours.encode(features)),
            "decoder": tuple(each.decode([50258] * 8, encoded, rows) for each in (theirs, ours)),
        }
    for role, (reference, candidate) in pairs.items():
        worst = float(np.abs(reference - candidate).max())
        assert worst <= 1e-5 * max(1.0, float(np.abs(reference).max())), role


def test_rows_are_selected_there(built, python):
    """The same numbers as the whole output's, and only they cross the pipe."""
    paths = {role: built.path(role) for role in FILES}
    arrays = [normal(1, 448, 64), normal(1, 1500, 64)]
    with mtk.executor(settings.read({"mtk_python": str(python)}), paths) as executor:
        (whole,), (rows,) = executor.run("decoder", arrays, None), executor.run("decoder", arrays, [3, 0])
        assert executor.version == VERSION
    assert whole.shape == (1, 448, 51865)
    assert np.array_equal(rows, whole[0, [3, 0]])


def test_the_environment_and_the_sdk_folder_can_name_it(monkeypatch, python, tmp_path):
    """MTK_PYTHON, and <sdk>/host/lib/python for the package, in a Python that does not have it itself."""
    bare = mtkpython.make(tmp_path / "bare", package=False)
    library = tmp_path / "sdk" / "host" / "lib" / "python"
    library.parent.mkdir(parents=True)
    library.symlink_to(mtkpython.STAND_IN)
    monkeypatch.setenv("MTK_PYTHON", str(bare))
    with pytest.raises(UnavailableError, match="No module named 'mtk_converter'"):
        mtk.version(settings.read({}))
    monkeypatch.setenv("MTK_NEURON_SDK", str(tmp_path / "sdk"))
    assert mtk.version(settings.read({})) == VERSION
    monkeypatch.delenv("MTK_NEURON_SDK")
    monkeypatch.setenv("MTK_CONVERTER_PATH", str(mtkpython.STAND_IN))
    assert mtk.version(settings.read({})) == VERSION
    assert settings.read({"mtk_python": str(python)}).mtk_python == str(python)


def test_an_option_chooses_the_converter():
    """Over parity.toml, and in the command that repeats a clip."""
    site = Project(Path(), backends={"tflite": {"converter": "litert"}})
    assert registry.load(site, ("tflite.converter=mtk",)).get("tflite").source("") == "torchscript"
    assert registry.load(site).get("tflite").source("") == "pytorch"
    options = run_options.read({"settings": ("tflite.converter=mtk",)}, Project(Path()))
    assert "--set tflite.converter=mtk" in run_options.command(options, "one", ["tflite"])


def test_an_unknown_converter_is_a_usage_error(parity, clip):
    line = line_of(parity("run", "--clips", clip, "--stages", "tflite", "--set", "tflite.converter=other"), 2)
    assert "[backends.tflite] converter: Input should be 'litert' or 'mtk'" in line


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"interpreter": "tvm"}, "interpreter: Input should be"),
        ({"mtk-python": "x"}, "mtk-python"),
        ({"assumptions": {"gelu": "relu"}}, "assumptions.gelu: Input should be 'erf' or 'tanh'"),
        ({"assumptions": {"silu": "x"}}, "assumptions.silu"),
        ({"run_limit_s": 0}, "run_limit_s: expected seconds"),
        ({"run_limit_s": float("nan")}, "run_limit_s: expected seconds"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(table, said):
    with pytest.raises(ConfigError, match=r"\[backends\.tflite\]") as caught:
        settings.read(table)
    assert said in str(caught.value)


def test_assumptions_decide_what_is_lowered(tmp_path, kept):
    """Another reading is another file in the cache."""
    held = {"x": Given((1, 8)), "y": Given((1, 8))}
    path = mtkfiles.write(tmp_path / "gelu.tflite", [Node("MTKEXT_GELU", ["x"], ["y"])], held, ["x"], ["y"])
    read = [settings.read({"assumptions": {"gelu": kind}}).assumptions for kind in ("erf", "tanh")]
    erf, tanh = (
        mtkfiles.run(lowered.runnable(path, "0" * 64, each, graph.not_loaded).path, normal(1, 8)) for each in read
    )
    assert 1e-6 < np.abs(erf - tanh).max() < 5e-4


@pytest.mark.parametrize("what", ["of", "of_code"])
def test_whatever_decides_a_lowered_file_is_in_its_name(monkeypatch, what):
    """Other packages, or other code of ours, never find an old file."""
    before = lowered._key("0" * 64, settings.Settings().assumptions)
    assert lowered._key("0" * 64, settings.Settings().assumptions) == before
    monkeypatch.setattr(lowered.provenance, what, lambda *_: {"changed": "1"})
    assert lowered._key("0" * 64, settings.Settings().assumptions) != before


def test_code_that_decides_what_is_converted_is_among_the_tools(python, monkeypatch):
    """So an edit of it never finds old files in the cache."""
    backend = TFLiteBackend(settings.read({"converter": "mtk", "mtk_python": str(python)}))
    seen: list[str] = []
    monkeypatch.setattr("whisper_parity.backends.provenance.of_code", lambda *names: seen.extend(names) or {})
    assert backend.tools()["mtk_converter"] == VERSION
    assert {f"backends.tflite.mediatek.{name}" for name in ("mtk", "mtk_build", "mtk_process", "mtk_worker")} < set(
        seen
    )
    assert {"backends.tflite.session", "backends.tflite.mtkext.inspection"} < set(seen)


def test_quantised_variants_are_litert_s(parity, site, python, clip, tmp_path, kept_there):
    """Its quantiser has no MTKEXT ops: said, not tried; the float32 stage runs."""
    site(converter="mtk", mtk_python=python)
    words = ("--stages", "tflite,tflite:int8", "--clips", clip, "--language", "en", "--run-id", "int8")
    require_no_traceback(parity("run", *words, *kept_there), 3)
    assert row_of(tmp_path, "int8").verdict.outcome is Outcome.PASS
    reason = row_of(tmp_path, "int8", "tflite:int8").verdict.reason
    assert "tflite:int8 is made by LiteRT's tools, which have no MTKEXT ops" in reason


def gelu_file(folder: Path, python: Path, kind: str) -> Path:
    """LayerNorm and one kind of GELU, float32 [4, 64], converted by the stand-in."""
    import torch

    module = torch.nn.Sequential(torch.nn.LayerNorm(64), torch.nn.GELU(approximate=kind)).eval()
    with torch.no_grad():
        torch.jit.trace(module, torch.zeros(4, 64)).save(str(folder / "gelu.pt"))
    mtk.convert(settings.read({"mtk_python": str(python)}), folder / "gelu.pt", folder / "gelu.tflite", [(4, 64)])
    return folder / "gelu.tflite"


SAME = "2 readings compute the same on this file, STAND-IN: "
CHECKED: dict[str, tuple[str, dict[str, str], int, str]] = {
    "erf, told by the option": ("none", {}, 0, SAME + 'default; gelu_option = ""'),
    "tanh, told by the option": ("tanh", {}, 0, SAME + 'default; gelu = "tanh", gelu_option = ""'),
    "erf, not told": ("none", {"gelu_option": ""}, 0, "default computes STAND-IN"),
    "tanh, not told": ("tanh", {"gelu": "tanh", "gelu_option": ""}, 1, 'gelu = "tanh" computes STAND-IN'),
    "another order": (
        "none",
        {"gelu_option": "", "layer_norm_order": "x_gamma_beta_axis"},
        1,
        'layer_norm_order = "x_gamma_beta_axis" computes STAND-IN',
    ),
}


@pytest.mark.parametrize("case", CHECKED)
def test_mtk_check_names_the_reading_that_fits(python, monkeypatch, tmp_path, case):
    """Files that the stand-in writes, and runs by its own reading of them; 0 only where ours is the same."""
    kind, reads, code, said = CHECKED[case]
    monkeypatch.setenv("MTK_STANDIN_READS", json.dumps(reads))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTK_PYTHON", str(python))
    result = CliRunner().invoke(cli.main, ["mtk-check", str(gelu_file(tmp_path, python, kind))])
    require_no_traceback(result, code)
    assert result.stdout.splitlines()[-1] == said.replace("STAND-IN", f"what mtk {VERSION} computes")


def test_mtk_check_without_an_sdk_is_one_line(built, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = line_of(CliRunner().invoke(cli.main, ["mtk-check", str(built.path("encoder"))]), 3)
    assert "nothing was checked: MediaTek's converter and interpreter are not set up here" in line


SIDES = ({"x": (1, 4, 8)}, {"y": (1, 4, 8)})
CHECKS: dict[str, tuple[Given, str, str]] = {
    "token input": (Given((1, 4), "int64"), "GELU", "input in_x is int64 [1, 4]: the NPU cannot run a token lookup"),
    "lookup": (Given((1, 4, 8)), "GATHER", "holds GATHER, which the NPU cannot run. Split the lookup out"),
    "shape": (
        Given((1, 8, 4)),
        "GELU",
        "inputs do not fit: expected x float32 [1, 4, 8]; the file has in_x float32 [1",
    ),
    "type": (Given((1, 4, 8), "float16"), "GELU", "the file has in_x float16 [1, 4, 8]"),
}


@pytest.mark.parametrize("case", CHECKS)
def test_a_converted_file_is_held_against_the_torchscript_file(tmp_path, case):
    """Names the file, what is there, and what the NPU cannot run."""
    given, op, said = CHECKS[case]
    path = mtkfiles.write(
        tmp_path / "f.tflite", [Node(op, ["x"], ["y"])], {"x": given, "y": Given((1, 4, 8))}, ["x"], ["y"]
    )
    with pytest.raises(BuildError) as caught:
        mtk_build.require(path, inspect(path), SIDES)
    assert said in str(caught.value)


def test_a_converted_file_of_another_output_is_refused(tmp_path):
    held = {"x": Given((1, 4, 8)), "y": Given((1, 4, 9))}
    path = mtkfiles.write(tmp_path / "f.tflite", [Node("GELU", ["x"], ["y"])], held, ["x"], ["y"])
    with pytest.raises(BuildError, match="outputs do not fit: expected y"):
        mtk_build.require(path, inspect(path), SIDES)


def test_the_backend_is_configurable_and_doctor_tells_what_is_there(python):
    """The stand-in's version beside LiteRT's; a wrong path is told, and LiteRT still runs what is given."""
    backend = TFLiteBackend()
    assert isinstance(backend, Configurable)
    assert "mtk_converter" not in backend.availability().reason
    assert (
        f"mtk_converter {VERSION}"
        in backend.configured(settings.read({"mtk_python": str(python)})).availability().reason
    )
    wrong = backend.configured(settings.read({"converter": "mtk", "mtk_python": "/nowhere/python"})).availability()
    assert wrong.usable
    assert "/nowhere/python: cannot be started (No such file or directory)" in wrong.reason


def test_the_worker_is_read_by_python_3_8():
    """SDK 7 has no newer one: its grammar, and nothing of ours imported."""
    tree = ast.parse(Path(mtk_worker.__file__).read_text("utf-8"), feature_version=(3, 8))
    imported = {alias.name for each in ast.walk(tree) if isinstance(each, ast.Import) for alias in each.names}
    imported |= {each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    allowed = {
        "__future__",
        "collections.abc",
        "importlib",
        "io",
        "json",
        "numpy",
        "os",
        "struct",
        "sys",
        "time",
        "typing",
    }
    assert imported <= allowed


def test_the_schema_has_custom_ops(built):
    """What the stand-in writes is what the other modules read: one flexbuffer map for each op."""
    found = inspect(built.path("encoder"))
    assert {op.name: set(op.options) for op in found.custom_ops} == {
        "MTKEXT_GELU": {"approximate"},
        "MTKEXT_LAYER_NORMALIZATION": {"epsilon"},
    }
    assert not [op.problem for op in found.custom_ops if op.problem]
    assert flatfile.read(built.path("encoder")).description == DESCRIPTION.encode()
