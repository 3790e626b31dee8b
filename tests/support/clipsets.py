"""Sets of clips to test with, each written as its own tools write it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.support import sound

NAMES = ("one", "two", "three")
TEXTS = ("HELLO WORLD", "GOOD MORNING", "")


def wav(path: Path, seconds: float = 0.2, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return sound.write_wav(path, sound.warble(seconds, seed=seed))


def json_lines(path: Path, rows: Iterable[dict[str, Any]], packed: bool = False) -> Path:
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def nemo(folder: Path) -> Path:
    rows = [
        {"audio_filepath": f"{wav(folder / f'{name}.wav').name}", "duration": 0.2, "text": text, "lang": "English"}
        for name, text in zip(NAMES, TEXTS)
    ]
    return json_lines(folder / "train_manifest.json", rows)


def librispeech(folder: Path) -> Path:
    chapter = folder / "LibriSpeech" / "test-clean" / "1089" / "134686"
    for name in NAMES:
        wav(chapter / f"{name}.wav")
    (chapter / "1089-134686.trans.txt").write_text("".join(f"{n} {t}\n" for n, t in zip(NAMES, TEXTS)), "utf-8")
    return folder / "LibriSpeech"


def aishell(folder: Path) -> Path:
    for name in NAMES:
        wav(folder / "data_aishell" / "wav" / "test" / "S0764" / f"{name}.wav")
    transcript = folder / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt"
    transcript.parent.mkdir()
    lines = ["elsewhere NOT IN THIS PART", *(f"{name} {text}" for name, text in zip(NAMES, TEXTS))]
    transcript.write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "data_aishell"


def common_voice(folder: Path) -> Path:
    rows = ["client_id\tpath\tsentence\tup_votes\tlocale"]
    for name, text in zip(NAMES, TEXTS):
        wav(folder / "clips" / f"{name}.wav")
        rows.append(f"x\t{name}.wav\t{text}\t2\ten")
    (folder / "test.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder / "test.tsv"


def table(folder: Path) -> Path:
    rows = ["file_name,transcription,language"]
    rows += [f'{wav(folder / f"{name}.wav").name},"{text}",en' for name, text in zip(NAMES, TEXTS)]
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


def sounds(folder: Path) -> Path:
    for name, text in zip(NAMES, TEXTS):
        wav(folder / "sounds" / f"{name}.wav")
        (folder / "sounds" / f"{name}.txt").write_text(f"{text}\n", "utf-8")
    return folder / "sounds"


def tree(folder: Path) -> Path:
    for name, text in zip(NAMES, TEXTS):
        wav(folder / "corpus" / f"speaker-{name}" / f"{name}.wav")
        (folder / "corpus" / f"speaker-{name}" / f"{name}.txt").write_text(f"{text}\n", "utf-8")
    return folder / "corpus"


def cut(
    name: str, source: object, start: float = 0.0, seconds: float = 0.2, text: str | None = "", **more: Any
) -> dict[str, Any]:
    """A MonoCut as lhotse 1.33 writes it; its recording has 0.2 s."""
    said = {
        "id": name,
        "recording_id": "r",
        "start": 0.0,
        "duration": seconds,
        "channel": 0,
        "text": text,
        "language": "en",
    }
    recording = {
        "id": "r", "sources": [{"type": "file", "channels": [0], "source": source}], "sampling_rate": 16000,
        "num_samples": 3200, "duration": 0.2, "channel_ids": [0],
    }  # fmt: skip
    return {
        "id": name, "start": start, "duration": seconds, "channel": 0, "supervisions": [said],
        "recording": {**recording, **more}, "type": "MonoCut",
    }  # fmt: skip


def lhotse(folder: Path) -> Path:
    rows = [cut(name, wav(folder / f"{name}.wav").name, text=text) for name, text in zip(NAMES, TEXTS)]
    return json_lines(folder / "cuts.jsonl.gz", rows, packed=True)


def arrow_table(folder: Path, embedded: bool = True) -> Any:
    """As the datasets package builds it: the type Audio is declared in the schema."""
    import pyarrow as pa

    files = [wav(folder / f"{name}.wav") for name in NAMES]
    rows = [{"bytes": file.read_bytes() if embedded else None, "path": file.name} for file in files]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"info": {"features": {"audio": {"_type": "Audio"}, "sentence": {"_type": "Value", "dtype": "string"}}}}
    table = pa.table({"audio": pa.array(rows, kind), "sentence": list(TEXTS), "locale": ["en"] * len(NAMES)})
    return table.replace_schema_metadata({"huggingface": json.dumps(features)})


def saved(folder: Path) -> Path:
    import pyarrow as pa

    target = folder / "saved"
    target.mkdir(parents=True)
    table = arrow_table(folder / "made")
    with (
        pa.OSFile(str(target / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    (target / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (target / "dataset_info.json").write_text("{}")
    return target


def saved_splits(folder: Path) -> Path:
    saved(folder).rename(folder / "made" / "test")
    (folder / "made" / "dataset_dict.json").write_text(json.dumps({"splits": ["test"]}))
    return folder / "made"


def parquet(folder: Path, embedded: bool = True) -> Path:
    from pyarrow import parquet as files

    (folder / "data").mkdir(parents=True)
    target = folder / "data" / "test-00000-of-00001.parquet"
    files.write_table(
        arrow_table(folder / "data" if not embedded else folder / "made", embedded), target, row_group_size=2
    )
    return folder


def parquet_of_paths(folder: Path) -> Path:
    return parquet(folder, embedded=False)


PLAIN: tuple[Callable[[Path], Path], ...] = (nemo, librispeech, aishell, common_voice, table, sounds, tree, lhotse)
ARROW: tuple[Callable[[Path], Path], ...] = (saved, saved_splits, parquet, parquet_of_paths)
"""Those that need pyarrow."""
