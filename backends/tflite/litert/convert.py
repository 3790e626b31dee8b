"""The conversion task of forkserver.py: `[this module, KIND, ROLE, SOURCE, TARGET, MASK_VALUE, ORIGIN]`.

ROLE is "encoder", "decoder", or for a decoder with a KV cache one of `split.cached_modules.KINDS`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from whisper_parity.backend.artifact import GIVEN
from whisper_parity.model.dims import Dims
from whisper_parity.system import confine
from whisper_parity.system.files import replacing


def convert(role: str, checkpoint: Path, target: Path, mask_value: float) -> None:
    """Convert one half of a checkpoint with litert-torch, float32, with named inputs and outputs."""
    import litert_torch
    import torch

    from whisper_parity.backends.split import modules

    class Named(torch.nn.Module):
        """Names the output of a module; the file's signature keeps the name."""

        def __init__(self, module: torch.nn.Module, output: str) -> None:
            super().__init__()
            self.module, self.output = module, output

    class NamedEncoder(Named):
        def forward(self, input_features: torch.Tensor) -> dict[str, torch.Tensor]:
            return {self.output: self.module(input_features)}

    class NamedDecoder(Named):
        def forward(self, token_embeddings: torch.Tensor, encoder_output: torch.Tensor) -> dict[str, torch.Tensor]:
            return {self.output: self.module(token_embeddings, encoder_output)}

    litert_torch.config.show_progress = False
    model = modules.load_model(checkpoint)
    encoder, decoder = modules.split(model, mask_value)
    (features,), (embeddings, encoder_output) = modules.example_inputs(Dims(**vars(model.dims)))
    with modules.explicit_attention():
        if role == "encoder":
            module: Named = NamedEncoder(encoder, "encoder_output").eval()
            inputs = {"input_features": features}
        else:
            module = NamedDecoder(decoder, "logits").eval()
            inputs = {"token_embeddings": embeddings, "encoder_output": encoder_output}
        litert_torch.convert(module, sample_kwargs=inputs).export(str(target))


def convert_cached(checkpoint: Path, target: Path, *, cached_cross: bool) -> None:
    """Convert the decoder with a KV cache of a checkpoint, float32, with named inputs and outputs."""
    import litert_torch
    import torch

    from whisper_parity.backends.split import cached_modules, modules

    class Named(torch.nn.Module):
        """Names the outputs; the file's signature keeps them."""

        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            return dict(zip(cached_modules.OUTPUT_NAMES, self.module(**inputs)))

    litert_torch.config.show_progress = False
    model = modules.load_model(checkpoint)
    inputs = cached_modules.example_inputs(Dims(**vars(model.dims)), cached_cross=cached_cross)
    module = Named(cached_modules.decoder(model, cached_cross=cached_cross)).eval()
    with modules.explicit_attention():
        litert_torch.convert(module, sample_kwargs=inputs).export(str(target))


def quantise(kind: str, source: Path, target: Path) -> None:
    """Quantise a float32 file with ai-edge-quantizer: `fp16` weights, or `int8` weights with dynamic activations."""
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe

    job = quantizer.Quantizer(str(source))
    if kind == "int8":
        job.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    else:
        job.update_quantization_recipe(
            ".*",
            qtyping.TFLOperationName.ALL_SUPPORTED,
            qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_manager.AlgorithmName.FLOAT_CASTING,
        )
    job.quantize(enable_progress_bar=False).export_model(str(target), overwrite=True)


def prepare(kind: str, *_: str) -> None:
    """Import what a task of this kind needs."""
    for name in (
        ("litert_torch", "whisper_parity.backends.split.modules")
        if kind == "convert"
        else ("ai_edge_quantizer.quantizer",)
    ):
        import_module(name)


def main(kind: str, role: str, source: str, target: str, mask_value: str, origin: str = "") -> None:
    """Run one task; the target is written atomically, and where the source was given, nothing else is written."""
    if origin == GIVEN:
        confine.confine_tool([Path(target).parent])
    with replacing(Path(target)) as partial:
        if role.startswith("kv"):
            convert_cached(Path(source), partial, cached_cross=role == "kv")
        elif kind == "convert":
            convert(role, Path(source), partial, float(mask_value))
        else:
            quantise(kind, Path(source), partial)
