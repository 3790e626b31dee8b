"""The plots: Vega-Lite by Altair, without data, so that one specification serves every edge and can be cached.

They are drawn by script in the browser because each dot links to its clip and shows its figures in a tooltip, and the
run need not wait for an SVG renderer. The strips of decoder steps, hundreds of them, are the page's own static SVG (see
docs/adr/0012-one-page-drawn-by-vega.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.report.html.edges import Edge, Point, layer_points
from whisper_parity.system.files import safe_name

DATA, RULES = "points", "rules"
"""Names of the two tables that every plot reads."""

BLUE, ORANGE, GREY, RED, AMBER = "#3f7fd0", "#d9772b", "#8a8f98", "#d1443c", "#c9930a"
"""Visible on white and near black, and distinguishable under red-green colour blindness."""

BAND = 0.12
"""Distance of what has no figure from the figures, as a share of their range."""

KINDS = ("snr", "scatter", "layers", "margins")


@dataclass(frozen=True)
class Plot:
    """A plot of the page: its kind, its data, and its title for screen readers."""

    name: str
    """File name of its export, and part of its id."""
    kind: str
    title: str
    points: Sequence[Point]
    rules: Sequence[Point] = field(default_factory=list)


def specifications() -> dict[str, dict[str, Any]]:
    """Every kind of plot as Vega-Lite, without data."""
    return {"snr": _snr(), "scatter": _scatter(), "layers": _layers(), "margins": _margins()}


def of_edge(edge: Edge, samples: Sequence[Point]) -> list[Plot]:
    """The plots of an edge that have something to draw."""
    name = safe_name(edge.stage.spec.replace(":", "-"))  # it becomes a file's name
    arrow = f"{edge.stage.parent} → {edge.stage.spec}"
    plots = [
        Plot(f"snr-{name}", "snr", f"SNR over clips, {arrow}, worst first", *_banded(edge.snr, _limits(edge))),
        Plot(
            f"layers-{name}",
            "layers",
            f"Error by layer, entire: from the start; single: alone, {arrow}",
            *_banded(layer_points(edge), _layer_limits(edge)),
        ),
        Plot(f"scatter-{name}", "scatter", f"Error against magnitude, {arrow}", samples),
    ]
    return [plot for plot in plots if plot.points]


def of_margins(margins: NDArray[np.float64], edges: Sequence[Edge]) -> Plot | None:
    """The distribution of the reference's margins, with each edge's widest tie; None without margins.

    Args:
        margins: of all steps of the root, float64 [n_steps].
        edges: drawn as lines at their widest tie.
    """
    decades = np.log10(np.maximum(margins, 1e-6))
    counts, bounds = np.histogram(decades, bins=np.arange(-6, 2.01, 0.25))
    points: list[Point] = [
        {"from": float(10**low), "to": float(10**high), "steps": int(count)}
        for low, high, count in zip(bounds, bounds[1:], counts)
        if count
    ]
    rules: list[Point] = [
        {"edge": f"{edge.stage.parent} → {edge.stage.spec}", "at": max(edge.risk.tie_margin, 1e-6)}
        for edge in edges
        if edge.risk.movement is not None
    ]
    title = "Margins of the root's steps; lines: the widest tie of each edge"
    return Plot("margins", "margins", title, points, rules) if points else None


def _banded(points: Sequence[Point], rules: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Points and rules with places for what has no figure: identical above all figures, not finite below them.

    So the scale is that of the figures, and a tensor without any error is drawn as one. "line" is the figure alone.
    """
    finite = [float(point["db"]) for point in [*points, *rules] if math.isfinite(point["db"])]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    pad = max(3.0, BAND * (high - low))
    bands = {"identical": high + pad, "not finite": low - pad}
    places = [_band(point["db"]) for point in points]
    drawn = [
        {**point, "db": bands.get(band, point["db"]), "line": None if band else point["db"]}
        for point, band in zip(points, places)
    ]
    marked = [{"tensor": "", "db": at, "limit": name, "short": name} for name, at in bands.items() if name in places]
    return drawn, [*rules, *marked]


def _band(db: float) -> str:
    """Of an SNR without a figure, which band it is drawn in: "identical" or "not finite"; "" for one with."""
    return "" if math.isfinite(db) else "identical" if db == math.inf else "not finite"


def _limits(edge: Edge) -> list[Point]:
    pairs = (("encoder_output", edge.limits.encoder_output_snr_db), ("logits", edge.limits.logits_snr_db))
    return [
        {"tensor": name, "db": value, "limit": f"{name}: {word} from {value:g} dB", "short": f"{word} {value:g} dB"}
        for name, limit in pairs
        for word, value in (("pass", limit.passes), ("drift", limit.drifts))
        if math.isfinite(value)
    ]


def _layer_limits(edge: Edge) -> list[Point]:
    parts = {"encoder_output": "encoder", "logits": "decoder"}
    return [
        {**rule, "short": f"{parts[rule['tensor']]} {rule['short']}"}
        for rule in _limits(edge)
        if "pass" in rule["limit"]
    ]


def _decibels() -> Any:
    import altair as alt

    return alt.Y("db:Q", title="SNR [dB]", scale=alt.Scale(zero=False, nice=False, padding=8))


