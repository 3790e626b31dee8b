"""Runs the stand-in's files: MTKEXT ops lowered, the rest as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtk_converter.faults import distort, strike
from mtk_converter.meaning import reading


class TFLiteExecutor:
    """Called as MediaTek's is called in public code: arrays in and out, in graph order."""

    def __init__(self, path: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        from whisper_parity.backends.tflite.mtkext.lowering import lower

        strike("load")
        with tempfile.TemporaryDirectory() as folder:  # removed at once: this process may be killed
            target = Path(folder) / "lowered.tflite"
            lower(Path(path), target, reading())
            self._interpreter = Interpreter(model_content=target.read_bytes())
        self._interpreter.allocate_tensors()

    def run(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """One pass."""
        strike("run")
        for detail, array in zip(self._interpreter.get_input_details(), arrays):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        return distort([self._interpreter.get_tensor(each["index"]) for each in self._interpreter.get_output_details()])
