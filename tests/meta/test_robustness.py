"""The measure of robustness: its judge goes red for every fault, and a drawn sample of cases has none."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import robustness
from benchmarks.hostile import killing, trial
from benchmarks.hostile.cases import KINDS, Case, case
from benchmarks.hostile.damage import special_files
from benchmarks.hostile.world import World
from whisper_parity import cli

CASES = 60
SEED = 20_261_126
KILLS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound files."""
    return robustness.made(tmp_path_factory.mktemp("robustness") / "world")


def test_drawn_cases_have_no_fault(world: Path):
    """100 of them, over every kind of input; `python -m benchmarks.robustness` makes a thousand."""
    outcomes = list(robustness.outcomes(world, CASES, SEED, jobs=1))
    assert len(outcomes) == CASES
    assert {outcome["kind"] for outcome in outcomes} == set(KINDS)
    faults = [
        f"{o['faults']} {o['kind']} {o['what']!r} parity {o['words']!r}: {o['output']}" for o in outcomes if o["faults"]
    ]
    assert faults == []
    refused = sum(outcome["exit_code"] in (2, 3) for outcome in outcomes)
    assert CASES // 4 < refused < CASES, "cases that refuse everything or nothing measure nothing"


def test_killed_commands_lose_nothing(world: Path):
    """Each command, killed at random moments and continued."""
    killed = list(killing.killed(world, KILLS, SEED))
    assert [k for k in killed if k.lost or k.twice or k.partial or k.differs or k.exit_code] == []
    assert any(k.was_running for k in killed)


def test_the_same_seed_gives_the_same_cases(world: Path):
    """A case that failed can be found again."""

    def drawn(seed: int) -> list[tuple[str, str]]:
        return [(each.kind, each.what) for each in (case(World(world), seed, index) for index in range(64))]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)


def own_memory() -> int:
    """What this process holds beside what the benchmark's own would, [bytes]: the tests before this one."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return max(0, pages * resource.getpagesize() - 2**28)


def raises() -> None:
    raise ZeroDivisionError


def says_that_nobody_thought_of_it() -> None:
    sys.stdout.write(trial.BUG)
    sys.exit(3)


def dies() -> None:
    os.abort()


def hangs() -> None:
    time.sleep(60)


def runs_foreign_code() -> None:
    Path("owned").touch()
    sys.exit(2)


def writes_outside() -> None:
    Path("../outside/canary").write_text("yours", "utf-8")
    sys.exit(2)


def fills_memory() -> None:
    content = b"x" * (2 * trial.MEMORY)
    sys.exit(2 if content else 1)


def prints_raw_text() -> None:
    sys.stdout.write("\x1b[2J")
    sys.exit(2)


def obeys_a_command() -> None:
    sys.stdout.write("::error::owned")
    sys.exit(2)


def accepts() -> None:
    sys.exit(0)


@pytest.mark.parametrize(
    ("behaviour", "faults"),
    [
        (raises, ("traceback", "died")),
        (says_that_nobody_thought_of_it, ("traceback",)),
        (dies, ("died",)),
        (hangs, ("hang",)),
        (runs_foreign_code, ("foreign code",)),
        (writes_outside, ("files outside",)),
        (fills_memory, ("memory",)),
        (prints_raw_text, ("raw text",)),
        (obeys_a_command, ("raw text",)),
        (accepts, ("wrong acceptance",)),
    ],
)
def test_the_judge_goes_red(
    behaviour: Callable[[], None], faults: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """For each fault that a command can have."""
    monkeypatch.setattr(trial, "LIMIT_S", 2.0 if behaviour is hangs else 20.0)  # a busy machine takes its time
    monkeypatch.setattr(cli, "main", lambda **_: behaviour())
    hostile = Case("any", "nothing", lambda place: [], must_be_refused=True)
    assert trial.perform(hostile, World(tmp_path), tmp_path / "case", own_memory()).faults == faults


def test_a_refusal_in_one_line_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What every case should end with."""
    monkeypatch.setattr(cli, "main", lambda **_: sys.exit(2))
    hostile = Case("any", "nothing", lambda place: [], must_be_refused=True)
    outcome = trial.perform(hostile, World(tmp_path), tmp_path / "case", own_memory())
    assert (outcome.faults, outcome.exit_code) == ((), 2)


@pytest.mark.parametrize("what", [name for name, _ in special_files()])
def test_special_files_are_what_they_are_called(what: str, tmp_path: Path):
    """The damages make something."""
    make = dict(special_files())[what]
    make(tmp_path / "given")
    assert os.path.lexists(tmp_path / "given")
