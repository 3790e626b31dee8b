"""The Whisper checkpoint from which every artifact descends."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.errors import CheckpointError, MachineError, first_line
from whisper_parity.model.dims import Dims
from whisper_parity.model.formats import canonical, folders, openai, pickled, source
from whisper_parity.model.formats.source import Source
from whisper_parity.model.formats.weights import Weights
from whisper_parity.system import cache as caching
from whisper_parity.system import closeness
from whisper_parity.system.files import exists, locked, sources_sha256

MICRO = project.packaged("micro", "micro.pt")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk."""

    name: str
    """Part of artifact names: "base" for base.pt."""
    path: Path
    """A file that openai-whisper loads: the one that was given, or the one that it was converted to."""
    sha256: str
    """Hash of what was given: of the file, or of all files of a folder that were read."""
    dims: Dims
    note: str = ""
    """A remark for readers of the report ("stand-in with random weights", "read from Hugging Face, float16")."""


def resolve(name_or_path: str | None, cache: Path | None = None) -> Checkpoint:
    """Find a checkpoint by openai-whisper name, by path, or the embedded one for None, and read its dimensions.

    Args:
        name_or_path: a file or folder of any format that is read (docs/checkpoints.md), a name of openai-whisper, or
            one of Hugging Face ("openai/whisper-base") that its programs have downloaded.
        cache: folder that gets the converted checkpoint of another format; None: the user's cache.

    Raises:
        CheckpointError: unknown name, or a file that is not a Whisper checkpoint.
        MachineError: a known name that could not be downloaded.
        OutputError: the cache cannot be written.
    """
    if name_or_path is None:
        return _embedded()
    path = Path(name_or_path)
    return describe(path if exists(path) else _by_name(name_or_path), cache=cache)


def describe(path: Path, note: str = "", cache: Path | None = None) -> Checkpoint:
    """Hash a checkpoint, read its dimensions, and convert it where openai-whisper cannot load it as it is.

    Raises:
        CheckpointError: not a Whisper checkpoint.
        OutputError: the cache cannot be written.
    """
    given = source.find(path.absolute())
    sha256 = given.sha256
    file, weights = _loadable(given, sha256, (cache or project.cache()) / "checkpoints")
    remarks = (note, canonical.note(weights))
    return Checkpoint(given.name, file, sha256, weights.dims, "; ".join(filter(None, remarks)))


def read(path: Path) -> dict[str, Any]:
    """Load {"dims", "model_state_dict"} with tensors memory-mapped and no code executed.

    Args:
        path: `Checkpoint.path`.

    Raises:
        CheckpointError: not a checkpoint of openai-whisper.
    """
    saved = pickled.read(path)
    if not openai.is_one(saved):
        raise CheckpointError(f"{path}: not a checkpoint of openai-whisper", hint=pickled.HINT)
    return dict(saved)


def _loadable(given: Source, sha256: str, cache: Path) -> tuple[Path, Weights]:
    """The file that openai-whisper loads, and what is in it: the given one, or one that it was converted to once."""
    code = sources_sha256(Path(canonical.__file__).parent)  # what another version made is not taken
    folder = cache / f"{sha256[:16]}-{code[:8]}"
    converted = folder / f"{given.name}.pt"
    if not converted.is_file():
        weights = given.read()
        if weights.loadable:
            return given.path, weights
        with locked(cache / f".{folder.name}.lock", hint="Choose another --cache"):
            if not converted.is_file():
                canonical.write(weights, converted)
    caching.touch(converted)
    return converted, source.find(converted).read()


def _by_name(name: str) -> Path:
    import whisper

    if name in whisper.available_models():
        return _downloaded(name)
    if cached := folders.in_hub(name):
        return cached
    raise CheckpointError(
        f"{name}: neither a file or folder, nor a Whisper name, nor in Hugging Face's cache",
        hint=closeness.hint(name, whisper.available_models(), f"Names: {', '.join(whisper.available_models())}"),
    )


def _downloaded(name: str) -> Path:
    import whisper

    cache = Path.home() / ".cache" / "whisper"
    try:
        return Path(whisper._download(whisper._MODELS[name], str(cache), in_memory=False))
    except (OSError, RuntimeError) as error:
        raise MachineError(
            f"{name}: not in {cache} and cannot be downloaded ({first_line(error)})",
            hint="Copy the .pt file here and give its path",
        ) from error


def _embedded() -> Checkpoint:
    if MICRO.is_file():
        return describe(MICRO, note="embedded micro checkpoint")
    scripted = importlib.import_module("whisper_parity.fixtures.scripted")
    return describe(scripted.checkpoint(), note="stand-in with random weights")