def _ruled() -> tuple[Any, Any]:
    """Limits and bands as lines, and their names at the right end."""
    import altair as alt

    scale = alt.Scale(domain=["encoder_output", "logits", ""], range=[BLUE, ORANGE, GREY])
    base = _chart(RULES).encode(
        y="db:Q", color=alt.Color("tensor:N", legend=None, scale=scale), detail="limit:N", tooltip=["limit:N"]
    )
    lines = base.mark_rule(strokeDash=[4, 3], opacity=0.75)
    names = base.mark_text(align="right", dy=-5, fontSize=10).encode(x=alt.value("width"), text="short:N")
    return lines, names


def _snr() -> dict[str, Any]:
    import altair as alt

    names = alt.Axis(labelAngle=-35, labelLimit=110, labelOverlap="greedy", ticks=False)
    dots = (
        _chart(DATA)
        .mark_point(filled=True, size=46, opacity=0.9)
        .encode(
            x=alt.X("clip:N", sort=None, title=None, axis=names),
            y=_decibels(),
            color=_tensors(),
            shape=alt.Shape("tensor:N", legend=None),
            tooltip=["clip:N", "tensor:N", "SNR:N"],
        )
    )
    lines, limits = _ruled()
    return _finished(alt.layer(lines, dots, limits).resolve_scale(color="independent"), 200)


def _tensors() -> Any:
    import altair as alt

    return alt.Color("tensor:N", title=None, scale=alt.Scale(domain=["encoder_output", "logits"], range=[BLUE, ORANGE]))


def _scatter() -> dict[str, Any]:
    import altair as alt

    decade = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
    plain = alt.Axis(labelExpr=f"{decade} ? format(datum.value, '~e') : ''", grid=False, domain=True)
    chart = (
        _chart(DATA)
        .mark_point(filled=True, size=16, opacity=0.45)
        .encode(
            x=alt.X("magnitude:Q", scale=alt.Scale(type="log"), title="|reference|", axis=plain),
            y=alt.Y("error:Q", scale=alt.Scale(type="log"), title="|error|", axis=plain),
            color=_tensors(),
            tooltip=["tensor:N", "magnitude:Q", "error:Q"],
        )
    )
    return _finished(chart, 190)


def _layers() -> dict[str, Any]:
    import altair as alt

    colour = alt.Color("error:N", title=None, scale=alt.Scale(domain=["entire", "single"], range=[BLUE, ORANGE]))
    names = alt.X("unit:N", sort=None, title=None, axis=alt.Axis(labelAngle=-40, labelLimit=120))
    base = _chart(DATA).encode(x=names, color=colour, tooltip=["unit:N", "error:N", "SNR:N", "clip:N"])
    lines = base.mark_line(strokeWidth=1.5).encode(
        y=alt.Y("line:Q", title="SNR [dB]"), strokeDash=alt.StrokeDash("clip:N", sort=None, legend=None)
    )
    key = alt.Legend(orient="bottom", columns=2, labelLimit=150, symbolFillColor=GREY, symbolStrokeColor=GREY)
    dots = base.mark_point(filled=True, size=40, opacity=0.9).encode(
        y=_decibels(), shape=alt.Shape("clip:N", title=None, sort=None, legend=key)
    )
    rules, limits = _ruled()
    return _finished(alt.layer(rules, alt.layer(lines, dots), limits).resolve_scale(color="independent"), 240)


def _margins() -> dict[str, Any]:
    import altair as alt

    scale = alt.Scale(type="log", domain=[1e-6, 100])
    axis = alt.Axis(format="~e", values=[1e-6, 1e-4, 1e-2, 1, 100])
    bars = (
        _chart(DATA)
        .mark_bar(color=GREY, opacity=0.55)
        .encode(
            x=alt.X("from:Q", bin="binned", scale=scale, title="margin [logit]", axis=axis),
            x2="to:Q",
            y=alt.Y("steps:Q", title="steps"),
            tooltip=["from:Q", "to:Q", "steps:Q"],
        )
    )
    colour = alt.Color("edge:N", sort=None, title=None, scale=alt.Scale(range=[BLUE, "#5b9c6a", ORANGE, RED, AMBER]))
    rules = (
        _chart(RULES)
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("at:Q", scale=scale), color=colour, tooltip=["edge:N", "at:Q"])
    )
    return _finished(bars + rules, 200)


def _chart(data: str) -> Any:
    import altair as alt

    return alt.Chart(alt.NamedData(data))


def _finished(chart: Any, height: int) -> dict[str, Any]:
    """A specification of container width; the style sheet colours text and lines, so that themes need no redrawing."""
    look = (
        chart.properties(width="container", height=height)
        .configure(background="transparent", font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(domain=False, tickSize=4, labelFontSize=11, titleFontSize=11, titleFontWeight="normal")
        .configure_legend(orient="top", labelFontSize=11, symbolSize=60)
    )
    specification: dict[str, Any] = look.to_dict()
    return specification


def filled(spec: Mapping[str, Any], plot: Plot) -> dict[str, Any]:
    """A specification with a plot's data."""
    return {**spec, "datasets": {DATA: list(plot.points), RULES: list(plot.rules)}}
