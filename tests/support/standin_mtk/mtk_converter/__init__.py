"""A stand-in for MediaTek's mtk_converter, for tests: nothing of it is MediaTek's.

It offers the calls that this project makes: PyTorchConverter.from_script_module_file(...).convert_to_tflite(...),
TFLiteExecutor(path).run([...]), __version__. It converts by LiteRT and rewrites GELU and LayerNorm as MTKEXT ops in the
layout that is documented or assumed; it runs them by lowering them again. `MTK_STANDIN_FAULT=WHERE:WHAT` breaks it.
"""

from mtk_converter import version
from mtk_converter.converting import PyTorchConverter
from mtk_converter.executing import TFLiteExecutor
from mtk_converter.faults import strike

__version__ = version.VERSION

__all__ = ["PyTorchConverter", "TFLiteExecutor", "__version__"]

strike("import")
