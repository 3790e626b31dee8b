"""What foreign code would do if no check had stopped it: a module for the confined child (whisper_parity.system)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_parity.system.frames import ANSWERED, Message


def answer(request: Mapping[str, Any], arrays: Any) -> Message:
    """Run any Python, or load and run a TorchScript file that nobody has looked at; the text is what came of it."""
    try:
        if "path" in request:
            return Message(ANSWERED, unchecked(Path(request["path"])))
        space: dict[str, Any] = {}
        exec(request["code"], space)
        return Message(ANSWERED, f"done: {space.get('result')}")
    except (OSError, MemoryError, RuntimeError, ValueError, TypeError) as error:
        return Message(ANSWERED, f"{type(error).__name__}: {error}")


def unchecked(path: Path) -> str:
    """Load and run a file as torch does, on zeros float32 [1, 80, 3000]."""
    import torch

    module = torch.jit.load(str(path))
    return f"done: {list(module(torch.zeros(1, 80, 3000)).shape)}"
