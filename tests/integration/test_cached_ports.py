"""Decoders with a KV cache in the layouts of public ports: given as files, told by their inputs, judged as given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from whisper.model import ModelDimensions, Whisper

from tests.support import cachedports, sites
from whisper_parity.backend import build, given
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import StageName
from whisper_parity.backends.split import modules
from whisper_parity.backends.split.slotted import SlottedSession
from whisper_parity.errors import ArtifactError, BackendError
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.run.sessions import as_session

TOKENS = [50258, 50259, 50359, 50363, 440, 1000, 2000, 30]
CONVERTED = ("cross-encoder", "one-hot")
"""Those of which LiteRT makes TFLite here: each conversion takes half a minute."""


@pytest.fixture(scope="module")
def checkpoint(cache_dir: Path) -> Checkpoint:
    """Random weights with two layers, so that layers can be told apart."""
    path = cache_dir / "random-two-layers.pt"
    if not path.is_file():
        torch.manual_seed(0)
        model = Whisper(ModelDimensions(80, 1500, 64, 2, 1, 51865, 448, 64, 2, 2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.15)
        torch.save({"dims": asdict(model.dims), "model_state_dict": model.state_dict()}, path)
    return checkpoints.describe(path)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 80, 3000)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(checkpoint: Checkpoint, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encoder output and logits of openai-whisper's own modules."""
    model = modules.load_model(checkpoint.path)
    with modules.explicit_attention():
        output = model.encoder(torch.from_numpy(features))
        return output.numpy(), model.decoder(torch.tensor([TOKENS]), output)[0].numpy()


def found(folder: Path, stage: str, checkpoint: Checkpoint, **settings: Mapping[str, object]) -> Artifact:
    name = StageName.parse(stage)
    artifact = given.find(folder, Backends(settings).get(name.backend), checkpoint, name)
    assert artifact is not None
    return artifact


def snr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / max(((reference - candidate) ** 2).sum(), 1e-30)))


def require_equal(artifact: Artifact, features: np.ndarray, expected: tuple[np.ndarray, np.ndarray]) -> SlottedSession:
    """Rows token by token, with tokens taken back in between, on both encoders' outputs; 100 dB."""
    output, logits = expected
    with Backends().of(artifact.stage).open(artifact, 2) as opened:
        assert isinstance(opened, SlottedSession)
        session = as_session(opened)
        own = session.encode(features)
        assert snr_db(output, own) > 100
        for fed in (own, output):
            session.decode([*TOKENS[:4], 7, 8, 9], fed, [6])
            assert snr_db(logits, session.decode(TOKENS, fed, range(len(TOKENS)))) > 100
        assert {"key.0", "key.1", "value.0", "value.1"} == set(opened.written())
        assert (opened.n_slots, opened.position) == (artifact.interface.n_text_ctx, len(TOKENS))
    return opened


def require_near_on_a_device(
    given_folder: Path, cache_dir: Path, checkpoint: Checkpoint, features: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
) -> None:  # fmt: skip
    """Built from given files, given as compiled files, and told by its bytes alone: 50 dB, as half precision allows."""
    workshop = replace(sites.workshop(checkpoint, cache_dir), given=given_folder, build_missing=True)
    built = build.obtain(workshop, "dla:simulated-kv")
    backend = workshop.backends.get("dla")
    folder = given_folder / "compiled"
    folder.mkdir()
    for role, name in backend.file_names(checkpoint, "simulated-kv").items():
        if role != "compilation":
            (folder / name).hardlink_to(built.path(role))
    of_others = found(folder, "dla:simulated-kv", checkpoint)
    assert of_others.interface is not None
    for artifact in (built, replace(of_others, interface=None)):
        with backend.open(artifact, 2) as devices, devices.lease() as leased:
            session = as_session(leased)
            for fed in (session.encode(features), expected[0]):
                session.decode([*TOKENS[:4], 7, 8, 9], fed, [6])
                assert snr_db(expected[1], session.decode(TOKENS, fed, range(len(TOKENS)))) > 50


@pytest.mark.parametrize("name", cachedports.LAYOUTS)
def test_a_torchscript_port_computes_what_the_model_does(
    tmp_path: Path, checkpoint: Checkpoint, features: np.ndarray, expected: tuple[np.ndarray, np.ndarray], name: str
):
    """Whatever its layout; the report says which one it was."""
    cachedports.write(name, checkpoint.path, tmp_path)
    artifact = found(tmp_path, "torchscript:kv", checkpoint)
    assert any(f"layout {name}:" in note for note in artifact.notes)
    require_equal(artifact, features, expected)


