"""What kind of wrong: named exactly where it is known, and not at all where it is none of those."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import foreign as writing
from tests.support import faults, foreign
from tests.support.checkout import CHECKOUT
from tests.support.faults import Reference
from whisper_parity import project
from whisper_parity.backends.split.embedding import write_of_checkpoint
from whisper_parity.explain import layers, trials
from whisper_parity.explain.bench import Bench
from whisper_parity.fixtures import drawn
from whisper_parity.fixtures.breakages import BREAKAGES, Port, Wrapped
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.run import plan
from whisper_parity.run.options import RunOptions

CLIP = "en-comma-01"
NOT_FINITE = ("encoder-overflow", "decoder-overflow", "decoder-nan")
DRAWN = drawn.names(3, 24)[::2]


@pytest.fixture(scope="module")
def micro() -> Reference:
    """Hidden states of the micro checkpoint on a sentence."""
    return Reference(checkpoints.resolve(RunOptions().checkpoint), CHECKOUT / "fixtures" / "clips" / f"{CLIP}.flac")


@pytest.mark.parametrize("name", [name for name, each in BREAKAGES.items() if each.unit and name not in NOT_FINITE])
def test_the_kind_of_a_known_fault_is_named_exactly(micro, name):
    """One kind, in these words, and what it explains; none for stale weights, which are of no kind."""
    breakage = BREAKAGES[name]
    found = faults.told(micro, breakage.unit, breakage.apply)
    assert [item.kind for item in found] == ([breakage.kind] if breakage.kind else [])
    assert all(item.explains > 0.99 and item.unit == breakage.unit for item in found)


@pytest.mark.parametrize("name", NOT_FINITE)
def test_nothing_is_said_of_values_that_are_not_finite(micro, name):
    """There is no energy that could be explained."""
    assert faults.told(micro, BREAKAGES[name].unit, BREAKAGES[name].apply) == ()


@pytest.mark.parametrize("name", DRAWN)
def test_no_wrong_kind_is_said_of_a_drawn_fault(micro, name):
    """The right one, or none."""
    fault = drawn.fault(name)
    found = faults.told(micro, fault.unit, fault.apply)
    assert len(found) <= 1
    assert all(fault.kind and fault.kind in item.kind and 0.9 < item.explains <= 1 for item in found), found


class InDtype(nn.Module):
    """A block that computes in another type: openai-whisper's layers take that of their input."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.block, self.dtype = block, dtype

    def forward(self, x: Tensor, xa: Tensor | None = None, mask: Tensor | None = None, kv_cache: Any = None) -> Tensor:
        """As Whisper's, in that type."""
        audio = None if xa is None else xa.to(self.dtype)
        return self.block(x.to(self.dtype), audio, None if mask is None else mask.to(self.dtype)).float()


class Cast(nn.Module):
    """A block under torch's automatic mixed precision."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, xa: Tensor | None = None, mask: Tensor | None = None, kv_cache: Any = None) -> Tensor:
        """As Whisper's, its layers in bfloat16."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.block(x, xa, mask).float()


def _encoder(k: int) -> Callable[[Port], Any]:
    return lambda port: port.encoder.encoder.blocks[k]


def _decoder(k: int) -> Callable[[Port], Any]:
    return lambda port: port.decoder.blocks[k]


def _forward(block: Any, forward: Callable[..., Tensor]) -> None:
    block.forward = types.MethodType(forward, block)


def _replaced(k: int, make: Callable[[nn.Module], nn.Module]) -> Callable[[Port], None]:
    def spoil(port: Port) -> None:
        blocks = port.encoder.encoder.blocks
        blocks[k] = make(blocks[k])

    return spoil


def _no_residual(self: Any, x: Tensor, xa: Any = None, mask: Any = None, kv_cache: Any = None) -> Tensor:
    x = self.attn(self.attn_ln(x), mask=mask)[0]
    return x + self.mlp(self.mlp_ln(x))


