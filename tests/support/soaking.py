"""A run on devices that fail again and again: one is unplugged, one reboots, one hangs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from click.testing import CliRunner, Result

from tests.support import sound
from tests.support.devices import prepare
from tests.support.simulated import users_server
from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault
from whisper_parity.backends.dla.simulator.outfit import keys_of, started
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report

AWAY_S, HANG_S = 0.5, 3.0
EVERY_BYTES = 1_500_000
"""Over a runner's stream, a few clips of a tiny model; then its device goes away."""


@dataclass(frozen=True)
class Soaked:
    """What was left."""

    result: Result
    report: Report
    judged: Counter[tuple[str, str]]
    """By (clip, stage): how often the journal says that it was judged."""

    @property
    def notes(self) -> str:
        """Of the rows of devices, a line each."""
        notes = [note for row in self.report.rows for note in (*row.notes, *(row.usage.notes if row.usage else ()))]
        return "\n".join(notes)


def soak(
    folder: Path, clips: int, parity_in: Callable[[Path], Callable[..., Result]], checkpoint: Path, cache: Path
) -> Soaked:
    """Take so many clips through pytorch, tflite and three such devices, by two workers and that of the devices."""
    from whisper_parity.cli import main

    prepared = prepare(folder, parity_in, checkpoint, cache)
    (folder / "sounds").mkdir()
    for number in range(clips):
        sound.write_wav(folder / "sounds" / f"c{number:04}.wav", sound.warble(1.0, seed=number % 50))
    faults = [
        LinkFault(kind, after_bytes=EVERY_BYTES, times=clips, after_s=AWAY_S, service="localabstract")
        for kind in (Kind.UNPLUG_IN_RUN, Kind.REBOOT)
    ]
    with ExitStack() as stack:
        server = stack.enter_context(users_server(folder))
        reach = {**(server.environment or {}), "ANDROID_ADB_SERVER_PORT": server.address.partition(":")[2]}
        stack.enter_context(mock.patch.dict(os.environ, reach))
        devices = [
            *(stack.enter_context(started(keys=keys_of(server), faults=(fault,))) for fault in faults),
            stack.enter_context(started(keys=keys_of(server), environment={"PARITY_SIM_FAULT": "hang:9"})),
        ]
        (folder / "parity.toml").write_text(f"[backends.dla]\nreconnect_s = 5.0\nrun_limit_s = {HANG_S}\n")
        stack.callback(os.chdir, Path.cwd())
        os.chdir(folder)
        words = [
            "run", "--stages", "pytorch,tflite,dla", "--artifacts", prepared.artifacts, "--build-missing",
            "--checkpoint", checkpoint, "--clips", folder / "sounds", "--language", "en", "--threads", 1,
            "--workers", 2, "--cache", cache, "--report-dir", folder / "reports", "--run-id", "soak", "--no-state",
            "--set", f"dla.serial={','.join(device.serial for device in devices)}",
        ]  # fmt: skip
        result = CliRunner().invoke(main, list(map(str, words)))
    run = RunFolder(folder / "reports" / "soak")
    lines = [json.loads(line) for line in run.journal.read_text("utf-8").splitlines()]
    judged = Counter(tuple(line["key"]) for line in lines if line["kind"] == "cell")
    return Soaked(result, records.load(run), judged)
