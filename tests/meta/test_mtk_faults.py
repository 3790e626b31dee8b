"""What MediaTek's tools may do wrong, done by the stand-in: a clear error, no process left, the rest runs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support import mtkfiles, mtkpython, sites
from tests.support.mtkfiles import Given, Node, normal
from tests.support.refusals import require_no_traceback
from whisper_parity import cli, project
from whisper_parity.backend import build
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.settings import environment_of
from whisper_parity.backends.tflite import TFLiteBackend, settings
from whisper_parity.backends.tflite.mediatek import mtk, mtk_process
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import BackendError, BuildError, ParityError, UnavailableError
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder
from whisper_parity.system.threads import side_by_side

FAULT = "MTK_STANDIN_FAULT"


@pytest.fixture(autouse=True, scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One conversion for all faults: the stand-in takes LiteRT's half of it from here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MTK_STANDIN_STOCK", str(tmp_path_factory.mktemp("stock")))
        yield


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mtkpython.make(tmp_path_factory.mktemp("mtk") / "venv")


@pytest.fixture
def found(python: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The stand-in's Python, with limits that a test can wait for."""
    for name in (*environment_of(settings.Settings), FAULT):
        monkeypatch.delenv(name, raising=False)
    return settings.read({"mtk_python": str(python), "run_limit_s": 3.0, "start_limit_s": 60.0})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """GELU of float32 [1, 4, 8]."""
    held = {"x": Given((1, 4, 8)), "y": Given((1, 4, 8))}
    return mtkfiles.write(tmp_path / "gelu.tflite", [Node("MTKEXT_GELU", ["x"], ["y"])], held, ["x"], ["y"])


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file of float32 [1, 4, 8]: LayerNorm with weights, and GELU."""
    import torch

    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    module = torch.nn.Sequential(norm, torch.nn.GELU()).eval()
    path = tmp_path_factory.mktemp("script") / "block.pt"
    with torch.no_grad():
        torch.jit.trace(module, torch.zeros(1, 4, 8)).save(str(path))
    return path


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither a zombie nor a running member of any started group."""
    started: list[int] = []
    real = mtk_process._started

    def remember(*words: Any) -> Any:
        process = real(*words)
        started.append(process.pid)
        return process

    monkeypatch.setattr(mtk_process, "_started", remember)
    yield
    assert not leftovers(started)


