"""Builds of the runner: with sanitizers, for aarch64, and where a compiler is missing or fails."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.integration.test_runner_steps import DIMS, FEATURES
from tests.support.runners import GARBAGE, ROWS, SMALL, TOKENS, arithmetic, features, running
from tests.support.steppeddla import Steps, files, stepping_on
from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.sessions import protocol, stepform
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.errors import BuildError, UnavailableError

pytestmark = pytest.mark.usefixtures("runner_built")


@pytest.fixture(scope="module")
def sanitized() -> Path:
    """A folder with the runner and its checks, built with sanitizers."""
    try:
        return native.checks(sanitize="address,undefined")
    except BuildError as error:
        pytest.skip(f"no sanitizers here: {error}")


NO_LEAK_CHECK = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def test_golden_bytes_from_the_runners_side(sanitized):
    """The C++ code reads and writes golden.json's bytes; so does the Python side in tests/unit."""
    ran = subprocess.run([sanitized / "golden-check"], capture_output=True, text=True, env=NO_LEAK_CHECK, check=False)
    assert ran.stdout + ran.stderr == "golden bytes agree\n"


def test_mutated_frames_under_sanitizers(sanitized):
    """Thousands of mutations of the golden frames, the same each time."""
    ran = subprocess.run(
        [sanitized / "frame-fuzz", "5000"], capture_output=True, text=True, env=NO_LEAK_CHECK, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "5000 inputs\n", "")


def test_a_session_under_sanitizers(sanitized, models):
    """A handful of requests, garbage and a hang-up, with every access checked."""
    with running(models, binary=[sanitized / "parity-runner"]) as runner:
        for kind in GARBAGE:
            bad = runner.connect()
            bad.stream.sendall(GARBAGE[kind](runner))
            bad.stream.close()
        with runner.session() as session:
            session.ask(protocol.Encode(features(SMALL), True))
            session.ask(protocol.Decode(1, TOKENS, ROWS))
            session.ask(protocol.Decode(1, TOKENS, ROWS, top_k=64))
            session.ask(protocol.SetEncoding(np.zeros(40, np.float32)))
            session.ask(protocol.Output(1, 0, 3, 100))
            session.ask(protocol.Bye())
        assert runner.gone_within(5)
        log = runner.log.read_text()
        assert "parity-runner ends: BYE" in log
        assert "runtime error" not in log
        assert "Sanitizer" not in log


def test_steps_under_sanitizers(sanitized, tmp_path):
    """A cache by heads, ids and offsets: tokens, rewinds, and layouts that cannot be, with every access checked."""
    fitted = fitting.usual(next(one for one in layouts.shipped() if one.name == "sliding"), DIMS, 8)
    models = files(tmp_path, fitted, DIMS)
    with stepping_on(models, binary=[sanitized / "parity-runner"]) as session:
        steps = Steps(session, fitted)
        sound = steps.encode(FEATURES)
        for given in (sound, {name: sound[name][:, ::-1] for name in ("cross_keys", "cross_values")}):
            steps.begin(given)
            for token in range(8):
                steps.feed(token, {"token": np.ones(16, np.float32), "position": np.ones(16, np.float32)})
            steps.rewind(5)
            steps.fill(2.0)
            assert (len(steps.written()), len(steps.cross())) == (6, 6)
        form = stepform.of(fitted)
        for place, port in enumerate(form.sides[2]):
            told = replace(port, axes=tuple((size, stride + 1) for size, stride in port.axes))
            side = (*form.sides[2][:place], told, *form.sides[2][place + 1 :])
            session.ask(replace(form, sides=(*form.sides[:2], side, form.sides[3])))
        session.ask(protocol.Bye())
    log = (tmp_path / "log").read_text()
    assert "parity-runner ends: BYE" in log
    assert "runtime error" not in log
    assert "Sanitizer" not in log


@pytest.fixture(scope="module")
def emulated() -> tuple[str, ...]:
    """How to start an aarch64 program here."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if not emulator:
        pytest.skip("no qemu-aarch64 (Debian: qemu-user-static)")
    root = Path("/usr/aarch64-linux-gnu")
    if not (root / "lib" / "ld-linux-aarch64.so.1").exists():
        pytest.skip("no aarch64 C library to run with (Debian: libc6-arm64-cross)")
    return emulator, "-L", str(root)


def test_the_aarch64_build_runs(emulated, models):
    """The same protocol from a binary for the board, against an aarch64 stand-in without a model."""
    try:
        binary, runtime = native.runner("aarch64"), native.stand_in_runtime("both", "aarch64")
    except UnavailableError as error:
        pytest.skip(str(error))
    said = subprocess.run([*emulated, binary, "--version"], capture_output=True, text=True, check=True).stdout
    assert said == f"parity-runner {native.build_id()} protocol 2\n"
    with running(models, binary=[*emulated, binary], runtime=runtime) as runner, runner.session() as session:
        encoded = session.ask(protocol.Encode(features(SMALL), True))
        np.testing.assert_allclose(encoded.values, arithmetic(40, features(SMALL)), atol=1e-6)
        assert session.ask(protocol.Decode(1, TOKENS, ROWS, top_k=3)).tokens.shape == (3, 3)


def test_the_aarch64_build_starts_on_old_systems():
    """Built by zig it asks for no glibc newer than promised, and for no C++ library of the system."""
    if not importlib.util.find_spec("ziglang"):
        pytest.skip("ziglang is not installed: run `pip install ziglang`")
    binary = native.runner("aarch64").read_bytes()
    needed = [tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_([0-9.]+[0-9])", binary)]
    assert max(needed) <= tuple(map(int, native.GLIBC.split(".")))
    assert b"libstdc++.so" not in binary


def test_the_environment_chooses_the_stand_ins_api(monkeypatch):
    """PARITY_SIM_RUNTIME_API names the API whose library is taken; any other word is refused."""
    monkeypatch.setenv("PARITY_SIM_RUNTIME_API", "v1")
    assert native.stand_in_runtime().parent.name == "v1"
    monkeypatch.setenv("PARITY_SIM_RUNTIME_API", "v3")
    with pytest.raises(UnavailableError, match="both, v1 or v2"):
        native.stand_in_runtime()


def test_a_missing_compiler_says_what_to_install(tmp_path, monkeypatch):
    """A build that cannot be done is a BuildError with a hint, and leaves nothing behind."""
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(BuildError, match=r"configuring runner failed.*Install a C\+\+17 compiler"):
        native.runner(folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_an_error_of_the_compiler_is_told(tmp_path, monkeypatch):
    """The compiler's first error line is in the message."""
    source = tmp_path / "runner"
    shutil.copytree(native.RUNNER_SOURCE, source)
    (source / "src" / "bytes.cpp").write_text("int main( {}\n")
    monkeypatch.setattr(native, "RUNNER_SOURCE", source)
    with pytest.raises(BuildError, match=r"compiling runner failed: .*bytes\.cpp:1:\d+: error: "):
        native.runner(folder=tmp_path / "native")


def test_targets_that_are_not_there(tmp_path, monkeypatch):
    """The error for each says what to install or set."""
    monkeypatch.delenv("ANDROID_NDK", raising=False)
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    with pytest.raises(UnavailableError, match="Set ANDROID_NDK"):
        native.runner("android", folder=tmp_path)
    with pytest.raises(UnavailableError, match="Targets: host, aarch64, android"):
        native.runner("toaster", folder=tmp_path)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match="pip install ziglang"):
        native.runner("aarch64", folder=tmp_path)
