"""The resident runner as a process, on the simulator's stand-in runtime: what it computes, and what it survives."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whisper_parity.backend import build
from whisper_parity.backend.build import Workshop
from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.sessions import protocol
from whisper_parity.backends.dla.sessions.protocol import HEADER, ErrorCode, RunnerDims
from whisper_parity.errors import BuildError, UnavailableError
from whisper_parity.model import checkpoint

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
    """A client of the runner, as simple as can be."""

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
        self.halves = header.halves
        assert request_id in (None, header.request_id)
        return protocol.parse_reply(header.type, received[HEADER.size :], halves=header.halves)

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


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Everything is compiled before any time is taken; a machine without compiler says so once."""
    try:
        native.runner()
        for api in ("both", "v1", "v2"):
            native.stand_in_runtime(api)
    except (BuildError, UnavailableError) as error:
        pytest.skip(f"no runner can be built here: {error}")


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return small_models(tmp_path)


def arithmetic(size: int, *inputs: np.ndarray, which: int = 0) -> np.ndarray:
    """What the stand-in computes without a model."""
    offset = sum(float(array.ravel()[:64].mean(dtype=np.float32)) for array in inputs)
    return (((np.arange(size) + which) % 97 - 48) / 16 + offset).astype(np.float32)


def features(dims: RunnerDims) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, dims.n_mels, dims.n_frames), dtype=np.float32)


def embedded(models: Models, tokens: Sequence[int]) -> np.ndarray:
    found = np.zeros((models.dims.n_text_ctx, models.dims.n_text_state), np.float32)
    found[: len(tokens)] = np.load(models.embedding)[list(tokens)]
    return found


# What it computes


@pytest.mark.parametrize("listen", [None, "tcp:0"])
@pytest.mark.parametrize("api", ["v1", "v2"])
def test_a_session(models, listen, api):
    """HELLO, ENCODE, DECODE by rows and by top-k, SET_ENCODING, OUTPUT, STATUS and BYE, over both sockets and APIs."""
    with running(models, "--api", api, listen=listen) as runner, runner.session() as session:
        dims = models.dims
        encoded = session.ask(protocol.Encode(features(dims), True))
        expected = arithmetic(dims.n_audio_ctx * dims.n_audio_state, features(dims))
        np.testing.assert_allclose(encoded.values, expected, atol=1e-6)
        assert encoded.encoding_id == 1
        assert session.ask(protocol.Encode(features(dims))).values.size == 0
        logits = arithmetic(dims.n_text_ctx * dims.n_vocab, embedded(models, TOKENS), expected).reshape(
            -1, dims.n_vocab
        )
        rows = session.ask(protocol.Decode(2, TOKENS, ROWS))
        np.testing.assert_allclose(rows.logits, logits[list(ROWS)], atol=1e-5)
        top = session.ask(protocol.Decode(2, TOKENS, ROWS, top_k=8))
        order = np.argsort(-rows.logits, axis=1, kind="stable")[:, :8]
        np.testing.assert_array_equal(top.tokens, order)
        np.testing.assert_array_equal(top.logits, np.take_along_axis(rows.logits, order, 1))
        np.testing.assert_allclose(top.logsumexp, np.log(np.exp(rows.logits.astype(float)).sum(1)), rtol=1e-6)
        other = np.full(dims.n_audio_ctx * dims.n_audio_state, 0.5, np.float32)
        assert session.ask(protocol.SetEncoding(other)).encoding_id == 3
        swapped = session.ask(protocol.Decode(3, TOKENS[:2], (1,)))
        expected_row = arithmetic(dims.n_text_ctx * dims.n_vocab, embedded(models, TOKENS[:2]), other)
        np.testing.assert_allclose(swapped.logits[0], expected_row.reshape(-1, dims.n_vocab)[1], atol=1e-5)
        whole = session.ask(protocol.Output(0, 0, 0, expected.nbytes))
        assert (whole.n_outputs, whole.size_bytes) == (1, expected.nbytes)
        np.testing.assert_allclose(np.frombuffer(whole.data, np.float32), expected, atol=1e-6)
        assert session.ask(protocol.Output(1, 0, 8, 12)).data == session.ask(protocol.Output(1, 0, 0, 20)).data[8:]
        status = session.ask(protocol.Status())
        assert (status.n_encode, status.n_decode, status.rss_bytes > 0) == (2, 3, True)
        assert f"API {api.upper()}" in runner.log.read_text()
        assert isinstance(session.ask(protocol.Bye()), protocol.ByeOk)
        assert session.closed()
        assert runner.gone_within(2)


