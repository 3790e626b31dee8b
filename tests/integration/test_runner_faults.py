"""What fails in the runtime or does not load has a code of its own, and never blocks the runner."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from tests.support.runners import ARITHMETIC, ROWS, SMALL, TOKENS, arithmetic, features, refused, running
from whisper_parity.backends.dla.sessions import protocol
from whisper_parity.backends.dla.sessions.protocol import ErrorCode

pytestmark = pytest.mark.usefixtures("runner_built")

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
    """The first inference is good, the second gives an error with its code, and the runner stays."""
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
    """It is the harness that judges values, not the runner."""
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
    """Others are answered meanwhile; when the client gives up, the runner ends after --linger-s."""
    hang = {**ARITHMETIC, "PARITY_SIM_FAULT": "hang"}
    with running(models, "--linger-s", "1", env=hang) as runner:
        with runner.session() as session:
            session.stream.sendall(protocol.pack(protocol.Encode(features(SMALL)), 1))
            assert runner.connect().ask(runner.hello()).code == ErrorCode.BUSY
        assert runner.gone_within(4)


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
