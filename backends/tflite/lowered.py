"""Files of MediaTek's converter, lowered once for LiteRT and kept by their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from backends import versions
from backends.tflite import flatfile, mtkext, tensors
from backends.tflite.lowering import lower
from backends.tflite.mtkext import Assumptions
from harness.build import locked
from harness.errors import ArtifactError, OutputError, UnavailableError
from harness.fixture import PROJECT

FOLDER = PROJECT / "build" / "cache" / "lowered"
FINGERPRINT = "Exported by NeuroPilot converter"
"""How the description of every file of MediaTek's converter starts."""
CODE = ("flatfile", "lowering", "mtkext", "recipes", "rewriting", "tensors")

Refusal = Callable[[Path, str], ArtifactError]


def is_mtk(path: Path) -> bool:
    """Whether MediaTek's converter wrote a file: it says so, or holds MTKEXT ops; False for what cannot be read."""
    try:
        model = flatfile.read(path)
    except (ArtifactError, UnavailableError):  # said by who loads it
        return False
    return tensors.text(model.description).startswith(FINGERPRINT) or bool(_foreign(path))


def runnable(path: Path, sha256: str, assumptions: Assumptions, refusal: Refusal) -> Path:
    """The file itself, or where MTKEXT ops are in it, the lowered one, made now or before.

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
        return path
    target = FOLDER / f"{path.stem}-{_key(sha256, assumptions)}.tflite"
    with locked(FOLDER / f".{target.stem}.lock"):
        if not target.is_file():
            try:
                lower(path, target, assumptions)
            except OutputError:
                raise
            except ArtifactError as error:
                reason = f"Encountered unresolved custom op: {foreign}; it is not lowered either: {error}"
                raise refusal(path, reason) from error
    return target


def _foreign(path: Path) -> str:
    """The first op that only MediaTek's interpreter has; "" for none, and for a file that cannot be read."""
    try:
        model = flatfile.read(path)
    except (ArtifactError, UnavailableError):  # said by who loads it
        return ""
    of_mtk = tensors.text(model.description).startswith(FINGERPRINT)
    names = [op.name for op in mtkext.custom_ops(model)]
    return next((name for name in names if of_mtk or name.startswith(mtkext.PREFIX)), "")


def _key(sha256: str, assumptions: Assumptions) -> str:
    code = versions.of_code(*(f"tflite/{name}.py" for name in CODE))
    content = json.dumps([sha256, asdict(assumptions), code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
