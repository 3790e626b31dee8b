"""TorchScript to TFLite: LiteRT's conversion, rewritten."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mtk_converter.faults import spoil, strike
from mtk_converter.replaying import Replayed
from mtk_converter.rewriting import rewrite


class PyTorchConverter:
    """Called as MediaTek's is called in public code."""

    def __init__(self, script: Any, input_shapes: Sequence[Sequence[int]], input_types: Sequence[Any]) -> None:
        self._script, self.quantize = script, True
        kinds = [getattr(torch, kind) if isinstance(kind, str) else kind for kind in input_types]
        self._inputs = tuple(torch.zeros(*shape, dtype=kind) for shape, kind in zip(input_shapes, kinds))

    @classmethod
    def from_script_module_file(
        cls, path: str, input_shapes: Sequence[Sequence[int]], input_types: Sequence[Any]
    ) -> PyTorchConverter:
        """From a file."""
        return cls(torch.jit.load(path, map_location="cpu"), input_shapes, input_types)

    def convert_to_tflite(self, output_file: str) -> None:
        """Write the file; MTK_STANDIN_STOCK names a folder that gets LiteRT's own conversion, too."""
        strike("convert")
        if self.quantize:
            raise NotImplementedError("the stand-in does not quantise")
        with tempfile.TemporaryDirectory() as folder:
            stock = Path(os.environ.get("MTK_STANDIN_STOCK", folder)) / Path(output_file).name
            self._convert(stock)
            names = [each.name for each in self._script.forward.schema.arguments[1:]]
            rewrite(stock, Path(output_file), names)
        spoil(Path(output_file))

    def _convert(self, target: Path) -> None:
        import litert_torch

        litert_torch.config.show_progress = False
        with torch.no_grad():
            module = Replayed(self._script, self._inputs).eval()
            litert_torch.convert(module, self._inputs).export(str(target))