def test_hello_tells_what_runs(models):
    """Build id, API, pid, dimensions, library and version."""
    with running(models) as runner:
        session = runner.connect()
        said = session.ask(runner.hello())
        library = str(native.stand_in_runtime("both"))
        assert (said.version, said.api, said.pid, said.dims) == (1, 2, runner.pid, SMALL)
        assert (said.build_id, said.library, said.runtime_version) == (native.build_id(), library, "8.2.16")
        assert said.load_us > 0
        version = subprocess.run([native.runner(), "--version"], capture_output=True, text=True, check=True).stdout
        assert version == f"parity-runner {native.build_id()} protocol 1\n"


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_a_library_with_one_api_only(models, api):
    """Taken by what symbols it has; asking for the other API names the symbol that is missing."""
    library = native.stand_in_runtime(api)
    with running(models, runtime=library) as runner, runner.session() as session:
        assert isinstance(session.ask(protocol.Encode(features(SMALL))), protocol.Encoded)
    other, symbol = ("v2", "NeuronRuntimeV2_create") if api == "v1" else ("v1", "NeuronRuntime_create")
    refused = start(models, "--api", other, runtime=library)
    assert refused.returncode == 10 + ErrorCode.LIBRARY
    assert f"lacks {symbol}" in refused.stdout


def test_float16_in_and_out(tmp_path):
    """A DLA with the device's own types (suppressed conversion): the runner converts, rows and top-k alike."""
    models = small_models(tmp_path, suppress_io=True)
    with running(models) as runner, runner.session() as session:
        encoded = session.ask(protocol.Encode(features(SMALL), True))
        half = features(SMALL).astype(np.float16).astype(np.float32)
        expected = arithmetic(SMALL.n_audio_ctx * SMALL.n_audio_state, half).astype(np.float16)
        np.testing.assert_allclose(encoded.values, expected.astype(np.float32), atol=4e-3)
        assert session.ask(protocol.Output(0, 0, 0, 0)).size_bytes == 2 * expected.size
        rows = session.ask(protocol.Decode(1, TOKENS, ROWS))
        top = session.ask(protocol.Decode(1, TOKENS, ROWS, top_k=1))
        np.testing.assert_array_equal(top.logits[:, 0], rows.logits.max(1))
        assert np.array_equal(rows.logits, rows.logits.astype(np.float16).astype(np.float32))
        session.ask(protocol.SetEncoding(encoded.values))
        again = session.ask(protocol.Decode(2, TOKENS, ROWS))
        np.testing.assert_array_equal(again.logits, rows.logits)


def test_taps_of_a_probe_variant(tmp_path):
    """More outputs than the main one are handed out as bytes."""
    models = small_models(tmp_path, taps=2)
    with running(models) as runner, runner.session() as session:
        refused = session.ask(protocol.Output(0, 1, 0, 4))
        assert (refused.code, "not run yet" in refused.text) == (ErrorCode.BAD_REQUEST, True)
        session.ask(protocol.Encode(features(SMALL)))
        tap = session.ask(protocol.Output(0, 2, 0, 32))
        assert (tap.n_outputs, tap.size_bytes) == (3, 32)
        np.testing.assert_allclose(
            np.frombuffer(tap.data, np.float32), arithmetic(8, features(SMALL), which=2), atol=1e-6
        )
        assert session.ask(protocol.Output(0, 3, 0, 4)).code == ErrorCode.BAD_REQUEST
        assert session.ask(protocol.Output(0, 2, 0, 33)).code == ErrorCode.BAD_REQUEST


