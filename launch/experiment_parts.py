"""What several experiments do."""

from pathlib import Path
from typing import Any

from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from launch.evaluate import MODES
from launch.runs import read_lines


def write_once(dataset: Dataset, folder: Path) -> None:
    """Writes a data set as a journal, unless an earlier part of the run has."""
    if not folder.exists():
        write_journal(dataset, folder)


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
