"""The noise floor at the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from whisper_parity.judge.noise import Noise, TensorNoise
from whisper_parity.system import terminal


def show(noise: Noise, console: Console) -> None:
    """Print who was measured, the table, and what each source is."""
    console = terminal.unfolded(console)
    console.print(heading(noise), style="bold", highlight=False, soft_wrap=True, markup=False)
    console.print(table(noise))
    for source in noise.sources:
        console.print(f"{source.source}: {source.how}", style="dim", highlight=False, soft_wrap=True, markup=False)


def heading(noise: Noise) -> str:
    """What was measured, and on what."""
    whose = f"{noise.label}, checkpoint {noise.checkpoint} ({noise.checkpoint_sha256[:12]}), policy {noise.policy}"
    return f"noise of {whose}, {len(noise.clips)} clips, {noise.threads} threads, {noise.seconds:.1f} s"


def table(noise: Noise) -> Table:
    """Sources x tensors: SNR, error, KL, movement, steps at risk, flips."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("source", "tensor", "worst SNR", "rmse", "kl_max", "movement", "steps at risk", "flips"):
        grid.add_column(name)
    for source in noise.sources:
        for tensor in source.tensors:
            grid.add_row(escape(source.source), *(escape(cell) for cell in cells(tensor)))
    return grid


def cells(tensor: TensorNoise) -> list[str]:
    """One row of the table, its source left out; "" for what a tensor does not have."""
    snr = f"{tensor.snr_db:.1f} dB" if math.isfinite(tensor.snr_db) else "inf (no bit changed)"
    risk = "" if tensor.steps is None else f"{tensor.steps_at_risk} of {tensor.steps}"
    numbers = ["" if value is None else f"{value:.3g}" for value in (tensor.rmse, tensor.kl_max, tensor.movement_rms)]
    return [tensor.name, snr, *numbers, risk, "" if tensor.flips is None else str(tensor.flips)]
