"""Ports of the tiny checkpoint in the forms that people bring: other windows, contexts, inputs, outputs, types."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support import freelength, sound
from tests.support.refusals import require_no_traceback
from whisper_parity.backends.split import modules as split
from whisper_parity.backends.split.modules import SplitDecoder, SplitEncoder
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.system.files import locked

HEAD = 32
"""Columns of one head of the tiny checkpoint."""
SUFFIX = {"torchscript": "pt", "tflite": "tflite"}


class Pair(NamedTuple):
    """Outputs by name."""

    hidden: Tensor
    last_hidden_state: Tensor


@dataclass(frozen=True)
class Form:
    """How a port takes and gives its numbers; by default as ours do."""

    n_frames: int = 3000
    n_text_ctx: int = 448
    ids: torch.dtype | None = None
    """Type of token ids; None: embeddings."""
    turned: tuple[str, ...] = ()
    """Of input_features, encoder_output, logits: columns before rows."""
    wrapped: str = ""
    """Outputs come in a "tuple", a "dict" or a "namedtuple" with others."""
    last_row: bool = False
    """Of any number of tokens."""
    free: bool = False
    """Of TFLite: any number of tokens, and the logits of all of them."""
    padded: int = 0
    """Columns behind the vocabulary."""
    half: bool = False
    """Inputs and outputs in float16."""
    swapped: bool = False
    """The decoder takes encoder_output first."""
    batchless: bool = False
    extra: str = ""
    """Name of a third input of the decoder."""
    fault: float = 0.0
    """Added to the encoder's output: a port that is broken."""
    broken: str = ""
    """"encoder" or "decoder": of its first block, heads of the (cross) attention give nothing."""


class Encoder(nn.Module):
    """An encoder in a form."""

    def __init__(self, encoder: SplitEncoder, form: Form) -> None:
        super().__init__()
        self.inner, self.form = copy.deepcopy(encoder), form
        rows = form.n_frames // 2
        self.inner.encoder.positional_embedding = encoder.encoder.positional_embedding[:rows].clone()
        if form.broken == "encoder":
            self.inner.encoder.blocks[0].attn.out.weight.data[:, :HEAD] = 0

    def forward(self, input_features: Tensor) -> Any:
        """input_features in the form -> encoder_output in the form."""
        form, values = self.form, input_features.float()
        if form.batchless:
            values = values[None]
        output = self.inner(values.transpose(1, 2) if "input_features" in form.turned else values)
        if form.fault:
            output = output + form.fault * torch.sin(torch.arange(output.shape[1]).float())[None, :, None]
        output = output.transpose(1, 2) if "encoder_output" in form.turned else output
        output = output.half() if form.half else output
        output = output[0] if form.batchless else output
        if form.wrapped == "tuple":
            return output, output.mean()
        if form.wrapped == "namedtuple":
            return Pair(output.mean(), output)
        return {"pooled": output.mean(), "encoder_output": output} if form.wrapped == "dict" else output


class Decoder(nn.Module):
    """A decoder in a form."""

    def __init__(self, decoder: SplitDecoder, form: Form) -> None:
        super().__init__()
        self.inner, self.form = copy.deepcopy(decoder), form
        count = form.n_text_ctx
        self.inner.positional_embedding = decoder.positional_embedding[:count].clone()
        self.inner.mask = decoder.mask[:count, :count].clone()
        if form.broken == "decoder":
            self.inner.blocks[0].cross_attn.out.weight.data[:, :HEAD] = 0

    def _logits(self, tokens: Tensor, encoding: Tensor) -> Any:
        form, inner = self.form, self.inner
        hidden = F.embedding(tokens, inner.projection.weight) if form.ids else tokens.float()
        encoding = encoding.transpose(1, 2) if "encoder_output" in form.turned else encoding
        encoding = encoding.float()
        if form.batchless:
            hidden, encoding = hidden[None], encoding[None]
        count = hidden.shape[1] if form.last_row else form.n_text_ctx
        hidden = hidden + inner.positional_embedding[:count]
        for block in inner.blocks:
            hidden = block(hidden, encoding, mask=inner.mask[:count, :count])
        hidden = hidden[:, -1:] if form.last_row else hidden
        logits = inner.projection(inner.ln(hidden))
        logits = F.pad(logits, (0, form.padded)) if form.padded else logits
        logits = logits.transpose(1, 2) if "logits" in form.turned else logits
        logits = logits.half() if form.half else logits
        logits = logits[0] if form.batchless else logits
        if form.wrapped:
            return {"logits": logits, "n": logits.mean()} if form.wrapped == "dict" else (logits, logits.mean())
        return logits

    def forward(self, tokens: Tensor, encoder_output: Tensor) -> Any:
        """Tokens in the form and the encoder's output -> logits in the form."""
        return self._logits(tokens, encoder_output)


class Swapped(nn.Module):
    """A decoder that takes the encoder's output first."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, xa: Tensor, x: Tensor) -> Any:
        """As `Decoder`, inputs in the other order."""
        return self.decoder(x, xa)


class WithMask(nn.Module):
    """A decoder with a third input."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, encoder_output: Tensor, attention_mask: Tensor) -> Any:
        """As `Decoder`, and a mask."""
        return self.decoder(tokens, encoder_output) + attention_mask


