"""Decoders with a KV cache in all layouts, broken in their graph: caught, and the cause is named where there is one."""

from __future__ import annotations

import pytest

from tests.meta.test_cache_faults import reference, remembering
from tests.meta.test_cache_files import features
from tests.support import brokencaches, cachedports
from tests.support.brokencaches import BrokenFile, Fault
from whisper_parity.run import cache_checks

CASES = [(layout, name) for name, fault in brokencaches.FAULTS.items() for layout in fault.only]


@pytest.fixture(autouse=True)
def fewer_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layout has fewer slots than the checkpoint has positions: here than 64."""
    monkeypatch.setattr(cachedports, "SLOTS", 40)


def found(layout: str, fault: Fault) -> list[tuple[str, bool]]:
    faults = cache_checks.faults(BrokenFile(layout, reference(), fault), remembering(), features(), is_whole=False)
    return [(fault.kind, fault.fails) for fault in faults]


@pytest.mark.parametrize("layout", cachedports.LAYOUTS)
def test_a_sound_file_raises_no_alarm(layout: str):
    """Dead inputs of one layout are said."""
    assert found(layout, Fault("")) == [("dead input", False)] * (2 if layout == "stacked" else 0)


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_a_fault_is_caught_in_every_layout(layout: str, name: str):
    """One that is among the slips of the reference by its cause, each other one by what it does to rows."""
    fault = brokencaches.FAULTS[name]
    assert found(layout, fault)[0] == (fault.cause, True)
