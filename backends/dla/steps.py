"""How the files of a decoder with a KV cache take and give their numbers: recorded when they are compiled, or found.

A record beside the files (`compilation_...json`) says what the TFLite files had. Files of others have none: their
layout is told by what the runtime says of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Fitted, Layout
from whisper_parity.backends.dla.sessions import iomap
from whisper_parity.backends.dla.sessions.iomap import Found
from whisper_parity.backends.dla.settings import Settings
from whisper_parity.backends.dla.simulator import container
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.backends.split.embedding import link_or_copy, write_of_cached
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.tflite import ports
from whisper_parity.errors import ArtifactError, BuildError, InputError, first_line
from whisper_parity.model.dims import Dims
from whisper_parity.system import inputs

RECORD = "steps"
AGAIN = "Build it again"
ROLES = ("encoder", "decoder")
TABLES = ("token_embedding", "position_embedding")


def recorded(parent: Artifact, known: Sequence[Layout]) -> dict[str, Any]:
    """What is to be known of the TFLite files that are compiled.

    Raises:
        ArtifactError: they fit no layout.
        BuildError: one cannot be read.
    """
    fitted = parent.interface
    if not isinstance(fitted, Fitted):
        files = {role: parent.path(role) for role in ROLES}
        fitted = ports.stepped(files, known, parent.checkpoint.dims, Choices())
    if fitted is None:
        raise BuildError(f"{parent.path('decoder').name}: its inputs and outputs cannot be read", hint=AGAIN)
    return {"fitted": fitting.stated(fitted), "layout": asdict(fitted.layout)}


def write_tables(parent: Artifact, out: Path) -> None:
    """Put both tables beside compiled files: the parent's, or where its decoder takes none the checkpoint's."""
    if missing := [role for role in TABLES if role not in parent.files]:
        write_of_cached(parent.checkpoint, out)
    for role in TABLES:
        if role not in missing:
            (out / f"{role}.npy").unlink(missing_ok=True)
            link_or_copy(parent.path(role), out / f"{role}.npy")


def fitted(
    artifact: Artifact, known: Sequence[Layout], settings: Settings, encoder: Found, decoder: Found
) -> Fitted:  # fmt: skip
    """How the files of an artifact take and give their numbers.

    Args:
        artifact: the files, with a record beside them or without.
        known: layouts.
        settings: of this site.
        encoder: what the runtime says of it.
        decoder: the same.

    Raises:
        ArtifactError: they fit no layout, or are not those that were recorded; or a window that the run does not have.
    """
    if settings.probe_order == "reversed":
        ordered = replace(settings, probe_order="file")
        return iomap.turned(fitted(artifact, known, ordered, iomap.reversed_(encoder), iomap.reversed_(decoder)))
    where, dims = str(artifact.path("decoder")), artifact.checkpoint.dims
    of_record = artifact.interface if isinstance(artifact.interface, Fitted) else of_artifact(artifact)
    if of_record is not None:
        return iomap.require_same(where, of_record, encoder, decoder, _native_sides(settings))
    native = settings.native_inputs("decoder") or settings.native_outputs("decoder")
    floats = iomap.FLOATS[::-1] if native else iomap.FLOATS
    found = iomap.fit(where, known, encoder, decoder, dims, floats)
    if found.n_audio_ctx != dims.n_audio_ctx:
        seconds = 2 * found.n_audio_ctx / 100
        raise ArtifactError(
            f"{where}: the encoder takes windows of {seconds:g} s, which no record beside it says",
            hint="Put the record of its compilation beside it, or build the stage from its TFLite files",
        )
    return found


def _native_sides(settings: Settings) -> tuple[str, ...]:
    """Sides of the files that the compiler's flags leave in float16."""
    inputs_ = (f"{role} input" for role in ROLES if settings.native_inputs(role))
    return (*inputs_, *(f"{role} output" for role in ROLES if settings.native_outputs(role)))


def stated(artifact: Artifact, known: Sequence[Layout]) -> Fitted | None:
    """What can be known of given files without a device: by a record, or the header of a stand-in; None for nothing.

    Raises:
        ArtifactError: a record that is damaged, or a stand-in that fits no layout.
    """
    if (fitted := of_artifact(artifact)) is not None:
        return fitted
    headers = {role: _header(artifact.path(role)) for role in ROLES}
    encoder, decoder = headers["encoder"], headers["decoder"]
    if encoder is None or decoder is None:
        return None
    return iomap.of_ports(str(artifact.path("decoder")), known, encoder, decoder, artifact.checkpoint.dims)


def of_files(artifact: Artifact, settings: Settings) -> Fitted | None:
    """`stated` for who asks the runtime itself, by the handles that it has there.

    Raises:
        ArtifactError: see `stated`.
    """
    fitted = stated(artifact, layouts.known(settings.layouts))
    return iomap.turned(fitted) if fitted and settings.probe_order == "reversed" else fitted


def _header(path: Path) -> Found | None:
    """Inputs and outputs of a stand-in."""
    with path.open("rb") as file:
        start = file.read(12 + container.HEADER_LIMIT)
    try:
        header, _ = container.read(start)
    except ValueError:
        return None
    return Found(_ports(header.inputs), _ports(header.outputs))


def _ports(tensors: Sequence[container.Tensor]) -> tuple[Port, ...]:
    return tuple(Port(one.name, handle, one.shape, (0, 0), one.dtype) for handle, one in enumerate(tensors))


def of_artifact(artifact: Artifact) -> Fitted | None:
    """What the record beside the files says; None where there is none.

    Raises:
        ArtifactError: a record that is damaged.
    """
    if "compilation" not in artifact.files:
        return None
    path = artifact.path("compilation")
    try:
        record = inputs.read_json(path)
    except InputError as error:
        raise ArtifactError(f"{path}: no record of a compilation ({first_line(error)})", hint=AGAIN) from error
    stated = record.get(RECORD) if isinstance(record, dict) else None
    return None if stated is None else _parsed(path, stated, artifact.checkpoint.dims)


def _parsed(path: Path, stated: Any, dims: Dims) -> Fitted:
    try:
        found = fitting.parsed(stated["fitted"], [Layout.parse(stated["layout"])])
        fitting.require_sound(found, dims)
    except (KeyError, TypeError, ValueError, AttributeError, ArtifactError) as error:
        reason = first_line(error)
        raise ArtifactError(
            f"{path}: its record of inputs and outputs cannot be used ({reason})", hint=AGAIN
        ) from error
    return replace(found, notes=fitting.notes_of(found, dims))
