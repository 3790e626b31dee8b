"""Files of torch.save: read by torch's own reader for weights alone, so that nothing in them is executed.

Such a file names classes and functions by "module.name". Names that torch does not know as harmless are put in place of
an object that does nothing and holds what it is given, so that settings of a training tool beside the weights do not
hide these. Names of the standard library other than plain containers have no business in a checkpoint: such a file is
refused, and so is everything that torch refuses itself.
"""

from __future__ import annotations

import re
import sys
import threading
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError, first_line
from whisper_parity.system import inputs

HINT = "Give a Whisper checkpoint, or a name such as base"
PLAIN = {"argparse", "types", "pathlib", "datetime", "enum", "collections", "functools", "typing"}
"""Modules of the standard library whose values stand beside weights in honest files."""
_LOCK = threading.Lock()
"""What torch takes for harmless is one list of the process."""


class Inert:
    """Stands for an object of a class that is not loaded: does nothing, and holds its state to be looked at."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Whatever the class took."""
        made = super().__new__(cls)
        made.state = None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read(path: Path) -> Any:
    """The content of a file, tensors memory-mapped where the file allows it.

    Raises:
        CheckpointError: torch cannot read it, or it asks for code.
    """
    inputs.require_regular(path, inputs.MODEL_BYTES, CheckpointError, hint=HINT)
    require_size(path)
    try:
        return _load(path)
    except CheckpointError:
        raise
    except Exception as error:  # torch.load raises dozens of types on foreign bytes
        raise CheckpointError(f"{path}: not a PyTorch checkpoint ({_refusal(error)})", hint=_way_out(error)) from error


def require_size(path: Path) -> None:
    """Refuse a compressed archive whose few bytes stand for more than any model has.

    Raises:
        CheckpointError: it unpacks to more than is read of a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # no archive, or a damaged one: its reader says so
        return
    if total > inputs.MODEL_BYTES:
        raise CheckpointError(
            f"{path}: unpacks to {total // inputs.GIB} GiB, at most {inputs.MODEL_BYTES // inputs.GIB} GiB are read",
            hint=HINT,
        )


def _load(path: Path) -> Any:
    import torch

    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say of the file is in the error, or does not matter
        inert: Any = [(_stand_in(name), name) for name in _harmless(path)]
        with torch.serialization.safe_globals(inert):
            if path.suffix == ".safetensors":  # by this name torch would take it for another format
                return _load_whole(path)
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # deflated zip entries, and the format before zip, cannot be memory-mapped
                return _load_whole(path)


def _load_whole(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        return torch.load(file, map_location="cpu", weights_only=True)


def _harmless(path: Path) -> list[str]:
    """The names in a file that an inert object may stand for."""
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - a file that cannot be looked through is left to torch.load
        return []
    modules = {name: name.partition(".")[0] for name in names}
    return [name for name, module in modules.items() if module in PLAIN or module not in sys.stdlib_module_names]


def _stand_in(name: str) -> type:
    """A class that tools derive from dict is filled like one."""
    return OrderedDict if name.endswith("Dict") else Inert


def _refusal(error: Exception) -> str:
    """Why torch refuses a file, without its advice to load it in a way that would run the file's code."""
    if "weights_only" not in str(error) and "GLOBAL" not in str(error):
        return first_line(error)
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it asks for {named[1]}: code, not weights" if named else "it holds more than tensors and plain values"


def _way_out(error: Exception) -> str:
    if "GLOBAL" in str(error) or "weights_only" in str(error):
        return "Save the weights alone where it was made: torch.save(model.state_dict(), FILE)"
    return HINT
