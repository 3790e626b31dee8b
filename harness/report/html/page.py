"""The page itself: the gathered data, laid out by templates that escape everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisper_parity.compare.finding import KINDS, Finding
from whisper_parity.compare.text import EDIT_CLASSES
from whisper_parity.errors import OutputError, ParityError, UnavailableError, mapped
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import numbers, opening
from whisper_parity.report.html import before, edges, engine, later, names, plots, sound, story, strip
from whisper_parity.report.html.before import Approval
from whisper_parity.report.html.beside import Beside, beside
from whisper_parity.report.html.recorded import Recorded, load
from whisper_parity.report.html.story import Story
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Row
from whisper_parity.system.files import write_text

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

PACKAGE = "whisper_parity.report.html"
MAX_BYTES = 10_000_000
"""Budget of a page: sounds are inlined as far as it allows."""
RESERVE = 200_000
"""Bytes kept for the notes on sounds."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not run or is not available."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A run against an earlier result."""

    beside: Beside | None
    approval: Approval | None
    gaps: tuple[Gap, ...]


def write(run: RunFolder, out: Path | None = None, earlier: RunFolder | None = None) -> Path:
    """Write the page of a recorded run.

    Args:
        run: a run's folder.
        out: file to write; None for the run's own page.
        earlier: another run to show beside it; None for the approved result, or the last run of its kind.

    Raises:
        RecordError: `run` or `earlier` is no run.
        OutputError: the file cannot be written.
    """
    recorded = load(run)
    path = out or run.page
    with mapped(OutputError, f"{path}: the page cannot be rendered"):
        text = render(recorded, _compared(recorded, earlier))
    write_text(path, text)
    return path


def _compared(recorded: Recorded, earlier: RunFolder | None) -> Compared:
    """What the run is held against: what was asked for, else the approved result, else the last run of its kind."""
    run, report = recorded.folder, recorded.report
    if earlier is not None:
        return Compared(beside(earlier, run), None, ())
    try:
        approval = before.approval(run, report)
        last = None if approval else before.last(run, report)
        return Compared(beside(last, run, with_traces=False) if last else None, approval, ())
    except ParityError as error:  # nobody asked for it: the page is written without
        return Compared(None, None, (Gap("comparison with an earlier result", str(error)),))


def render(recorded: Recorded, compared: Compared) -> str:
    """The page as text."""
    drawn, undrawn = _engine(recorded)
    gathered = story.gather(recorded)
    run_edges = sorted((edges.edge(recorded, stage) for stage in recorded.edges), key=lambda edge: not edge.fails)
    by_edge = {edge.stage.spec: plots.of_edge(edge, gathered.samples[edge.stage.spec]) for edge in run_edges}
    margins = plots.of_margins(gathered.margins, run_edges)
    if undrawn:
        by_edge, margins = {spec: [] for spec in by_edge}, None
    drawings = [*([margins] if margins else []), *(plot for of_edge in by_edge.values() for plot in of_edge)]
    script = _asset("page.js")
    template = environment().get_template("page.html.j2")
    bodies = _bodies(gathered.stories)
    context: dict[str, Any] = {
        "recorded": recorded,
        "report": recorded.report,
        "gate": recorded.gate,
        "opening": opening.opening(recorded.whole, recorded.explanations, recorded.gate),
        "unusable": [row for row in recorded.report.rows if not row.stage],
        "grid": list(_grid(recorded, gathered.stories)),
        "stories": gathered.stories,
        "bodies": {item.anchor: bodies[item.anchor] for item in gathered.stories if item.needs_a_look},
        "edges": run_edges,
        "plots": by_edge,
        "margins": margins,
        "beside": compared.beside,
        "approval": compared.approval,
        "gaps": [
            *_gaps(recorded),
            *compared.gaps,
            *undrawn,
            *(Gap(f"trace {name}", why) for name, why in gathered.unread.items()),
        ],
        "findings": _findings(recorded),
        "outcomes": _outcomes(recorded),
        "css": _asset("page.css"),
        "script": script,
        "engine": drawn.script if drawings else "",
        "policy": _policy(script, drawn.script if drawings else ""),
        "data": _data(drawn, drawings),
    }
    chunks = later.packed({item.anchor: _later(item, bodies) for item in gathered.stories if not item.needs_a_look})
    silent = template.render(context, sounds={}, later=chunks)
    room = MAX_BYTES - RESERVE - len(silent.encode())
    wanted = {item.name: item.seconds for item in gathered.stories}
    sounds = sound.inlined(wanted, recorded.clips, gathered.audio_sha256, room)
    chunks["sounds"] = {
        item.anchor: [sounds[item.name].uri, names.shown(sounds[item.name].note)]
        for item in gathered.stories
        if not item.needs_a_look
    }
    return template.render(context, sounds=sounds, later=chunks)


def _bodies(stories: Sequence[Story]) -> dict[str, Markup]:
    """What stands below each clip's player, by its anchor."""
    from markupsafe import Markup

    template = environment().get_template("body.html.j2")
    return {item.anchor: Markup(template.render(story=item)) for item in stories}  # noqa: S704 - it escaped everything


def _later(item: Story, bodies: Mapping[str, Markup]) -> str:
    """All that a clip shows when it is opened, its sound aside."""
    player = environment().get_template("player.html.j2").render(story=item, sounds={})
    return player + str(bodies[item.anchor])


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
        "shown": names.shown, "db": numbers.decibels, "number": numbers.number, "size": numbers.size,
        "rate": numbers.rate, "css": names.css_class, "token": token, "clip_anchor": names.clip_anchor,
        "cell_anchor": names.cell_anchor, "edge_anchor": names.edge_anchor, "place": names.place,
    }  # fmt: skip
    templates.globals |= {"height": strip.height, "edit_classes": EDIT_CLASSES}
    return templates


def token(text: str) -> str:
    """A token's text with visible spaces: a word with a leading space is another token than the word without."""
    return names.shown(text).replace(" ", "␣")


def _grid(recorded: Recorded, stories: Sequence[Story]) -> Iterator[tuple[Story, Row | None, list[names.Cell | None]]]:
    """(clip, its only row if the clip is unusable, a cell for each stage), worst clip first."""
    cells = {(cell.clip, cell.stage): cell for cell in recorded.report.rows}
    for item in stories:
        stage_cells = [cells.get((item.name, stage.spec)) for stage in recorded.report.stages]
        yield item, cells.get((item.name, "")), [names.cell(cell) if cell else None for cell in stage_cells]


def _outcomes(recorded: Recorded) -> dict[str, int]:
    cells = recorded.report.rows
    counts = {outcome.value: sum(cell.verdict.outcome is outcome for cell in cells) for outcome in Outcome}
    return {name: count for name, count in counts.items() if count}


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
    if recorded.report.traces != "all":
        how = "`parity explain CLIP` records a clip again, and the next page draws it"
        yield Gap(
            "steps and plots of some clips",
            f"this run keeps no trace of them (--traces {recorded.report.traces}): {how}",
        )
    if left := recorded.whole.left_out:
        where = f"`parity report {recorded.report.run} -v` and {recorded.whole.pages[0].file} and on have them"
        yield Gap(f"{left} more clips", f"a page holds the {recorded.whole.clips - left} worst; {where}")


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
