"""Files of MediaTek's converter, lowered once for LiteRT and kept by their hash."""

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
"""How the description of every file of MediaTek's converter starts."""
CODE = ("flatfile", "lowering", "ops", "recipes", "rewriting", "tensors")

Refusal = Callable[[Path, str], ArtifactError]


@dataclass(frozen=True, slots=True)
class Runnable:
    """A file that LiteRT can load."""

    path: Path
    lowered: Lowered | None = None
    """What was done to it; None for a file that runs as it is."""

    @property
    def note(self) -> str:
        """What lowering it assumed and passed over, for the report; "" where nothing was."""
        if self.lowered is None:
            return ""
        assumed = sorted(f"{used.name} = {used.value}" for used in self.lowered.assumptions)
        ignored = [f"{op}.{key}" for op, found in self.lowered.unknown_options.items() for key in found]
        parts = [("assumed", assumed), ("unknown options ignored", ignored), ("also", [*self.lowered.notes])]
        return "; ".join(f"{what}: {', '.join(said)}" for what, said in parts if said)


def is_mtk(path: Path) -> bool:
    """Whether MediaTek's converter wrote a file: it says so, or holds MTKEXT ops; False for what cannot be read."""
    try:
        model = flatfile.read(path)
    except (ArtifactError, UnavailableError):  # said by who loads it
        return False
    return tensors.text(model.description).startswith(FINGERPRINT) or bool(_foreign(path))


def runnable(path: Path, sha256: str, assumptions: Assumptions, refusal: Refusal) -> Runnable:
    """The file itself, or where MTKEXT ops are in it, the lowered one, made now or before.

    What decides a lowered file is its key: the source's hash, what is assumed, the code that lowers, and its packages.

    Args:
        path: the .tflite file.
        sha256: its hash.
        assumptions: what is not public of these ops.
        refusal: the error for a file that cannot be loaded, given the reason.

    Raises:
        ArtifactError: it holds ops that cannot be lowered.
        OutputError: the cache cannot be written.
    """
    if not (foreign := _foreign(path)):
        return Runnable(path)
    folder = project.cache() / "lowered"
    target = folder / f"{path.stem}-{_key(sha256, assumptions)}.tflite"
    record = target.with_suffix(".json")
    with locked(folder / f".{target.stem}.lock"):
        if not (target.is_file() and record.is_file()):
            try:
                serial.write(record, lower(path, target, assumptions))
            except ArtifactError as error:
                reason = f"Encountered unresolved custom op: {foreign}; it is not lowered either: {error}"
                raise refusal(path, reason) from error
    return Runnable(target, serial.read(Lowered, record))


def _foreign(path: Path) -> str:
    """The first op that only MediaTek's interpreter has; "" for none, and for a file that cannot be read."""
    try:
        model = flatfile.read(path)
    except (ArtifactError, UnavailableError):  # said by who loads it
        return ""
    of_mtk = tensors.text(model.description).startswith(FINGERPRINT)
    names = [op.name for op in ops.custom_ops(model)]
    return next((name for name in names if of_mtk or name.startswith(ops.PREFIX)), "")


def _key(sha256: str, assumptions: Assumptions) -> str:
    code = provenance.of_code(*(f"backends.tflite.mtkext.{name}" for name in CODE))
    packages = provenance.of("flatbuffers", "ai-edge-litert")  # the latter brings the schema's classes
    content = json.dumps([sha256, asdict(assumptions), code, packages], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
