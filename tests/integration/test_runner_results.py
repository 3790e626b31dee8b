"""What the resident runner computes, on the simulator's stand-in runtime and by LiteRT itself."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sites
from tests.support.runners import (
    ROWS,
    SMALL,
    TOKENS,
    Models,
    arithmetic,
    container,
    embedded,
    features,
    running,
    shapes_of,
    small_models,
    start,
)
from whisper_parity.backend import build
from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.sessions import protocol
from whisper_parity.backends.dla.sessions.protocol import ErrorCode, RunnerDims
from whisper_parity.model import checkpoint

pytestmark = pytest.mark.usefixtures("runner_built")


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
        assert (said.version, said.api, said.pid, said.dims) == (2, 2, runner.pid, SMALL)
        assert (said.build_id, said.library, said.runtime_version) == (native.build_id(), library, "8.2.16")
        assert said.load_us > 0
        version = subprocess.run([native.runner(), "--version"], capture_output=True, text=True, check=True).stdout
        assert version == f"parity-runner {native.build_id()} protocol 2\n"


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_a_library_with_one_api_only(models, api):
    """The API follows from its symbols; asking for the other one names the symbol that is missing."""
    library = native.stand_in_runtime(api)
    with running(models, runtime=library) as runner, runner.session() as session:
        assert isinstance(session.ask(protocol.Encode(features(SMALL))), protocol.Encoded)
    other, symbol = ("v2", "NeuronRuntimeV2_create") if api == "v1" else ("v1", "NeuronRuntime_create")
    refused = start(models, "--api", other, runtime=library)
    assert refused.returncode == 10 + ErrorCode.LIBRARY
    assert f"lacks {symbol}" in refused.stdout


def test_float16_in_and_out(tmp_path):
    """With the device's own types (suppressed conversion) the runner converts, for rows and top-k alike."""
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
    """Outputs besides the main one are handed out as bytes."""
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


@pytest.fixture(scope="module")
def real_models(scripted_checkpoint, cache_dir, tmp_path_factory) -> Models:
    """The tiny checkpoint's TFLite files with fp16 weights, as stand-in DLA files."""
    found = checkpoint.describe(scripted_checkpoint)
    artifact = build.obtain(sites.workshop(found, cache_dir), "tflite:fp16")
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
    """Except for the last bits with float32 inputs and outputs, and within float16's rounding without."""
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


def test_a_real_model_that_is_damaged(real_models, tmp_path):
    """A truncated TFLite file inside the container is refused, not run."""
    data = real_models.encoder.read_bytes()
    cut = tmp_path / "encoder.dla"
    cut.write_bytes(data[: len(data) // 2])
    said = start(replace(real_models, encoder=cut, folder=tmp_path), env={})
    assert said.returncode == 10 + ErrorCode.LOAD, said.stdout
