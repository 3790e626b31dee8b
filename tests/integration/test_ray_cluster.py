"""A Ray cluster of several machines, here processes: its rows are those of one process, whatever fails on the way."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support import sound
from tests.support.devices import Prepared, prepare
from tests.support.refusals import line_of, require_no_traceback
from tests.support.simulated import until, users_server
from whisper_parity.backends.dla.simulator.outfit import keys_of, started
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.trace import file

STAGES = ("pytorch", "tflite", "dla")
CLIPS = 4


@dataclass(frozen=True)
class Site:
    """Two machines with a device each, and what to run there."""

    cluster: Any
    nodes: tuple[Any, Any]
    serials: tuple[str, str]
    prepared: Prepared
    clips: Path
    reports: Path

    def run(self, name: str, *words: str) -> Result:
        from whisper_parity.cli import main

        common = [
            "run", "--stages", ",".join(STAGES), "--artifacts", self.prepared.artifacts, "--build-missing",
            "--checkpoint", self.prepared.checkpoint, "--clips", self.clips, "--language", "en", "--threads", 1,
            "--cache", self.prepared.cache, "--report-dir", self.reports, "--run-id", name, "--fresh",
        ]  # fmt: skip
        result = CliRunner().invoke(main, [*map(str, common), *words])
        require_no_traceback(result, 0)
        return result

    def report(self, name: str) -> Report:
        return records.load(RunFolder(self.reports / name))


@pytest.fixture(scope="module")
def site(tmp_path_factory, parity_in, scripted_checkpoint, cache_dir) -> Iterator[Site]:
    """One cluster for all tests: a head that does nothing, and two machines."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'whisper-parity[ray]'")
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("cluster")
    prepared = prepare(folder, parity_in, scripted_checkpoint, cache_dir)
    (folder / "sounds").mkdir()
    for number in range(CLIPS):
        sound.write_wav(folder / "sounds" / f"{number}.wav", sound.warble(1.0, seed=number))
    with users_server(tmp_path_factory.mktemp("home")) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        reach = {**(server.environment or {}), "ANDROID_ADB_SERVER_PORT": server.address.partition(":")[2]}
        for key, value in reach.items():
            patch.setenv(key, value)
        with started(keys=keys_of(server)) as first, started(keys=keys_of(server)) as second:
            serials = first.serial, second.serial
            with clustered(Cluster, reach, serials) as (cluster, nodes):
                yield Site(cluster, nodes, serials, prepared, folder / "sounds", folder / "reports")


@contextmanager
def clustered(kind: Any, reach: dict[str, str], serials: tuple[str, str]) -> Iterator[tuple[Any, tuple[Any, Any]]]:
    cluster = kind(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        one, other = (
            cluster.add_node(num_cpus=1, resources={"dla_MT8371": 1}, env_vars={**reach, "ANDROID_SERIAL": serial})
            for serial in serials
        )
        yield cluster, (one, other)
    finally:
        cluster.shutdown()


def judged(row: Row) -> tuple[object, ...]:
    """All of a row but its times, and what was spent where."""
    command = row.reproduce.partition(" --set ")[0]
    return row.clip, row.stage, row.verdict, row.text, row.token_ids, row.vs_parent, row.vs_root, command


def recorded(folder: Path, row: Row) -> tuple[object, ...]:
    """All of a trace but its times."""
    trace = file.load(RunFolder(folder).trace(row.clip, row.stage))
    arrays = [array.tobytes() for w in trace.windows for array in (w.encoder_output, w.teacher_forced.logits)]
    return (trace.header.text, trace.header.timestamped_tokens, *arrays)


def devices(report: Report) -> set[str]:
    return {row.usage.device.split()[-1] for row in report.rows if row.usage and row.stage == "dla"}


def test_without_ray_the_option_says_what_to_install(parity, clip, monkeypatch):
    """One line, exit code 3."""
    monkeypatch.setitem(sys.modules, "ray", None)
    line = line_of(parity("run", "--clips", clip, "--ray", "auto"), 3)
    assert line.startswith("--ray needs Ray: ")
    assert line.endswith("Install it: pip install 'whisper-parity[ray]'")


def test_a_cluster_that_does_not_answer_is_a_line(parity, clip):
    """Not a traceback of its client, nor its patience."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'whisper-parity[ray]'")
    line = line_of(parity("run", "--clips", clip, "--ray", "127.0.0.1:1"), 3)
    assert line == (
        "--ray 127.0.0.1:1: no cluster answers: [Errno 111] Connection refused. Start one: `ray start --head`"
    )


def test_a_cluster_gives_the_rows_of_one_process_and_uses_its_devices(site):
    """Every cell, bit for bit; each machine finds its own device by its environment."""
    site.run("alone", "--workers", "1", "--set", f"dla.serial={site.serials[0]}")
    site.run("cluster", "--ray", site.cluster.address)
    alone, cluster = site.report("alone"), site.report("cluster")
    assert cluster.finished
    assert devices(cluster) == set(site.serials)
    assert [judged(row) for row in alone.rows] == [judged(row) for row in cluster.rows]
    for row in alone.rows:
        assert recorded(site.reports / "alone", row) == recorded(site.reports / "cluster", row)
    assert [(c.stage, c.sequence, c.stateful, c.checked) for c in alone.states] == [
        (c.stage, c.sequence, c.stateful, c.checked) for c in cluster.states
    ]
    assert [stage.placement for stage in alone.stages] == [stage.placement for stage in cluster.stages]


def test_a_machine_that_is_lost_in_the_middle_costs_a_try(site):
    """Its cells, and those of its device, go to the other one; the rows that were tried again say so."""
    traces = site.reports / "lost" / "traces"
    killer = threading.Thread(
        target=lambda: (
            until(lambda: list(traces.glob("*--dla.*")), 60)
            and site.cluster.remove_node(site.nodes[1], allow_graceful=False)
        )
    )
    killer.start()
    site.run("lost", "--ray", site.cluster.address)
    killer.join()
    alone, lost = site.report("alone"), site.report("lost")
    assert [judged(row) for row in alone.rows] == [judged(row) for row in lost.rows]
    notes = [note for row in lost.rows for note in row.notes if note.startswith("tried again, since worker ")]
    assert notes
    assert all(ended_by_ray(note) for note in notes), notes


def ended_by_ray(note: str) -> bool:
    """Whether it says how Ray noticed: by the actor that is gone, or by a result that its machine took along."""
    from ray import exceptions

    named = re.search(r" ended \((\w+): ", note)
    kind = getattr(exceptions, named[1], None) if named else None
    return isinstance(kind, type) and issubclass(kind, exceptions.RayError) and kind is not exceptions.RayTaskError
