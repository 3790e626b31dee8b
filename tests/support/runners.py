"""The resident runner as a process, models to start it on, and the simplest possible client."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.sessions import protocol
from whisper_parity.backends.dla.sessions.protocol import HEADER, RunnerDims

SMALL = RunnerDims(n_mels=4, n_frames=6, n_audio_ctx=5, n_audio_state=8, n_text_ctx=10, n_text_state=16, n_vocab=100)
"""For the stand-in without a model: its outputs are arithmetic."""
ARITHMETIC = {"PARITY_SIM_ARITHMETIC": "1", "PARITY_SIM_FP32_IO": "1"}
TOKENS, ROWS = (3, 1, 4, 1, 5), (0, 4, 2)


def container(path: Path, model: bytes, shapes: tuple[list[list[int]], list[list[int]]], **header: Any) -> Path:
    """Write a stand-in DLA file."""
    inputs, outputs = (
        [{"name": f"t{i}", "shape": s, "dtype": "float32"} for i, s in enumerate(side)] for side in shapes
    )
    fields = {"version": "8.2.31", "major": 8, "arch": "mdla5.3,edma3.6", "soc": None, "suppress_io": False}
    text = json.dumps({**fields, "inputs": inputs, "outputs": outputs, "targets": ["MDLA_5_3"], **header}).encode()
    head = b"SIMDLA01" + struct.pack("<I", len(text)) + text
    path.write_bytes(head + bytes(-len(head) % 64) + model)
    return path


@dataclass(frozen=True)
class Models:
    """What a runner is started on."""

    folder: Path
    dims: RunnerDims
    encoder: Path
    decoder: Path
    embedding: Path

    def digests(self) -> tuple[str, str, str]:
        return tuple(hashlib.sha256(p.read_bytes()).hexdigest() for p in (self.encoder, self.decoder, self.embedding))  # type: ignore[return-value]


def shapes_of(dims: RunnerDims, taps: int = 0) -> tuple[Any, Any]:
    """Shapes of the encoder and of the decoder, `taps` more outputs than usual."""
    encoding = [1, dims.n_audio_ctx, dims.n_audio_state]
    extra = [[1, 7 + i] for i in range(taps)]
    return (
        ([[1, dims.n_mels, dims.n_frames]], [encoding, *extra]),
        ([[1, dims.n_text_ctx, dims.n_text_state], encoding], [[1, dims.n_text_ctx, dims.n_vocab], *extra]),
    )


def small_models(folder: Path, taps: int = 0, **header: Any) -> Models:
    """Files for the stand-in without a model, in a folder."""
    encoder, decoder = shapes_of(SMALL, taps)
    table = np.random.default_rng(1).standard_normal((SMALL.n_vocab, SMALL.n_text_state)).astype(np.float32)
    np.save(folder / "token_embedding.npy", table)
    return Models(
        folder,
        SMALL,
        container(folder / "encoder.dla", bytes(64), encoder, **header),
        container(folder / "decoder.dla", bytes(64), decoder, **header),
        folder / "token_embedding.npy",
    )


@dataclass
class Session:
    """The simplest possible client of the runner."""

    stream: socket.socket
    dims: RunnerDims
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 30)))
    rest: bytearray = field(default_factory=bytearray)
    """What came behind the last reply."""
    halves: bool = False
    """Whether the last reply's values came as float16."""
    pieces: list[int] = field(default_factory=list)
    """Sizes of the last reply's pieces, as recv gave them."""

    def ask(self, message: protocol.Request) -> Any:
        request_id = next(self.ids)
        self.stream.sendall(protocol.pack(message, request_id))
        return self.hear(request_id)

    def hear(self, request_id: int | None = None) -> Any:
        received = self._receive()
        header = protocol.parse_header(received[: HEADER.size], self.dims.max_reply)
        self.halves = header.halves or header.packed
        assert request_id in (None, header.request_id)
        return protocol.parse_reply(header.type, received[HEADER.size :], halves=header.halves, packed=header.packed)

    def _receive(self) -> bytes:
        self.pieces, wanted = [], HEADER.size
        while len(self.rest) < wanted:
            piece = self.stream.recv(1 << 20)
            if not piece:
                raise EOFError(f"closed after {len(self.rest)} bytes")
            self.pieces.append(len(piece))
            self.rest += piece
            if len(self.rest) >= HEADER.size:
                wanted = HEADER.size + HEADER.unpack(self.rest[: HEADER.size])[0]
        received, self.rest = bytes(self.rest[:wanted]), self.rest[wanted:]
        return received

    def closed(self) -> bool:
        """Whether the runner hung up."""
        try:
            return self.stream.recv(1) == b""
        except ConnectionResetError:
            return True


