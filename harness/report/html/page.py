"""The page itself: what was gathered, laid out by templates that escape everything."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_parity.compare.comparison import RISK_SIGMAS
from whisper_parity.compare.text import EDIT_CLASSES
from whisper_parity.errors import OutputError, UnavailableError, mapped
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import numbers
from whisper_parity.report.html import edges, engine, names, plots, sound, story, strip
from whisper_parity.report.html.beside import Beside, beside
from whisper_parity.report.html.recorded import Recorded, load
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Row
from whisper_parity.system.files import write_text

if TYPE_CHECKING:
    import jinja2

PACKAGE = "whisper_parity.report.html"
MAX_BYTES = 8_000_000
"""What a page of 50 clips may have: sounds are inlined as far as this allows."""
RESERVE = 700_000
"""Bytes kept for plots, tables and what an estimate may miss."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not run or could not be had."""

    what: str
    why: str


def write(run: RunFolder, out: Path | None = None, earlier: RunFolder | None = None) -> Path:
    """Write the page of a recorded run.

    Args:
        run: a run's folder.
        out: file to write; None for the run's own page.
        earlier: another run to lay beside it.

    Raises:
        RecordError: `run` or `earlier` is no run.
        OutputError: the file cannot be written.
    """
    recorded = load(run)
    path = out or run.page
    with mapped(OutputError, f"{path}: the page cannot be made"):
        text = render(recorded, beside(earlier, run) if earlier else None)
    write_text(path, text)
    return path


def render(recorded: Recorded, other: Beside | None = None) -> str:
    """The page as text."""
    drawn, undrawn = _engine(recorded)
    gathered = story.gather(recorded)
    found = [edges.edge(recorded, stage) for stage in recorded.edges]
    by_edge = {each.stage.spec: plots.of_edge(each, gathered.samples[each.stage.spec]) for each in found}
    margins = plots.of_margins(gathered.margins, found)
    if undrawn:
        by_edge, margins = {spec: [] for spec in by_edge}, None
    drawings = [*([margins] if margins else []), *(plot for each in by_edge.values() for plot in each)]
    script = _asset("page.js")
    room = MAX_BYTES - RESERVE - gathered.size - len(drawn.script)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            recorded=recorded,
            report=recorded.report,
            gate=recorded.gate,
            grid=list(_grid(recorded)),
            stories=gathered.stories,
            sounds=sound.inlined(story.worst_first(recorded), recorded.clips, gathered.audio_sha256, room),
            edges=found,
            plots=by_edge,
            margins=margins,
            beside=other,
            gaps=[*_gaps(recorded), *undrawn, *(Gap(f"trace {name}", why) for name, why in gathered.unread.items())],
            trouble=_trouble(recorded),
            outcomes=_outcomes(recorded),
            css=_asset("page.css"),
            script=script,
            engine=drawn.script if drawings else "",
            policy=_policy(script, drawn.script if drawings else ""),
            data=_data(drawn, drawings),
        )
    )


def _engine(recorded: Recorded) -> tuple[engine.Engine, list[Gap]]:
    """What draws the plots; without its packages nothing is drawn, and the page says so."""
    try:
        return engine.engine(recorded.options.cache if recorded.options else None), []
    except UnavailableError as error:
        return engine.NOTHING_DRAWN, [Gap("plots", str(error))]


@cache
def environment() -> jinja2.Environment:
    """Templates in which everything is escaped and a misspelt name is an error."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {
        "shown": shown, "db": numbers.decibels, "number": numbers.number, "size": numbers.size, "rate": numbers.rate, "css": names.css_class,
        "token": token, "clip_anchor": names.clip_anchor, "cell_anchor": names.cell_anchor,
        "edge_anchor": names.edge_anchor, "place": names.place,
    }  # fmt: skip
    found.globals |= {"height": strip.height, "edit_classes": EDIT_CLASSES, "risk_sigmas": RISK_SIGMAS}
    return found


def shown(text: str) -> str:
    """Text with what has no shape, or would move what stands beside it, written out as escapes.

    That is control characters, direction overrides and halves of surrogate pairs; the page isolates the direction of
    the rest by <bdi>.
    """
    return "".join(character if _has_shape(character) else f"\\u{ord(character):04x}" for character in text)


def token(text: str) -> str:
    """A token's text, its spaces visible: a word that begins with one is another token than the same word without."""
    return shown(text).replace(" ", "␣")


def _has_shape(character: str) -> bool:
    """Format characters stay (they join emoji, and shape Arabic), those that override direction do not."""
    overrides = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return character not in overrides and unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def _grid(recorded: Recorded) -> Iterator[tuple[str, Row | None, list[names.Cell | None]]]:
    """(clip, its one row if it could not be used at all, a cell for each stage)."""
    known = {(row.clip, row.stage): row for row in recorded.report.rows}
    for name in recorded.clip_names:
        found = [known.get((name, stage.spec)) for stage in recorded.report.stages]
        yield name, known.get((name, "")), [names.cell(row) if row else None for row in found]


def _outcomes(recorded: Recorded) -> dict[str, int]:
    rows = recorded.report.rows
    counts = {outcome.value: sum(row.verdict.outcome is outcome for row in rows) for outcome in Outcome}
    return {name: count for name, count in counts.items() if count}


def _trouble(recorded: Recorded) -> list[Row]:
    """Rows that need a look, worst first."""
    rows = [row for row in recorded.report.rows if row.verdict.outcome.exit_code]
    return sorted(rows, key=lambda row: -row.verdict.outcome.exit_code)


def _gaps(recorded: Recorded) -> Iterator[Gap]:
    """What was not run, and why."""
    for stage in recorded.report.stages:
        if not stage.available:
            yield Gap(f"stage {stage.spec}", stage.reason)
    stages = [stage.spec for stage in recorded.report.stages]
    known = {(row.clip, row.stage) for row in recorded.report.rows}
    for name in recorded.clip_names:
        absent = [spec for spec in stages if (name, spec) not in known]
        if absent and (name, "") not in known:
            yield Gap(f"{name} on {', '.join(absent)}", "nobody asked for it yet, or the run was cut off")
    for row in recorded.report.rows:
        if row.vs_parent is None and row.verdict.outcome.exit_code:
            yield Gap(f"{row.clip} on {row.stage}" if row.stage else row.clip, row.verdict.reason)
    yield from _views_without_data(recorded)


def _views_without_data(recorded: Recorded) -> Iterator[Gap]:
    if recorded.gate is None:
        yield Gap("gate", f"no gate has judged this run: `parity gate {recorded.report.run}` does")
    if not recorded.explanations:
        yield Gap("layers and causes", "no difference was explained: `parity explain CLIP` does")
    if not recorded.report.states:
        yield Gap("checks of state and order", "this run holds none")
    yield from (Gap("part of the run's folder", line) for line in recorded.missing)


def _data(drawn: engine.Engine, drawings: list[plots.Plot]) -> dict[str, Any]:
    """What the page's script reads; the template writes it by Jinja's `tojson`, which escapes it for a script tag."""
    return {
        "specifications": {kind: drawn.specifications[kind] for kind in {plot.kind for plot in drawings}},
        "plots": {
            plot.name: {"kind": plot.kind, plots.DATA: list(plot.points), plots.RULES: list(plot.rules)}
            for plot in drawings
        },
    }


def _policy(*scripts: str) -> str:
    """Only these scripts run, and nothing is loaded from anywhere."""
    allowed = " ".join(engine.source_hash(script) for script in scripts if script)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return (resources.files(PACKAGE) / "static" / name).read_text("utf-8")