def give(folder: Path, checkpoint: Path, stage: str, form: Form, kept: Path) -> dict[str, Path]:
    """Write a port in a form into a folder of artifacts, under names of its own, beside a table of embeddings.

    Args:
        folder: made where it is not there.
        checkpoint: that is ported.
        stage: "torchscript" or "tflite".
        form: of the port.
        kept: folder in which converted files are kept for other tests.
    """
    folder.mkdir(exist_ok=True)
    files = {role: folder / f"{role}_of_mine.{SUFFIX[stage]}" for role in ("encoder", "decoder")}
    for role, path in files.items():
        path.write_bytes(_kept(checkpoint, stage, role, form, kept).read_bytes())
    if form.ids is None:
        table = split.load_model(checkpoint).decoder.token_embedding.weight
        np.save(folder / "token_embedding.npy", table.detach().numpy())
    return files


def judged(parity: Any, folder: Path, stage: str, seconds: float = 1.0, policy: str = "whisper") -> Report:
    """A run on the files of a folder and a warble so many seconds long, without checks of state."""
    clip = sound.write_wav(folder.parent / "warble.wav", sound.warble(seconds))
    words = ("--artifacts", folder, "--stages", stage, "--clips", clip, "--language", "en", "--policy", policy)
    result = parity("run", *words, "--run-id", "shapes", "--no-state")
    report = records.load(RunFolder(folder.parent / "reports" / "shapes"))
    require_no_traceback(result, report.exit_code)
    return report


def rows(report: Report) -> dict[str, Row]:
    """Rows of the only clip, by stage."""
    return {row.stage: row for row in report.rows}


def int8(path: Path, features: Mapping[str, np.ndarray], bits: int = 8) -> None:
    """Give a TFLite file integer inputs and outputs, by LiteRT's own quantiser; its arithmetic stays float32."""
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

    tensor = qtyping.TensorQuantizationConfig
    config = qtyping.OpQuantizationConfig(
        activation_tensor_config=tensor(num_bits=bits, symmetric=bits != 8),
        weight_tensor_config=tensor(num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.TENSORWISE),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the quantiser about the interpreter that it calibrates with
        job = quantizer.Quantizer(str(path))
        for place in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            job.update_quantization_recipe(".*", place, config, algorithm_manager.AlgorithmName.MIN_MAX_UNIFORM_QUANT)
        calibration = job.calibrate({"serving_default": [dict(features)]})
        job.quantize(calibration, enable_progress_bar=False).export_model(str(path), overwrite=True)


def _kept(checkpoint: Path, stage: str, role: str, form: Form, folder: Path) -> Path:
    recipe = f"{checkpoint.stem} {form} {Path(__file__).read_bytes()!r} {torch.__version__}"
    path = folder / "shapes" / f"{role}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.{SUFFIX[stage]}"
    with locked(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            module, inputs = _module(checkpoint, role, form)
            WRITE[stage](module, inputs, path)
            if stage == "tflite" and role == "decoder" and (form.free or form.last_row):
                freelength.free(path, form.n_text_ctx)
    return path


def _module(checkpoint: Path, role: str, form: Form) -> tuple[nn.Module, Mapping[str, Tensor]]:
    model = split.load_model(checkpoint)
    dims, halves = model.dims, split.split(model, -1e4)
    dtype = torch.float16 if form.half else torch.float32
    features, rows = (dims.n_mels, form.n_frames), form.n_frames // 2
    if role == "encoder":
        shape = features[::-1] if "input_features" in form.turned else features
        zeros = torch.zeros(*(() if form.batchless else (1,)), *shape, dtype=dtype)
        return Encoder(halves[0], form).eval(), {"input_features": zeros}
    batch = () if form.batchless else (1,)
    hidden = (dims.n_audio_state, rows) if "encoder_output" in form.turned else (rows, dims.n_audio_state)
    table = torch.zeros(*batch, form.n_text_ctx, dims.n_text_state, dtype=dtype)
    tokens = table if form.ids is None else torch.zeros(*batch, form.n_text_ctx, dtype=form.ids)
    encoding = torch.zeros(*batch, *hidden, dtype=dtype)
    decoder = Decoder(halves[1], form).eval()
    if form.extra:
        return WithMask(decoder), {"tokens": tokens, "encoder_output": encoding, "attention_mask": torch.zeros(1)}
    if form.swapped:
        return Swapped(decoder), {"xa": encoding, "x": tokens}
    return decoder, {"tokens": tokens, "encoder_output": encoding}


def _write_torchscript(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    with split.explicit_attention():
        traced = torch.jit.trace(module, tuple(inputs.values()), check_trace=False, strict=False)
    path.write_bytes(traced.save_to_buffer())


def _write_tflite(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    import litert_torch

    litert_torch.config.show_progress = False
    with split.explicit_attention():
        litert_torch.convert(module, sample_kwargs=dict(inputs)).export(str(path))


WRITE: dict[str, Callable[[nn.Module, Mapping[str, Tensor], Path], None]] = {
    "torchscript": _write_torchscript,
    "tflite": _write_tflite,
}
