"""Looking up the files of a stage, or those that lie in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from whisper_parity import project
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Backend
from whisper_parity.backend.facets import Legible, Recognising
from whisper_parity.errors import ArtifactError, ParityError
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.system import serial
from whisper_parity.system.files import file_sha256
from whisper_parity.weights import lookup, reference, sentences
from whisper_parity.weights.finding import Finder
from whisper_parity.weights.result import FileWeights, LookUp

VERSION = 3
"""Of what is written; raise it when another look-up of the same files would say something else."""
HALVES = ("encoder", "decoder")
TABLE_SUFFIX = ".npy"


class Looking:
    """Look-ups in one checkpoint, whose tensors are read when the first one needs them."""

    def __init__(self, checkpoint: Checkpoint, cache: Path | None = None) -> None:
        """Take a checkpoint, and the folder in which look-ups are remembered; None for the user's cache."""
        self.checkpoint = checkpoint
        self._cache = cache or project.cache()
        self._finder: Finder | None = None

    def of_artifact(self, backend: Backend, artifact: Artifact) -> LookUp:
        """What a stage's files hold; remembered in the cache by their hashes.

        A file that cannot be read is said to be so, in its entry: the run says it again when it opens the stage.
        """
        files = {role: artifact.folder / file.name for role, file in artifact.files.items()}
        hashes = {role: file.sha256 for role, file in artifact.files.items()}
        return self._remembered(backend, files, hashes)

    def of_files(self, backend: Backend, files: Mapping[str, Path]) -> LookUp:
        """The same for files by role."""
        return self._remembered(backend, files, {role: file_sha256(path) for role, path in files.items()})

    def _remembered(self, backend: Backend, files: Mapping[str, Path], hashes: Mapping[str, str]) -> LookUp:
        names = {role: path.name for role, path in files.items()}
        key = serial.digest(
            [VERSION, self.checkpoint.sha256, self.checkpoint.path.name, backend.name, names, dict(hashes)]
        )
        path = self._cache / "weights" / f"{key}.json"
        if path.is_file():
            try:
                return serial.read(LookUp, path)
            except ParityError:  # cut short, or of a version between two: looked up again
                pass
        looked = self._looked_up(backend, files)
        serial.write(path, looked)
        return looked

    def _looked_up(self, backend: Backend, files: Mapping[str, Path]) -> LookUp:
        tables = {role: path for role, path in files.items() if path.suffix == TABLE_SUFFIX}
        held = [self._file(backend, role, path) for role, path in tables.items()]
        elsewhere = frozenset(tensor for role, path in tables.items() for tensor in self._held(backend, role, path))
        read = (*HALVES, *(role for role, path in files.items() if path.suffix in _suffixes(backend)))
        halves = [(role, path) for role, path in files.items() if role in read and role not in tables]
        looked = (*(self._file(backend, role, path, elsewhere) for role, path in halves), *held)
        name = self.checkpoint.path.name
        return LookUp(name, self.checkpoint.sha256, looked, sentences.of_files(name, looked))

    def _held(self, backend: Backend, role: str, path: Path) -> Iterator[str]:
        """Tensors that a table beside the halves is, the token embedding apart, which the projection needs again."""
        if role == "token_embedding" or not isinstance(backend, Legible):
            return
        for match in self._found.matches(backend.constants(path), ""):
            if match.fit.grade.value not in lookup.BAD:
                yield match.target.tensor

    def _file(self, backend: Backend, role: str, path: Path, elsewhere: frozenset[str] = frozenset()) -> FileWeights:
        if not isinstance(backend, Legible) or path.suffix not in _suffixes(backend):
            return FileWeights(role, path.name, 0, unread=f"nothing in a file of {backend.name} can be read")
        known = role if role in (*HALVES, "token_embedding") else ""
        try:
            return lookup.of_file(self._found, backend.constants(path), known, path.name, elsewhere)
        except ParityError as error:
            return FileWeights(role, path.name, 0, unread=str(error))

    @property
    def _found(self) -> Finder:
        self._finder = self._finder or Finder(reference.load(self.checkpoint))
        return self._finder


def groups(
    place: Path, backends: Sequence[Backend], checkpoint: Checkpoint
) -> Iterator[tuple[Backend, dict[str, Path]]]:
    """What a file or a folder holds, as files by role that belong together.

    Raises:
        ArtifactError: nothing there, or nothing that any backend reads.
    """
    if not place.exists():
        raise ArtifactError(f"{place}: no such file or folder", hint="Give a converted file, or the folder with them")
    found = list(_of_folder(place, backends, checkpoint) if place.is_dir() else _of_file(place, backends, checkpoint))
    if not found:
        known = ", ".join(sorted({suffix for backend in backends for suffix in _suffixes(backend)}))
        raise ArtifactError(f"{place}: no file whose weights can be read", hint=f"Files that are read: {known}")
    yield from found


def _suffixes(backend: Backend) -> tuple[str, ...]:
    """Endings of the names of files that a backend reads."""
    return backend.suffixes if isinstance(backend, Legible) else ()


def _of_file(
    path: Path, backends: Sequence[Backend], checkpoint: Checkpoint
) -> Iterator[tuple[Backend, dict[str, Path]]]:
    for backend in backends:
        if path.suffix in _suffixes(backend):
            yield backend, {_role(backend, path, checkpoint): path}
            return


def _of_folder(
    folder: Path, backends: Sequence[Backend], checkpoint: Checkpoint
) -> Iterator[tuple[Backend, dict[str, Path]]]:
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.resolve() != checkpoint.path)
    tables = [path for path in paths if path.suffix == TABLE_SUFFIX]
    taken: set[Path] = set()
    for backend in backends:
        own = [path for path in paths if path.suffix in _suffixes(backend) and path not in tables]
        for files in _pairs(folder, own, backend, checkpoint):
            if not taken & set(files.values()):
                taken |= set(files.values())
                yield backend, files | {path.stem: path for path in tables}
        yield from ((backend, {_role(backend, path, checkpoint): path}) for path in own if path not in taken)
        taken |= set(own)
    if tables and not taken:
        yield from (group for path in tables for group in _of_file(path, backends, checkpoint))


def _pairs(folder: Path, own: Sequence[Path], backend: Backend, checkpoint: Checkpoint) -> Iterator[dict[str, Path]]:
    """Halves under their usual names, variant by variant."""
    for variant in ("", *backend.variants):
        names = backend.file_names(checkpoint, variant)
        if files := {role: folder / names[role] for role in HALVES if role in names and folder / names[role] in own}:
            yield files


def _role(backend: Backend, path: Path, checkpoint: Checkpoint) -> str:
    """What a file is for, by its usual name or by its inputs and outputs; its stem where neither says."""
    for variant in ("", *backend.variants):
        for role, name in backend.file_names(checkpoint, variant).items():
            if name == path.name:
                return role
    if isinstance(backend, Recognising) and path.suffix != TABLE_SUFFIX:
        for variant in ("", *backend.variants):
            if role_of := backend.recognise(path, checkpoint, variant):
                return role_of
    return path.stem