def _no_cross(self: Any, x: Tensor, xa: Any = None, mask: Any = None, kv_cache: Any = None) -> Tensor:
    x = x + self.attn(self.attn_ln(x), mask=mask)[0]
    x = self.cross_attn(self.cross_attn_ln(x), xa)[0]
    return x + self.mlp(self.mlp_ln(x))


def _late_norm(self: Any, x: Tensor, xa: Any = None, mask: Any = None, kv_cache: Any = None) -> Tensor:
    x = self.attn_ln(x + self.attn(x, mask=mask)[0])
    return x + self.mlp(self.mlp_ln(x))


def _quick_gelu(port: Port) -> None:
    _encoder(0)(port).mlp[1] = Wrapped(nn.Identity(), lambda x: x * torch.sigmoid(1.702 * x))


def _clipped(self: Any, x: Tensor, xa: Any = None, mask: Any = None, kv_cache: Any = None) -> Tensor:
    x = x + self.attn(self.attn_ln(x), mask=mask)[0]
    x = x + self.cross_attn(self.cross_attn_ln(x), xa)[0]
    return (x + self.mlp(self.mlp_ln(x))).clamp(-4.5, 4.5)


def _mask(change: Callable[[Tensor], Tensor]) -> Callable[[Port], None]:
    def spoil(port: Port) -> None:
        port.decoder.mask = change(port.decoder.mask)

    return spoil


def _table(change: Callable[[Tensor], Tensor]) -> Callable[[Port], None]:
    def spoil(port: Port) -> None:
        port.encoder.encoder.positional_embedding = change(port.encoder.encoder.positional_embedding)

    return spoil


def _halves(table: Tensor) -> tuple[Tensor, Tensor]:
    return table.chunk(2, dim=1)  # type: ignore[return-value]


def _timescale(table: Tensor) -> Tensor:
    from whisper.model import sinusoids

    return sinusoids(*table.shape, 1000)  # type: ignore[no-any-return]


def _logits(change: Callable[[Tensor], Tensor]) -> Callable[[Port], None]:
    def spoil(port: Port) -> None:
        port.decoder.projection = Wrapped(port.decoder.projection, change)  # type: ignore[assignment]

    return spoil


def _swapped_heads(port: Port) -> None:
    weight = _decoder(0)(port).cross_attn.out.weight
    heads = weight.unflatten(1, (_decoder(0)(port).cross_attn.n_head, -1)).clone()
    heads[:, [0, 1]] = heads[:, [1, 0]]
    weight.copy_(heads.flatten(1))


def _four_bits(port: Port) -> None:
    for module in _encoder(2)(port).modules():
        if isinstance(module, nn.Linear):
            step = module.weight.abs().amax(1, keepdim=True) / 7
            module.weight.copy_((module.weight / step).round() * step)


def _conv1_edges(port: Port) -> None:
    conv = port.encoder.encoder.conv1
    conv.padding = (0,)
    port.encoder.encoder.conv1 = nn.Sequential(nn.ReplicationPad1d(1), conv)  # type: ignore[assignment]


def _epsilon(port: Port) -> None:
    _decoder(1)(port).mlp_ln.eps = 3e-3


def _unscaled(port: Port) -> None:
    attention = _encoder(1)(port).attn
    width = attention.query.weight.shape[0] // attention.n_head
    attention.query.weight.mul_(width**0.5)
    attention.query.bias.mul_(width**0.5)


def _bfloat_weights(port: Port) -> None:
    for values in _decoder(1)(port).parameters():
        values.copy_(values.bfloat16().float())


