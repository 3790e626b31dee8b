"""A decoder with a KV cache in the resident runner: the cache stays on the device.

A token takes an id and two rows of the tables there, and brings one row of logits back; the encoder's output goes from
one file to the other without leaving the device. The runner is told the layout as data, see `stepform`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.layout import Fitted, Layout
from whisper_parity.backends.dla import steps
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.sessions import iomap, protocol, stepform, stepwise, wire
from whisper_parity.backends.dla.sessions.resident import Resident
from whisper_parity.backends.split import stepping
from whisper_parity.errors import BackendError

WRITTEN, CROSS = 0, 1


class ResidentSteps(Resident):
    """`split.stepping.Steps` of a runner."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact, layouts: Sequence[Layout]) -> None:
        """Push the files, start the runner, and tell it how they take and give their numbers.

        Raises:
            ArtifactError: they fit no layout, or are not those that were recorded.
            DeviceError, BuildError, UnavailableError: as `Resident`.
        """
        super().__init__(device, facts, artifact, (), "--stepped")
        self.position = 0
        self._encoding: tuple[Mapping[str, Float32], int] | None = None
        try:
            sizes = self._ask(stepwise.AskMap(), stepwise.IOMap)
            encoder = iomap.of_sizes(sizes.encoder_inputs, sizes.encoder_outputs)
            decoder = iomap.of_sizes(sizes.decoder_inputs, sizes.decoder_outputs)
            self.fitted = steps.fitted(artifact, layouts, device.settings, encoder, decoder)
            self._link.max_reply = _longest(self.fitted)
            self._moved(stepform.of(self.fitted))
        except BaseException:
            self.close()
            raise

    def encode(self, input_features: Float32) -> dict[str, Float32]:
        """What the encoder's file gives, see `stepping.encoded`; it stays on the device, too."""
        reply = self._ask(protocol.Encode(input_features, want_output=True), protocol.Encoded)
        self._add_device_time(reply.device_us)
        arrays = _encoded(self.fitted, self._whole(reply.values, stepform.n_encoded(self.fitted), "encoder output"))
        self._encoding = ({name: array.copy() for name, array in arrays.items()}, reply.encoding_id)
        return arrays

    def begin(self, arrays: Mapping[str, Float32]) -> None:
        """See `Steps`; what the encoder gave last is there already."""
        if self._encoding is None or not stepping.same(self._encoding[0], arrays):
            self._encoding = ({name: array.copy() for name, array in arrays.items()}, self._sent(arrays))
        self._moved(stepwise.Begin(self._encoding[1]))

    def feed(self, token: int, rows: Mapping[str, Float32]) -> Float32:
        """See `Steps`."""
        reply = self._ask(stepwise.Feed.of(token, _joined(rows)), protocol.DecodedRows)
        self._add_device_time(reply.device_us)
        self.position += 1
        return np.array(self._whole(reply.logits.reshape(-1), self.fitted.values["V"], "logits"), np.float32)

    def feed_top(self, token: int, rows: Mapping[str, Float32], top_k: int) -> protocol.DecodedTop:
        """The same for who wants tokens alone: the best ones and their logsumexp."""
        reply = self._ask(stepwise.Feed.of(token, _joined(rows), top_k), protocol.DecodedTop)
        self._add_device_time(reply.device_us)
        self.position += 1
        return reply

    def rewind(self, count: int) -> None:
        """See `Steps`."""
        if not 0 <= count <= self.position:
            raise BackendError(f"{count} tokens to take back where {self.position} were fed")
        self._moved(stepwise.Rewind(count))

    def written(self) -> dict[str, Float32]:
        """See `Steps`."""
        layers, state = self.fitted.values["L"], self.fitted.values["d"]
        values = self._look(WRITTEN, 0, 2 * layers * state)
        return {name: np.array(row) for name, row in zip(_names(layers), values.reshape(2 * layers, state))}

    def cross(self) -> dict[str, Float32]:
        """See `Steps`."""
        layers, state, rows = self.fitted.values["L"], self.fitted.values["d"], self.fitted.n_audio_ctx
        if self._ask(stepwise.Look(CROSS, 0), stepwise.Numbers).values.size == 0:
            return {}
        return {
            name: np.array(self._look(CROSS, index, rows * state).reshape(rows, state))
            for index, name in enumerate(_names(layers))
        }

    def fill(self, value: float) -> None:
        """See `Steps`."""
        self._moved(stepwise.Fill(float(value)))

    def replace(self, name: str, array: NDArray[Any] | None) -> None:
        """See `Steps`.

        Raises:
            BackendError: the file has no such input.
        """
        keys = [bound.key for bound in self.fitted.inputs]
        if name not in keys:
            raise BackendError(f"no input {name!r:.60}: it has {', '.join(keys[:20])}")
        values = np.zeros(0, np.float32) if array is None else np.asarray(array, np.float32)
        if values.size > 1:
            bound = self.fitted.inputs[keys.index(name)]
            values = stepping.canonical(self.fitted, "inputs", bound, values.reshape(bound.port.shape))
        self._moved(stepwise.Replace(keys.index(name), np.ascontiguousarray(values).reshape(-1)))

    def _moved(self, request: protocol.Request) -> None:
        """Change the decoder's state, and take over where it stands then."""
        self.position = self._ask(request, stepwise.Position).position

    def _look(self, what: int, index: int, count: int) -> Float32:
        return self._whole(self._ask(stepwise.Look(what, index), stepwise.Numbers).values, count, "what was looked at")

    def _sent(self, arrays: Mapping[str, Float32]) -> int:
        """Another stage's encoder output, or its keys and values of cross attention, layer by layer."""
        if self.fitted.layout.cross != "encoder":
            return self._ask(protocol.SetEncoding(arrays["encoder_output"]), protocol.EncodingSet).encoding_id
        layers = np.concatenate([arrays["cross_keys"], arrays["cross_values"]])
        replies = [self._ask(stepwise.SetCross(index, one), protocol.EncodingSet) for index, one in enumerate(layers)]
        return replies[-1].encoding_id

    def _whole(self, values: Float32, count: int, what: str) -> Float32:
        if values.size != count:
            message = f"expected {count} values of {what}, found {values.size}"
            raise DeviceError(Fault.SHORT_OUTPUT, self.device.serial, message)
        return values