# Against LiteRT itself


@pytest.fixture(scope="module")
def real_models(scripted_checkpoint, cache_dir, tmp_path_factory) -> Models:
    """The tiny checkpoint's TFLite files with fp16 weights, as stand-in DLA files."""
    found = checkpoint.describe(scripted_checkpoint)
    artifact = build.obtain(Workshop(found, cache_dir, None, {"mask_value": "-inf"}), "tflite:fp16")
    folder = tmp_path_factory.mktemp("real")
    dims = RunnerDims.of(found.dims)
    files = {}
    for role, shapes in zip(("encoder", "decoder"), shapes_of(dims), strict=True):
        model = artifact.path(role)
        shapes = ([list(map(int, d["shape"])) for d in interpreter(model).get_input_details()], shapes[1])
        files[role] = container(folder / f"{role}.dla", model.read_bytes(), shapes)
    return Models(folder, dims, files["encoder"], files["decoder"], artifact.path("token_embedding"))


def interpreter(path: Path | None = None, content: bytes | None = None) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_path=str(path) if path else None, model_content=content, num_threads=2)
    made.allocate_tensors()
    return made


def computed(dla: Path, *inputs: np.ndarray) -> np.ndarray:
    """The Python interpreter on the TFLite file inside a container; inputs are given by their size."""
    data = dla.read_bytes()
    start = 12 + struct.unpack_from("<I", data, 8)[0]
    runs = interpreter(content=data[start + -start % 64 :])
    by_size = {array.size: array for array in inputs}
    for detail in runs.get_input_details():
        runs.set_tensor(detail["index"], by_size[int(np.prod(detail["shape"]))].reshape(detail["shape"]))
    runs.invoke()
    return runs.get_tensor(runs.get_output_details()[0]["index"])


@pytest.mark.parametrize(("fp32", "encoder_atol", "decoder_atol"), [("1", 1e-4, 1e-3), ("0", 2e-2, 6e-2)])
def test_it_computes_what_litert_computes(real_models, fp32, encoder_atol, decoder_atol):
    """Exactly but for the last bits with float32 inputs and outputs, within float16's rounding without."""
    dims, tokens, rows = real_models.dims, (50258, 50259, 50359, 50363, 400), (3, 4)
    expected = computed(real_models.encoder, features(dims))
    logits = computed(real_models.decoder, embedded(real_models, tokens), expected)[0, list(rows)]
    with running(real_models, env={"PARITY_SIM_FP32_IO": fp32}) as runner, runner.session() as session:
        encoded = session.ask(protocol.Encode(features(dims), True))
        np.testing.assert_allclose(encoded.values, expected.ravel(), atol=encoder_atol)
        assert session.halves == (fp32 == "0")
        assert (fp32 == "1") != np.array_equal(encoded.values, encoded.values.astype(np.float16).astype(np.float32))
        found = session.ask(protocol.Decode(1, tokens, rows))
        np.testing.assert_allclose(found.logits, logits, atol=decoder_atol)
        assert session.halves == (fp32 == "0")
        raw = session.ask(protocol.Output(1, 0, rows[0] * dims.n_vocab * 4, dims.n_vocab * 4)).data
        np.testing.assert_array_equal(
            found.logits[0], np.frombuffer(raw, np.float32)
        )  # half the bytes, the same values
        top = session.ask(protocol.Decode(1, tokens, rows, top_k=64))
        np.testing.assert_array_equal(top.logits, -np.sort(-found.logits, axis=1)[:, :64])
        np.testing.assert_array_equal(top.tokens[:, 0], logits.argmax(1))
        whole = session.ask(protocol.Decode(1, tokens * 89, tuple(range(445))))
        assert whole.logits.shape == (445, dims.n_vocab)


# What it refuses


