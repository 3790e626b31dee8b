"""A decoder with a KV cache through neuronrt: one call of the tool a token, the cache as files on the device.

Only what a step needs crosses the cable: the token, its position and the mask go out, one row of logits comes back. New
rows of the cache are written into their slots by `dd`, a cache that the file gives back whole takes the old one's name.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Bound, Fitted, Layout
from whisper_parity.backends.dla import steps
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.sessions import iomap
from whisper_parity.backends.dla.sessions.neuronrt import IOMap, Workplace
from whisper_parity.backends.split import stepping
from whisper_parity.backends.split.stepping import PAST, Core
from whisper_parity.errors import ArtifactError

MOST_COPIES = 400
"""Pieces in which new rows may have to be written into the cache: each is a process on the device."""


class NeuronrtSteps(Workplace):
    """`split.stepping.Steps` by files."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact, layouts: Sequence[Layout]) -> None:
        """Push the files and check the I/O maps.

        Raises:
            DeviceError: no tool, or a file that it refuses.
            ArtifactError: they fit no layout, or one whose cache cannot be kept in files.
        """
        super().__init__(device, facts, artifact, ("encoder", "decoder"))
        encoder, decoder = (_found(self._read_map(role)) for role in ("encoder", "decoder"))
        self.fitted = steps.fitted(artifact, layouts, device.settings, encoder, decoder)
        self._core = FileCore(self.fitted, self)
        _require_copies(str(artifact.path("decoder")), self.fitted)
        device.shell("mkdir", "-p", self._folder)

    @property
    def position(self) -> int:
        """Tokens that were fed."""
        return self._core.position

    def encode(self, input_features: Float32) -> dict[str, Float32]:
        """What the encoder's file gives, see `stepping.encoded`."""
        assert self.fitted.features is not None  # noqa: S101 - it was read with its encoder
        self._push(np.ascontiguousarray(self.fitted.features.pack(input_features)).tobytes(), "features")
        outputs = self.call("encoder", ["features"], [bound.port for bound in self.fitted.encoder_outputs], "enc")
        arrays = stepping.encoded(self.fitted, outputs)
        self._core.encoded = {name: array.copy() for name, array in arrays.items()}
        return arrays

    def begin(self, arrays: Mapping[str, Float32]) -> None:
        """See `Steps`."""
        self._core.begin(arrays)

    def feed(self, token: int, rows: Mapping[str, Float32]) -> Float32:
        """See `Steps`."""
        return self._core.feed(token, rows)

    def rewind(self, count: int) -> None:
        """See `Steps`."""
        self._core.rewind(count)

    def written(self) -> dict[str, Float32]:
        """See `Steps`."""
        return self._core.written()

    def cross(self) -> dict[str, Float32]:
        """See `Steps`."""
        return self._core.cross()

    def fill(self, value: float) -> None:
        """See `Steps`."""
        self._core.fill(value)

    def replace(self, name: str, array: NDArray[Any] | None) -> None:
        """See `Steps`."""
        self._core.replace(name, array)

    def call(self, role: str, inputs: Sequence[str], ports: Sequence[Port], stem: str) -> FileOutputs:
        """Run a file once; its outputs stay on the device until they are looked at.

        Raises:
            DeviceError: the tool failed, or wrote other sizes than the file has.
        """
        ordered = sorted(ports, key=lambda port: port.index)
        names = [f"{stem}{port.index}" for port in ordered]
        sizes = self._timed(role, inputs, names)
        for port, size in zip(ordered, sizes):
            if size != _bytes(port):
                fault = Fault.SHORT_OUTPUT if size < _bytes(port) else Fault.SHAPE
                message = f"{role}: {size} bytes of output {port.index}, expected {_bytes(port)}"
                raise DeviceError(fault, self.device.serial, message)
        return FileOutputs(self, {port.index: (name, port) for name, port in zip(names, ordered)})

    def fetched(self, name: str, port: Port) -> NDArray[Any]:
        """A file of our folder as an array of a port."""
        data = self._fetch(name, _bytes(port))
        return np.frombuffer(data, np.dtype(port.dtype).newbyteorder("<")).astype(port.dtype).reshape(port.shape)

    def pushed(self, name: str, array: NDArray[Any]) -> None:
        """An array as a file of our folder."""
        self._push(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes(), name)

    def on_device(self, commands: Sequence[str]) -> None:
        """Shell commands in our folder, all in one call."""
        if commands:
            self._run_script(f"cd {shlex.quote(self._folder)} && {' && '.join(commands)}", "cache")


