"""Run folders: the recipe, the logs and the progress of one run."""

import json
import platform
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agent.types import Metrics
from launch.learner import fetch
from launch.ledger import Episode

console = Console(stderr=True)
results = Console()  # standard output
LOGS = ("metrics", "scores", "episodes")
AGAIN = "make the run again with the command that wrote it, such as `segue rehearse --out DIR`"


def versions() -> dict[str, str]:
    """Of this project and what its results rest on."""
    named = {name: version(name) for name in ("segue", "jax", "flax", "mujoco", "gymnasium")}
    return named | {"python": platform.python_version()}


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    part.replace(path)


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `ValueError` in one sentence where it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); {AGAIN}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; none where there is no file.

    A last line that an interruption tore is left out.

    Raises:
        ValueError: another line is damaged; it names the file and the line.
    """
    texts = path.read_bytes().splitlines() if path.exists() else []
    rows = []
    for number, text in enumerate(texts, 1):
        try:
            rows.append(json.loads(text))
        except ValueError as error:
            if number < len(texts):
                raise ValueError(f"{path}:{number} is not JSON; {AGAIN}") from error
    return rows


def prepare(folder: Path, recipe: Mapping[str, Any], resume: bool) -> None:
    """Makes a run folder and saves the recipe in it.

    Raises:
        ValueError: the folder already holds a run and `resume` is off, or holds a run of another recipe.
    """
    path = folder / "recipe.json"
    if folder.is_file():
        raise ValueError(f"--out {folder}: it is a file; give a folder")
    try:
        begun = path.exists() and {p.name for p in folder.iterdir()} != {"recipe.json"}
        if folder.is_dir() and not path.exists() and any(folder.iterdir()):
            raise ValueError(f"--out {folder}: it is not empty and holds no run; give another folder")
        if not begun:  # nothing there, or only the recipe of a run that was refused
            write_json(path, recipe)
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be written ({error.strerror}); give another folder") from error
    if begun:
        if not resume:
            raise ValueError(
                f"--out {folder}: it already holds a run; give --resume to go on with it, or another folder"
            )
        old = read_json(path)
        for name in {**old, **recipe}:
            if old.get(name) != recipe.get(name):
                raise ValueError(
                    f"--out {folder}: its run has {name} {old.get(name)}, this one {recipe.get(name)}; "
                    "resume with the same settings, or give another folder"
                )


@contextmanager
def progress_bar():
    """A progress bar on standard error; nothing where that is no terminal."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        yield progress


class RunLog:
    """Writes what a run tells into JSON lines and TensorBoard, and moves the progress bar.

    Args:
        folder: the run's.
        title: of the progress bar.
        total: environment steps, or updates of an offline run.
        progress: the bar.
        every: blocks between two fetches of metrics from the device.
        wall_s: seconds already spent, when a run is taken up again.
        rows: by log, how many rows an earlier part of the run had written; what it wrote after these goes.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        total: int,
        progress: Progress,
        every: int,
        wall_s: float = 0.0,
        rows: Mapping[str, int] | None = None,
    ) -> None:
        self._folder, self._progress, self._title = folder, progress, title
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = {name: (rows or {}).get(name, 0) for name in LOGS}
        for name, count in self.rows.items():
            _cut(folder / f"{name}.jsonl", count)
        from tensorboardX import (
            SummaryWriter,
        )  # here: it imports PyTorch where there is one, which takes every command a second

        self._files = {name: open(folder / f"{name}.jsonl", "a") for name in LOGS}  # noqa: SIM115
        self._board = SummaryWriter(str(folder / "tensorboard"))
        self._task = progress.add_task(title, total=total, note="")
        self._last: tuple[str, int, int, Metrics] | None = None
        self._blocks, self._every, self._start_s = 0, every, time.monotonic() - wall_s

    @property
    def wall_s(self) -> float:
        """Seconds of this run so far, those before an interruption included."""
        return time.monotonic() - self._start_s

    def trained(self, phase: str, env_steps: int, updates: int, metrics: Metrics) -> None:
        """A block is done; `metrics` are still on the device, and empty where nothing was learned."""
        self._progress.update(self._task, completed=env_steps or updates)
        self._blocks += 1
        if metrics:
            self._last = (phase, env_steps, updates, metrics)
        if self._blocks % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """Fetches and writes the newest metrics that were computed. Raises `FloatingPointError` where one is infinite."""
        if self._last is not None:
            (phase, env_steps, updates, metrics), self._last = self._last, None
            # A delayed loss was perhaps not due in so few updates: its metrics are NaN.
            numbers = {name: value for name, value in fetch(metrics).items() if value == value}
            bad = sorted(name for name, value in numbers.items() if abs(value) == float("inf"))
            self._write("metrics", {"phase": phase, "env_steps": env_steps, "updates": updates, **numbers})
            self._scalars(numbers, env_steps or updates)
            if bad:
                raise FloatingPointError(
                    f"phase {phase!r}: {bad[0]} is not finite after {updates} updates; "
                    "lower the learning rate or look for outliers in the data"
                )

    def episode(self, env_steps: int, episode: Episode) -> None:
        """An episode of training ended."""
        row = {"env_steps": env_steps, "length": episode.env_steps, "success": episode.success, "fault": episode.fault}
        self._write("episodes", row | {"late_steps": episode.late_steps, "held_steps": episode.held_steps})
        self._board.add_scalar("episode/success", float(episode.success), env_steps)

    def scored(self, env_steps: int, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """The fixed trials were run, with both ways of acting."""
        self._write("scores", {"env_steps": env_steps, **scores})
        rates = {f"evaluation/{mode}": score["success"] / score["trials"] for mode, score in scores.items()}
        normalized = {m: score["normalized"] for m, score in scores.items() if score.get("normalized") is not None}
        rates |= {f"evaluation/{mode}_normalized": value for mode, value in normalized.items()}
        self._scalars(rates, env_steps)
        note = "  ".join(
            f"{mode} {score['success']}/{score['trials']}"
            + (f" ({normalized[mode]:.1f})" if mode in normalized else "")
            for mode, score in scores.items()
        )
        self._progress.update(self._task, note=note)
        console.print(f"[dim]{self._title}: after {env_steps} env steps: {note}[/dim]")

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()
        self._board.close()

    def _write(self, name: str, row: Mapping[str, Any]) -> None:
        self._files[name].write(json.dumps({**row, "wall_s": round(self.wall_s, 2)}) + "\n")
        self._files[name].flush()
        self.rows[name] += 1

    def _scalars(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)


def _cut(path: Path, rows: int) -> None:
    """Leaves the first `rows` lines of a log: an interrupted run writes the others again."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    if len(lines) > rows:
        part = path.with_suffix(".part")
        part.write_text("".join(lines[:rows]))
        part.replace(path)
