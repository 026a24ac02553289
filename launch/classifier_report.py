"""How good a classifier is on labelled frames: numbers, a plot, and the frames that it is most wrong about."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encoders.classifier_scores import BINS, calibration_error, count, curve
from launch.classifier_data import Labelled
from launch.data_plot import INK, LOOK, LOST, WON

TABLE = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)  # thresholds
COLUMNS, MOST = 4, 12  # of a picture sheet: frames side by side, and in all
CAPTION_PX = 18
PAPER, TEXT = (255, 255, 255), (30, 30, 30)


def report(data: Labelled, raw: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, Any]:
    """Plain numbers of frames with labels.

    Args:
        raw, score: `(N,)` probabilities of success, before and after calibration.

    Raises:
        ValueError: none of the frames is a success.
    """
    counts = count(score, data.label, threshold)
    if counts.recall is None:
        raise ValueError("classifier: none of the frames is a success; give labelled frames of both kinds")
    return {
        "frames": data.counts(),
        "threshold": threshold,
        "precision": counts.precision,
        "recall": counts.recall,
        "confusion": asdict(counts),
        "false_by_kind": false_by_kind(data, score > threshold),
        "calibration_error": {
            "before": calibration_error(raw, data.label),
            "after": calibration_error(score, data.label),
        },
        "thresholds": [
            {"threshold": t, "precision": at.precision, "recall": at.recall}
            for t in sorted({*TABLE, threshold})
            for at in (count(score, data.label, t),)
        ],
    }


def false_by_kind(data: Labelled, taken: np.ndarray) -> dict[str, str]:
    """Of each kind of frame, how many of how many are judged wrongly."""
    wrong = taken != data.label
    return {
        str(kind): f"{np.count_nonzero(wrong[data.kind == kind])} of {np.count_nonzero(data.kind == kind)}"
        for kind in np.unique(data.kind)
    }


def write_pictures(data: Labelled, raw: np.ndarray, score: np.ndarray, threshold: float, folder: Path) -> list[str]:
    """Writes `curves.png`, and a sheet of the worst false positives and one of the worst false negatives; their names.

    A sheet is always written: where there is no such error, it says so.
    """
    draw_curves(data.label, score, raw, threshold, folder / "curves.png")
    positives = np.flatnonzero((score > threshold) & ~data.label)
    negatives = np.flatnonzero((score <= threshold) & data.label)
    for name, rows in (
        ("false_positives", positives[np.argsort(-score[positives])]),
        ("false_negatives", negatives[np.argsort(score[negatives])]),
    ):
        picture = sheet(data, score, rows, f"{len(rows)} {name.replace('_', ' ')} at threshold {threshold:.3f}")
        write_png(picture, folder / f"{name}.png")
    return ["curves.png", "false_positives.png", "false_negatives.png"]


def write_png(picture: np.ndarray, path: Path) -> None:
    """An RGB picture. Raises `OSError` where it cannot be written."""
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise OSError(f"{path} cannot be written; see that the disk has room")


def sheet(data: Labelled, score: np.ndarray, rows: np.ndarray, title: str) -> np.ndarray:
    """The frames of the rows, worst first: all cameras side by side, under score, label, episode and step."""
    height, width = data.frame_shape[:2]
    width = max(width * len(data.cameras), 256)
    shown = list(rows[:MOST])
    lines = max(1, -(-len(shown) // COLUMNS))
    cell_h, cell_w = height + CAPTION_PX + 6, width + 6
    page = np.full((lines * cell_h + CAPTION_PX + 6, COLUMNS * cell_w, 3), PAPER, np.uint8)
    _write(page, title + (f", the worst {MOST} shown" if len(rows) > MOST else ""), 4, CAPTION_PX - 5)
    for place, row in enumerate(shown):
        y, x = (place // COLUMNS) * cell_h + CAPTION_PX + 6, (place % COLUMNS) * cell_w
        views = np.hstack([data.frames[name][row] for name in data.cameras])
        page[y + CAPTION_PX : y + CAPTION_PX + height, x : x + views.shape[1]] = views
        caption = f"{score[row]:.3f} {data.kind[row]} episode {data.episode[row]} step {data.step[row]}"
        _write(page, caption, x + 2, y + CAPTION_PX - 5)
    return page


def _write(page: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, TEXT, 1, cv2.LINE_AA)


def draw_curves(label: np.ndarray, score: np.ndarray, raw: np.ndarray, threshold: float, path: Path) -> None:
    """Precision and recall over thresholds, the scores of both labels, and calibration, as one PNG."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(12.0, 3.6), layout="constrained", dpi=120)
        over, spread, calibrated = figure.subplots(1, 3)
        thresholds, precision, recall = curve(score, label)
        over.step(thresholds, precision, where="post", color=WON, label="precision")
        over.step(thresholds, recall, where="post", color=LOST, label="recall")
        over.set(title="Precision and recall", xlabel="threshold", xlim=(0, 1), ylim=(0, 1.03))
        bins = np.linspace(0, 1, 31).tolist()
        spread.hist([score[label], score[~label]], bins, color=[WON, LOST], label=["success", "no success"])
        spread.set(title="Scores", xlabel="score", ylabel="frames", yscale="log")
        for axes in (over, spread):
            axes.axvline(threshold, color=INK, lw=1, ls=(0, (4, 3)), label=f"threshold {threshold:.3f}")
        calibrated.plot([0, 1], [0, 1], color=INK, lw=1, alpha=0.5)
        _reliability(calibrated, raw, label, LOST, "before")
        _reliability(calibrated, score, label, WON, "after calibration")
        calibrated.set(title="Calibration", xlabel="mean score of a bin", ylabel="share of successes")
        for axes in (over, spread, calibrated):
            axes.legend(frameon=False, fontsize=8)
        figure.savefig(path)


def _reliability(axes: Axes, score: np.ndarray, label: np.ndarray, colour: str, name: str) -> None:
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    points = [(score[bins == b].mean(), label[bins == b].mean()) for b in range(BINS) if (bins == b).any()]
    axes.plot(*zip(*points, strict=True), marker="o", ms=4, color=colour, label=name)
