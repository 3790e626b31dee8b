"""The C++ parts, built with CMake on first use and cached by the hash of their sources."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.errors import BuildError, OutputError, UnavailableError
from whisper_parity.system.files import locked

HERE = Path(__file__).resolve().parent
RUNNER_SOURCE = HERE / "runner"
STAND_IN_SOURCE = HERE / "simulator" / "runtime"
APP_SOURCE = HERE / "app"
TARGETS = ("host", "aarch64", "android")

GLIBC = "2.31"
"""Oldest glibc that an aarch64 runner built with zig supports: Yocto since Dunfell, Ubuntu since 20.04."""


@dataclass(frozen=True, slots=True)
class _Toolchain:
    """How to compile for a target: CMake's arguments, and the compiler's identity for the cache key."""

    arguments: tuple[str, ...] = ()
    identity: str = ""


def runner(target: str = "host", *, sanitize: str = "", folder: Path | None = None) -> Path:
    """The runner's binary for a target, built unless cached.

    Args:
        target: "host", "aarch64" (glibc) or "android" (arm64; needs ANDROID_NDK).
        sanitize: value of -fsanitize=, for tests ("address,undefined").
        folder: where builds are kept; None for the cache.

    Raises:
        UnavailableError: no cross compiler, or no CMake.
        BuildError: the build failed.
    """
    return _built(RUNNER_SOURCE, "runner", target, _options(sanitize), folder) / "parity-runner"


def checks(*, sanitize: str = "", folder: Path | None = None) -> Path:
    """Build the runner, `golden-check` and `frame-fuzz` for this machine; return their folder.

    Raises:
        UnavailableError: no CMake.
        BuildError: the build failed.
    """
    return _built(RUNNER_SOURCE, "checks", "host", ("-DPARITY_CHECKS=ON", *_options(sanitize)), folder)


def app(target: str = "host", *, sanitize: str = "", faults: bool = False, folder: Path | None = None) -> Path:
    """`parity-whisper` for a target, built unless cached.

    Args:
        target: as for `runner`.
        sanitize: as for `runner`.
        faults: build `parity-whisper-faulty` instead, for tests: PARITY_FAULT in its environment names a fault.
        folder: where builds are kept; None for the cache.

    Raises:
        UnavailableError: no cross compiler, or no CMake.
        BuildError: the build failed.
    """
    options = (*_options(sanitize), *(("-DPARITY_FAULTS=ON",) if faults else ()))
    kind = "app-faulty" if faults else "app"
    return _built(APP_SOURCE, kind, target, options, folder) / ("parity-whisper-faulty" if faults else "parity-whisper")


def app_checks(*, sanitize: str = "", folder: Path | None = None) -> Path:
    """Build `parity-whisper` and `wav-fuzz` for this machine; return their folder.

    Raises:
        UnavailableError: no CMake.
        BuildError: the build failed.
    """
    return _built(APP_SOURCE, "app-checks", "host", ("-DPARITY_CHECKS=ON", *_options(sanitize)), folder)


def stand_in_runtime(api: str | None = None, target: str = "host", *, folder: Path | None = None) -> Path:
    """The simulator's libneuron_runtime.so, built unless cached.

    Args:
        api: "both", "v1" or "v2": which symbols it exports; None for PARITY_SIM_RUNTIME_API, else both.
        target: as for `runner`.
        folder: where builds are kept; None for the cache.

    Raises:
        UnavailableError: no cross compiler, or no CMake.
        BuildError: the build failed.
    """
    api = api or os.environ.get("PARITY_SIM_RUNTIME_API") or "both"
    if api not in ("both", "v1", "v2"):
        raise UnavailableError(f"no stand-in runtime with API {api!r}", hint="PARITY_SIM_RUNTIME_API: both, v1 or v2")
    return _built(STAND_IN_SOURCE, "stand-in", target, (), folder) / api / "libneuron_runtime.so"


def litert_library() -> Path:
    """libLiteRt.so of the installed ai-edge-litert, which the stand-in runtime computes with (PARITY_SIM_LITERT).

    Raises:
        UnavailableError: no such package, or no library in it.
    """
    spec = importlib.util.find_spec("ai_edge_litert")
    library = Path(spec.origin).parent / "libLiteRt.so" if spec and spec.origin else None
    if library is None or not library.is_file():
        raise UnavailableError("libLiteRt.so is not installed", hint="Run `pip install ai-edge-litert`")
    return library


def build_id() -> str:
    """The build id that a runner of these sources reports: 16 hexadecimal digits."""
    sources = sorted(path for path in (RUNNER_SOURCE / "src").iterdir() if path.suffix in (".cpp", ".h"))
    listing = "".join(f"src/{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in sources)
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def app_id() -> str:
    """Hash of the sources of `parity-whisper`: 12 hexadecimal digits."""
    return _key(_sources(APP_SOURCE), ())


def _options(sanitize: str) -> tuple[str, ...]:
    return (f"-DPARITY_SANITIZE={sanitize}",) if sanitize else ()


def _built(source: Path, kind: str, target: str, options: Sequence[str], folder: Path | None) -> Path:
    """The folder of a finished build, which gets its name only once complete."""
    toolchain = _toolchain(target)
    key = _key(_sources(source), (*options, *toolchain.arguments, toolchain.identity))
    folder = folder or project.cache() / "native"
    out = folder / f"{kind}-{target}-{key}"
    if out.is_dir():
        return out
    with locked(folder / f".{out.name}.lock"):
        if not out.is_dir():
            _build(source, out, (*options, *toolchain.arguments), toolchain)
    return out


def _sources(source: Path) -> tuple[Path, ...]:
    """The folders whose files a build reads: the program is made of the runner's sources and the stand-in's JSON."""
    return (source, RUNNER_SOURCE, STAND_IN_SOURCE / "src") if source == APP_SOURCE else (source,)


def _key(sources: Sequence[Path], options: Sequence[str]) -> str:
    """Hash of everything that determines the binaries."""
    digest = hashlib.sha256("\n".join(options).encode())
    for folder in sources:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
            digest.update(f"{path.relative_to(folder)}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _build(source: Path, out: Path, options: Sequence[str], toolchain: _Toolchain) -> None:
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if toolchain.identity.startswith("ziglang"):
            _write_zig_wrapper(partial / "zig-c++")
            options = (*options, f"-DCMAKE_CXX_COMPILER={partial / 'zig-c++'}")
        work, installed = partial / "work", partial / "out"
        cmake = _cmake()
        configure = ("-S", str(source), "-B", str(work), "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Release", *options)
        _run((*cmake, *configure, f"-DCMAKE_INSTALL_PREFIX={installed}"), f"configuring {source.name}")
        _run((*cmake, "--build", str(work), "--parallel", "2"), f"compiling {source.name}")
        _run((*cmake, "--install", str(work)), f"installing {source.name}")
        installed.replace(out)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror or error})", hint="Check free space and write permission"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cmake() -> tuple[str, ...]:
    if importlib.util.find_spec("cmake"):
        return sys.executable, "-m", "cmake"
    if path := shutil.which("cmake"):
        return (path,)
    raise UnavailableError("CMake is not installed", hint="Run `pip install 'whisper-parity[device]'`")


def _run(command: Sequence[str], what: str) -> None:
    process = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if process.returncode == 0:
        return
    raise BuildError(f"{what} failed: {_reason(process.stdout + process.stderr)}", hint=_hint(process.stderr))


def _reason(output: str) -> str:
    """The compiler's or linker's first error, else CMake's."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror:|undefined reference|cannot find -l", line)]
    cmake = [" ".join(lines[i : i + 2]) for i, line in enumerate(lines) if line.startswith("CMake Error")]
    return (errors or cmake or lines[-1:] or ["no output"])[0][:300]


