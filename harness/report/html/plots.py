"""The plots: Vega-Lite by Altair, without data, so that one specification serves every edge and can be cached.

They are drawn by script in the browser because each dot links to its clip and shows its figures in a tooltip, and the
run need not wait for an SVG renderer. The strips of decoder steps, hundreds of them, are the page's own static SVG (see
docs/adr/0012-one-page-drawn-by-vega.md).
"""

from __future__ import annotations

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
    layers = layer_points(edge)
    plots = [
        Plot(f"snr-{name}", "snr", f"SNR over clips, {arrow}, worst first", edge.snr, _limits(edge)),
        Plot(f"scatter-{name}", "scatter", f"Error against magnitude, {arrow}", samples),
        Plot(f"layers-{name}", "layers", f"Error by layer, {arrow}", layers, _layer_limits(edge)),
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


def _limits(edge: Edge) -> list[Point]:
    pairs = (("encoder_output", edge.limits.encoder_output_snr_db), ("logits", edge.limits.logits_snr_db))
    return [
        {"tensor": name, "db": value, "limit": f"{name}: {word} from {value:g} dB"}
        for name, limit in pairs
        for word, value in (("pass", limit.passes), ("drift", limit.drifts))
    ]


def _layer_limits(edge: Edge) -> list[Point]:
    return [rule for rule in _limits(edge) if "pass" in str(rule["limit"])]


def _snr() -> dict[str, Any]:
    import altair as alt

    colour = alt.Color(
        "tensor:N", title=None, scale=alt.Scale(domain=["encoder_output", "logits"], range=[BLUE, ORANGE])
    )
    dots = (
        _chart(DATA)
        .mark_point(filled=True, size=46, opacity=0.9)
        .encode(
            x=alt.X("clip:N", sort=None, title=None, axis=alt.Axis(labels=False, ticks=False)),
            y=alt.Y("db:Q", title="SNR [dB]", scale=alt.Scale(zero=False, nice=True)),
            color=colour,
            shape=alt.Shape("tensor:N", legend=None),
            tooltip=["clip:N", "tensor:N", "SNR:N"],
        )
    )
    rules = (
        _chart(RULES)
        .mark_rule(strokeDash=[4, 3], opacity=0.75)
        .encode(y="db:Q", color=colour, tooltip=["limit:N"], detail="limit:N")
    )
    return _finished(rules + dots, 190)


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
            color=alt.Color(
                "tensor:N", title=None, scale=alt.Scale(domain=["encoder_output", "logits"], range=[BLUE, ORANGE])
            ),
            tooltip=["tensor:N", "magnitude:Q", "error:Q"],
        )
    )
    return _finished(chart, 190)


def _layers() -> dict[str, Any]:
    import altair as alt

    colour = alt.Color("error:N", title=None, scale=alt.Scale(domain=["entire", "single"], range=[BLUE, ORANGE]))
    lines = (
        _chart(DATA)
        .mark_line(point=alt.OverlayMarkDef(filled=True, size=44), strokeWidth=1.5)
        .encode(
            x=alt.X("unit:N", sort=None, title=None, axis=alt.Axis(labelAngle=-35)),
            y=alt.Y("db:Q", title="SNR [dB]", scale=alt.Scale(zero=False, nice=True)),
            color=colour,
            detail="clip:N",
            tooltip=["unit:N", "error:N", "SNR:N", "clip:N"],
        )
    )
    rules = _chart(RULES).mark_rule(strokeDash=[4, 3], color=GREY).encode(y="db:Q", tooltip=["limit:N"])
    return _finished(rules + lines, 210)


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
