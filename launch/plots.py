"""How a report looks: its style sheet and its figures, as SVG that follows the page's colours.

Every figure is one small panel, so that a page lays them side by side on a desk and one below the other on a phone.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#010203"  # drawn in this colour, it becomes the page's own text colour
COLOURS = {"offline": "#8577c4", "wsrl": "#158a9c", "rlpd": "#dd7a26"}  # told apart in print and by the colour-blind
LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "segue",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.13,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK
    ),
    "grid.color": INK,
}
POINTS = 300  # of a curve; more would not be seen on a page this wide

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#dde2e8;--page:#f5f6f8;--card:#fff;
 --offline:#6f60b5;--wsrl:#0f7b8c;--rlpd:#c4640f;--warn:#fdf1dc;--warnline:#d99a2b}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9da8b6;--line:#313944;--page:#14181e;--card:#1b2129;
 --offline:#a599e0;--wsrl:#3fb6c8;--rlpd:#f0954a;--warn:#352a14;--warnline:#b98327}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
 "Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:2rem;line-height:1.2;margin:.1em 0 .5em;letter-spacing:-.015em}
h2{font-size:1.3rem;margin:0 0 .4em;letter-spacing:-.01em}
h3{font-size:1rem;margin:1.4em 0 .4em}
p{max-width:76ch;margin:.5em 0 .9em} .kicker,.note,figcaption,.small{color:var(--soft);font-size:.875rem}
.kicker{text-transform:uppercase;letter-spacing:.07em;margin:0} .lead{font-size:1.14rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:24px 26px;margin:20px 0}
section>:last-child{margin-bottom:0}
nav{margin:22px 0 0;font-size:.9rem;display:flex;flex-wrap:wrap;gap:6px 18px} a{color:var(--wsrl)}
.cards{display:grid;grid-template-columns:repeat(3,1fr);gap:14px;margin:22px 0}
.card{background:var(--card);border:1px solid var(--line);border-top:4px solid var(--c);border-radius:12px;padding:14px 18px}
.card b{display:block;font-size:2.3rem;line-height:1.25;color:var(--c);font-variant-numeric:tabular-nums}
.bar{position:relative;height:8px;border-radius:4px;background:var(--line);margin:6px 0 8px}
.bar i{position:absolute;top:0;bottom:0;border-radius:4px;background:var(--c);opacity:.4}
.bar u{position:absolute;top:-3px;width:4px;height:14px;margin-left:-2px;border-radius:2px;background:var(--c)}
.offline{--c:var(--offline)} .wsrl{--c:var(--wsrl)} .rlpd{--c:var(--rlpd)}
.warn{background:var(--warn);border-color:var(--warnline)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:18px 26px}
.three{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,290px),1fr));gap:18px 22px}
figure{margin:0} svg{display:block;width:100%;height:auto} svg text{font-family:inherit!important}
video{width:100%;border-radius:8px;background:#000;display:block;margin-bottom:6px}
.scroll{overflow-x:auto} table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.94rem}
th,td{text-align:left;padding:8px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;font-size:.84rem;color:var(--soft)} td b{font-size:1.06rem} td .small{display:block}
td:first-child{min-width:7.5em}
tr.paper td{background:color-mix(in srgb,var(--line) 40%,transparent)}
tr:not(.total)+tr.total td{border-top:2px solid var(--soft)}
.key{display:inline-flex;vertical-align:middle;
 align-items:center;gap:7px;margin:0 18px 6px 0;font-size:.875rem;color:var(--soft)}
.key:before{content:"";width:20px;height:4px;border-radius:2px;background:var(--c)}
.key.box:before{width:13px;height:13px;border-radius:3px}
.key.hollow:before{background:none;border:1.5px solid var(--soft)}
.key.shade:before{height:13px;background:var(--soft);opacity:.25}
.grid text{font-size:10px;fill:var(--soft)} .grid .sum{font-weight:600;fill:var(--ink)}
.grid .no{fill:none;stroke:var(--soft);stroke-opacity:.55} .grid .yes{fill:var(--c);stroke:var(--c)}
.grid .fault{fill:none;stroke:var(--warnline);stroke-width:2}
details{margin:.6em 0} details summary{cursor:pointer;font-weight:600} pre{overflow-x:auto;font-size:.8rem;line-height:1.45}
code{font-size:.92em;white-space:nowrap} td.text{max-width:46ch;overflow-wrap:anywhere}
@media (max-width:640px){main{padding:22px 12px 40px} section{padding:18px 14px} h1{font-size:1.55rem}
 .cards{grid-template-columns:1fr;gap:10px} .card b{font-size:1.9rem}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--line:#ccc;--page:#fff;--card:#fff;--warn:#fff;
 --offline:#6f60b5;--wsrl:#0f7b8c;--rlpd:#c4640f} body{font-size:10.5pt} main{max-width:none;padding:0} nav{display:none}
 section{border:0;border-top:1px solid var(--line);border-radius:0;padding:12px 0;margin:8px 0}
 h2,h3{break-after:avoid} figure,.card,tr{break-inside:avoid} *{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


@dataclass(frozen=True)
class Curve:
    """One seed's line: `x (n,)`, `y (n,)`, and a band `low, high (n,)` where it has one."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def success_curves(name: str, title: str, curves: Mapping[str, Sequence[Curve]], warm_up: float) -> str:
    """Success rate against environment steps by method, with the mean where there are several seeds.

    Args:
        warm_up: environment steps to shade.
    """
    with mpl.rc_context(LOOK):
        figure, axes = _panel(title, "environment steps", 4.7, 3.1)
        if warm_up > 0:
            axes.axvspan(0, warm_up, color=INK, alpha=0.09, lw=0)
        for method, seeds in curves.items():
            drawn = [c for c in seeds if len(c.x)]
            for curve in drawn:
                _line(axes, curve, COLOURS[method], alone=len(drawn) == 1, marker="o")
            if len(drawn) > 1:
                _line(axes, mean_curve(drawn), COLOURS[method], alone=True)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        return _svg(figure, name, f"{title}: success rate against environment steps")


