"""What experiments share: the fields of their recipes, and what they leave."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from launch.evaluate import MODES
from launch.recipes import Evaluation, Learning, Offline, Online, check_seed
from launch.runs import read_lines, write_json


@dataclass(frozen=True)
class ExperimentRecipe:
    """What every experiment is told.

    Attributes:
        data: the file that it starts from, or None.
        preset: which preset the numbers are from.
        seed: of everything.
        learning, offline, online, evaluation: as in `RehearseRecipe`.
    """

    data: str | None = None
    preset: str = "scaled"
    seed: int = 0
    learning: Learning = field(default_factory=Learning)
    offline: Offline = field(default_factory=Offline)
    online: Online = field(default_factory=Online)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        check_seed(self.seed)


def write_once(make: Callable[[], Dataset], folder: Path) -> None:
    """Makes a data set and writes it as a journal, unless an earlier part of the run has."""
    if not folder.exists():
        write_journal(make(), folder)


def finish(name: str, recipe: ExperimentRecipe, task: str, out: Path, **more: Any) -> dict[str, Any]:
    """Writes and returns `result.json`: what was run, the data in `out/data`, the curve of `out/wsrl`, and `more`."""
    data = Dataset.load(out / "data")
    result = {
        "experiment": name,
        "preset": recipe.preset,
        "seed": recipe.seed,
        "task": task,
        "data": {"transitions": len(data), "episodes": len(data.episodes), "provenance": data.info.provenance},
        **more,
        **scored(out / "wsrl"),
    }
    write_json(out / "result.json", result)
    return result


def scored(folder: Path) -> dict[str, Any]:
    """The curve of a fine-tuning run, by way of acting: after how many env_steps which share of trials, and which score."""
    rows = read_lines(folder / "scores.jsonl")
    return {
        "env_steps": [row["env_steps"] for row in rows],
        **{
            mode: {
                "success": [row[mode]["success"] / row[mode]["trials"] for row in rows],
                "normalized": [row[mode].get("normalized") for row in rows],
            }
            for mode in MODES
        },
        "trials": rows[0]["mode"]["trials"] if rows else 0,
    }
