"""A small decoder with a KV cache as stand-in DLA files, in the runner of this machine, without a device between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.runners import Models, Session, container, running
from whisper_parity.backend.contract import Facts
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Fitted
from whisper_parity.backends.dla.sessions import protocol, stepform, stepwise
from whisper_parity.backends.dla.sessions.protocol import RunnerDims
from whisper_parity.backends.dla.sessions.stepped import ResidentSteps
from whisper_parity.backends.split import stepping
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims


class Steps(ResidentSteps):
    """What the session does, over a socket without a device."""

    def __init__(self, session: Session, fitted: Fitted) -> None:
        self.session, self.fitted = session, fitted
        self.position = 0
        self._encoding = None
        self.tell(stepform.of(fitted))

    def tell(self, form: stepwise.LayOut) -> None:
        """Tell the runner a layout, right or wrong."""
        self._encoding = None
        self._moved(form)

    def _ask(self, request: protocol.Request, kind: type[Any]) -> Any:
        reply = self.session.ask(request)
        if isinstance(reply, protocol.ErrorReply):
            raise BackendError(reply.text)
        assert isinstance(reply, kind), reply
        return reply

    def _add_device_time(self, device_us: int) -> None:
        """Nobody asks."""


class Slotted:
    """`whisper_parity.backend.facets.Slotted` over steps, with tables in memory."""

    def __init__(self, steps: Steps, tables: Mapping[str, NDArray[Any]]) -> None:
        self._steps, self._tables = steps, tables
        self.facts = Facts("runner (of this machine)")
        self.n_slots = steps.fitted.n_text_ctx
        self.begin, self.rewind, self.fill = self._begun, steps.rewind, steps.fill
        self.written, self.cross = steps.written, steps.cross

    def usage(self) -> None: ...

    @property
    def position(self) -> int:
        return self._steps.position

    def encode(self, input_features: np.ndarray) -> np.ndarray:
        return self._steps.encode(input_features)["encoder_output"]

    def feed(self, token: int) -> np.ndarray:
        places = {"token": token, "position": min(self.position, self.n_slots - 1)}  # the runner knows when it is full
        return self._steps.feed(token, {name: table[places[name]] for name, table in self._tables.items()})

    def inputs(self) -> tuple[str, ...]:
        return tuple(bound.key for bound in self._steps.fitted.inputs)

    @contextmanager
    def replaced(self, name: str, array: NDArray[Any]) -> Iterator[None]:
        with stepping.replaced(self._steps, name, array):
            yield

    def _begun(self, encoder_output: np.ndarray) -> None:
        self._steps.begin({"encoder_output": encoder_output})


def files(folder: Path, fitted: Fitted, dims: Dims, *, halves: bool = False, models: Sequence[bytes] = ()) -> Models:
    """Stand-ins in a layout: of TFLite files, or of nothing but arithmetic."""

    def side(ports: Sequence[Port]) -> list[Mapping[str, Any]]:
        listed = sorted(ports, key=lambda port: port.index)
        return [{"name": "t", "shape": list(port.shape), "dtype": port.dtype} for port in listed]

    def file(name: str, model: bytes, inputs: Sequence[Port], outputs: Sequence[Port]) -> Path:
        sides = {"inputs": side(inputs), "outputs": side(outputs)}
        return container(folder / name, model, ([], []), suppress_io=halves, **sides)

    assert fitted.features is not None
    first, second = models or (bytes(64), bytes(64))
    encoder = file("encoder.dla", first, [fitted.features], [one.port for one in fitted.encoder_outputs])
    decoder = file("decoder.dla", second, [one.port for one in fitted.inputs], [one.port for one in fitted.outputs])
    (folder / "none").write_bytes(b"")
    return Models(folder, RunnerDims.of(dims), encoder, decoder, folder / "none")


@contextmanager
def stepping_on(models: Models, **how: Any) -> Iterator[Session]:
    """A session with a runner of such files."""
    with running(models, "--stepped", **how) as runner:
        session = runner.connect()
        hello = replace(runner.hello(), embedding_sha256=bytes.fromhex(models.digests()[2]))
        assert isinstance(session.ask(hello), protocol.HelloOk)
        yield session