def lines(
    name: str,
    title: str,
    xlabel: str,
    curves: Mapping[str, Sequence[Curve]],
    start: bool = False,
    rate: bool = False,
    log: bool = False,
) -> str:
    """Any quantity by stage, one thin line a seed.

    Args:
        start: mark x = 0, where fine-tuning begins.
        rate: y is a share; the axis is 0..100 %.
        log: y spans orders of magnitude, as long as all of it is positive.
    """
    with mpl.rc_context(LOOK):
        figure, axes = _panel(title, xlabel, 4.0, 2.7)
        drawn = [(stage, curve) for stage, seeds in curves.items() for curve in seeds if len(curve.x)]
        for stage, curve in drawn:
            _line(axes, curve, COLOURS[stage], alone=len(curves[stage]) == 1, marker="o" if len(curve.x) == 1 else "")
        if start:
            axes.axvline(0, color=INK, lw=0.9, ls=(0, (4, 3)), alpha=0.6)
        if rate:
            axes.set_xlim(left=0)
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        if log and drawn and min(y for _, curve in drawn for y in curve.y) > 0:
            axes.set_yscale("log")
        if not drawn:
            axes.set_xticks([])
            axes.text(0.5, 0.5, "not enough to draw yet", ha="center", va="center", transform=axes.transAxes)
        return _svg(figure, name, title)


def offsets(name: str, title: str, stage: str, points_mm: np.ndarray, limit_mm: float) -> str:
    """Where failed trials ended, from above: `points_mm (n, 2)` from the target."""
    with mpl.rc_context(LOOK):
        figure, axes = _panel(title, "x from the target (mm)", 2.9, 2.9)
        axes.set_ylabel("y (mm)")
        axes.plot(0, 0, "+", color=INK, ms=13, mew=1.2)
        axes.plot(points_mm[:, 0], points_mm[:, 1], "o", color=COLOURS[stage], ms=6, alpha=0.65, mew=0)
        axes.set(xlim=(-limit_mm, limit_mm), ylim=(-limit_mm, limit_mm), aspect="equal")
        return _svg(figure, name, f"{title}: end positions seen from above")


def trial_grid(rows: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], method: str) -> str:
    """Each evaluation a row, each fixed start a column; a filled cell is a success, a thick-edged one a fault.

    Args:
        rows: label and outcomes `{"number", "success", "env_steps", "fault"}` of each evaluation.
        method: gives the colour.
    """
    columns = 1 + max((o["number"] for _, outcomes in rows for o in outcomes), default=0)
    cell, left, top = 17, 52, 16
    width, height = left + cell * columns + 40, top + cell * len(rows) + 2
    parts = [f'<text x="{left + cell * i + 7}" y="10" text-anchor="middle">{i}</text>' for i in range(columns)]
    for r, (label, outcomes) in enumerate(rows):
        y = top + cell * r
        parts.append(f'<text x="{left - 7}" y="{y + 11}" text-anchor="end">{escape(label)}</text>')
        for o in outcomes:
            kind = "yes" if o["success"] else "fault" if o.get("fault") else "no"
            said = f"start {o['number']}: {'success' if o['success'] else o.get('fault') or 'no success'}"
            parts.append(
                f'<rect class="{kind}" x="{left + cell * o["number"] + 0.5}" y="{y + 0.5}" width="13" height="13" rx="3">'
                f"<title>{escape(said)}, {o['env_steps']} steps</title></rect>"
            )
        count = f"{sum(o['success'] for o in outcomes)}/{len(outcomes)}"
        parts.append(f'<text class="sum" x="{left + cell * columns + 2}" y="{y + 11}">{count}</text>')
    return (
        f'<svg class="grid {method}" viewBox="0 0 {width} {height}" style="max-width:{1.1 * width:.0f}px"'
        f' role="img" aria-label="outcome of each trial">'
        f"{''.join(parts)}</svg>"
    )


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean over seeds, each interpolated linearly, as far as all of them go."""
    last = min(max(c.x) for c in curves)
    x = np.unique([v for c in curves for v in c.x if v <= last])
    return Curve(x.tolist(), np.mean([np.interp(x, c.x, c.y) for c in curves], axis=0).tolist())


def thinned(x: Sequence[float], y: Sequence[float]) -> Curve:
    """Means of neighbours, where there are more points than a page shows."""
    size = -(-len(x) // POINTS) or 1
    blocks = range(0, len(x), size)
    return Curve([float(np.mean(x[i : i + size])) for i in blocks], [float(np.mean(y[i : i + size])) for i in blocks])


def _panel(title: str, xlabel: str, width_in: float, height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace("-", "−"))
    return figure, axes


def _line(axes: Axes, curve: Curve, colour: str, alone: bool, marker: str = "") -> None:
    axes.plot(
        curve.x, curve.y, marker=marker, ms=3.5 if alone else 2, color=colour, lw=2.2 if alone else 0.9,
        alpha=1.0 if alone else 0.55,
    )  # fmt: skip
    if alone and curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.13, lw=0)


def _svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an element to stand in a page: no size of its own, ids that no other figure has."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    head = (
        f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(label)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"^<svg[^>]*>", head, text, count=1)