def test_hello_is_checked(models):
    """Version, token and models; each closes the connection, and the next client is served."""
    with running(models) as runner:
        good = runner.hello()
        wrong = {
            ErrorCode.PROTOCOL_VERSION: replace(good, version=2),
            ErrorCode.BAD_TOKEN: replace(good, token=bytes(32)),
            ErrorCode.MODEL_MISMATCH: replace(good, decoder_sha256=bytes(32)),
        }
        texts = {}
        for code, hello in wrong.items():
            session = runner.connect()
            said = session.ask(hello)
            texts[code] = said.text
            assert (said.code, session.closed()) == (code, True)
        assert "speaks protocol 1, the client 2" in texts[ErrorCode.PROTOCOL_VERSION]
        assert texts[ErrorCode.MODEL_MISMATCH].startswith("decoder: ")
        with runner.session() as session:
            assert session.ask(good).code == ErrorCode.BAD_REQUEST


def test_nothing_is_answered_before_hello(models):
    """Not even STATUS or BYE."""
    with running(models) as runner:
        session = runner.connect()
        for request in (protocol.Status(), protocol.Bye(), protocol.Decode(1, (1,), (0,))):
            assert session.ask(request).code == ErrorCode.BAD_REQUEST
        assert isinstance(session.ask(runner.hello()), protocol.HelloOk)


def test_one_client_at_a_time(models):
    """The second one hears who has it, at once even while an inference runs."""
    with running(models, env={**ARITHMETIC, "PARITY_SIM_COMPUTE_MS": "600"}) as runner, runner.session() as session:
        session.stream.sendall(protocol.pack(protocol.Encode(features(SMALL)), 77))
        second, started = runner.connect(), time.monotonic()
        said = second.ask(runner.hello("somebody else"))
        assert (said.code, said.text) == (ErrorCode.BUSY, "used by test")
        assert time.monotonic() - started < 0.4
        assert second.closed()
        assert isinstance(session.hear(77), protocol.Encoded)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (protocol.Decode(1, (1,), (0,)), ErrorCode.NO_ENCODING),
        (protocol.Decode(1, (100,), (0,)), ErrorCode.BAD_REQUEST),
        (protocol.Decode(1, (-1,), (0,)), ErrorCode.BAD_REQUEST),
        (protocol.Decode(1, (1,), (1,)), ErrorCode.BAD_REQUEST),
        (protocol.Decode(1, (1,) * 11, (1,)), ErrorCode.BAD_REQUEST),
        (protocol.Decode(1, (1,), ()), ErrorCode.BAD_REQUEST),
        (protocol.Decode(1, (1,), (0,), 65), ErrorCode.BAD_REQUEST),
        (protocol.Encode(np.zeros(23, np.float32)), ErrorCode.BAD_REQUEST),
        (protocol.SetEncoding(np.zeros(41, np.float32)), ErrorCode.BAD_REQUEST),
        (protocol.Output(2, 0, 0, 0), ErrorCode.BAD_REQUEST),
    ],
)
def test_requests_that_cannot_be(models, shared_runner, request_, code):
    """Each gets its code, and the session goes on."""
    with shared_runner.session() as session:
        assert session.ask(request_).code == code
        assert isinstance(session.ask(protocol.Status()), protocol.StatusOk)


@pytest.fixture(scope="module")
def shared_runner(tmp_path_factory) -> Iterator[Runner]:
    with running(small_models(tmp_path_factory.mktemp("shared")), "--hello-s", "1", "--linger-s", "60") as runner:
        yield runner


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


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_before_hello(shared_runner, kind):
    """It is answered with an error or not at all, the connection ends, and the next client is served."""
    session = shared_runner.connect()
    with suppress(EOFError, ConnectionError):
        session.stream.sendall(GARBAGE[kind](shared_runner))
        session.stream.shutdown(socket.SHUT_WR)
        assert session.hear().code in (ErrorCode.BAD_REQUEST, ErrorCode.TOO_LARGE, ErrorCode.PROTOCOL_VERSION)
    with shared_runner.session() as good:
        assert isinstance(good.ask(protocol.Status()), protocol.StatusOk)