def _names(layers: int) -> Iterator[str]:
    yield from (f"{name}.{layer}" for name in ("key", "value") for layer in range(layers))


def _joined(rows: Mapping[str, Float32]) -> Float32:
    """Rows of the tables, the token's in front of the position's."""
    found = [rows[name] for name in ("token", "position") if name in rows]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _encoded(fitted: Fitted, values: Float32) -> dict[str, Float32]:
    """The encoder's outputs, flat and in our order, by name."""
    layers, rows, state = fitted.values["L"], fitted.n_audio_ctx, fitted.values["d"]
    arrays: dict[str, Float32] = {}
    cross: dict[str, list[Float32]] = {"cross_keys": [], "cross_values": []}
    for bound in sorted(fitted.encoder_outputs, key=lambda bound: bound.layer or 0):
        array = _part(fitted, values, bound.key)
        if bound.role == "encoder_output":
            arrays["encoder_output"] = np.array(array.reshape(1, rows, state), np.float32)
            continue
        blocks = array.reshape(-1, rows, state)
        halves = {"cross_keys": blocks[:layers], "cross_values": blocks[layers:]}
        for name, part in halves.items() if bound.role == "cross" else ((bound.role, blocks),):
            cross[name] += list(part)
    return arrays | {name: np.stack(parts).astype(np.float32) for name, parts in cross.items() if parts}


def _part(fitted: Fitted, values: Float32, key: str) -> Float32:
    """One of the outputs, which lie behind each other in the order of LAYOUT."""
    first = 0
    for bound in fitted.encoder_outputs:
        count = stepform.count(fitted, "encoder_outputs", bound)
        if bound.key == key:
            return values[first : first + count]
        first += count
    raise KeyError(key)


def _longest(fitted: Fitted) -> int:
    """Bytes of the longest payload that such a runner may send."""
    state, rows = fitted.values["d"], fitted.n_audio_ctx
    largest = max(stepform.n_encoded(fitted), fitted.values["V"], rows * state, 2 * fitted.values["L"] * state)
    return 4 * largest + 2 * wire.MAX_TEXT + 256
