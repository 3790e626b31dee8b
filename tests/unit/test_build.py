"""Backends get ready to build probes, beside what comes before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from whisper_parity.backend import build
from whisper_parity.backend.build import Workshop
from whisper_parity.explain.bench import expecting_probes
from whisper_parity.run.folder import RunFolder


class Slow:
    """A backend whose converter starts slowly."""

    def __init__(self, parent: str | None, told: list[str]) -> None:
        self.parent, self.told = parent, told

    def source(self, variant: str) -> str | None:
        return None if self.parent is None else (self.parent if not variant else "slow")

    @contextmanager
    def prepared(self) -> Iterator[None]:
        self.told.append("begun")
        yield
        self.told.append("left")


class Plain:
    """One that has nothing to prepare."""

    def source(self, variant: str) -> str | None:
        return "slow" + (f":{variant}" if variant else "")


class Site:
    """What is installed: three backends by name."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.known = {"slow": Slow("first", self.told), "first": Slow(None, []), "plain": Plain()}

    def get(self, name: str) -> object:
        return self.known[name]


@pytest.mark.parametrize(
    ("there", "stage", "times"),
    [
        ((), "slow", 1),
        ((), "slow:int8", 2),
        ((), "plain", 1),
        (("micro-slow-probe-0123",), "slow", 0),
        (("micro-slow-int8-probe-0123",), "slow:int8", 1),
        (("micro-slow-probe-0123", "micro-slow-int8-probe-0123"), "plain:int8", 0),
        (("micro-slow-0123",), "slow", 1),
    ],
)
def test_a_chain_gets_ready_where_no_probe_is_there(tmp_path, there, stage, times):
    """Each stage of it that has none in the cache, until the end."""
    for name in there:
        (tmp_path / name).mkdir()
    site = Site()
    with ExitStack() as stack:
        build.prepare_probes(Workshop(site, None, tmp_path), stage, stack)
        assert site.told == ["begun"] * times
    assert site.told == ["begun"] * times + ["left"] * times


@pytest.mark.parametrize("options", ["", "{}"])
def test_what_cannot_get_ready_is_left_to_who_builds(tmp_path, options):
    """No run there, or a backend that is not."""
    if options:
        RunFolder(tmp_path).options.write_text(options)
    with expecting_probes(RunFolder(tmp_path), ["nobody"]):
        entered = True
    assert entered
