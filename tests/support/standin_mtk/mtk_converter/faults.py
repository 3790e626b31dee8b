"""What the stand-in does wrong when MTK_STANDIN_FAULT=WHERE:WHAT says so; WHERE: import, convert, load, run, file."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def _fault(where: str) -> str:
    asked, _, what = os.environ.get("MTK_STANDIN_FAULT", "").partition(":")
    return what if asked == where else ""


def _licence() -> None:
    sys.stdout.write("By using this software you accept the licence (a stand-in's)\n")
    sys.stdout.flush()
    os.write(1, b"LICENCE: " + b"all rights reserved " * 1000 + b"\n")


def _crash() -> None:
    sys.stderr.write("about to crash\n")
    sys.stderr.flush()
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def _garbage() -> None:
    """Bytes into every descriptor that is a pipe."""
    for descriptor in range(3, 256):
        with contextlib.suppress(OSError):  # not open, or open for reading
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"progress: 10 %\n" * 10)


def _hang() -> None:
    if os.fork() == 0:  # whoever ends only the parent leaves this one behind
        time.sleep(600)
        os._exit(0)
    time.sleep(600)


def _orphan() -> None:
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    _crash()


def _missing() -> None:
    raise ImportError("libmlir_stand_in.so.1: cannot open shared object file")


STRIKES: dict[str, Callable[[], None]] = {
    "licence": _licence,
    "crash": _crash,
    "garbage": _garbage,
    "hang": _hang,
    "orphan": _orphan,
    "missing": _missing,
    "exit": lambda: os._exit(7),
}


def strike(where: str) -> None:
    """Do something bad to the process."""
    if what := _fault(where):
        STRIKES.get(what, lambda: None)()


def distort(outputs: list[Any]) -> list[Any]:
    """Change what a pass gave."""
    what = _fault("run")
    changed: dict[str, Callable[[], Any]] = {
        "count": lambda: [*outputs, outputs[0]],
        "none": list,
        "shape": lambda: [outputs[0].transpose(0, 2, 1)],
        "kind": lambda: [outputs[0].astype(np.float64)],
        "noise": lambda: [each * np.float32(1.01) for each in outputs],
        "nan": lambda: [np.full_like(outputs[0], np.nan)],
        "objects": lambda: [np.array([None, {}], dtype=object)],
        "number": lambda: 5,
    }
    return changed[what]() if what in changed else outputs  # type: ignore[no-any-return]


def _gather(model: Any, schema: Any) -> None:
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.GATHER


def _tokens(model: Any, schema: Any) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].type = schema.TensorType.INT64


def _half(model: Any, schema: Any) -> None:
    graph = model.subgraphs[0]
    tensor = graph.tensors[graph.inputs[0]]
    tensor.shape = np.array([*tensor.shape[:-1], tensor.shape[-1] // 2], np.int32)


def _unknown(model: Any, schema: Any) -> None:
    for code in model.operatorCodes:
        code.customCode = b"MTKEXT_FROBNICATE" if code.customCode else None


def _options(model: Any, schema: Any) -> None:
    for operator in model.subgraphs[0].operators:
        if operator.customOptions is not None and len(operator.customOptions):
            operator.customOptions = operator.customOptions[: len(operator.customOptions) // 2]


CHANGES: dict[str, Callable[[Any, Any], None]] = {
    "gather": _gather,
    "tokens": _tokens,
    "half": _half,
    "unknown": _unknown,
    "options": _options,
}


def spoil(path: Path) -> None:
    """Change a file that was written."""
    from whisper_parity.backends.tflite.mtkext import flatfile

    what = _fault("file")
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:-4096])
    if what == "nothing":
        path.unlink()
    if what in CHANGES:
        model = flatfile.read(path)
        CHANGES[what](model, flatfile.schema())
        changed = path.with_name("changed.tflite")
        flatfile.write(model, changed)
        changed.replace(path)
