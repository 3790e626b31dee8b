"""The page itself: the gathered data, laid out by templates that escape everything."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_parity.compare.finding import KINDS, Finding
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
"""Budget for a page of 50 clips: sounds are inlined as far as it allows."""
RESERVE = 700_000
"""Bytes kept for plots, tables and estimation error."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not run or is not available."""

    what: str
    why: str


def write(run: RunFolder, out: Path | None = None, earlier: RunFolder | None = None) -> Path:
    """Write the page of a recorded run.

    Args:
        run: a run's folder.
        out: file to write; None for the run's own page.
        earlier: another run to show beside it.

    Raises:
        RecordError: `run` or `earlier` is no run.
        OutputError: the file cannot be written.
    """
    recorded = load(run)
    path = out or run.page
    with mapped(OutputError, f"{path}: the page cannot be rendered"):
        text = render(recorded, beside(earlier, run) if earlier else None)
    write_text(path, text)
    return path


def render(recorded: Recorded, other: Beside | None = None) -> str:
    """The page as text."""
    drawn, undrawn = _engine(recorded)
    gathered = story.gather(recorded)
    run_edges = [edges.edge(recorded, stage) for stage in recorded.edges]
    by_edge = {edge.stage.spec: plots.of_edge(edge, gathered.samples[edge.stage.spec]) for edge in run_edges}
    margins = plots.of_margins(gathered.margins, run_edges)
    if undrawn:
        by_edge, margins = {spec: [] for spec in by_edge}, None
    drawings = [*([margins] if margins else []), *(plot for of_edge in by_edge.values() for plot in of_edge)]
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
            edges=run_edges,
            plots=by_edge,
            margins=margins,
            beside=other,
            gaps=[*_gaps(recorded), *undrawn, *(Gap(f"trace {name}", why) for name, why in gathered.unread.items())],
            findings=_findings(recorded),
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

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {
        "shown": shown, "db": numbers.decibels, "number": numbers.number, "size": numbers.size, "rate": numbers.rate,
        "css": names.css_class, "token": token, "clip_anchor": names.clip_anchor, "cell_anchor": names.cell_anchor,
        "edge_anchor": names.edge_anchor, "place": names.place,
    }  # fmt: skip
    templates.globals |= {"height": strip.height, "edit_classes": EDIT_CLASSES}
    return templates


def shown(text: str) -> str:
    """Text with invisible and direction-changing characters written as escapes.

    These are control characters, direction overrides and halves of surrogate pairs; the page isolates the direction of
    the rest by <bdi>.
    """
    return "".join(character if _is_printable(character) else f"\\u{ord(character):04x}" for character in text)


def token(text: str) -> str:
    """A token's text with visible spaces: a word with a leading space is another token than the word without."""
    return shown(text).replace(" ", "␣")


def _is_printable(character: str) -> bool:
    """Accept format characters (they join emoji and shape Arabic) except those that override direction."""
    overrides = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return character not in overrides and unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def _grid(recorded: Recorded) -> Iterator[tuple[str, Row | None, list[names.Cell | None]]]:
    """(clip, its only row if the clip is unusable, a cell for each stage)."""
    cells = {(cell.clip, cell.stage): cell for cell in recorded.report.rows}
    for name in recorded.clip_names:
        stage_cells = [cells.get((name, stage.spec)) for stage in recorded.report.stages]
        yield name, cells.get((name, "")), [names.cell(cell) if cell else None for cell in stage_cells]


def _outcomes(recorded: Recorded) -> dict[str, int]:
    cells = recorded.report.rows
    counts = {outcome.value: sum(cell.verdict.outcome is outcome for cell in cells) for outcome in Outcome}
    return {name: count for name, count in counts.items() if count}


def _trouble(recorded: Recorded) -> list[Row]:
    """Failed cells, worst first."""
    cells = [cell for cell in recorded.report.rows if cell.verdict.outcome.exit_code]
    return sorted(cells, key=lambda cell: -cell.verdict.outcome.exit_code)


def _findings(recorded: Recorded) -> list[tuple[Row, Finding]]:
    """Named findings of all cells, the worst kind first."""
    found = [(cell, item) for cell in recorded.report.rows for item in cell.findings]
    return sorted(found, key=lambda pair: (not pair[1].is_fault, KINDS.index(pair[1].kind), -pair[1].count))


def _gaps(recorded: Recorded) -> Iterator[Gap]:
    """Everything that was not run, with the reason."""
    for stage in recorded.report.stages:
        if not stage.available:
            yield Gap(f"stage {stage.spec}", stage.reason)
    stages = [stage.spec for stage in recorded.report.stages]
    present = {(cell.clip, cell.stage) for cell in recorded.report.rows}
    for name in recorded.clip_names:
        absent = [spec for spec in stages if (name, spec) not in present]
        if absent and (name, "") not in present:
            yield Gap(f"{name} on {', '.join(absent)}", "not selected yet, or the run was cut off")
    for cell in recorded.report.rows:
        if cell.vs_parent is None and cell.verdict.outcome.exit_code:
            yield Gap(f"{cell.clip} on {cell.stage}" if cell.stage else cell.clip, cell.verdict.reason)
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
    """Input of the page's script; the template writes it by Jinja's `tojson`, which escapes it for a script tag."""
    return {
        "specifications": {kind: drawn.specifications[kind] for kind in {plot.kind for plot in drawings}},
        "plots": {
            plot.name: {"kind": plot.kind, plots.DATA: list(plot.points), plots.RULES: list(plot.rules)}
            for plot in drawings
        },
    }


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy that runs only these scripts and loads nothing."""
    allowed = " ".join(engine.source_hash(script) for script in scripts if script)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return (resources.files(PACKAGE) / "static" / name).read_text("utf-8")