def _hint(stderr: str) -> str:
    if "CMAKE_MAKE_PROGRAM" in stderr:
        return "Install make"
    no_compiler = ("CMAKE_CXX_COMPILER", "compiler identification is unknown", "compiler is not able")
    if any(symptom in stderr for symptom in no_compiler):
        return "Install a C++17 compiler (g++ or clang++), or set CXX"
    return "A C++17 compiler is needed: g++ 9 or clang++ 10 or later"


def _toolchain(target: str) -> _Toolchain:
    if target == "host":
        return _Toolchain(identity=os.environ.get("CXX", ""))
    if target == "aarch64":
        return _aarch64()
    if target == "android":
        return _android()
    raise UnavailableError(f"no native target {target!r}", hint=f"Targets: {', '.join(TARGETS)}")


def _aarch64() -> _Toolchain:
    """Prefer zig: its binaries run on older systems than those of a distribution's cross compiler."""
    folder = RUNNER_SOURCE / "cmake"
    if importlib.util.find_spec("ziglang"):
        from importlib.metadata import version

        return _Toolchain((f"-DCMAKE_TOOLCHAIN_FILE={folder / 'aarch64-zig.cmake'}",), f"ziglang {version('ziglang')}")
    if shutil.which("aarch64-linux-gnu-g++"):
        return _Toolchain((f"-DCMAKE_TOOLCHAIN_FILE={folder / 'aarch64-gnu.cmake'}",), "aarch64-linux-gnu-g++")
    raise UnavailableError(
        "no compiler for aarch64", hint="Run `pip install ziglang`, or install aarch64-linux-gnu-g++"
    )


def _android() -> _Toolchain:
    ndk = os.environ.get("ANDROID_NDK") or os.environ.get("ANDROID_NDK_HOME") or ""
    if not (Path(ndk) / "build" / "cmake" / "android.toolchain.cmake").is_file():
        raise UnavailableError("no Android NDK", hint="Set ANDROID_NDK to its folder")
    return _Toolchain((f"-DCMAKE_TOOLCHAIN_FILE={RUNNER_SOURCE / 'cmake' / 'android.cmake'}",), f"ndk {ndk}")


def _write_zig_wrapper(path: Path) -> None:
    """Wrap the compiler, since CMake wants it as one word."""
    command = f'exec "{sys.executable}" -m ziglang c++ -target aarch64-linux-gnu.{GLIBC} "$@"'
    path.write_text(f"#!/bin/sh\n{command}\n", "utf-8")
    path.chmod(0o755)
