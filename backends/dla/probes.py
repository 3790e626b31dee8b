"""Probes of DLA files, which show nothing of what is inside.

What was compiled is compiled again with taps: copies of the same TFLite files, their hidden states beside the output or
in place of inputs, by the same compiler and flags. MTKEXT ops stay as they are. A DLA file keeps no names, so the ports
of a copy are recorded beside it, in the order in which the compiler is taken to number them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backend.taps import Taps
from whisper_parity.backends import provenance
from whisper_parity.backends.dla import compiler
from whisper_parity.backends.dla.compiler import Compiler
from whisper_parity.backends.dla.settings import Settings
from whisper_parity.backends.tflite import surgery
from whisper_parity.backends.tflite.surgery import Copy
from whisper_parity.errors import ArtifactError, InputError
from whisper_parity.system import inputs

AGAIN = "Delete it: it is made again"
PORTS = "ports"


def compiled(
    tool: Compiler, parent: Artifact, out: Path, names: Mapping[str, str], wanted: Taps, settings: Settings
) -> dict[str, Any]:
    """Compile copies with taps of the files that a stage's were compiled from.

    Args:
        tool: that compiled the stage's files, as far as is known.
        parent: the TFLite files.
        out: folder.
        names: of the files, by role.
        wanted: the taps.
        settings: of this site: its flags are the compiler's.

    Returns:
        The record of the compilation, by role, and the ports of the copies.

    Raises:
        UnavailableError: units of the file are not told apart.
        ArtifactError: no usable TFLite file.
        BuildError: the compiler failed.
    """
    record: dict[str, Any] = {PORTS: {}}
    for role in wanted.components:
        flags, foreign = settings.compile_flags(role), parent.origin == GIVEN
        with tempfile.TemporaryDirectory(prefix="parity-") as folder:
            tapped = Path(folder) / f"{role}.tflite"
            copy = surgery.write(parent.path(role), tapped, wanted.kind, wanted.of(role), role, parent.checkpoint.dims)
            done = compiler.compile_file(tool, tapped, out / names[role], flags, settings, foreign=foreign)
        record[role] = asdict(done)
        record[PORTS][role] = {name: value for name, value in asdict(copy).items() if name != "path"}
    return record


def recorded(path: Path, role: str) -> Copy:
    """The ports of a compiled copy.

    Raises:
        ArtifactError: the record beside it does not say them.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        ports = inputs.read_json(path)[PORTS][role]
        return TypeAdapter(Copy).validate_python({**ports, "path": path})
    except (InputError, KeyError, TypeError, ValidationError) as error:
        raise ArtifactError(f"{path}: no record of the ports of the {role}'s probe", hint=AGAIN) from error


def tools() -> dict[str, str]:
    """What decides a probe beside the tools of ordinary files."""
    code = provenance.of_code(
        "backends.dla.probes", "backends.tflite.surgery", "backends.split.stream", "backend.taps"
    )  # fmt: skip
    return {"probes": code["whisper-parity"]}
