"""The page's plots as files for a slide or a paper, drawn by vl-convert without browser and network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whisper_parity.errors import BuildError, OutputError, mapped
from whisper_parity.report.html import edges, engine, plots, story
from whisper_parity.report.html.plots import Plot
from whisper_parity.report.html.recorded import load
from whisper_parity.run.folder import RunFolder

FORMATS = ("svg", "png")
WIDTH = 560
PIXELS_PER_POINT = 2.0


def export(run: RunFolder, out: Path, form: str) -> list[Path]:
    """Write each plot of a recorded run to a file.

    Args:
        run: its folder.
        out: folder for the files: snr-STAGE.svg, scatter-STAGE.svg, layers-STAGE.svg, margins.svg.
        form: one of FORMATS.

    Raises:
        UnavailableError: the packages that draw are not installed.
        RecordError: `run` is no run.
        OutputError: `out` cannot be written.
    """
    engine.require()
    specifications = plots.specifications()
    written = []
    for plot in drawings(run):
        path = out / f"{plot.name}.{form}"
        with mapped(BuildError, f"{plot.name} cannot be drawn"):
            content = _drawn(specifications[plot.kind], plot, form)
        try:
            out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})", hint="Choose another folder") from error
        written.append(path)
    return written


def drawings(run: RunFolder) -> Iterator[Plot]:
    """Every plot of a run that has something to draw."""
    recorded = load(run)
    gathered = story.gather(recorded)
    run_edges = [edges.edge(recorded, stage) for stage in recorded.edges]
    for run_edge in run_edges:
        yield from plots.of_edge(run_edge, gathered.samples[run_edge.stage.spec])
    if margins := plots.of_margins(gathered.margins, run_edges):
        yield margins


def _drawn(specification: dict[str, Any], plot: Plot, form: str) -> bytes:
    import vl_convert

    spec = json.dumps(
        {**plots.filled(specification, plot), "width": WIDTH, "title": plot.title, "background": "white", "padding": 12}
    )
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=PIXELS_PER_POINT, allowed_base_urls=[]))