def leftovers(groups: list[int]) -> list[str]:
    """Processes of these groups that stay, and children of ours that nobody waited for.

    Who is killed is gone a moment later, and a grandchild is not ours to wait for: it gets a few seconds.
    """
    deadline = time.monotonic() + 5
    while (found := running(groups)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def running(groups: list[int]) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if (int(group) in groups and state != "Z") or (int(folder.name) in groups and int(parent) == os.getpid()):
            found.append(f"{folder.name} {state}")
    return found


def test_what_is_left_would_be_seen(found):
    """The check of every other test can go red."""
    process = mtk_process.Process(found)
    assert leftovers([process._process.pid])
    process.close()
    assert not leftovers([process._process.pid])


def run_once(found: Settings, path: Path) -> np.ndarray:
    with mtk.executor(found, {"file": path}) as executor:
        return executor.run("file", [normal(1, 4, 8)], None)[0]


def test_nothing_wrong_gives_numbers(found, file):
    """What the other tests break works."""
    assert run_once(found, file).shape == (1, 4, 8)


def test_a_licence_text_on_stdout_does_no_harm(found, file, script, monkeypatch, tmp_path):
    """At import, while converting, loading and running: printed, and written to the descriptor."""
    expected = run_once(found, file)
    for where in ("import", "load", "run"):
        monkeypatch.setenv(FAULT, f"{where}:licence")
        assert np.array_equal(run_once(found, file), expected)
    monkeypatch.setenv(FAULT, "convert:licence")
    mtk.convert(found, script, tmp_path / "block.tflite", [(1, 4, 8)])


def test_a_start_up_file_that_prints_does_no_harm(tmp_path, found, file):
    """Before any line of the worker runs."""
    talkative = mtkpython.make(tmp_path / "talkative")
    own = next((tmp_path / "talkative").glob("lib/python*/site-packages"))
    (own / "a.pth").write_text("import sys; print('Welcome. MTK licence: MTKX')\n", "utf-8")
    assert run_once(settings.read({"mtk_python": str(talkative)}), file).shape == (1, 4, 8)


RUN_FAULTS: dict[str, tuple[type[ParityError], str]] = {
    "import:crash": (UnavailableError, "(start) died by signal 11 (Segmentation fault); it last said: about to crash"),
    "import:exit": (UnavailableError, "(start) ended with exit code 7"),
    "import:missing": (UnavailableError, "libmlir_stand_in.so.1: cannot open shared object file"),
    "import:garbage": (UnavailableError, ""),
    "load:crash": (BackendError, "(load) died by signal 11"),
    "load:garbage": (BackendError, "(load) wrote what is no answer to its pipe (it starts with b'prog')"),
    "load:hang": (BackendError, "(load) took more than 3 s"),
    "run:crash": (BackendError, "(run) died by signal 11 (Segmentation fault); it last said: "),
    "run:orphan": (BackendError, "(run) died by signal 11 (Segmentation fault)"),
    "run:garbage": (BackendError, "(run) wrote what is no answer to its pipe (it starts with b'prog')"),
    "run:hang": (BackendError, "(run) took more than 3 s"),
    "run:exit": (BackendError, "(run) ended with exit code 7"),
    "run:count": (BackendError, "gave 2 output(s): float32 [1, 4, 8], float32 [1, 4, 8] where the file declares 1"),
    "run:none": (BackendError, "gave 0 output(s): none where the file declares 1"),
    "run:shape": (BackendError, "gave 1 output(s): float32 [1, 8, 4] where the file declares 1"),
    "run:kind": (BackendError, "gave 1 output(s): float64 [1, 4, 8] where the file declares 1 output(s): float32"),
    "run:objects": (BackendError, "(run) failed (ValueError: Object arrays cannot be saved"),
    "run:number": (BackendError, "(run) failed (TypeError: expected a list from TFLiteExecutor.run, found int)"),
}


@pytest.mark.parametrize("fault", [name for name in RUN_FAULTS if name != "import:garbage"])
def test_a_fault_of_the_interpreter_is_one_clear_line(found, file, monkeypatch, fault):
    """By what it did; the limit is kept, and a child that it left behind is ended, too."""
    kind, said = RUN_FAULTS[fault]
    monkeypatch.setenv(FAULT, fault)
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        run_once(found, file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 30


def test_garbage_before_the_first_answer_is_skipped(found, file, monkeypatch):
    """As a start-up file's text is."""
    monkeypatch.setenv(FAULT, "import:garbage")
    assert run_once(found, file).shape == (1, 4, 8)


def test_an_import_that_hangs_is_unavailable(found, file, monkeypatch):
    monkeypatch.setenv(FAULT, "import:hang")
    slow = settings.read({"mtk_python": found.mtk_python, "start_limit_s": 4.0})
    with pytest.raises(UnavailableError, match=r"\(start\) took more than 4 s"):
        mtk.version(slow)


def test_an_interpreter_that_died_is_started_again(found, file, monkeypatch):
    """One crash costs one pass."""
    with mtk.executor(found, {"file": file}) as executor:
        monkeypatch.setenv(FAULT, "run:crash")
        executor.close()
        with pytest.raises(BackendError):
            executor.run("file", [normal(1, 4, 8)], None)
        monkeypatch.delenv(FAULT)
        assert executor.run("file", [normal(1, 4, 8)], [2])[0].shape == (1, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"mtk_python": None}, "are not set up here. Set mtk_python in [backends.tflite]"),
        ({"mtk_python": "/nowhere/python"}, "/nowhere/python: cannot be started (No such file or directory)"),
        ({"mtk_python": "no-such-python"}, "no-such-python: no such program on PATH"),
        ({"mtk_python": "/"}, "/: cannot be started (Permission denied)"),
        ({"mtk_python": "/bin/true"}, "(start) ended with exit code 0"),
    ],
)
def test_a_wrong_interpreter_path_is_named(words, said, monkeypatch):
    """With what to set."""
    for name in environment_of(settings.Settings):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnavailableError) as caught:
        mtk.version(settings.read(words))
    assert said in str(caught.value)