@pytest.mark.parametrize("name", CONVERTED)
def test_a_tflite_port_computes_what_the_model_does(
    tmp_path: Path, cache_dir: Path, checkpoint: Checkpoint, features: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray], name: str,
):  # fmt: skip
    """As LiteRT converts it, and on the simulated device; a cache of 200 slots is read from the file."""
    cachedports.convert(name, checkpoint.path, tmp_path)
    artifact = found(tmp_path, "tflite:kv", checkpoint)
    assert any(f"layout {name}:" in note for note in artifact.notes)
    assert artifact.interface.n_text_ctx == (cachedports.SLOTS if name == "one-hot" else 448)
    require_equal(artifact, features, expected)
    require_near_on_a_device(tmp_path, cache_dir, checkpoint, features, expected)


@pytest.mark.parametrize("stage", ["torchscript:kv", "tflite:kv"])
def test_our_own_files_are_read_as_anybody_s(
    tmp_path: Path, cache_dir: Path, checkpoint: Checkpoint, features: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray], stage: str,
):  # fmt: skip
    """Under the original project's names, in a folder of the plain stage's names, and by no record."""
    built = build.obtain(sites.workshop(checkpoint, cache_dir), stage)
    suffix = built.path("decoder").suffix
    for role, name in (("encoder", "encoder_base_80x3000_MT8371"), ("decoder", "decoder_base_448_MT8371")):
        (tmp_path / f"{name}{suffix}").hardlink_to(built.path(role))
    for role in ("token_embedding", "position_embedding"):
        (tmp_path / built.files[role].name).hardlink_to(built.path(role))
    artifact = found(tmp_path, stage, checkpoint)
    assert any("layout stacked: 8 inputs, 5 outputs" in note for note in artifact.notes)
    require_equal(artifact, features, expected)
    plain = stage.partition(":")[0]
    with pytest.raises(ArtifactError, match=f"decoder_base_448_MT8371{suffix} is the decoder of {stage}: name the sta"):
        found(tmp_path, plain, checkpoint)


@pytest.mark.parametrize("plain", ["torchscript", "tflite"])
def test_a_decoder_under_the_other_stage_s_name_is_named(
    tmp_path: Path, cache_dir: Path, checkpoint: Checkpoint, plain: str
):
    """One file name is used for both forms: only inputs tell, and the line says which stage it is."""
    workshop = sites.workshop(checkpoint, cache_dir)
    artifacts = {stage: build.obtain(workshop, stage) for stage in (plain, f"{plain}:kv")}
    for stage, other in ((plain, f"{plain}:kv"), (f"{plain}:kv", plain)):
        folder = tmp_path / stage.replace(":", "-")
        folder.mkdir()
        for role in ("encoder", "decoder", "token_embedding"):
            (folder / artifacts[stage].files[role].name).hardlink_to(artifacts[other].path(role))
    with pytest.raises(ArtifactError, match=f"KV cache.*Name the stage {plain}:kv"):
        found(tmp_path / plain, plain, checkpoint)
    with pytest.raises(ArtifactError, match=f"this decoder has no KV cache: it has 2 inputs. Name the stage {plain}$"):
        found(tmp_path / f"{plain}-kv", f"{plain}:kv", checkpoint)


def test_a_table_that_is_missing_is_asked_for(tmp_path: Path, checkpoint: Checkpoint):
    """A decoder that takes rows of positions needs them; no zeros in their place."""
    cachedports.write("stacked", checkpoint.path, tmp_path)
    (tmp_path / "position_embedding.npy").unlink()
    with pytest.raises(ArtifactError, match=r"position_embedding\.npy: the position_embedding file is missing"):
        found(tmp_path, "torchscript:kv", checkpoint)


def test_a_cache_that_is_full_says_so(cache_dir: Path, checkpoint: Checkpoint, expected: tuple[np.ndarray, np.ndarray]):
    """449 tokens into 448 slots."""
    artifact = build.obtain(sites.workshop(checkpoint, cache_dir), "tflite:kv")
    with Backends().get("tflite").open(artifact, 2) as opened:
        opened.begin(expected[0])
        for _ in range(448):
            opened.feed(50258)
        with pytest.raises(BackendError, match="the cache is full: it has room for 448 tokens"):
            opened.feed(50258)
