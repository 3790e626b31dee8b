"""Explanations at the terminal: a few lines for each difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from whisper_parity.compare.finding import cut
from whisper_parity.explain.explanation import Cause, Change, Explanation, Explanations, LayerFinding, UnitError
from whisper_parity.judge import verdict
from whisper_parity.report import numbers
from whisper_parity.system import terminal

UNITS_SHOWN = 12
SPREAD = "spread over all units"
UNANSWERED = "why it diverged: no part of it and nothing outside it could be named"
WITH_FINDING = frozenset({"cache", "features", "prompt", "detokenise", "end"})
"""Parts of a program that our loop has for every other stage."""
LONGEST = 120
"""Characters of one side of a difference."""
ENDS = {"missing end": " (the text goes on)", "extra end": " (the text stops early)"}


def show(explanations: Explanations, console: Console) -> None:
    """Print the explanations of one clip and stage."""
    for line in lines(explanations):
        terminal.line(console, line, indent=13)


def lines(explanations: Explanations) -> list[str]:
    """Explanations as lines of plain text."""
    causes = [
        (index, explanation)
        for index, explanation in enumerate(explanations.found)
        if explanation.change.follows_from is None
    ]
    head = f"{explanations.clip} · {explanations.stage}: {_counted(explanations)}"
    body = [_difference(index, explanation, explanations.found) for index, explanation in causes]
    parts = [f"  part       {line.finding}" for line in explanations.parts]
    layers = [f"  layer      {line}" for finding in explanations.layers for line in _layer(finding)]
    kinds = [f"  kind       {kind.finding}" for finding in explanations.layers for kind in finding.kinds]
    label = _label(explanations)
    blamed = [line for cause in explanations.causes if cause.part for line in _blamed(cause, explanations, label)]
    findings = [f"  finding    {item.sentence}" for item in explanations.findings if item.kind != "changed words"]
    unknown = [f"  not known  {reason}" for reason in explanations.missing]
    if not explanations.answered:
        unknown.append(f"  not known  {UNANSWERED}")
    return [head, *findings, *_folded(body), *parts, *layers, *kinds, *blamed, *_reconciled(explanations), *unknown]


def _blamed(cause: Cause, explanations: Explanations, label: str) -> list[str]:
    """One thing that is wrong; of a program's own parts with what was measured, where no difference says it."""
    line = f"  {label:<10} {_cause(cause, explanations)}"
    named = {item.cross_feed.finding for item in explanations.found if item.cross_feed}
    named |= {part.finding for part in explanations.parts}
    return (
        [line, f"             {cause.finding}"] if cause.part in WITH_FINDING and cause.finding not in named else [line]
    )


def _cause(cause: Cause, explanations: Explanations) -> str:
    """One thing that is wrong: edge, part, and unit, or that none is at fault by itself."""
    layers = [*explanations.layers, *(layer for item in explanations.found for layer in item.layers)]
    spread = any(layer.spread and layer.component == cause.part for layer in layers)
    unit = cause.unit or (SPREAD if spread else "")
    return " · ".join(filter(None, (cause.edge, cause.part, unit, *(kind.kind for kind in cause.kinds[:1]))))


def _reconciled(explanations: Explanations) -> list[str]:
    """Why a cell of ties can be red, where words change."""
    ties = [item for item in explanations.found if item.weight and item.weight.kind == "tie"]
    words = [item for item in ties if item.change.edit_class not in ("punctuation", "case", "spacing", "token")]
    return [f"  read as    {verdict.TIES}"] if words and _label(explanations) == "comes from" else []


def _counted(explanations: Explanations) -> str:
    if not explanations.compared:
        return "not explained"
    if not explanations.found:
        return "no token differs"
    by_text = any(item.change.step is None and item.change.edit_class != "language" for item in explanations.found)
    return f"{len(explanations.found)} difference(s) in {'texts' if by_text else 'tokens'}"