def test_too_large_a_request_after_hello(shared_runner):
    """ERROR 5 with the request's id, although the payload never came; then the connection ends."""
    with shared_runner.session() as session:
        session.stream.sendall(HEADER.pack((64 << 20) + 1, 2, 0, 99) + bytes(4096))
        assert session.hear(99).code == ErrorCode.TOO_LARGE
        assert session.closed()


def test_a_silent_connection_is_closed(shared_runner):
    """Who does not say HELLO in time makes room, without holding up others."""
    silent = shared_runner.connect()
    with shared_runner.session() as session:
        assert isinstance(session.ask(protocol.Status()), protocol.StatusOk)
    started = time.monotonic()
    assert silent.closed()
    assert time.monotonic() - started < 3


def test_many_connections_leave_room(shared_runner):
    """More silent connections than the runner keeps: a real client still gets in."""
    silent = [shared_runner.connect() for _ in range(30)]
    with shared_runner.session() as session:
        assert isinstance(session.ask(protocol.Status()), protocol.StatusOk)
    for each in silent:
        each.stream.close()


# Faults of the runtime


FAULTS = {
    "inference_error": (ErrorCode.INFERENCE, 6),
    "out_of_memory": (ErrorCode.OUT_OF_MEMORY, 1),
    "short_output": (ErrorCode.INFERENCE, 0),
    "no_output": (ErrorCode.INFERENCE, 0),
    "stale_output": (ErrorCode.INFERENCE, 0),
}


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_inference_that_fails(models, fault, api):
    """The second one: the first is good, the error has its code, and the runner stays."""
    broken = {**ARITHMETIC, "PARITY_SIM_FAULT": f"{fault}:2"}
    with running(models, "--api", api, env=broken) as runner, runner.session() as session:
        assert session.ask(protocol.Encode(features(SMALL))).encoding_id == 1
        said = session.ask(protocol.Decode(1, TOKENS, ROWS))
        assert (said.code, said.runtime_code) == FAULTS[fault], said
        said = session.ask(protocol.Encode(features(SMALL)))
        assert (said.code, said.runtime_code) == FAULTS[fault], said
        assert session.ask(protocol.Decode(1, TOKENS, ROWS)).code == ErrorCode.NO_ENCODING
        assert f"fault {fault} at inference 3" in session.ask(protocol.Status()).log_tail


def test_nan_and_swapped_outputs_are_passed_on(models):
    """The harness judges values, not the runner."""
    expected = arithmetic(SMALL.n_audio_ctx * SMALL.n_audio_state, features(SMALL))
    with running(models, env={**ARITHMETIC, "PARITY_SIM_FAULT": "nan_output:2"}) as runner, runner.session() as session:
        session.ask(protocol.Encode(features(SMALL)))
        assert np.isnan(session.ask(protocol.Decode(1, TOKENS, ROWS)).logits).all()
        top = session.ask(protocol.Decode(1, TOKENS, ROWS, top_k=2))
        assert np.isnan(top.logsumexp).all()
        assert np.isnan(top.logits).all()
        session.ask(protocol.Bye())
        assert runner.gone_within(2)
    with (
        running(models, env={**ARITHMETIC, "PARITY_SIM_FAULT": "swapped_output"}) as runner,
        runner.session() as session,
    ):
        values = session.ask(protocol.Encode(features(SMALL), True)).values
        np.testing.assert_allclose(values, np.roll(expected, -SMALL.n_audio_state), atol=1e-6)


def test_a_crash_is_an_end_of_the_stream(models):
    """The process is gone, its lock is free, and a new one starts."""
    with running(models, env={**ARITHMETIC, "PARITY_SIM_FAULT": "crash"}) as runner, runner.session() as session:
        with pytest.raises((EOFError, ConnectionError)):
            session.ask(protocol.Encode(features(SMALL)))
        assert runner.gone_within(2)
    with running(models) as runner, runner.session() as session:
        assert isinstance(session.ask(protocol.Encode(features(SMALL))), protocol.Encoded)


