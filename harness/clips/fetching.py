"""The public clips that this project's tests and figures are about: by address and hash, or from a folder.

They are not part of the package; `parity fetch` puts them into the cache, and `--clips fetched` uses them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.errors import AudioError, OutputError, ParityError, UnavailableError, UsageError, first_line
from whisper_parity.system import closeness, inputs
from whisper_parity.system.files import file_sha256, replacing, write_text
from whisper_parity.system.machine import require_extra

FOLDER, MANIFEST = "fetched", "manifest.jsonl"
EXTRA, PACKAGE = "fetch", "pooch"
TIMEOUT_S = 30.0
LIST = project.packaged("public_clips.json")
"""Of openai-whisper's own tests, and of the port to an NPU that this project began with."""


@dataclass(frozen=True, slots=True)
class PublicClip:
    """One clip that somebody published."""

    file: str
    url: str
    sha256: str
    language: str
    text: str | None = None
    """What is said, where it is known from elsewhere than a recogniser."""


def public() -> tuple[PublicClip, ...]:
    """Every clip that can be fetched."""
    return tuple(PublicClip(**fields) for fields in json.loads(LIST.read_text("utf-8")))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one clip."""

    clip: PublicClip
    path: Path
    error: ParityError | None
    is_new: bool


def manifest_of(cache: Path) -> Path:
    """The set of what was fetched.

    Raises:
        UsageError: nothing was.
    """
    path = cache / FOLDER / MANIFEST
    if not path.is_file():
        raise UsageError(f"{path.parent}: no clip was fetched", hint="Run `parity fetch`, or `parity fetch --from DIR`")
    return path


def chosen(names: Sequence[str]) -> tuple[PublicClip, ...]:
    """The clips of these names, with or without suffix; all of them for none.

    Raises:
        UsageError: a name that no clip has.
    """
    by_name = {name: clip for clip in public() for name in (clip.file, Path(clip.file).stem)}
    for name in names:
        if name not in by_name:
            hint = closeness.hint(name, by_name, f"There are {closeness.listed(clip.file for clip in public())}")
            raise UsageError(f"no public clip called {name!r:.60}", hint=hint)
    return tuple(dict.fromkeys(by_name[name] for name in names)) if names else public()


def fetch(clips: Sequence[PublicClip], cache: Path, source: Path | None = None) -> Iterator[Fetched]:
    """Put clips into the cache, one after the other; what is there already is checked and kept.

    Args:
        clips: which ones.
        cache: the cache.
        source: a folder that holds them; None: they are downloaded.

    Yields:
        What came of each; an error of one does not stop the others.
    """
    folder = cache / FOLDER
    done = []
    for clip in clips:
        path = folder / clip.file
        is_there = _is_whole(clip, path)
        error = None if is_there else _error(clip, path, source)
        done.append(Fetched(clip, path, error, not is_there))
        yield done[-1]
    if any(one.error is None for one in done):
        _write_manifest(folder)


def _is_whole(clip: PublicClip, path: Path) -> bool:
    return path.is_file() and file_sha256(path) == clip.sha256


def _error(clip: PublicClip, path: Path, source: Path | None) -> ParityError | None:
    try:
        _download(clip, path) if source is None else _copy(clip, _found(source, clip.file), path)
    except ParityError as error:
        return error
    except OSError as error:
        return OutputError(f"{path}: cannot be written ({error.strerror})", hint="Choose another --cache")
    return None


def _found(folder: Path, name: str) -> Path:
    """A file in a folder, or in a folder in it; where it is in none, where it was looked for first."""
    places = (folder / name, *sorted(folder.glob(f"*/{name}")))
    return next((place for place in places if place.is_file()), places[0])


def _copy(clip: PublicClip, source: Path, path: Path) -> None:
    inputs.require_regular(source, inputs.AUDIO_BYTES, AudioError, hint="Name the folder that holds it with --from")
    if (found := file_sha256(source)) != clip.sha256:
        raise _other(source, found, clip)
    with replacing(path) as partial:
        shutil.copyfile(source, partial)


def _download(clip: PublicClip, path: Path) -> None:
    """Get a file by pooch, which checks its hash before it is in its place.

    Raises:
        UnavailableError: pooch is missing, or the address cannot be reached.
        AudioError: what came is another file.
    """
    require_extra(EXTRA, PACKAGE)
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S)
    elsewhere = "Download it elsewhere, and give its folder with --from"
    try:
        pooch.retrieve(clip.url, f"sha256:{clip.sha256}", fname=path.name, path=path.parent, downloader=downloader)
    except requests.RequestException as error:
        raise UnavailableError(f"{clip.url}: not received ({_cause(error)})", hint=elsewhere) from error
    except ValueError as error:  # pooch's word for another hash
        raise AudioError(f"{clip.url}: not the file that was published (its hash differs)", hint=elsewhere) from error


def _cause(error: BaseException) -> str:
    """The innermost reason, since requests wraps those of urllib3."""
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return first_line(reason if isinstance(reason, BaseException) else error, 120)


def _other(path: Path, found: str, clip: PublicClip) -> AudioError:
    words = f"{path}: not the file that was published (sha256 {found[:12]}, expected {clip.sha256[:12]})"
    return AudioError(words, hint=f"Get it from {clip.url}")


def _write_manifest(folder: Path) -> None:
    """The set of all that is there."""
    lines = [
        json.dumps({"audio_filepath": clip.file, "lang": clip.language, "text": clip.text}, ensure_ascii=False)
        for clip in public()
        if _is_whole(clip, folder / clip.file)
    ]
    write_text(folder / MANIFEST, "".join(f"{line}\n" for line in lines))
