"""The shell script that runs a program once: a fresh folder of links, limits, and what it left there.

It is the same on this machine and on a device: a POSIX shell, `ln`, `wc`, `kill` and `sleep`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STDOUT, STDERR = ".parity-stdout", ".parity-stderr"
_KILLED = ".parity-killed"
BLOCK = 512
"""Bytes of the unit of `ulimit -f`."""
_RUN = """{setup}
( ulimit -f {blocks} 2>/dev/null; {exports}exec {command} ) >{stdout} 2>{stderr} </dev/null &
pid=$!
( i=0; while [ $i -lt {limit_s} ]; do sleep 1; kill -0 $pid 2>/dev/null || exit 0; i=$((i+1)); done
  : >{killed}; kill -9 $pid ) >/dev/null 2>&1 </dev/null &
wait $pid
code=$?
[ -f {killed} ] && echo killed
echo "code $code"
{sizes}
"""
_SIZE = '[ -f {name} ] && echo "size {index} $(wc -c <{name})"'


@dataclass(frozen=True, slots=True)
class Ran:
    """How a script's program ended, and which of the wanted files are there."""

    code: int | None
    """None where the script itself failed."""
    killed: bool
    """At the time limit."""
    sizes: Mapping[str, int]
    """By name [bytes]."""


def text(
    folder: str, links: Mapping[str, str], command: Sequence[str], environment: Mapping[str, str],
    wanted: Sequence[str], *, limit_s: float, largest: int,
) -> str:  # fmt: skip
    """The script.

    Args:
        folder: the working folder, emptied first.
        links: files to have in it, by their names there.
        command: the program and its arguments.
        environment: variables to set.
        wanted: names of files whose sizes are told.
        limit_s: time after which the program is killed [s].
        largest: size of the largest file that it may write [bytes].
    """
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in environment.items())
    return _RUN.format(
        setup=_setup(folder, links), blocks=max(1, largest // BLOCK), exports=exports, command=shlex.join(command),
        stdout=STDOUT, stderr=STDERR, killed=_KILLED, limit_s=max(1, round(limit_s)),
        sizes="\n".join(_SIZE.format(name=_quoted(name), index=i) for i, name in enumerate(wanted)) + "\ntrue",
    )  # fmt: skip


def _setup(folder: str, links: Mapping[str, str]) -> str:
    place = shlex.quote(folder)
    folders = sorted({name.rpartition("/")[0] for name in links if "/" in name})
    lines = [f"rm -rf {place}; mkdir -p {place} && cd {place} || exit 9"]
    lines += [f"mkdir -p {_quoted(inner)}" for inner in folders]
    lines += [
        f"ln -s {shlex.quote(there)} {_quoted(name)} 2>/dev/null || cp {shlex.quote(there)} {_quoted(name)} || exit 9"
        for name, there in links.items()
    ]
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return shlex.quote(f"./{name}")


def ran(printed: str, wanted: Sequence[str]) -> Ran:
    """What a script printed."""
    lines = [line.strip() for line in printed.splitlines()]
    code = next((int(line[5:]) for line in lines if re.fullmatch(r"code [0-9]{1,3}", line)), None)
    sizes = {}
    for line in lines:
        if match := re.fullmatch(r"size ([0-9]{1,4})\s+([0-9]{1,14})", line):
            sizes[wanted[int(match[1])]] = int(match[2])
    return Ran(code, "killed" in lines, sizes)
