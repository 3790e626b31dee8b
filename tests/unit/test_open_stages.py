"""Which stages stay open from batch to batch: those of this machine, while there is memory, and one on devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from whisper_parity.backend.artifact import BUILT, Artifact, ArtifactFile
from whisper_parity.run import sessions as rooms
from whisper_parity.run.sessions import Sessions
from whisper_parity.system import memory

MIB = 2**20


class Here:
    """A backend of this machine."""

    def __init__(self, open_now: list[str]) -> None:
        self.open_now = open_now

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[str]:
        self.open_now.append(artifact.stage)
        yield artifact.stage
        self.open_now.remove(artifact.stage)


class OnDevice(Here):
    """A backend whose stages run on a device."""

    def width(self, variant: str) -> int:
        return 1


def made(free: int, monkeypatch: pytest.MonkeyPatch, *, comes_back: bool) -> tuple[Sessions, list[str]]:
    """Sessions of four stages of 10 MiB each, and what is open."""
    open_now: list[str] = []
    backends = {name: Here(open_now) for name in "ab"} | {name: OnDevice(open_now) for name in ("dla", "app")}
    plan: Any = SimpleNamespace(backends=SimpleNamespace(of=backends.__getitem__), threads=1)
    sessions = Sessions(plan, comes_back=comes_back)
    for name in backends:
        file, checkpoint = ArtifactFile("x", name, 10 * MIB), SimpleNamespace()
        sessions._artifacts[name] = Artifact(name, Path(), {"decoder": file}, checkpoint, BUILT)  # type: ignore[arg-type]
    monkeypatch.setattr(rooms.memory, "available", lambda: free)
    return sessions, open_now


@pytest.mark.parametrize(
    ("comes_back", "free", "left"),
    [
        (True, 1000 * MIB, "a; a b; a b dla; a b app; a b app; a b dla"),
        (True, 100 * MIB, "a; b; b dla; b app; a; a dla"),
        (False, 1000 * MIB, "a; b; dla; app; a; dla"),
    ],
)
def test_what_is_open_behind_each_stage(comes_back: bool, free: int, left: str, monkeypatch):
    """Through two batches; a device is given back for another one. A run of one batch has one stage open at a time."""
    sessions, open_now = made(free, monkeypatch, comes_back=comes_back)
    found = []
    for stage in ("a", "b", "dla", "app", "a", "dla"):
        sessions._opened(stage)
        found.append(" ".join(sorted(open_now, key="ab dla app".index)))
    assert "; ".join(found) == left
    sessions.close()
    assert open_now == []


def test_free_memory_is_what_machine_and_groups_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The smaller of the two; a group without a limit takes nothing away, and where nobody says there is none."""
    group = tmp_path / "group" / "inner"
    group.mkdir(parents=True)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n", "utf-8")
    (tmp_path / "own").write_text("1:memory:/old\n0::/group/inner\n", "utf-8")
    for place, limit in ((group, "max"), (group.parent, "3000000")):
        (place / "memory.max").write_text(f"{limit}\n", "utf-8")
        (place / "memory.current").write_text("1000000\n", "utf-8")
    for name, path in (("MEMINFO", tmp_path / "meminfo"), ("CGROUP", tmp_path), ("OWN_CGROUP", tmp_path / "own")):
        monkeypatch.setattr(memory, name, path)
    assert memory.available() == 2_000_000
    (group.parent / "memory.max").write_text("max\n", "utf-8")
    assert memory.available() == 4_096_000
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory.available() == 0