def test_a_program_that_prints_without_end_is_no_interpreter(found, tmp_path):
    """It is not read for ever."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec yes welcome\n", "utf-8")
    program.chmod(0o755)
    with pytest.raises(UnavailableError, match=r"\(start\) wrote what is no answer to its pipe"):
        mtk.version(settings.read({"mtk_python": str(program)}))


CONVERT_FAULTS: dict[str, str] = {
    "convert:crash": "converting block.pt: mtk_converter (convert) died by signal 11",
    "convert:garbage": "(convert) wrote what is no answer to its pipe",
    "convert:hang": "(convert) took more than 8 s",
    "file:truncated": "not a whole TFLite file",
    "file:nothing": "mtk_converter wrote no file",
}


@pytest.mark.parametrize("fault", CONVERT_FAULTS)
def test_a_fault_of_the_converter_is_one_clear_line_and_no_file(found, script, monkeypatch, tmp_path, fault):
    monkeypatch.setenv(FAULT, fault)
    target = tmp_path / "out" / "block.tflite"
    target.parent.mkdir()
    limited = settings.read({"mtk_python": found.mtk_python, "convert_limit_s": 8.0 if "hang" in fault else 120.0})
    with pytest.raises(BuildError) as caught:
        mtk.convert(limited, script, target, [(1, 4, 8)])
    assert CONVERT_FAULTS[fault] in str(caught.value)
    assert not list(target.parent.iterdir())


def test_ctrl_c_ends_a_conversion_that_a_thread_waits_for(found, script, monkeypatch, tmp_path, ctrl_c):
    """Long before its limit; no process is left, as ever."""
    monkeypatch.setenv(FAULT, "convert:hang")
    target = tmp_path / "block.tflite"
    started = time.monotonic()
    press = threading.Timer(2.0, ctrl_c)
    press.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(side_by_side(lambda _: mtk.convert(found, script, target, [(1, 4, 8)]), [0]))
    finally:
        press.cancel()
    assert time.monotonic() - started < 60 < found.convert_limit_s


# As rows of a run


@pytest.fixture(scope="module")
def built(python: Path, cache_dir: Path, scripted_checkpoint: Path) -> Artifact:
    site = {"converter": "mtk", "mtk_python": str(python)}
    return build.obtain(sites.workshop(scripted_checkpoint, mtkpython.cache(cache_dir), tflite=site), "tflite")


@pytest.fixture
def judged(parity, found, clip, cache_dir, tmp_path, monkeypatch) -> Callable[..., tuple[Outcome, str]]:
    """Runs torchscript and tflite; the former must pass whatever becomes of the latter."""
    monkeypatch.setenv(project.CACHE_VARIABLE, str(tmp_path))

    def call(*words: object, **table: Any) -> tuple[Outcome, str]:
        given = {"converter": "mtk", "mtk_python": found.mtk_python, **table}
        lines = [f"{key} = {json.dumps(value)}" for key, value in given.items() if value is not None]
        (tmp_path / "parity.toml").write_text("\n".join(["[backends.tflite]", *lines]) + "\n", "utf-8")
        stages = ("--stages", "pytorch,torchscript,tflite", "--clips", clip, "--language", "en", "--run-id", "one")
        kept = () if "--cache" in words else ("--cache", mtkpython.cache(cache_dir))
        result = parity("run", *stages, *kept, "--build-missing", *words)
        rows = {row.stage: row.verdict for row in report.load(RunFolder(tmp_path / "reports" / "one")).rows}
        assert rows["torchscript"].outcome is Outcome.PASS
        require_no_traceback(result, rows["tflite"].outcome.exit_code)
        return rows["tflite"].outcome, rows["tflite"].reason

    return call


ROWS: dict[str, tuple[Outcome, str]] = {
    "run:crash": (Outcome.FAILED, "died by signal 11 (Segmentation fault)"),
    "run:hang": (Outcome.FAILED, "(run) took more than 3 s"),
    "run:garbage": (Outcome.FAILED, "wrote what is no answer to its pipe"),
    "run:count": (Outcome.FAILED, "gave 2 output(s)"),
    "run:shape": (Outcome.FAILED, " where the file declares 1 output(s): float32 [1, "),  # of either half
    "run:nan": (Outcome.DIVERGED, "of the candidate are NaN or infinite"),
    "run:licence": (Outcome.PASS, ""),
}


@pytest.mark.parametrize("fault", ROWS)
def test_a_fault_while_it_runs_is_a_row(judged, built, monkeypatch, fault):
    """The other stages run."""
    monkeypatch.setenv(FAULT, fault)
    outcome, reason = judged(run_limit_s=3.0)
    assert (outcome, ROWS[fault][1] in reason) == (ROWS[fault][0], True), reason


@pytest.mark.parametrize("path", ["/nowhere/python", "bare"])
def test_a_missing_converter_is_a_row(judged, tmp_path, path):
    """Wrong path, or a Python without the package."""
    if path == "bare":
        path = str(mtkpython.make(tmp_path / "bare", package=False))
    outcome, reason = judged("--cache", tmp_path / "cache", mtk_python=path)
    assert outcome is Outcome.FAILED
    assert ("cannot be started" in reason) or ("mtk_converter cannot be imported" in reason)
    assert "Set mtk_python in [backends.tflite] of parity.toml" in reason


BUILD_ROWS = {
    "convert:crash": "died by signal 11",
    "file:gather": "holds GATHER, which the NPU cannot run",
    "file:tokens": "is int64",
    "file:half": "mtk_converter wrote another model than the TorchScript file",
    "file:truncated": "not a whole TFLite file",
}


@pytest.mark.parametrize("fault", BUILD_ROWS)
def test_a_fault_while_it_converts_is_a_row_and_nothing_is_kept(judged, monkeypatch, tmp_path, fault):
    """Nothing half built stays in the cache."""
    monkeypatch.setenv(FAULT, fault)
    outcome, reason = judged("--cache", tmp_path / "cache")
    assert (outcome, BUILD_ROWS[fault] in reason) == (Outcome.FAILED, True), reason
    assert not [path for path in (tmp_path / "cache").glob("*tflite*") if path.is_dir()]


def frobnicate(model: Any) -> None:
    for code in model.operatorCodes:
        code.customCode = b"MTKEXT_FROBNICATE" if code.customCode else None


def cut_options(model: Any) -> None:
    for operator in model.subgraphs[0].operators:
        if operator.customOptions is not None and len(operator.customOptions):
            operator.customOptions = operator.customOptions[: len(operator.customOptions) // 2]


def point_nowhere(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = np.array([10**6], np.int32)


GIVEN: dict[str, tuple[Callable[[Any], None] | None, str, Outcome]] = {
    "unknown op": (frobnicate, "MTKEXT_FROBNICATE", Outcome.FAILED),
    "truncated options": (cut_options, "options", Outcome.FAILED),
    "truncated file": (None, "", Outcome.INVALID_INPUT),
    "hostile file": (point_nowhere, "", Outcome.INVALID_INPUT),
}
"""What is done to a file, what is said, and the verdict where MediaTek's interpreter is to run it."""


