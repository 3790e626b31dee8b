"""How long the resident runner lives, who may use it, and how it replies."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from tests.support.runners import ARITHMETIC, ROWS, SMALL, TOKENS, features, refused, running
from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.sessions import protocol
from whisper_parity.backends.dla.sessions.protocol import ErrorCode

pytestmark = pytest.mark.usefixtures("runner_built")


def test_idle_and_linger(models):
    """It ends when nobody comes, and soon after its client has left; a client that returns in time is served."""
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
