"""Explanations at the terminal: a few lines for each difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from whisper_parity.errors import printable
from whisper_parity.explain.explanation import Change, Explanation, Explanations, LayerFinding, UnitError

UNITS_SHOWN = 12
ENDS = {"missing end": " (the text goes on)", "extra end": " (the text stops early)"}


def show(found: Explanations, console: Console) -> None:
    """Print the explanations of one clip and stage."""
    for line in lines(found):
        console.print(printable(line), highlight=False, soft_wrap=True, markup=False, emoji=False)


def lines(found: Explanations) -> list[str]:
    """The same as lines of plain text."""
    causes = [(i, each) for i, each in enumerate(found.found) if each.change.follows_from is None]
    count = f"{len(found.found)} difference(s) in tokens" if found.found else "no token differs"
    head = f"{found.clip} · {found.stage}: {count if found.compared else 'not explained'}"
    body = [line for i, each in causes for line in _difference(i, each, found.found)]
    layers = [f"  layer      {line}" for each in found.layers for line in _layer(each)]
    named = " · ".join(filter(None, (found.edge, found.part, found.unit)))
    blamed = [f"  {_label(found):<10} {named}"] if found.part else []
    return [head, *body, *layers, *blamed, *(f"  not known  {each}" for each in found.missing)]


def _label(found: Explanations) -> str:
    """Nobody is to blame for what does not matter, nor where no token differs and errors of all units add up."""
    kinds = {each.weight.kind for each in found.found if each.weight}
    adds_up = not found.unit and any(each.output_fails and each.component == found.part for each in found.layers)
    return "comes from" if adds_up or (kinds and kinds <= {"tie", "justified"}) else "to blame"


def _difference(place: int, each: Explanation, found: Sequence[Explanation]) -> list[str]:
    behind = [other.change for other in found if other.change.follows_from == place]
    told = [f"  {place + 1}. {_what(each.change)}"]
    if each.entry:
        told.append(f"     edge     {each.entry.finding}")
        told += [f"     policy   {_policy(each)}"] if each.entry.policy else []
    if each.cross_feed:
        told.append(f"     part     {each.cross_feed.finding}")
    told += [f"     layer    {line}" for layer in each.layers for line in _layer(layer)]
    if each.weight:
        told.append(f"     matters  {each.weight.finding}")
    told += [f"     not known: {reason}" for reason in each.missing]
    if behind:
        told.append(f"     follows  {len(behind)} more: {'; '.join(_short(change) for change in behind[:4])}")
    return told


def _what(change: Change) -> str:
    mark = f" {change.mark!r}" if change.mark else ""
    step = "" if change.step is None else f" (step {change.step})"
    kind = f"{change.edit_class}{mark}{ENDS.get(change.edit_class, '')}"
    return f"{kind}: {change.before} [{_short(change)}] {change.after}{step}"


def _short(change: Change) -> str:
    return f"{change.reference_text or '(nothing)'} -> {change.candidate_text or '(nothing)'}"


def _policy(each: Explanation) -> str:
    assert each.entry is not None  # noqa: S101 - narrowed by the caller
    said = {(True, True): "makes and breaks it", (True, False): "removes it", (False, True): "is needed for it"}
    known = [f"{part.part} {said[part.removes, part.restores]}" for part in each.entry.policy
             if (part.removes, part.restores) in said]  # fmt: skip
    others = [part.part for part in each.entry.policy if not (part.removes or part.restores)]
    return "; ".join([*known, *([f"no effect alone: {', '.join(others)}"] if others else [])])


def _layer(found: LayerFinding) -> list[str]:
    single = [_unit(unit, unit.single_snr_db, unit.fails) for unit in found.units if unit.single_snr_db is not None]
    entire = [
        _unit(unit, unit.entire_snr_db, unit.entire_fails) for unit in found.units if unit.entire_snr_db is not None
    ]
    lists = (("single", single), ("entire", entire))
    return [found.finding, *(f"{name} dB: {_listed(units)}" for name, units in lists if units)]


def _listed(units: Sequence[str]) -> str:
    more = f", and {len(units) - UNITS_SHOWN} more" if len(units) > UNITS_SHOWN else ""
    return ", ".join(units[:UNITS_SHOWN]) + more


def _unit(unit: UnitError, value: float, outside: bool) -> str:
    shown = f"{value:.0f}" if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    return f"{unit.unit.partition('.')[2]} {shown}{'!' if outside else ''}"
