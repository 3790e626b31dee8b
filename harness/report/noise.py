"""The noise floor at the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from whisper_parity.judge.noise import Noise, TensorNoise
from whisper_parity.report import numbers
from whisper_parity.system import terminal

NAMES = ("source", "tensor", "worst SNR", "rmse", "kl_max", "movement", "top movement", "steps at risk", "flips")
"""Columns."""


def show(noise: Noise, console: Console) -> None:
    """Print the measured stage, the table, and a description of each source."""
    console = terminal.unfolded(console)
    terminal.line(console, heading(noise), "bold")
    grid = table(noise)
    if Measurement.get(console, console.options.update(width=1000), grid).maximum <= console.width:
        console.print(grid)
    else:
        for line in lines(noise):
            terminal.line(console, line, indent=4)
    for source in noise.sources:
        terminal.line(console, f"{source.source}: {source.how}", "dim")


def heading(noise: Noise) -> str:
    """One line: measured stage, clips, threads, time."""
    subject = f"{noise.label}, checkpoint {noise.checkpoint} ({noise.checkpoint_sha256[:12]}), policy {noise.policy}"
    duration = numbers.seconds(noise.seconds, 1)
    return f"noise of {subject}, {len(noise.clips)} clips, {noise.threads} threads, {duration}"


def table(noise: Noise) -> Table:
    """Sources x tensors: SNR, error, KL, movement, steps at risk, flips."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in NAMES:
        grid.add_column(name)
    for source in noise.sources:
        for tensor in source.tensors:
            grid.add_row(terminal.cell(source.source), *map(terminal.cell, cells(tensor)))
    return grid


def lines(noise: Noise) -> list[str]:
    """The table's rows, where it is wider than the screen: each figure with its name."""
    return [
        f"{source.source}: "
        + ", ".join(f"{name} {value}" for name, value in zip(NAMES[1:], cells(tensor)) if value).removeprefix("tensor ")
        for source in noise.sources
        for tensor in source.tensors
    ]


def cells(tensor: TensorNoise) -> list[str]:
    """One row of the table without its source; "" for figures that a tensor lacks."""
    snr = numbers.decibels(tensor.snr_db, 1) if math.isfinite(tensor.snr_db) else "inf (no bit changed)"
    risk = "" if tensor.steps is None else f"{tensor.steps_at_risk} of {tensor.steps}"
    values = (tensor.rmse, tensor.kl_max, tensor.movement_rms, tensor.top_movement)
    figures = ["" if value is None else numbers.number(value) for value in values]
    return [tensor.name, snr, *figures, risk, "" if tensor.flips is None else str(tensor.flips)]