class FileOutputs(Sequence[NDArray[Any]]):
    """Outputs of one call by handle, each pulled when it is asked for."""

    def __init__(self, place: NeuronrtSteps, files: Mapping[int, tuple[str, Port]]) -> None:
        self._place, self._files = place, files
        self._arrays: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._files)

    def __getitem__(self, handle: Any) -> Any:
        """One of them."""
        if handle not in self._arrays:
            self._arrays[handle] = self._place.fetched(*self._files[handle])
        return self._arrays[handle]


class FileCore(Core):
    """`Core` whose inputs are files on a device: those that it holds here are copies, which may be old."""

    def __init__(self, fitted: Fitted, place: NeuronrtSteps) -> None:
        super().__init__(fitted, self._called)
        self._place = place
        self._zeroed: set[str] = set()
        """Inputs that are zero everywhere, which needs no push."""
        self._old: set[str] = set()
        """Inputs whose files have changed on the device since they were here."""
        self._elsewhere: set[str] = set()
        """Inputs that are fed from another file."""
        self.encoded: Mapping[str, Float32] = {}
        """What the encoder gave last."""

    def begin(self, arrays: Mapping[str, Float32]) -> None:
        """See `Steps`; what the encoder gave last is copied on the device."""
        super().begin(arrays)
        if not stepping.same(self.encoded, arrays):
            return
        given = {bound.key: bound.port for bound in self._fitted.encoder_outputs}
        same = [key for key in given if key in self._bound and _alike(given[key], self._bound[key].port)]
        self._place.on_device([f"cp enc{given[key].index} in{self._bound[key].port.index}" for key in same])
        self._changed -= set(same)

    def written(self) -> dict[str, Float32]:
        """See `Steps`."""
        self._written = {}
        if self.position:
            self.position -= 1  # the slot of the last token
            for bound in self._of_cache():
                new = PAST[bound.role][0] + bound.key.removeprefix(bound.role)
                self._note(bound, self._rows(new) if self._fitted.layout.update == "outside" else None)
            self.position += 1
        return dict(self._written)

    def replace(self, name: str, array: NDArray[Any] | None) -> None:
        """See `Steps`."""
        before = name in self._changed
        super().replace(name, array)
        if not before:
            self._changed.discard(name)  # its own file stays as it is
        if array is None:
            self._elsewhere.discard(name)
        else:
            self._place.pushed(f"alt{self._bound[name].port.index}", self._replaced[name])
            self._elsewhere.add(name)

    def _called(self, arrays: Sequence[NDArray[Any]], changed: Collection[int] | None = None) -> Sequence[NDArray[Any]]:
        """One step: push what has changed, run the file."""
        keys = [self._order[place] for place in changed or ()]
        zeros = [key for key in keys if key in self._zeroed]
        self._place.on_device([_zeros(self._bound[key].port) for key in zeros])
        for key in keys:
            if key not in self._zeroed:
                self._place.pushed(f"in{self._bound[key].port.index}", self._inputs[key])
        names = [f"{'alt' if key in self._elsewhere else 'in'}{self._bound[key].port.index}" for key in self._order]
        return self._place.call("decoder", names, [bound.port for bound in self._fitted.outputs], "out")

    def _keep(self) -> None:
        """Write the new rows into the cache on the device."""
        commands: list[str] = []
        for bound in self._of_cache():
            new, whole = (role + bound.key.removeprefix(bound.role) for role in PAST[bound.role])
            target = f"in{bound.port.index}"
            if self._fitted.layout.update == "outside":
                source = self._outputs_by_key[new]
                copies = _copies(self._fitted, bound, source, self.position)
                commands += [_dd(f"out{source.port.index}", target, copy, _width(bound.port)) for copy in copies]
            else:
                commands.append(f"cp out{self._outputs_by_key[whole].port.index} {target}")
            self._old.add(bound.key)
            self._zeroed.discard(bound.key)
        if self._fitted.layout.cross == "cached" and self.position == 0:
            for key in (key for key in self._outputs_by_key if key in self._bound and key.startswith("cross_")):
                commands.append(f"cp out{self._outputs_by_key[key].port.index} in{self._bound[key].port.index}")
                self._zeroed.discard(key)
                self._old.add(key)
        self._place.on_device(commands)

    @cached_property
    def _outputs_by_key(self) -> dict[str, Bound]:
        return {bound.key: bound for bound in self._fitted.outputs}

    def _given(self) -> dict[str, NDArray[Any]]:
        """Outputs of the last step that hold cross attention: the others are not pulled for it."""
        keys = [key for key in self._outputs_by_key if key.startswith("cross_")] if self._outputs else []
        empty = {key: np.zeros(0) for key in self._outputs_by_key if key not in keys} if self._outputs else {}
        return empty | {key: self._outputs[self._outputs_by_key[key].port.index] for key in keys}

    def _set(self, key: str, values: NDArray[Any]) -> None:
        super()._set(key, values)
        self._zeroed.discard(key)
        self._old.discard(key)

    def _clear(self, key: str, bound: Bound) -> None:
        super()._clear(key, bound)
        self._old.discard(key)
        if not bound.port.zero_point:
            self._zeroed.add(key)

    def _view(self, bound: Bound) -> NDArray[Any]:
        if bound.key in self._old:
            self._inputs[bound.key][...] = self._place.fetched(f"in{bound.port.index}", bound.port)
            self._old.discard(bound.key)
        self._zeroed.discard(bound.key)
        return super()._view(bound)