@pytest.mark.parametrize("interpreter", ["mtk", "litert"])
@pytest.mark.parametrize("case", GIVEN)
def test_a_bad_file_is_a_row(judged, built, tmp_path, case, interpreter):
    """In MediaTek's interpreter and in ours, without a conversion: what only ours can know is bad is the user's."""
    folder = build.export(built, tmp_path / "given")
    (folder / "tflite.lineage.json").unlink()
    path, (change, said, by_mtk) = folder / built.files["encoder"].name, GIVEN[case]
    if change is None:
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        model = flatfile.read(path)
        change(model)
        changed = tmp_path / "changed.tflite"
        flatfile.write(model, changed)
        changed.replace(path)
    outcome, reason = judged("--artifacts", folder, interpreter=interpreter)
    assert outcome is (by_mtk if interpreter == "mtk" else Outcome.INVALID_INPUT), reason
    assert path.name in reason
    assert said in reason


def test_the_backend_says_once_that_the_converter_is_not_there(monkeypatch):
    """Asked many times in a run, started once."""
    asked = []

    def version(found: Settings) -> str:
        asked.append(found)
        raise UnavailableError("not there")

    monkeypatch.setattr(mtk, "version", version)
    backend = TFLiteBackend(Settings(converter="mtk", mtk_python="x"))
    for _ in range(2):
        assert "not there" in backend.availability().reason
        with pytest.raises(UnavailableError):
            backend.tools()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("run:noise", 1, "no reading computes what mtk 8.16.0+standin computes"),
        ("run:nan", 3, "MediaTek's interpreter gave nothing, or numbers that are not finite"),
        ("run:crash", 3, "(run) died by signal 11"),
        ("import:missing", 3, "nothing was checked: mtk_converter cannot be imported"),
    ],
)
def test_mtk_check_is_red_where_no_reading_fits(found, file, monkeypatch, tmp_path, fault, code, said):
    """An interpreter that is off by one per cent, and one that gives no numbers at all."""
    monkeypatch.setenv("MTK_PYTHON", str(found.mtk_python))
    monkeypatch.setenv(FAULT, fault)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, ["mtk-check", str(file)])
    require_no_traceback(result, code)
    assert said in (result.stderr if code == 3 else result.stdout)
    assert " fits " not in result.stdout
