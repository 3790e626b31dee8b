"""TorchScript to TFLite: LiteRT's conversion, rewritten."""

from __future__ import annotations

import hashlib
import os
import shutil
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

    def __init__(self, path: str, input_shapes: Sequence[Sequence[int]], input_types: Sequence[Any]) -> None:
        script = torch.jit.load(path, map_location="cpu")
        self._script, self._source, self.quantize = script, path, True
        kinds = [getattr(torch, kind) if isinstance(kind, str) else kind for kind in input_types]
        self._inputs = tuple(torch.zeros(*shape, dtype=kind) for shape, kind in zip(input_shapes, kinds))

    @classmethod
    def from_script_module_file(
        cls, path: str, input_shapes: Sequence[Sequence[int]], input_types: Sequence[Any]
    ) -> PyTorchConverter:
        """From a file."""
        return cls(path, input_shapes, input_types)

    def convert_to_tflite(self, output_file: str) -> None:
        """Write the file; LiteRT's own conversion goes into the folder MTK_STANDIN_STOCK, and is taken from there."""
        strike("convert")
        if self.quantize:
            raise NotImplementedError("the stand-in does not quantise")
        with tempfile.TemporaryDirectory() as folder:
            digest = hashlib.sha256(Path(self._source).read_bytes()).hexdigest()
            stock = Path(os.environ.get("MTK_STANDIN_STOCK", folder)) / f"{digest}.tflite"
            if not stock.is_file():
                self._convert(Path(folder) / "stock.tflite")
                shutil.move(Path(folder) / "stock.tflite", stock)
            names = [each.name for each in self._script.forward.schema.arguments[1:]]
            rewrite(stock, Path(output_file), names)
        spoil(Path(output_file))

    def _convert(self, target: Path) -> None:
        import litert_torch

        litert_torch.config.show_progress = False
        with torch.no_grad():
            module = Replayed(self._script, self._inputs).eval()
            litert_torch.convert(module, self._inputs).export(str(target))