Copy = tuple[int, int, int]
"""(first element of the source, first of the target, how many)."""


def _copies(fitted: Fitted, cache: Bound, rows: Bound, position: int) -> list[Copy]:
    """The pieces in which new rows go into their slot of a cache."""
    slot = np.moveaxis(_places(fitted, "inputs", cache), int(cache.layer is None), 0)[position].reshape(-1)
    source = _places(fitted, "outputs", rows).reshape(-1)
    ends = np.flatnonzero((np.diff(slot) != 1) | (np.diff(source) != 1)) + 1
    starts = [0, *ends.tolist()]
    return [(int(source[a]), int(slot[a]), b - a) for a, b in zip(starts, [*starts[1:], len(slot)])]


def _places(fitted: Fitted, side: str, bound: Bound) -> NDArray[np.int64]:
    """Where each number of a tensor lies in its file, in our order."""
    shape = bound.port.shape
    places = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    return stepping.canonical(fitted, side, bound, places)


def _require_copies(where: str, fitted: Fitted) -> None:
    if fitted.layout.update != "outside":
        return
    rows = {bound.key: bound for bound in fitted.outputs}
    count = 0
    for bound in fitted.inputs:
        if bound.role in PAST:
            source = rows[PAST[bound.role][0] + bound.key.removeprefix(bound.role)]
            if not _same_type(source.port, bound.port):
                raise ArtifactError(f"{where}: its rows are of another type than its cache", hint=RUNNER)
            count += len(_copies(fitted, bound, source, 0))
    if count > MOST_COPIES:
        raise ArtifactError(f"{where}: a token's rows lie in {count} pieces of its cache", hint=RUNNER)


RUNNER = 'neuronrt keeps the cache in files and cannot do that; mode = "runner" under [backends.dla] can'


def _dd(source: str, target: str, copy: Copy, width: int) -> str:
    first, place, count = copy
    block = gcd(gcd(first, place), count)
    words = f"bs={block * width} skip={first // block} seek={place // block} count={count // block}"
    return f"dd if={source} of={target} {words} conv=notrunc 2>/dev/null"


def _zeros(port: Port) -> str:
    name = f"in{port.index}"
    return f"rm -f {name} && dd if=/dev/null of={name} bs=1 seek={_bytes(port)} count=0 2>/dev/null"


def _alike(one: Port, other: Port) -> bool:
    return _same_type(one, other) and _bytes(one) == _bytes(other) and one.shape[-1] == other.shape[-1]


def _same_type(one: Port, other: Port) -> bool:
    return (one.dtype, one.scale, one.zero_point) == (other.dtype, other.scale, other.zero_point)


def _bytes(port: Port) -> int:
    return int(np.prod(port.shape, dtype=np.int64)) * _width(port)


def _width(port: Port) -> int:
    return np.dtype(port.dtype).itemsize


def _found(io_map: IOMap) -> iomap.Found:
    return iomap.of_shapes(io_map.inputs, io_map.outputs)
