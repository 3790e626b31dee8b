"""What the resident runner refuses: clients, requests and bytes that make no sense. It serves the next one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from tests.support.runners import ARITHMETIC, GARBAGE, SMALL, Runner, features, running, small_models
from whisper_parity.backends.dla.sessions import protocol
from whisper_parity.backends.dla.sessions.protocol import HEADER, ErrorCode

pytestmark = pytest.mark.usefixtures("runner_built")


@pytest.fixture(scope="module")
def shared_runner(tmp_path_factory) -> Iterator[Runner]:
    """One runner for all requests that leave it as it was."""
    with running(small_models(tmp_path_factory.mktemp("shared")), "--hello-s", "1", "--linger-s", "60") as runner:
        yield runner


def test_hello_is_checked(models):
    """Version, token and models; each closes the connection, and the next client is served."""
    with running(models) as runner:
        good = runner.hello()
        wrong = {
            ErrorCode.PROTOCOL_VERSION: replace(good, version=1),
            ErrorCode.BAD_TOKEN: replace(good, token=bytes(32)),
            ErrorCode.MODEL_MISMATCH: replace(good, decoder_sha256=bytes(32)),
        }
        texts = {}
        for code, hello in wrong.items():
            session = runner.connect()
            said = session.ask(hello)
            texts[code] = said.text
            assert (said.code, session.closed()) == (code, True)
        assert "speaks protocol 2, the client 1" in texts[ErrorCode.PROTOCOL_VERSION]
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
    """A client that does not say HELLO in time is cut off, and holds up nobody meanwhile."""
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