@dataclass(frozen=True)
class Runner:
    """A runner that is ready."""

    pid: int
    address: str
    token: bytes
    models: Models
    log: Path
    opened: list[socket.socket] = field(default_factory=list)

    def connect(self) -> Session:
        kind, _, name = self.address.partition(":")
        stream = socket.socket(socket.AF_UNIX if kind == "abstract" else socket.AF_INET)
        self.opened.append(stream)
        stream.settimeout(20)
        stream.connect(f"\0{name}" if kind == "abstract" else ("127.0.0.1", int(name)))
        return Session(stream, self.models.dims)

    def hello(self, owner: str = "test") -> protocol.Hello:
        return protocol.Hello(self.token, *map(protocol.digest_bytes, self.models.digests()), owner)

    @contextmanager
    def session(self) -> Iterator[Session]:
        session = self.connect()
        with session.stream:
            welcome = session.ask(self.hello())
            assert isinstance(welcome, protocol.HelloOk), welcome
            yield session

    def alive(self) -> bool:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def gone_within(self, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def command(models: Models, token: bytes, listen: str, more: Sequence[str], binary: Sequence[str | Path]) -> list[str]:
    """The command line that starts a runner; its token is written to a file."""
    encoder, decoder, embedding = models.digests()
    token_file = models.folder / "token"
    token_file.write_text(token.hex())
    words = [*binary, "--daemon", "--encoder", models.encoder, "--encoder-sha256", encoder, "--decoder", models.decoder]
    words += ["--decoder-sha256", decoder, "--embedding", models.embedding, "--embedding-sha256", embedding]
    words += ["--dims", models.dims, "--listen", listen, "--token-file", token_file, "--lock", models.folder / "lock"]
    return [str(word) for word in [*words, "--log", models.folder / "log", "--owner", "a test", *more]]


def start(
    models: Models,
    *more: str,
    listen: str | None = None,
    env: Mapping[str, str] = ARITHMETIC,
    binary: Sequence[str | Path] = (),
    runtime: Path | None = None,
    token: bytes = b"",
) -> subprocess.CompletedProcess[str]:
    """Start a runner and wait for its first line, which says READY or ERROR."""
    runtime_words = () if "--runtime" in more else ("--runtime", str(runtime or native.stand_in_runtime("both")))
    words = command(
        models, token or secrets.token_bytes(32), listen or f"abstract:parity-test-{secrets.token_hex(8)}",
        (*runtime_words, *more), binary or [native.runner()],
    )  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PARITY_SIM")}
    litert = {"PARITY_SIM_LITERT": str(native.litert_library()), "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={**clean, **litert, **env}, check=False
    )


@contextmanager
def running(models: Models, *more: str, **how: Any) -> Iterator[Runner]:
    """A runner that is ready; it is killed at the end."""
    token = secrets.token_bytes(32)
    said = start(models, *more, token=token, **how)
    assert said.returncode == 0, said.stdout + said.stderr
    ready, pid, address = said.stdout.split()
    assert (ready, said.stdout.count("\n")) == ("READY", 1)
    assert not (models.folder / "token").exists()
    runner = Runner(int(pid), address, token, models, models.folder / "log")
    try:
        yield runner
    finally:
        for stream in runner.opened:
            stream.close()
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        assert runner.gone_within(20)  # and with it its lock


def refused(models: Models, *more: str, **env: str) -> tuple[int, str]:
    """The code and the line with which a runner refuses to start."""
    said = start(models, *more, env={**ARITHMETIC, **env})
    assert said.stdout.startswith(f"ERROR {said.returncode - 10} "), said.stdout
    assert said.stdout.count("\n") == 1, said.stdout
    return said.returncode - 10, said.stdout


def arithmetic(size: int, *inputs: np.ndarray, which: int = 0) -> np.ndarray:
    """What the stand-in computes without a model."""
    weighed = [(array.ravel() * (1.0 + np.arange(array.size) % 7)).mean(dtype=np.float64) for array in inputs]
    return (((np.arange(size) + which) % 97 - 48) / 16 + sum(weighed) / (8 * len(inputs))).astype(np.float32)


def features(dims: RunnerDims) -> np.ndarray:
    """Random input features."""
    return np.random.default_rng(0).standard_normal((1, dims.n_mels, dims.n_frames), dtype=np.float32)


def embedded(models: Models, tokens: Sequence[int]) -> np.ndarray:
    """What the decoder is fed for these tokens."""
    found = np.zeros((models.dims.n_text_ctx, models.dims.n_text_state), np.float32)
    found[: len(tokens)] = np.load(models.embedding)[list(tokens)]
    return found


GARBAGE: dict[str, Callable[[Runner], bytes]] = {
    "text": lambda runner: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": lambda runner: bytes(100),
    "huge length": lambda runner: HEADER.pack(0xFFFFFFFF, 1, 0, 5) + bytes(1000),
    "64 MiB and one": lambda runner: HEADER.pack((64 << 20) + 1, 1, 0, 5),
    "long before hello": lambda runner: HEADER.pack(8193, 1, 0, 5) + bytes(100),
    "cut header": lambda runner: b"\x01\x02\x03",
    "cut hello": lambda runner: protocol.pack(runner.hello(), 1)[:50],
    "hello with a long text": lambda runner: protocol.pack(runner.hello(), 1)[:-8] + b"\xff\xff\xff\xff" + b"test",
    "noise": lambda runner: np.random.default_rng(3).bytes(20000),
}
