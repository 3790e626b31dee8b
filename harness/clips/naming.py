"""Names for clips that come from files: as short as can be, and each file's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from whisper_parity.errors import UsageError
from whisper_parity.system.files import safe_name


def unique_names(files: Sequence[Path], taken: Collection[str] = ()) -> dict[Path, str]:
    """The stem of each file; where several share it their file names, then these with ever more of their folders.

    Args:
        files: absolute paths, each once.
        taken: names that other clips have.

    Raises:
        UsageError: two files have one name however much of their paths is in it.
    """
    names: dict[Path, str] = {}
    for depth in range(max((len(file.parts) for file in files), default=0) + 1):
        candidates = {file: _name(file, depth) for file in files if file not in names}
        uses = Counter([*candidates.values(), *names.values(), *taken])
        names |= {file: name for file, name in candidates.items() if uses[name] == 1}
    if unnamed := [file for file in files if file not in names]:
        raise UsageError(f"{unnamed[0]}: another clip has every name that it could have", hint="Rename it")
    return names


def _name(file: Path, depth: int) -> str:
    return safe_name(file.stem if depth == 0 else "/".join(file.parts[-depth:]))
