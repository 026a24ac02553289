"""The picture of `segue twin fit`: a logged motion, and the same references in the twin before and after."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from launch.curves import LOOK, save
from launch.plots import COLOURS

AXES = ("x (mm)", "y (mm)", "z (mm)", "about x (mrad)", "about y (mrad)", "about z (mrad)")


def draw(moved: Mapping[str, np.ndarray], period_s: float, title: str, path: Path) -> None:
    """Writes one PNG. `moved`: by `logged`, `before` and `after`, ways `(n, 6)` from the first pose, m and rad."""
    looks = {
        "logged": {"color": "black", "ls": "", "marker": "o", "ms": 2.6, "label": "logged"},
        "before": {"color": COLOURS["rlpd"], "lw": 1.2, "label": "the twin as published"},
        "after": {"color": COLOURS["wsrl"], "lw": 1.4, "ls": (0, (4, 2)), "label": "the twin as fitted"},
    }
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(11.0, 6.0), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        panels = figure.subplots(2, 3, sharex=True)
        for i, axes in enumerate(panels.flat):
            for name, way in moved.items():
                axes.plot(period_s * np.arange(1, len(way) + 1), 1000.0 * way[:, i], **looks[name])
            axes.set_title(AXES[i], loc="left", fontsize=9.5)
        for axes in panels[1]:
            axes.set_xlabel("s")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        save(figure, path)
