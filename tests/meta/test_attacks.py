"""TorchScript files that attack: refused by name with the checks, harmless without them, and never in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import attacks, escapes
from tests.support.attacks import Entries
from tests.support.checkout import CHECKOUT
from whisper_parity.backends.torchscript import given
from whisper_parity.backends.torchscript.settings import Settings
from whisper_parity.errors import ArtifactError, BackendError
from whisper_parity.system.child import Child, Limits

INPUT = np.zeros((1, 80, 3000), np.float32)
FILES = r"{path}: holds aten::from_file, which a Whisper does not need. Trace it again"
AT_LOAD = r"{path}: runs code of its own when loaded (__setstate__ in code/__torch__/attack_atload"
ALIKE = r"{path}: two entries that torch does not tell apart ("

ATTACKS: dict[str, tuple[Callable[..., Path], str]] = {
    "writes a file": (partial(attacks.build, "Writes"), FILES),
    "writes in a fork": (partial(attacks.build, "Forks"), FILES),
    "writes in a fork of a fork": (partial(attacks.build, "ForksTwice"), FILES),
    "writes at load": (partial(attacks.build, "AtLoad"), AT_LOAD),
    "writes at load, upper case": (attacks.upper_case, AT_LOAD),
    "writes at load, two entries": (partial(attacks.twice, clean_first=True), ALIKE),
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What every attack writes."""
    return tmp_path / "marker"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """A confined child that looks at nothing."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    opened: list[Child] = []

    def run(path: Path) -> str:
        opened.append(Child("tests.support.escapes", [path], Limits(60)))
        if "no writes" not in opened[0].confinement:
            pytest.skip(f"writes are not refused here ({opened[0].confinement})")
        return opened[0].call("the file", {"path": str(path)}).text

    yield run
    for child in opened:
        child.close()


def passed(path: Path, settings: Settings | None = None) -> list[int]:
    """Shape of what a given file makes of zeros, in its child process."""
    with given.opened(settings or Settings(given_limit_s=60), [path], 2) as scripts:
        scripts.load("encoder", path, None)
        return list(scripts.rows("encoder", [INPUT], None, 448).shape)


@pytest.mark.parametrize("case", ATTACKS)
def test_an_attack_bites_without_us_and_is_refused_by_name(case: str, tmp_path: Path, marker: Path):
    """Torch itself runs it; we say what it holds, and nothing is written."""
    make, expected = ATTACKS[case]
    path = make(tmp_path / "attack.pt", marker=marker)
    escapes.unchecked(path)
    assert marker.is_file(), "the attack is real"
    marker.unlink()
    with pytest.raises(ArtifactError) as refusal:
        passed(path)
    assert str(refusal.value).startswith(expected.format(path=path))
    assert not marker.exists()


@pytest.mark.parametrize("case", ATTACKS)
def test_an_attack_that_no_check_finds_comes_to_nothing(case: str, tmp_path: Path, marker: Path, unchecked: Any):
    """The process in which it runs may not write."""
    path = ATTACKS[case][0](tmp_path / "attack.pt", marker=marker)
    assert unchecked(path).startswith("RuntimeError"), "it ran, and was refused by the kernel"
    assert not marker.exists()


def test_code_that_nothing_calls_is_searched_too(tmp_path: Path, marker: Path):
    """A method of a submodule that `forward` does not reach."""
    path = attacks.build("InAnUnusedMethod", tmp_path / "attack.pt", marker)
    with pytest.raises(ArtifactError, match="holds aten::from_file"):
        passed(path)


def test_loops_branches_and_forks_that_compute_are_no_attack(tmp_path: Path, marker: Path):
    """A scripted decoder with a cache has them."""
    assert passed(attacks.build("Computes", tmp_path / "scripted.pt", marker)) == [1, 80, 3000]


def test_a_file_that_never_ends_is_ended(tmp_path: Path, marker: Path):
    """After the time that the settings allow."""
    path = attacks.build("Endless", tmp_path / "endless.pt", marker)
    with pytest.raises(BackendError, match=r"^torchscript encoder: no answer in 3 s; its process was ended$"):
        passed(path, Settings(given_limit_s=3))


def test_a_file_that_takes_all_memory_meets_the_limit(tmp_path: Path, marker: Path):
    """Whose name is said."""
    path = attacks.build("Grows", tmp_path / "grows.pt", marker)
    settings = Settings(given_limit_s=60, given_memory_gib=1)
    with pytest.raises(BackendError, match=r"can't allocate memory.*given_memory_gib under \[backends.torchscript\]$"):
        passed(path, settings)


def renamed(old: str, new: str) -> Callable[[Entries], Entries]:
    return lambda entries: [(name.replace(old, new), content) for name, content in entries]


AMBIGUOUS: dict[str, tuple[Callable[[Entries], Entries], str]] = {
    "outside its folder": (lambda entries: [*entries, ("other/code/x.py", b"")], "an entry outside its folder"),
    "upwards": (lambda entries: [*entries, (f"{entries[0][0].split('/')[0]}/../x", b"")], "an entry outside its"),
    "two cases": (lambda entries: [*entries, (entries[0][0].upper(), b"")], "two entries that torch does not tell"),
    "backslashes": (lambda entries: [*entries, (f"{entries[0][0]}\\x", b"")], "an entry with a name that readers cut"),
    "the format before 1.4": (
        lambda entries: [*entries, (f"{entries[0][0].split('/')[0]}/model.json", b"{}")], "the format of torch before",
    ),
    "another library's class": (
        lambda entries: [
            (name, c + b"# __torch__.torch.classes.dist_c10d.Store" if name.endswith(".py") else c)
            for name, c in entries
        ],
        "uses torch.classes.dist_c10d (in code/",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_an_archive_with_two_readings_is_refused(case: str, tmp_path: Path, marker: Path):
    """Whatever torch would make of it."""
    change, expected = AMBIGUOUS[case]
    path = tmp_path / "changed.pt"
    attacks.rewritten(attacks.build("Computes", tmp_path / "whole.pt", marker), path, change)
    with pytest.raises(ArtifactError) as refusal:
        passed(path)
    assert str(refusal.value).startswith(f"{path}: {expected}")


def local_name(content: bytes) -> bytes:
    """The first entry under another name in its own header."""
    return content[:30] + b"X" + content[31:]


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "before": (lambda content: b"#!/bin/sh\n" + content, "bytes before the archive"),
    "behind": (lambda content: content + b"more", "bytes behind the archive"),
    "another name in the header": (local_name, "an entry under two names or packings"),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes_around_and_in_an_archive_are_refused(case: str, tmp_path: Path, marker: Path):
    """Where another archive could lie, or another reader look."""
    change, expected = BYTES[case]
    path = attacks.build("Computes", tmp_path / "whole.pt", marker)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ArtifactError) as refusal:
        passed(path)
    assert str(refusal.value).startswith(f"{path}: {expected}")


def test_what_nobody_changed_is_read(tmp_path: Path, marker: Path):
    """Packed again by another program: the same entries, deflated or not."""
    path = tmp_path / "again.pt"
    attacks.rewritten(attacks.build("Computes", tmp_path / "whole.pt", marker), path, lambda entries: entries)
    assert passed(path) == [1, 80, 3000]
