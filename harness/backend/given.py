"""Files that a user gives: found by their usual names, or by what they can only be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from whisper_parity.backend import artifact as artifacts
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Backend
from whisper_parity.backend.facets import Recognising
from whisper_parity.backend.stage import StageName
from whisper_parity.errors import ArtifactError
from whisper_parity.model.checkpoint import Checkpoint

HALVES = ("encoder", "decoder")
REQUIRED = (*HALVES, "token_embedding")
SHOWN = 6
"""Names of a folder's files that a message lists."""


def find(folder: Path, backend: Backend, checkpoint: Checkpoint, name: StageName) -> Artifact | None:
    """A stage's files in the user's folder, with a lineage record or without; None when none of them is there.

    Names that we do not know are taken where exactly one file can be the encoder and exactly one the decoder.

    Raises:
        ArtifactError: no such folder, a record that does not fit, a file of the stage that is missing, or names of
            another checkpoint.
    """
    require_folder(folder)
    if recorded := artifacts.read_lineage(folder, str(name), checkpoint, artifacts.GIVEN):
        return recorded
    usual = backend.file_names(checkpoint, name.variant)
    named = {role: file for role, file in usual.items() if (folder / file).is_file()}
    if not set(HALVES) & set(named):
        return _recognised(folder, backend, checkpoint, name, usual)
    wanted = {role: file for role, file in usual.items() if role in named or role in REQUIRED}
    return Artifact(str(name), folder, artifacts.describe(folder, wanted), checkpoint, artifacts.GIVEN)


def require_folder(folder: Path) -> None:
    """Refuse a folder that is not there.

    Raises:
        ArtifactError: there is none.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder", hint="Give the folder that holds the artifacts")


def missing(folder: Path, backend: Backend, checkpoint: Checkpoint, name: StageName) -> ArtifactError:
    """The error for a stage without files in the user's folder."""
    usual = backend.file_names(checkpoint, name.variant)
    expected = " and ".join(usual[role] for role in HALVES if role in usual) or ", ".join(usual.values())
    return ArtifactError(
        f"no files of {name} in {folder}: expected {expected}; found: {_listed(file.name for file in _files(folder))}",
        hint="Rename them, or build the stage by --build-missing",
    )


def _recognised(
    folder: Path, backend: Backend, checkpoint: Checkpoint, name: StageName, usual: Mapping[str, str]
) -> Artifact | None:
    """Files that can be nothing else by their inputs and outputs, a note about each; None where that is not so."""
    by_role: dict[str, list[str]] = {role: [] for role in HALVES}
    if isinstance(backend, Recognising):
        for file in _unclaimed(folder, backend, checkpoint):
            if role := backend.recognise(file, checkpoint, name.variant):
                by_role[role].append(file.name)
    if not any(by_role.values()):
        return None
    if any(len(files) != 1 for files in by_role.values()):
        ends = "; ".join(f"{role}: {_listed(files)}" for role, files in by_role.items())
        raise ArtifactError(
            f"{folder}: which files are {name}? By their inputs and outputs: {ends}",
            hint=f"Name them {usual['encoder']} and {usual['decoder']}",
        )
    halves = {role: files[0] for role, files in by_role.items()}
    others = {role: file for role, file in usual.items() if role not in HALVES}
    beside = {role: file for role, file in others.items() if role in REQUIRED or (folder / file).is_file()}
    artifact = Artifact(
        str(name), folder, artifacts.describe(folder, {**halves, **beside}), checkpoint, artifacts.GIVEN
    )
    notes = tuple(f"{file} taken as the {role}, by its inputs and outputs" for role, file in halves.items())
    return replace(artifact, notes=notes)


def _unclaimed(folder: Path, backend: Backend, checkpoint: Checkpoint) -> list[Path]:
    """Files that are not another variant's by their names."""
    claimed = {file for variant in ("", *backend.variants) for file in backend.file_names(checkpoint, variant).values()}
    return [file for file in _files(folder) if file.name not in claimed]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _listed(names: Iterable[str]) -> str:
    words = list(names)
    more = f", and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return (", ".join(words[:SHOWN]) + more) or "none"
