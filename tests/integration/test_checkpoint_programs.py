"""What transformers and CTranslate2 save themselves computes the same here: logits and encoder agree to float32.

Both are an extra of this package (`pip install '.[formats]'`), and no dependency of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whisper_parity.backends.split.modules import load_model
from whisper_parity.model import checkpoint, vocabulary
from whisper_parity.model.checkpoint import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # of what these packages say of each other
REASON = "not installed: pip install 'whisper-parity[formats]'"
AGREE = 2e-5
"""Of the largest logit: both sides sum in float32, in another order."""


@pytest.fixture(scope="module")
def transformers() -> Any:
    """The package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason=f"transformers is {REASON}")


@pytest.fixture(scope="module")
def converters(transformers: Any) -> Any:
    """CTranslate2's converters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("ctranslate2", reason=f"ctranslate2 is {REASON}")
        return pytest.importorskip("ctranslate2.converters")


@pytest.fixture
def describe(tmp_path: Path) -> Callable[[Path], Checkpoint]:
    """Describes a checkpoint, with a cache of the test's own."""
    return lambda path: checkpoint.describe(path, cache=tmp_path / "cache")


def made(transformers: Any, **changes: Any) -> Any:
    """A model with random weights as large as its logits can be told apart, two layers a side, two heads of 32."""
    torch.manual_seed(0)
    usual = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "vocab_size": 51865,
             "num_mel_bins": 80}  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**{**usual, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def require_same_logits(model: Any, found: Checkpoint) -> None:
    """Theirs and ours, from features and ids to logits."""
    dims = found.dims
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, dims.n_mels, dims.n_frames, generator=generator)
    tokens = torch.randint(0, dims.n_vocab, (1, 24), generator=generator)
    with torch.no_grad():
        theirs = model.float()(input_features=features, decoder_input_ids=tokens).logits
        ours = load_model(found.path)(features, tokens)
    assert theirs.abs().max() > 1
    assert (ours - theirs).abs().max() < AGREE * theirs.abs().max()


def _shards(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="4MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def _bin(model: Any, folder: Path) -> None:
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


SAVES: dict[str, Callable[[Any, Path], Any]] = {
    "safetensors": lambda model, folder: model.save_pretrained(folder),
    "shards": _shards,
    "bin": _bin,
    "float16": lambda model, folder: model.half().save_pretrained(folder),
    "bfloat16": lambda model, folder: model.bfloat16().save_pretrained(folder),
}


@pytest.mark.parametrize("form", SAVES)
def test_a_folder_of_transformers_computes_the_same(form, transformers, describe, tmp_path):
    """In each form in which it is saved."""
    model = made(transformers)
    SAVES[form](model, tmp_path / "m")
    require_same_logits(model, describe(tmp_path / "m"))


SHAPES: dict[str, dict[str, Any]] = {
    "distil, large-v3": {"decoder_layers": 1, "num_mel_bins": 128, "vocab_size": 51866},
    "English-only": {"vocab_size": 51864},
    "other heads": {"encoder_attention_heads": 1, "decoder_attention_heads": 4},
    "a window of 10 s": {"max_source_positions": 500},
    "a context of 128": {"max_target_positions": 128},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_computes_the_same(shape, transformers, describe, tmp_path):
    """As its configuration says."""
    model = made(transformers, **SHAPES[shape])
    model.save_pretrained(tmp_path / "m")
    require_same_logits(model, describe(tmp_path / "m"))


def test_added_tokens_compute_the_same(transformers, describe, tmp_path):
    """resize_token_embeddings, as people call it; the vocabulary stays Whisper's."""
    model = made(transformers)
    model.resize_token_embeddings(51867)
    model.save_pretrained(tmp_path / "m")
    found = describe(tmp_path / "m")
    assert (found.dims.n_vocab, found.dims.vocabulary) == (51867, 51865)
    require_same_logits(model, found)


def test_an_untied_projection_computes_the_same(transformers, describe, tmp_path):
    """tie_word_embeddings=False."""
    model = made(transformers, tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "m")
    found = describe(tmp_path / "m")
    assert found.note.endswith("the output projection is not the token embedding")
    require_same_logits(model, found)


class Words:
    """What CTranslate2's converter asks a tokenizer: this one knows the ids without a download."""

    additional_special_tokens = ("<|en|>",)

    def get_vocab(self) -> dict[str, int]:
        names = {number: name for name, number in vocabulary.tokenizer(51865).special_tokens.items()}
        return {names.get(number, f"word{number}"): number for number in range(51865)}

    def convert_tokens_to_ids(self, token: str) -> int:
        return 50259


def convert(converters: Any, source: Path, target: Path, numbers: str = "float32") -> None:
    """CTranslate2's own conversion of a folder, with a tokenizer that needs no download."""

    class Converter(converters.TransformersConverter):
        def load_tokenizer(self, *_: Any, **__: Any) -> Words:
            return Words()

    Converter(str(source)).convert(str(target), quantization=numbers)


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("numbers", ["float32", "float16", "int8", "int16"])
def test_a_folder_of_ctranslate2_computes_the_same(numbers, untied, transformers, converters, describe, tmp_path):
    """Its encoder gives ours; the weights are transformers' to the precision in which they were saved."""
    import ctranslate2

    model = made(transformers, tie_word_embeddings=not untied)
    model.save_pretrained(tmp_path / "hf")
    convert(converters, tmp_path / "hf", tmp_path / "m", numbers)
    found = describe(tmp_path / "m")
    assert f"CTranslate2, {numbers}" in found.note
    assert ("projection" in found.note) == untied
    features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1))
    theirs = ctranslate2.models.Whisper(str(tmp_path / "m"), device="cpu", compute_type="float32")
    output = np.array(theirs.encode(ctranslate2.StorageView.from_array(features.numpy())))
    with torch.no_grad():
        ours = load_model(found.path).encoder(features).numpy()
    assert np.abs(ours - output).max() < AGREE * np.abs(output).max()
    if numbers == "float32":
        require_same_logits(model, found)


def test_ctranslate2_chooses_the_tokens_that_we_choose(transformers, converters, describe, tmp_path):
    """Its decoder, step by step, against ours: the most likely id after the same prompt."""
    import ctranslate2

    made(transformers).save_pretrained(tmp_path / "hf")
    convert(converters, tmp_path / "hf", tmp_path / "m")
    model = load_model(describe(tmp_path / "m").path)
    features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1))
    prompt = [50258, 50259, 50359, 50363]
    theirs = ctranslate2.models.Whisper(str(tmp_path / "m"), device="cpu", compute_type="float32").generate(
        ctranslate2.StorageView.from_array(features.numpy()), [prompt], beam_size=1, max_length=12,
        suppress_blank=False, suppress_tokens=[],
    )[0].sequences_ids[0]  # fmt: skip
    tokens = list(prompt)
    with torch.no_grad():
        output = model.encoder(features)
        for _ in theirs:
            tokens.append(int(model.decoder(torch.tensor([tokens]), output)[0, -1].argmax()))
    assert tokens[len(prompt) :] == theirs
    assert theirs
