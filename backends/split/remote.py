"""The steps of a decoder whose file lies in a confined child: what is asked over the pipe, and what answers it there.

The cache stays in the child: a step takes two rows of the tables and gives one of logits.

Requests: {"do": "steps", "fitted", "layout"}, then {"do": "encode"}, {"do": "begin", "names"}, {"do": "feed", "token",
"names"}, {"do": "rewind", "count"}, {"do": "written"}, {"do": "cross"}, {"do": "fill", "value"}, {"do": "replace",
"name"}; arrays go by the names. Answers that hold several arrays name them in their text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32
from whisper_parity.backend.layout import Fitted, Layout
from whisper_parity.backends.split import fitting
from whisper_parity.backends.split.stepping import Core, Run, encoded
from whisper_parity.errors import BackendError
from whisper_parity.system.child import Child
from whisper_parity.system.frames import ANSWERED, Message

REQUESTS = ("steps", "encode", "begin", "feed", "rewind", "written", "cross", "fill", "replace")
"""What `Answering` answers."""


class RemoteSteps:
    """`Steps` of a child."""

    def __init__(self, child: Child, what: str, fitted: Fitted, request: Mapping[str, Any] | None = None) -> None:
        """Have the child make the steps of the loaded files.

        Args:
            child: in which both files are loaded.
            what: for messages.
            fitted: how the files take and give their numbers.
            request: what the child must know besides.
        """
        self._child, self._what, self._fitted = child, what, fitted
        self.position = 0
        stated = {"fitted": fitting.stated(fitted), "layout": asdict(fitted.layout)}
        self._ask({"do": "steps", **stated, **(request or {})})

    def encode(self, input_features: Float32) -> dict[str, Float32]:
        """What the encoder's file gives, see `stepping.encoded`.

        Raises:
            ArtifactError, BackendError: it failed, died, or did not answer in time.
        """
        return self._named({"do": "encode"}, [input_features])

    def begin(self, arrays: Mapping[str, Float32]) -> None:
        """See `Steps`."""
        self._ask({"do": "begin", "names": list(arrays)}, list(arrays.values()))
        self.position = 0

    def feed(self, token: int, rows: Mapping[str, Float32]) -> Float32:
        """See `Steps`."""
        (logits,) = self._ask({"do": "feed", "token": int(token), "names": list(rows)}, list(rows.values()), 1)
        self.position += 1
        return logits

    def rewind(self, count: int) -> None:
        """See `Steps`."""
        self._ask({"do": "rewind", "count": int(count)})
        self.position -= count

    def written(self) -> dict[str, Float32]:
        """See `Steps`."""
        return self._named({"do": "written"})

    def cross(self) -> dict[str, Float32]:
        """See `Steps`."""
        return self._named({"do": "cross"})

    def fill(self, value: float) -> None:
        """See `Steps`."""
        self._ask({"do": "fill", "value": float(value)})

    def replace(self, name: str, array: NDArray[Any] | None) -> None:
        """See `Steps`."""
        arrays = [] if array is None else [np.ascontiguousarray(array, np.float32)]
        self._ask({"do": "replace", "name": name}, arrays)

    def _ask(self, request: Mapping[str, Any], arrays: Sequence[Float32] = (), count: int = 0) -> tuple[Float32, ...]:
        answer = self._child.call(self._what, request, arrays).arrays
        if len(answer) != count:
            raise BackendError(f"{self._what}: {len(answer)} arrays where {count} were asked for")
        return answer

    def _named(self, request: Mapping[str, Any], arrays: Sequence[Float32] = ()) -> dict[str, Float32]:
        """Arrays by the names that the child gives them: known ones, each once."""
        answer = self._child.call(self._what, request, arrays)
        names = answer.text.split()
        known = {"encoder_output", "cross_keys", "cross_values"} if request["do"] == "encode" else self._layers()
        if len(set(names)) != len(answer.arrays) or not set(names) <= known:
            raise BackendError(f"{self._what}: its process named other tensors than it was asked for")
        return dict(zip(names, answer.arrays))

    def _layers(self) -> set[str]:
        return {f"{name}.{layer}" for name in ("key", "value") for layer in range(self._fitted.values["L"])}


class Answering:
    """The other end: made of what runs the two loaded files."""

    def __init__(self, runs: Callable[[str], Run]) -> None:
        """Take what runs a component ("encoder", "decoder")."""
        self._runs = runs
        self._fitted: Fitted | None = None
        self._core: Core | None = None

    def answer(self, request: Mapping[str, Any], arrays: Sequence[Float32]) -> Message:
        """Answer one of REQUESTS.

        Raises:
            ArtifactError, BackendError: see `stepping.Core`.
        """
        if request["do"] == "steps":
            self._fitted = fitting.parsed(request["fitted"], [Layout.parse(request["layout"])])
            self._core = Core(self._fitted, self._runs("decoder"))
            return Message(ANSWERED, "")
        if self._fitted is None or self._core is None:
            raise BackendError("no steps were asked for")
        if request["do"] == "encode":
            assert self._fitted.features is not None  # noqa: S101 - it was read with its encoder
            outputs = self._runs("encoder")([self._fitted.features.pack(arrays[0])])
            return _named(encoded(self._fitted, outputs))
        return self._stepped(self._core, request, dict(zip(request.get("names", ()), arrays)), arrays)

    def _stepped(
        self, core: Core, request: Mapping[str, Any], named: Mapping[str, Float32], arrays: Sequence[Float32]
    ) -> Message:
        kind = request["do"]
        if kind == "feed":
            return Message(ANSWERED, "", (core.feed(request["token"], named),))
        if kind in ("written", "cross"):
            return _named(core.written() if kind == "written" else core.cross())
        if kind == "begin":
            core.begin(named)
        elif kind == "rewind":
            core.rewind(request["count"])
        elif kind == "fill":
            core.fill(request["value"])
        else:
            core.replace(request["name"], arrays[0] if arrays else None)
        return Message(ANSWERED, "")


def _named(arrays: Mapping[str, Float32]) -> Message:
    return Message(ANSWERED, "\n".join(arrays), tuple(np.ascontiguousarray(array) for array in arrays.values()))
