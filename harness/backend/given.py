"""Files that a user gives: found by their usual names, or by what they can only be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from whisper_parity.backend import artifact as artifacts
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Backend
from whisper_parity.backend.facets import Readable, Recognising
from whisper_parity.backend.stage import StageName
from whisper_parity.errors import ArtifactError
from whisper_parity.model.checkpoint import Checkpoint

HALVES = ("encoder", "decoder")
TABLE = "token_embedding"
SHOWN = 6
"""Names of a folder's files that a message lists."""


def find(folder: Path, backend: Backend, checkpoint: Checkpoint, name: StageName) -> Artifact | None:
    """A stage's files in the user's folder, with a lineage record or without; None when none of them is there.

    A half under a name that we do not know is taken where exactly one file can be it.

    Raises:
        ArtifactError: no such folder, a record that does not fit, a file of the stage that is missing, or names of
            another checkpoint.
    """
    require_folder(folder)
    if recorded := artifacts.read_lineage(folder, str(name), checkpoint, artifacts.GIVEN):
        return recorded
    usual = backend.file_names(checkpoint, name.variant)
    named = {role: file for role, file in usual.items() if (folder / file).is_file()}
    recognised = _recognised(folder, backend, checkpoint, name, named)
    if not {*named, *recognised} & set(HALVES):
        return None
    wanted = {role: file for role, file in usual.items() if role in named or role in HALVES} | recognised
    notes = tuple(f"{file} taken as the {role}, by its inputs and outputs" for role, file in recognised.items())
    files = artifacts.describe(folder, wanted)
    artifact = Artifact(str(name), folder, files, checkpoint, artifacts.GIVEN, notes=notes)
    return _with_interface(artifact, backend, usual)


def _with_interface(artifact: Artifact, backend: Backend, usual: Mapping[str, str]) -> Artifact:
    """The artifact with what its files take and give, and the tables in which these have their rows looked up."""
    ports = None
    if isinstance(backend, Readable):
        ports = backend.interface(artifact)
    needed = ports.tables if ports else (TABLE,)
    tables = {role: usual[role] for role in needed if role in usual and role not in artifact.files}
    files = artifact.files | artifacts.describe(artifact.folder, tables)
    notes = (*artifact.notes, *(ports.notes if ports else ()))
    return replace(artifact, files=files, interface=ports, notes=notes)


def has_halves(backend: Backend, checkpoint: Checkpoint, name: StageName) -> bool:
    """Whether a stage has files that a folder can hold: a program of the settings has none."""
    return bool(set(HALVES) & set(backend.file_names(checkpoint, name.variant)))


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
        hint=_of_another_variant(folder, backend, checkpoint, name)
        or "Rename them, or build the stage by --build-missing",
    )


def _recognised(
    folder: Path, backend: Backend, checkpoint: Checkpoint, name: StageName, named: Mapping[str, str]
) -> dict[str, str]:
    """The halves beside the named ones, by what the other files can only be; none where no file can be one.

    Raises:
        ArtifactError: several files can be a half, or only one of two halves is there.
    """
    candidates: dict[str, list[str]] = {role: [] for role in HALVES if role not in named}
    if candidates and isinstance(backend, Recognising):
        for files in _apart(folder, backend, checkpoint):
            free = [file for file in files if file.name not in named.values()]  # a named half is not the other one, too
            roles = {file.name: backend.recognise(file, checkpoint, name.variant) for file in free}
            for role in [role for role, hits in candidates.items() if not hits]:
                candidates[role] += [file for file, found in roles.items() if found == role]
    others = {file.name for file in _apart(folder, backend, checkpoint)[1]}
    if not any(candidates.values()) or (not candidates.get("decoder", [""]) and others >= {*candidates["encoder"]}):
        return {}  # an encoder that another variant has too is no stage of its own
    if any(len(files) != 1 for files in candidates.values()):
        ends = "; ".join(f"{role}: {_listed(files)}" for role, files in candidates.items())
        usual = backend.file_names(checkpoint, name.variant)
        raise ArtifactError(
            f"{folder}: which files are {name}? By their inputs and outputs: {ends}",
            hint=_of_another_variant(folder, backend, checkpoint, name)
            or f"Name them {' and '.join(usual[role] for role in candidates)}",
        )
    return {role: files[0] for role, files in candidates.items()}


def _apart(folder: Path, backend: Backend, checkpoint: Checkpoint) -> tuple[list[Path], list[Path]]:
    """Files that no variant claims by their names; and those that one does, which may hold another one's content."""
    claimed = {file for variant in ("", *backend.variants) for file in backend.file_names(checkpoint, variant).values()}
    files = _files(folder)
    return [file for file in files if file.name not in claimed], [file for file in files if file.name in claimed]


def _of_another_variant(folder: Path, backend: Backend, checkpoint: Checkpoint, name: StageName) -> str:
    """What to do where a decoder of another variant lies there; "" where none does."""
    if not isinstance(backend, Recognising):
        return ""
    for file in _files(folder):
        if backend.recognise(file, checkpoint, name.variant) is not None:
            continue  # it is one of the stage's own, whatever other variant has the same
        for variant in dict.fromkeys(("", *backend.variants)):
            if variant != name.variant and backend.recognise(file, checkpoint, variant) == HALVES[1]:
                return f"{file.name} is the decoder of {StageName(name.backend, variant)}: name the stage so"
    return ""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _listed(names: Iterable[str]) -> str:
    words = list(names)
    more = f", and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return (", ".join(words[:SHOWN]) + more) or "none"
