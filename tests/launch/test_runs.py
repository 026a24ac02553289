"""The log of a run: what is written, and what ends it."""

from contextlib import closing

import numpy as np
import pytest
from rich.progress import Progress

from launch.ledger import Episode
from launch.runs import RunLog, read_lines


@pytest.fixture
def log(tmp_path):
    with closing(RunLog(tmp_path, "a run", 10, Progress(), 1)) as it:
        yield it


def test_what_was_not_computed_is_left_out(log, tmp_path):
    """A delayed loss is not due in every block of one update."""
    log.trained("online", 1, 1, {"critic/loss": np.float32(2.0), "actor/loss": np.float32(np.nan)})
    assert [row["critic/loss"] for row in read_lines(tmp_path / "metrics.jsonl")] == [2.0]
    assert "actor/loss" not in read_lines(tmp_path / "metrics.jsonl")[0]


def test_what_is_infinite_ends_the_run_in_a_sentence(log):
    with pytest.raises(FloatingPointError, match="phase 'online': actor/loss is not finite after 1 updates; lower"):
        log.trained("online", 1, 1, {"critic/loss": np.float32(2.0), "actor/loss": np.float32(np.inf)})


def test_an_episode_tells_how_many_of_its_steps_were_late_or_held(log, tmp_path):
    log.episode(7, Episode(5, True, None, late_steps=2, held_steps=3))
    (row,) = read_lines(tmp_path / "episodes.jsonl")
    assert (row["length"], row["success"], row["late_steps"], row["held_steps"]) == (5, True, 2, 3)
