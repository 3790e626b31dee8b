"""A data set of Hugging Face as `save_to_disk` writes it: state.json and Arrow files, in one folder for each split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import columns, paths
from whisper_parity.clips.sets.columns import Row
from whisper_parity.clips.sets.interface import Entry, Reading
from whisper_parity.errors import InputError, ManifestError, first_line
from whisper_parity.system import inputs

LOOKED_FOR = "a Hugging Face data set (state.json, dataset_dict.json or *.parquet)"
STATE, SPLITS = "state.json", "dataset_dict.json"
AGAIN = "Save the data set again with save_to_disk"


def recognises(path: Path) -> bool:
    """Whether the folder's state names its files, or its dictionary names splits."""
    return bool(_files(path)) or bool(_splits(path))


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """Its clips, split by split; the split is a tag.

    Raises:
        UnavailableError: pyarrow is missing.
        ManifestError: a file of it cannot be read.
    """
    columns.require()
    for split in _splits(path):
        yield from _of_split(paths.inside(path, split, str(path)), (split,), reading)
    if not _splits(path):
        yield from _of_split(path, (), reading)


def _of_split(folder: Path, tags: tuple[str, ...], reading: Reading) -> Iterator[Entry | BadClip]:
    import pyarrow

    number = 0
    for name in _files(folder):
        file = paths.inside(folder, name, str(folder / STATE))
        inputs.require_regular(file, inputs.LIST_BYTES * 64, ManifestError, hint=AGAIN)
        try:
            with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as batches:
                column = columns.sounds_of(batches.schema, str(file))
                for batch in batches:
                    batch.validate(full=True)
                    for row in _rows(batch, column, file, number):
                        yield columns.entry(row, folder, tags, reading)
                    number += batch.num_rows
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise ManifestError(f"{file}: cannot be read ({first_line(error, 120)})", hint=AGAIN) from error


def _rows(batch: Any, column: str, file: Path, start: int) -> Iterator[Row]:
    sounds = batch.column(column)
    contents, names = sounds.field("bytes"), sounds.field("path")
    status = file.stat()
    for i, fields in enumerate(columns.rows(batch, columns.simple(batch.schema))):
        yield Row(
            fields,
            columns.name(names[i]),
            contents[i].as_py if contents[i].is_valid else None,
            (str(file), status.st_size, status.st_mtime_ns, start + i),
            f"{file}:{start + i}",
        )


def _files(folder: Path) -> list[str]:
    state = _json(folder / STATE)
    listed = state.get("_data_files") if isinstance(state, dict) else None
    names = [item.get("filename") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return [name for name in names if isinstance(name, str)]


def _splits(folder: Path) -> list[str]:
    content = _json(folder / SPLITS)
    names = content.get("splits") if isinstance(content, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _json(path: Path) -> Any:
    try:
        return inputs.read_json(path) if path.is_file() else None
    except (InputError, OSError):
        return None
