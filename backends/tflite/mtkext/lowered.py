"""Files of MediaTek's converter, lowered once for LiteRT and cached by their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.backends import provenance
from whisper_parity.backends.tflite.mtkext import flatfile, ops, tensors
from whisper_parity.backends.tflite.mtkext.lowering import Lowered, lower
from whisper_parity.backends.tflite.mtkext.ops import Assumptions
from whisper_parity.errors import ArtifactError, UnavailableError
from whisper_parity.system import serial
from whisper_parity.system.files import locked

FINGERPRINT = "Exported by NeuroPilot converter"
"""Start of the description in every file of MediaTek's converter."""
CODE = ("flatfile", "lowering", "ops", "recipes", "rewriting", "tensors")

Refusal = Callable[[Path, str], ArtifactError]


@dataclass(frozen=True, slots=True)
class Runnable:
    """A file that LiteRT can load."""

    path: Path
    lowered: Lowered | None = None
    """How it was lowered; None for a file that runs unchanged."""

    @property
    def note(self) -> str:
        """What lowering assumed and ignored, for the report; "" if nothing."""
        if self.lowered is None:
            return ""
        assumed = sorted(f"{used.name} = {used.value}" for used in self.lowered.assumptions)
        ignored = [f"{op}.{key}" for op, keys in self.lowered.unknown_options.items() for key in keys]
        parts = [("assumed", assumed), ("unknown options ignored", ignored), ("also", [*self.lowered.notes])]
        return "; ".join(f"{label}: {', '.join(items)}" for label, items in parts if items)


def is_mtk(path: Path) -> bool:
    """Whether MediaTek's converter wrote a file, by its description or MTKEXT ops; False if unreadable."""
    try:
        model = flatfile.read(path)
    except (ArtifactError, UnavailableError):  # reported when the file is loaded
        return False
    return tensors.text(model.description).startswith(FINGERPRINT) or bool(_first_mtk_op(path))


def runnable(path: Path, sha256: str, assumptions: Assumptions, refusal: Refusal) -> Runnable:
    """The file itself, or its lowered version if it has MTKEXT ops; the cache keeps lowered files.

    The cache key is all that determines a lowered file: the source's hash, the assumptions, our code and its packages.

    Args:
        path: the .tflite file.
        sha256: its hash.
        assumptions: about what is not public of these ops.
        refusal: makes the error for a file that cannot be loaded, given the reason.

    Raises:
        ArtifactError: it holds ops that cannot be lowered.
        OutputError: the cache cannot be written.
    """
    if not (mtk_op := _first_mtk_op(path)):
        return Runnable(path)
    folder = project.cache() / "lowered"
    target = folder / f"{path.stem}-{_key(sha256, assumptions)}.tflite"
    record = target.with_suffix(".json")
    with locked(folder / f".{target.stem}.lock"):
        if not (target.is_file() and record.is_file()):
            try:
                serial.write(record, lower(path, target, assumptions))
            except ArtifactError as error:
                reason = f"Encountered unresolved custom op: {mtk_op}; it is not lowered either: {error}"
                raise refusal(path, reason) from error
    return Runnable(target, serial.read(Lowered, record))


def _first_mtk_op(path: Path) -> str:
    """The first op that only MediaTek's interpreter has; "" if none, or if the file is unreadable."""
    try:
        model = flatfile.shared(path)
    except (ArtifactError, UnavailableError):  # reported when the file is loaded
        return ""
    by_mtk = tensors.text(model.description).startswith(FINGERPRINT)
    names = [op.name for op in ops.custom_ops(model)]
    return next((name for name in names if by_mtk or name.startswith(ops.PREFIX)), "")


def _key(sha256: str, assumptions: Assumptions) -> str:
    code = provenance.of_code(*(f"backends.tflite.mtkext.{name}" for name in CODE))
    packages = provenance.of("flatbuffers", "ai-edge-litert")  # the latter contains the schema's classes
    content = json.dumps([sha256, asdict(assumptions), code, packages], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