def test_a_hang_does_not_keep_the_process(models):
    """Others are answered meanwhile; when the client gives up, the runner ends after its patience."""
    hang = {**ARITHMETIC, "PARITY_SIM_FAULT": "hang"}
    with running(models, "--linger-s", "1", env=hang) as runner:
        with runner.session() as session:
            session.stream.sendall(protocol.pack(protocol.Encode(features(SMALL)), 1))
            assert runner.connect().ask(runner.hello()).code == ErrorCode.BUSY
        assert runner.gone_within(4)


def refused(models: Models, *more: str, **env: str) -> tuple[int, str]:
    said = start(models, *more, env={**ARITHMETIC, **env})
    assert said.stdout.startswith(f"ERROR {said.returncode - 10} ")
    assert said.stdout.count("\n") == 1
    return said.returncode - 10, said.stdout


def test_what_does_not_load(tmp_path, models):
    """Each has its code, the exit code says it too, and the runtime's own words are in the text."""
    code, text = refused(models, PARITY_SIM_FAULT="bad_data")
    assert (code, "Fail to rewrite DLA" in text, "gave 4" in text) == (ErrorCode.LOAD, True, True)
    code, text = refused(models, PARITY_SIM_RUNTIME_MAJOR="7")
    assert (code, "DLA file is V8, mismatching runtime V7" in text) == (ErrorCode.RUNTIME_VERSION, True)
    code, text = refused(models, PARITY_SIM_FAULT="wrong_shape")
    assert (code, "encoder output: expected 160 bytes" in text) == (ErrorCode.SHAPE, True)
    code, text = refused(models, "--runtime", "/nowhere/libneuron_runtime.so")
    assert (code, "/nowhere/libneuron_runtime.so: cannot open" in text) == (ErrorCode.LIBRARY, True)
    foreign = tmp_path / "libforeign.so"
    foreign.write_bytes(b"no ELF")
    code, text = refused(models, "--runtime", "/nowhere/x.so", "--runtime", str(foreign))
    assert (code, text.index("libforeign.so") < text.index("/nowhere/x.so")) == (ErrorCode.LIBRARY, True)
    code, text = refused(replace(models, dims=replace(SMALL, n_vocab=101)))
    assert (code, "token embedding: expected shape (101,16)" in text) == (ErrorCode.SHAPE, True)
    code, text = refused(replace(models, dims=replace(SMALL, n_mels=5)))
    assert (code, "encoder input 0: expected 120 bytes" in text) == (ErrorCode.SHAPE, True)
    code, text = refused(models, "--listen", "tcp:0.0.0.0")
    assert code == ErrorCode.BAD_REQUEST
    code, text = refused(models, "--nonsense", "1")
    assert (code, "unknown option --nonsense" in text) == (ErrorCode.BAD_REQUEST, True)
    code, text = refused(models, "--encoder", str(tmp_path / "none.dla"))
    assert (code, "No such file" in text) == (ErrorCode.LOAD, True)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"SIMDLA01", b"SIMDLA02" + bytes(100), b"SIMDLA01\xff\xff\xff\xff" + bytes(100),
        b"SIMDLA01" + struct.pack("<I", 40) + b"{}" + bytes(200), b"SIMDLA01" + struct.pack("<I", 30) + b"[" * 200,
        b"SIMDLA01" + struct.pack("<I", 53) + b'{"major": 8, "inputs": [{"shape": [1e300, 2]}], "x":1}' + bytes(200),
    ],
)  # fmt: skip
def test_files_that_are_no_dla(models, content):
    """The stand-in refuses them as a runtime would."""
    models.encoder.write_bytes(content)
    code, text = refused(models)
    assert (code, "gave 4" in text or "empty" in text) == (ErrorCode.LOAD, True)


