"""Faults that chance chose: the same whenever they are asked for, of every kind, and none that changes nothing."""

from __future__ import annotations

import pytest
import torch

from tests.support.checkout import CHECKOUT
from whisper_parity.backends.split import modules
from whisper_parity.fixtures import breakages, drawn, ports
from whisper_parity.model import checkpoint

MICRO = CHECKOUT / "fixtures" / "micro" / "micro.pt"


def broken(name: str) -> breakages.Port:
    """The micro checkpoint taken apart, with this fault."""
    port = breakages.ported(modules.load_model(checkpoint.resolve(str(MICRO)).path))
    with torch.no_grad():
        drawn.fault(name).apply(port)
    return port


def said(port: breakages.Port, part: str) -> torch.Tensor:
    """What this part gives for noise."""
    noise = torch.Generator().manual_seed(0)
    embeddings = torch.from_numpy(port.table[None, 400:848])
    with torch.no_grad(), modules.explicit_attention():
        if part == "encoder":
            return port.encoder(torch.randn(1, 80, 3000, generator=noise))
        encoder_output = torch.randn(1, 1500, port.table.shape[1], generator=noise)
        return port.decoder(embeddings, encoder_output) if part == "decoder" else embeddings


@pytest.fixture(scope="module")
def sound() -> dict[str, torch.Tensor]:
    """What the parts of a sound port give."""
    port = breakages.ported(modules.load_model(checkpoint.resolve(str(MICRO)).path))
    return {part: said(port, part) for part in ("encoder", "decoder", "embedding")}


def of_each_kind() -> list[str]:
    """The first draw of every kind of fault there is."""
    found: dict[str, str] = {}
    for seed in ports.SEEDS:
        for name in drawn.names(seed, ports.DRAWS):
            found.setdefault(drawn.fault(name).what.split(" in ")[0], name)
    return list(found.values())


def test_every_kind_is_drawn():
    """In blocks, before and behind them; in every part."""
    faults = [drawn.fault(name) for name in of_each_kind()]
    assert len(faults) == len(drawn.BLOCK_FAULTS) + len(drawn.PORT_FAULTS)
    assert {fault.part for fault in faults} == {"encoder", "decoder", "embedding"}


@pytest.mark.parametrize("name", of_each_kind())
def test_a_fault_changes_what_its_part_computes(sound, name):
    """One that changes nothing would be no fault."""
    part = drawn.fault(name).part
    assert not torch.equal(said(broken(name), part), sound[part])


def test_a_fault_is_the_same_whenever_it_is_asked_for():
    """Bit for bit: of one that draws a matrix and a direction in it."""
    name = next(name for name in of_each_kind() if drawn.fault(name).what.startswith("a weight is rolled by one"))
    part = drawn.fault(name).part
    assert torch.equal(said(broken(name), part), said(broken(name), part))


def test_the_same_fault_under_8_bit_weights(sound):
    """`-int8` keeps the fault and rounds the rest; without a fault, int8 alone is what an int8 file may be."""
    name = next(name for name in drawn.names(1, 20) if drawn.fault(name).part == "decoder")
    assert drawn.fault(f"{name}-int8").what == drawn.fault(name).what
    assert not torch.equal(said(broken(f"{name}-int8"), "decoder"), said(broken(name), "decoder"))
    rounded = breakages.ported(modules.load_model(checkpoint.resolve(str(MICRO)).path))
    with torch.no_grad():
        drawn.quantise(rounded)
    lost = sound["decoder"] - said(rounded, "decoder")
    assert 40 < 10 * torch.log10(sound["decoder"].square().sum() / lost.square().sum()) < 60


def test_other_seeds_draw_other_faults():
    """And the number of a fault does not depend on how many are drawn."""
    assert drawn.names(1, 3) == drawn.names(1, 5)[:3] != drawn.names(2, 3)
    whats = [[drawn.fault(name).what for name in drawn.names(seed, 20)] for seed in (1, 2)]
    assert whats[0] != whats[1]