KINDS: dict[str, tuple[str, Callable[[Port], None], str]] = {
    "bfloat16": ("encoder.blocks.1", _replaced(1, lambda block: InDtype(block, torch.bfloat16)), "bfloat16 arithmetic"),
    "float16": ("encoder.blocks.1", _replaced(1, lambda block: InDtype(block, torch.float16)), "float16 arithmetic"),
    "autocast": ("encoder.blocks.0", _replaced(0, Cast), "bfloat16 arithmetic in its layers, sums in float32"),
    "bfloat16 weights": ("decoder.blocks.1", _bfloat_weights, "weights rounded to bfloat16"),
    "4 bits": ("encoder.blocks.2", _four_bits, "all weights rounded to 4 bits, one scale for a channel"),
    "quick GELU": ("encoder.blocks.0", _quick_gelu, "GELU by a sigmoid in its MLP"),
    "epsilon": ("decoder.blocks.1", _epsilon, "epsilon 0.003 in mlp_ln"),
    "no scale": ("encoder.blocks.1", _unscaled, "the scores of attn not scaled by 1 / sqrt(width)"),
    "residual": (
        "encoder.blocks.1", lambda port: _forward(_encoder(1)(port), _no_residual),
        "the residual around attn left out",
    ),
    "cross residual": (
        "decoder.blocks.0", lambda port: _forward(_decoder(0)(port), _no_cross),
        "the residual around cross_attn left out",
    ),
    "norm behind": (
        "encoder.blocks.0", lambda port: _forward(_encoder(0)(port), _late_norm),
        "attn_ln behind attn in place of before",
    ),
    "mask value": (
        "decoder.blocks.0", _mask(lambda mask: torch.where(mask < 0, -2.0, 0.0)),
        "a causal mask of -2, which hides too little",
    ),
    "mask shifted": (
        "decoder.blocks.0", _mask(lambda mask: torch.full_like(mask, -1e9).triu_(2)),
        "the causal mask shifted by one: a token sees the next",
    ),
    "heads": ("decoder.blocks.0", _swapped_heads, "heads 0 and 1 of cross_attn exchanged"),
    "positions twice": ("encoder.positions", _table(lambda table: table * 2), "the positions added twice"),
    "no positions": ("encoder.positions", _table(torch.zeros_like), "no positions"),
    "interleaved": (
        "encoder.positions", _table(lambda table: torch.stack(_halves(table), 2).flatten(1)),
        "sines and cosines interleaved",
    ),
    "timescale": ("encoder.positions", _table(_timescale), "positions of timescale 1000"),
    "conv": (
        "encoder.conv", _conv1_edges,  # a window that begins and ends with the same silence does not tell them apart
        "conv1 padded in a circle or conv1 padded by reflection or conv1 padded by its outermost values",
    ),
    "temperature": (
        "decoder.logits", _logits(lambda logits: logits / 0.85), "logits divided by a temperature of 0.85",
    ),
    "log-softmax": (
        "decoder.logits", _logits(lambda logits: F.log_softmax(logits, -1)), "log-probabilities in place of logits",
    ),
    "clipped": (
        "decoder.blocks.0", lambda port: _forward(_decoder(0)(port), _clipped), "its output clipped at 4.5",
    ),
}  # fmt: skip
"""Unit, how it is spoilt, what is to be named: by torch's own modules, not by the graph that the trials change."""


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_named_exactly(micro, name):
    """And explains nearly all of the error."""
    unit, spoil, kind = KINDS[name]
    (found,) = faults.told(micro, unit, spoil)
    assert found.kind == kind
    assert 0.9 < found.explains <= 1
    assert found.finding.startswith(f"{unit} with {kind} reproduces ")


def _noise(name: str, seed: int, size: float) -> Callable[[Port], None]:
    def spoil(port: Port) -> None:
        half, _, rest = name.partition(".")
        module = port.encoder.encoder if half == "encoder" else port.decoder
        values = dict(module.named_parameters()).get(rest, None)  # type: ignore[union-attr]
        if values is None:
            values = dict(module.blocks.named_parameters())[rest.removeprefix("blocks.")]  # type: ignore[union-attr]
        generator = torch.Generator().manual_seed(seed)
        values.add_(torch.randn(values.shape, generator=generator) * values.std() * size)

    return spoil


