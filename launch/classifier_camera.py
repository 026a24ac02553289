"""Labelled frames from cameras or from video files: a person says what they show, by keys or in a table."""

import csv
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from launch.classifier_data import Labelled
from robot_env.camera_sources import parse_cameras, parse_source
from robot_env.opencv_camera import FileFrames
from robot_env.tasks import Task

LABELS = {"1": True, "success": True, "0": False, "failure": False}
KEYS = "s: success from now on, f: failure, space: record nothing, n: a new episode, q: done"


@dataclass(frozen=True)
class Span:
    """Frames `[start, end)` of a video with one label, of one episode."""

    start: int
    end: int
    label: bool
    episode: int


def read_spans(path: Path) -> list[Span]:
    """The rows of a table `start,end,label[,episode]`, in order; without a column `episode` each row is one of its own.

    Raises:
        ValueError: in one sentence, with the line.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns = set(reader.fieldnames or ())
            if not {"start", "end", "label"} <= columns <= {"start", "end", "label", "episode"}:
                raise ValueError(f"its columns are {', '.join(sorted(map(str, columns))) or 'none'}")
            spans = [_span(row, number) for number, row in enumerate(reader)]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise ValueError(f"--labels {path}: {what}; give a table with start,end,label and perhaps episode") from error
    spans.sort(key=lambda span: span.start)
    for a, b in pairwise(spans):
        if b.start < a.end:
            raise ValueError(f"--labels {path}: frame {b.start} has two labels; let the rows not overlap")
    if not spans:
        raise ValueError(f"--labels {path}: it has no rows; give at least one")
    return spans


def _span(row: Mapping[str, str | None], number: int) -> Span:
    """Of a row by its number. Raises `ValueError` that names the line."""
    row = {"episode": str(number), **row}
    try:
        start, end, episode = (int(row[name] or "") for name in ("start", "end", "episode"))
        label = LABELS[(row["label"] or "").strip().lower()]
    except (ValueError, KeyError):
        raise ValueError(f"line {number + 2} is not whole numbers and one of {', '.join(LABELS)}") from None
    if not 0 <= start < end or not 0 <= episode < 2**63 or None in row:
        raise ValueError(f"line {number + 2} is not start,end,label with 0 <= start < end")
    return Span(start, end, label, episode)


def task_cameras(texts: Sequence[str], task: Task) -> dict[str, str]:
    """Sources by the task's cameras, in its order, of `NAME=SOURCE`. Raises `ValueError` where they are not exactly these."""
    given = parse_cameras(texts)
    if set(given) != set(task.cameras):
        wanted = " ".join(f"{name}=SOURCE" for name in task.cameras)
        raise ValueError(
            f"--camera {' '.join(texts)}: task {task.name!r} has the cameras {', '.join(task.cameras) or 'none'}; "
            f"give --camera {wanted}, such as {task.cameras[0] if task.cameras else 'wrist_1'}=file:clip.mp4"
        )
    return {name: given[name] for name in task.cameras}


class Source:
    """A camera, or the frames of a file one after another, at most so many per second of it.

    Raises:
        ConnectionError: it cannot be opened.
        ValueError: it is written wrongly, or its library is not installed.
    """

    def __init__(self, text: str, hz: float) -> None:
        source = parse_source(text)
        if source.scheme == "file":
            frames = FileFrames(source.address, source.crop)
            self._next, self.close, fps = frames.next, frames.close, frames.fps
        else:
            driver = source.opener()()
            self._next, self.close, fps = lambda: driver.read().picture, driver.close, driver.fps
        self.stride = max(1, round(fps / hz))

    def read(self) -> np.ndarray | None:
        """The next picture, `IMAGE_SHAPE` uint8 RGB; None after a file's last."""
        return self._next()


def record_cameras(
    task: Task, cameras: Mapping[str, str], labels: Path | None, say: Callable[[str], None] = lambda text: None
) -> Labelled:
    """Frames of all sources together, taken at the task's rate, until the first of them ends.

    Args:
        cameras: sources by name.
        labels: a table, see `read_spans`; without it, keys are read from the terminal: see `KEYS`.
        say: shows what the keys do.

    Raises:
        ValueError: a source cannot be opened, the table does not fit, or there is no terminal.
    """
    spans = None if labels is None else read_spans(labels)
    with ExitStack() as stack:
        sources = {name: Source(text, task.hz) for name, text in cameras.items()}
        for source in sources.values():
            stack.callback(source.close)
        if spans is not None:
            taken = list(_by_table(sources, spans, str(labels)))
        else:
            say(KEYS)
            keys = stack.enter_context(terminal_keys())
            taken = list(_by_keys(sources, keys, 1.0 / task.hz))
    if not taken:
        raise ValueError("classifier record: no frame has a label; label some")
    frames, label, episode, step = zip(*taken, strict=True)
    how = "keys" if labels is None else f"labels of {labels.name}"
    return Labelled(
        task.name,
        f"{', '.join(f'{name} {text}' for name, text in cameras.items())}, {how}",
        {name: np.stack([frame[name] for frame in frames]) for name in cameras},
        np.array(label, bool),
        np.array(episode, np.int64),
        np.array(step, np.int64),
        np.where(label, "success", "failure"),
    )


Taken = tuple[dict[str, np.ndarray], bool, int, int]  # frames, label, episode, step


def _frames(sources: Mapping[str, Source]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Number and frames, of all sources; ends with the first of them."""
    number = 0
    while True:
        frames = {name: source.read() for name, source in sources.items()}
        if any(frame is None for frame in frames.values()):
            return
        yield number, frames  # type: ignore[misc]
        number += 1


def _by_table(sources: Mapping[str, Source], spans: Sequence[Span], name: str) -> Iterator[Taken]:
    stride = max(source.stride for source in sources.values())
    number, last = -1, spans[-1]
    for number, frames in _frames(sources):
        span = next((span for span in spans if span.start <= number < span.end), None)
        if span is not None and (number - span.start) % stride == 0:
            yield frames, span.label, span.episode, number
    if last.end > number + 1:
        raise ValueError(
            f"--labels {name}: frames {last.start} to {last.end} are named, the video has {number + 1}; correct the table"
        )


def _by_keys(sources: Mapping[str, Source], keys: Callable[[], str], period_s: float) -> Iterator[Taken]:
    label, episode, due_s = None, 0, time.monotonic()
    for number, frames in _frames(sources):
        for key in keys():
            if key == "q":
                return
            label = {"s": True, "f": False, " ": None}.get(key, label)
            episode += key == "n"
        if label is not None:
            yield frames, label, episode, number
        due_s = max(due_s + period_s, time.monotonic() - period_s)
        time.sleep(max(0.0, due_s - time.monotonic()))


@contextmanager
def terminal_keys() -> Iterator[Callable[[], str]]:
    """A function that gives the keys pressed since its last call, without waiting. Raises `ValueError` without a terminal."""
    if not sys.stdin.isatty():
        raise ValueError(
            "classifier record: labels come by keys, and standard input is no terminal; give --labels FILE.csv"
        )
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield lambda: os.read(number, 64).decode(errors="ignore") if select.select([number], [], [], 0.0)[0] else ""
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