def _folded(differences: Sequence[Sequence[str]]) -> list[str]:
    """Lines of the differences, those in the middle of a long list left out."""
    kept = numbers.folded(differences, lambda count: [f"  ... {count} more, all of them in the JSON"])
    return [line for difference in kept for line in difference]


def _label(explanations: Explanations) -> str:
    """Name no culprit for a harmless difference, nor where no token differs and the errors of all units add up."""
    kinds = {item.weight.kind for item in explanations.found if item.weight}
    adds_up = not explanations.unit and any(
        item.output_fails and item.component == explanations.part for item in explanations.layers
    )
    return "comes from" if adds_up or (kinds and kinds <= {"tie", "justified"}) else "to blame"


def _difference(index: int, explanation: Explanation, explanations: Sequence[Explanation]) -> list[str]:
    consequences = [other.change for other in explanations if other.change.follows_from == index]
    output = [f"  {index + 1}. {_what(explanation.change)}"]
    if explanation.entry:
        output.append(f"     edge     {explanation.entry.finding}")
        output += [f"     policy   {_policy(explanation)}"] if explanation.entry.policy else []
    if explanation.cross_feed:
        output.append(f"     part     {explanation.cross_feed.finding}")
    output += [f"     layer    {line}" for layer in explanation.layers for line in _layer(layer)]
    output += [f"     kind     {kind.finding}" for layer in explanation.layers for kind in layer.kinds]
    if explanation.weight:
        output.append(f"     matters  {explanation.weight.finding}")
    output += [f"     not known: {reason}" for reason in explanation.missing]
    if consequences:
        output.append(
            f"     follows  {len(consequences)} more: {'; '.join(_short(change) for change in consequences[:4])}"
        )
    return output


def _what(change: Change) -> str:
    mark = f" {change.mark!r}" if change.mark else ""
    step = "" if change.step is None else f" (step {change.step})"
    kind = f"{change.edit_class}{mark}{ENDS.get(change.edit_class, '')}"
    return f"{kind}: {change.before} [{_short(change)}] {change.after}{step}"


def _short(change: Change) -> str:
    return (
        f"{cut(change.reference_text, LONGEST) or '(nothing)'} -> {cut(change.candidate_text, LONGEST) or '(nothing)'}"
    )


def _policy(explanation: Explanation) -> str:
    assert explanation.entry is not None  # noqa: S101 - narrowed by the caller
    words = {(True, True): "makes and breaks it", (True, False): "removes it", (False, True): "is needed for it"}
    effects = [f"{part.part} {words[part.removes, part.restores]}" for part in explanation.entry.policy
             if (part.removes, part.restores) in words]  # fmt: skip
    others = [part.part for part in explanation.entry.policy if not (part.removes or part.restores)]
    return "; ".join([*effects, *([f"no effect alone: {', '.join(others)}"] if others else [])])


def _layer(finding: LayerFinding) -> list[str]:
    single = [(unit, unit.single_snr_db, unit.fails) for unit in finding.units if unit.single_snr_db is not None]
    entire = [(unit, unit.entire_snr_db, unit.entire_fails) for unit in finding.units if unit.entire_snr_db is not None]
    lists = (("single", single), ("entire", entire))
    return [
        finding.finding,
        *(
            f"{name} dB: {_listed([_unit(*figure) for figure in figures])}"
            for name, figures in lists
            if any(value != math.inf for _, value, _ in figures)  # equal everywhere says nothing
        ),
    ]


def _listed(units: Sequence[str]) -> str:
    more = f", and {len(units) - UNITS_SHOWN} more" if len(units) > UNITS_SHOWN else ""
    return ", ".join(units[:UNITS_SHOWN]) + more


def _unit(unit: UnitError, value: float, outside: bool) -> str:
    figure = "identical" if value == math.inf else numbers.snr(value)
    return f"{unit.unit.partition('.')[2]} {figure}{'!' if outside else ''}"
