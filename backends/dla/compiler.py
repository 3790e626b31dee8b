"""ncc-tflite: from a TFLite file to a DLA file, and whether to believe it.

Its exit codes are not documented, so a compilation counts only if the tool exits with 0, writes a fresh non-empty file,
and its execution plan names no engine but the MDLA.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.backends.dla.settings import Settings, compiler_libraries, compiler_path
from whisper_parity.errors import BuildError, UnavailableError, first_line
from whisper_parity.system import tool
from whisper_parity.system.process import python_module

LAST_LINES = 6
VERSION_LIMIT_S = 30.0
_TROUBLE = re.compile(r"error|unsupported|not support|unmappable|fail", re.IGNORECASE)
_TARGET = re.compile(r"Target\w*\s*[:=]\s*(.+)")


@dataclass(frozen=True, slots=True)
class Compiler:
    """The tool, or the stand-in for it."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    version: str
    """As the tool reports it."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The record of one compilation."""

    command: str
    """The command line, without paths."""
    seconds: float
    targets: tuple[str, ...]
    """Engines of the execution plan."""


def find(settings: Settings, *, simulated: bool) -> Compiler:
    """The configured compiler, or the simulator's, with its version.

    Raises:
        UnavailableError: no compiler is configured, or it does not run here.
    """
    if simulated:
        command = tuple(python_module("whisper_parity.backends.dla.simulator.ncc_tflite"))
        return Compiler(command, {}, _version(command, {}))
    path = compiler_path(settings)
    if path is None:
        raise UnavailableError(
            "no Neuron SDK is configured",
            hint="Set sdk under [backends.dla] of parity.toml, or MTK_NEURON_SDK; dla:simulated needs none",
        )
    if not path.is_file():
        raise UnavailableError(f"{path}: no such compiler", hint="Check sdk or ncc under [backends.dla]")
    libraries = compiler_libraries(settings)
    environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
    command = (str(path.absolute()),)
    return Compiler(command, environment, _version(command, environment))


def compile_file(
    compiler: Compiler, source: Path, target: Path, flags: Sequence[str], settings: Settings, *, foreign: bool = False
) -> Compiled:
    """Compile one TFLite file; where that is not ours, the compiler may write into the target's folder only.

    Raises:
        BuildError: the tool failed, wrote nothing, or placed something off the MDLA.
    """
    target.unlink(missing_ok=True)
    command = [*compiler.command, str(source.absolute()), *flags, "--show-exec-plan", "-o", str(target.absolute())]
    started = time.monotonic()
    environment = compiler.environment
    if foreign:
        command, environment = _confined(command, environment, target.parent.absolute()), {}
    code, output = _run(command, environment, settings.compile_limit_s, target.parent)
    seconds = round(time.monotonic() - started, 3)
    if code != 0 or not target.is_file() or target.stat().st_size == 0:
        wrote = "" if target.is_file() else " and wrote no file"
        raise BuildError(f"ncc-tflite on {source.name}: exit code {code}{wrote}: {last_lines(output)}")
    targets = targets_of(output)
    if settings.exec_plan == "required":
        _require_mdla(source.name, targets, output)
    names = [Path(compiler.command[-1]).name, source.name, *flags, "--show-exec-plan", "-o", target.name]
    return Compiled(shlex.join(names), seconds, targets)


def targets_of(output: str) -> tuple[str, ...]:
    """The engines that an execution plan names, each once, in order."""
    names = [name.strip(" ,\"'[]") for match in _TARGET.finditer(output) for name in re.split(r"[,\s]+", match[1])]
    return tuple(dict.fromkeys(name for name in names if name))


def last_lines(output: str) -> str:
    """The tool's last lines, joined; only those that mention an error, if any do."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if _TROUBLE.search(line)]
    return " | ".join((errors or lines or ["it printed nothing"])[-LAST_LINES:])[:600]


def _require_mdla(name: str, targets: tuple[str, ...], output: str) -> None:
    others = [target for target in targets if not target.upper().startswith("MDLA")]
    if not targets:
        raise BuildError(
            f"ncc-tflite on {name}: it printed no execution plan ({last_lines(output)})",
            hint='Set exec_plan = "ignored" under [backends.dla] if this version prints none',
        )
    if others:
        raise BuildError(
            f"ncc-tflite on {name}: not all of it runs on the MDLA: {', '.join(others)}",
            hint='Change the graph, or set exec_plan = "ignored" under [backends.dla] to accept it',
        )


def _confined(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> list[str]:
    """The command, writing into a folder only; the SDK's libraries are for it, not for the Python that confines it."""
    variables = [f"{name}={value}" for name, value in {**environment, "TMPDIR": str(folder)}.items()]
    return tool.command(["/usr/bin/env", *variables, *command], [folder])


def _run(command: Sequence[str], environment: Mapping[str, str], limit_s: float, folder: Path) -> tuple[int, str]:
    try:
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=limit_s, env={**os.environ, **environment}, cwd=folder, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"ncc-tflite took more than {limit_s:.0f} s",
            hint="Raise compile_limit_s under [backends.dla]",
        ) from error
    except OSError as error:
        raise UnavailableError(f"{command[0]}: cannot be run here ({first_line(error)})") from error
    return process.returncode, process.stdout


def _version(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """The first line of --version with a number, else the first line."""
    try:
        code, output = _run([*command, "--version"], environment, VERSION_LIMIT_S, Path.cwd())
    except BuildError as error:
        raise UnavailableError(f"{command[0]}: no answer to --version", hint="Does it run on this machine?") from error
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if code in (126, 127) or code < 0:
        raise UnavailableError(f"{command[0]}: does not run here (exit code {code}): {last_lines(output)}")
    numbered = [line for line in lines if re.search(r"\d+\.\d+", line)]
    return (numbered or lines or [f"unknown (exit code {code})"])[0][:100]