def test_a_real_model_that_is_damaged(real_models, tmp_path):
    """A truncated TFLite file inside the container is refused, not run."""
    data = real_models.encoder.read_bytes()
    cut = tmp_path / "encoder.dla"
    cut.write_bytes(data[: len(data) // 2])
    said = start(replace(real_models, encoder=cut, folder=tmp_path), env={})
    assert said.returncode == 10 + ErrorCode.LOAD, said.stdout


# Its life


def test_idle_and_linger(models):
    """Ends when nobody comes, and soon after its client left; a client that returns is in time."""
    with running(models, "--idle-s", "1") as runner:
        assert runner.gone_within(3)
    with running(models, "--linger-s", "1") as runner:
        for _ in range(2):
            with runner.session() as session:
                session.ask(protocol.Status())
            time.sleep(0.3)
        assert runner.alive()
        assert runner.gone_within(3)


def test_a_second_instance_is_told_who_has_the_lock(models):
    """ERROR 6 with pid, build and owner; the first one's log is left alone."""
    with running(models) as runner, runner.session() as session:
        code, text = refused(models)
        assert code == ErrorCode.BUSY
        assert f"pid {runner.pid} build {native.build_id()} owner a test" in text
        assert "API V2" in session.ask(protocol.Status()).log_tail


def test_a_hang_up_during_an_inference(models):
    """Its reply is dropped; the next client's request is answered, by its own reply."""
    with running(models, env={**ARITHMETIC, "PARITY_SIM_COMPUTE_MS": "300"}) as runner:
        with runner.session() as session:
            session.stream.sendall(protocol.pack(protocol.Encode(features(SMALL), True), 41))
            time.sleep(0.05)
        with runner.session() as session:
            assert session.ask(protocol.Encode(features(SMALL))).values.size == 0
            assert session.ask(protocol.Status()).n_encode == 2


@pytest.mark.parametrize("listen", [None, "tcp:0"])
def test_a_reply_is_one_write(models, listen):
    """It arrives in one piece, and a step costs far less than the 42 ms that two writes would through adb."""
    steps = 40
    with running(models, listen=listen) as runner, runner.session() as session:
        session.ask(protocol.Encode(features(SMALL)))
        took, pieces, before = [], [], writes(runner.pid)
        for _ in range(steps):
            started = time.perf_counter()
            session.ask(protocol.Decode(1, TOKENS, ROWS))
            took.append(time.perf_counter() - started)
            pieces.append(len(session.pieces))
        assert set(pieces) == {1}
        if before is not None:
            assert writes(runner.pid) - before == 2 * steps  # the other one is the worker's, which says that it is done
        assert statistics.median(took) < 0.005


def writes(pid: int) -> int | None:
    """How many write calls a process has made; None where the system does not count them."""
    try:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    except OSError:
        return None
    return int(fields["syscw"])


# Sanitizers and the other architecture


@pytest.fixture(scope="module")
def sanitized() -> Path:
    try:
        return native.checks(sanitize="address,undefined")
    except BuildError as error:
        pytest.skip(f"no sanitizers here: {error}")


def test_golden_bytes_from_the_runners_side(sanitized):
    """The C++ code reads and writes golden.json's bytes; so does the Python side in tests/unit."""
    ran = subprocess.run([sanitized / "golden-check"], capture_output=True, text=True, env=NO_LEAK_CHECK, check=False)
    assert ran.stdout + ran.stderr == "golden bytes agree\n"


NO_LEAK_CHECK = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def test_mutated_frames_under_sanitizers(sanitized):
    """Some thousand mutations of the golden frames, the same each time."""
    ran = subprocess.run(
        [sanitized / "frame-fuzz", "5000"], capture_output=True, text=True, env=NO_LEAK_CHECK, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "5000 inputs\n", "")


def test_a_session_under_sanitizers(sanitized, models):
    """A handful of requests, garbage and a hang-up, with every access checked."""
    with running(models, binary=[sanitized / "parity-runner"]) as runner:
        for kind in GARBAGE:
            bad = runner.connect()
            bad.stream.sendall(GARBAGE[kind](runner))
            bad.stream.close()
        with runner.session() as session:
            session.ask(protocol.Encode(features(SMALL), True))
            session.ask(protocol.Decode(1, TOKENS, ROWS))
            session.ask(protocol.Decode(1, TOKENS, ROWS, top_k=64))
            session.ask(protocol.SetEncoding(np.zeros(40, np.float32)))
            session.ask(protocol.Output(1, 0, 3, 100))
            session.ask(protocol.Bye())
        assert runner.gone_within(5)
        log = runner.log.read_text()
        assert "parity-runner ends: BYE" in log
        assert "runtime error" not in log
        assert "Sanitizer" not in log


@pytest.fixture(scope="module")
def emulated() -> tuple[str, ...]:
    """How to start an aarch64 program here."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if not emulator:
        pytest.skip("no qemu-aarch64 (Debian: qemu-user-static)")
    root = Path("/usr/aarch64-linux-gnu")
    if not (root / "lib" / "ld-linux-aarch64.so.1").exists():
        pytest.skip("no aarch64 C library to run with (Debian: libc6-arm64-cross)")
    return emulator, "-L", str(root)


def test_the_aarch64_build_runs(emulated, models):
    """The same protocol from a binary for the board, against an aarch64 stand-in without a model."""
    try:
        binary, runtime = native.runner("aarch64"), native.stand_in_runtime("both", "aarch64")
    except UnavailableError as error:
        pytest.skip(str(error))
    said = subprocess.run([*emulated, binary, "--version"], capture_output=True, text=True, check=True).stdout
    assert said == f"parity-runner {native.build_id()} protocol 1\n"
    with running(models, binary=[*emulated, binary], runtime=runtime) as runner, runner.session() as session:
        encoded = session.ask(protocol.Encode(features(SMALL), True))
        np.testing.assert_allclose(encoded.values, arithmetic(40, features(SMALL)), atol=1e-6)
        assert session.ask(protocol.Decode(1, TOKENS, ROWS, top_k=3)).tokens.shape == (3, 3)


def test_the_aarch64_build_starts_on_old_systems():
    """Built by zig it asks for no glibc newer than promised, and for no C++ library of the system."""
    if not importlib.util.find_spec("ziglang"):
        pytest.skip("ziglang is not installed: run `pip install ziglang`")
    binary = native.runner("aarch64").read_bytes()
    needed = [tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_([0-9.]+[0-9])", binary)]
    assert max(needed) <= tuple(map(int, native.GLIBC.split(".")))
    assert b"libstdc++.so" not in binary


# Building


def test_the_environment_chooses_the_stand_ins_api(monkeypatch):
    """PARITY_SIM_RUNTIME_API names the library whose symbols decide; another word is refused."""
    monkeypatch.setenv("PARITY_SIM_RUNTIME_API", "v1")
    assert native.stand_in_runtime().parent.name == "v1"
    monkeypatch.setenv("PARITY_SIM_RUNTIME_API", "v3")
    with pytest.raises(UnavailableError, match="both, v1 or v2"):
        native.stand_in_runtime()


def test_a_missing_compiler_says_what_to_install(tmp_path, monkeypatch):
    """A build that cannot be done is a BuildError with a hint, and leaves nothing behind."""
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(BuildError, match=r"configuring runner failed.*Install a C\+\+17 compiler"):
        native.runner(folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_an_error_of_the_compiler_is_told(tmp_path, monkeypatch):
    """Its first error line is in the message."""
    source = tmp_path / "runner"
    shutil.copytree(native.RUNNER_SOURCE, source)
    (source / "src" / "bytes.cpp").write_text("int main( {}\n")
    monkeypatch.setattr(native, "RUNNER_SOURCE", source)
    with pytest.raises(BuildError, match=r"compiling runner failed: .*bytes\.cpp:1:\d+: error: "):
        native.runner(folder=tmp_path / "native")


def test_targets_that_are_not_there(tmp_path, monkeypatch):
    """Each says what to install or set."""
    monkeypatch.delenv("ANDROID_NDK", raising=False)
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    with pytest.raises(UnavailableError, match="Set ANDROID_NDK"):
        native.runner("android", folder=tmp_path)
    with pytest.raises(UnavailableError, match="Targets: host, aarch64, android"):
        native.runner("toaster", folder=tmp_path)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match="pip install ziglang"):
        native.runner("aarch64", folder=tmp_path)
