"""The formats in which a set of clips may come, and which one a path holds."""

from __future__ import annotations

from pathlib import Path

from whisper_parity.clips.sets import aishell, cuts, librispeech, manifest, parquet, saved, table, tree
from whisper_parity.clips.sets.interface import Format

FORMATS: tuple[Format, ...] = (saved, parquet, cuts, manifest, table, aishell, librispeech, tree)
"""Asked one after the other; the first that recognises what lies at a path reads it."""


def recognise(path: Path) -> Format | None:
    """The format of a set, by its content; None for what is none of them."""
    return next((form for form in FORMATS if form.recognises(path)), None)


LOOKED_FOR = f"Looked for sounds, {', '.join(form.LOOKED_FOR for form in FORMATS)}"
"""Said of a path that is neither a sound nor a set of clips."""