@pytest.mark.parametrize(
    ("tensor", "unit"),
    [
        ("encoder.blocks.1.mlp.0.weight", "encoder.blocks.1"),
        ("encoder.blocks.0.attn.query.weight", "encoder.blocks.0"),
        ("decoder.blocks.0.cross_attn.out.bias", "decoder.blocks.0"),
        ("decoder.blocks.1.mlp_ln.bias", "decoder.blocks.1"),
        ("decoder.projection.weight", "decoder.logits"),
        ("encoder.conv2.weight", "encoder.conv"),
        ("decoder.ln.weight", "decoder.ln"),
    ],
)
@pytest.mark.parametrize("size", [0.01, 1.0])
def test_noise_on_a_weight_is_of_no_kind(micro, tensor, unit, size):
    """A wrong guess is worse than none."""
    assert faults.told(micro, unit, _noise(tensor, 1, size)) == ()


def test_a_sound_unit_has_no_kind_and_another_reference_none_to_tell(micro):
    """No error; or a session that computes something else than the reference did."""
    assert faults.told(micro, "encoder.blocks.1", lambda port: None) in ((), None)
    place = micro.place("encoder.blocks.2")
    error = trials.Error(micro.hidden["encoder.blocks.1"], micro.hidden["encoder.blocks.1"] * 1.01)
    assert trials.told(micro.session, place, error) == ()


def test_two_kinds_that_explain_as_much_are_not_named(micro, monkeypatch):
    """One trial more, which is the right one under another family."""
    unit, spoil, kind = KINDS["residual"]
    (found,) = faults.told(micro, unit, spoil)
    assert found.kind == kind
    monkeypatch.setattr(trials, "RIVAL", 1e9)
    assert faults.told(micro, unit, spoil) == ()


@pytest.fixture
def located(tmp_path: Path, cache_dir: Path) -> Iterator[Callable[[str, str], Any]]:
    """The layer at fault in a component of the files that lie in `files`."""
    with ExitStack() as stack:

        def call(stage: str, component: str) -> Any:
            options = RunOptions(
                stages=("pytorch", stage), clips=(CLIP,), policy="plain", language="en", threads=2, run_id="run",
                report_dir=tmp_path, cache=cache_dir, artifacts=tmp_path / "files",
            )  # fmt: skip
            bench = Bench(plan.make(options, project.load(tmp_path)), stack)
            return layers.locate(bench, "pytorch", stage, bench.plan.clip(CLIP), 0, component)

        yield call


def _tanh(model: Any) -> None:
    model.decoder.blocks[1].mlp[1] = nn.GELU(approximate="tanh")


def test_the_kind_is_named_in_frozen_files_of_others(located, tmp_path):
    """Neither names nor submodules; a second look reads what was measured, and says the same."""
    checkpoint, files = checkpoints.resolve(RunOptions().checkpoint), tmp_path / "files"
    files.mkdir()
    foreign.write("norms by hand, frozen", checkpoint.path, checkpoint.dims, files, _tanh)
    write_of_checkpoint(checkpoint, files)
    first, again = located("torchscript", "decoder"), located("torchscript", "decoder")
    assert [kind.kind for kind in first.kinds] == ["GELU by tanh in its MLP"]
    assert again.kinds == first.kinds
    assert located("torchscript", "encoder").kinds == ()


def test_the_kind_is_named_in_tflite_files_of_others(located, tmp_path):
    """Another arithmetic leaves a little of the error unexplained."""
    checkpoint = checkpoints.resolve(RunOptions().checkpoint)
    with torch.no_grad():
        writing.write(writing.ported(checkpoint, "encoder-epsilon"), tmp_path / "files", checkpoint, "tflite")
    (kind,) = located("tflite", "encoder").kinds
    assert (kind.unit, kind.kind) == ("encoder.blocks.0", BREAKAGES["encoder-epsilon"].kind)
