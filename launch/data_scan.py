"""What the checks of a data set share: findings, and the data set on the table."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from agent.replay.dataset import Dataset
from launch.data_tools import episode_numbers, stretches
from launch.formats.source import raw
from launch.tasks import AnyTask

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """Something found.

    Attributes:
        severity: an error spoils learning, a warning may be meant so, a note is good to know.
        what: in words, with numbers and what to do.
        count: of rows, episodes or dimensions, as `unit` says.
        unit: what is counted.
        episode, row: where it is first: numbers from 0 in the whole data set; None where it is no matter of place.
    """

    severity: Severity
    what: str
    count: int
    unit: Literal["rows", "episodes", "dimensions"]
    episode: int | None = None
    row: int | None = None

    def plain(self) -> dict[str, Any]:
        """For people and for JSON."""
        first = "" if self.row is None else f"episode {self.episode}, row {self.row}"
        return {
            "severity": self.severity,
            "what": self.what,
            "how many": f"{self.count} {self.unit if self.count != 1 else self.unit.removesuffix('s')}",
            "first": first,
        }


class Scan:
    """A data set on the table: what all checks ask for, worked out once."""

    def __init__(self, dataset: Dataset, task: AnyTask | None) -> None:
        self.dataset, self.task, self.c = dataset, task, dataset.columns
        self.parts = stretches(dataset)
        self.lengths = np.array([part.stop - part.start for part in self.parts])
        self.first = np.array([part.start for part in self.parts])
        self.last = np.array([part.stop - 1 for part in self.parts])

    @cached_property
    def episode_of(self) -> np.ndarray:
        """Which episode each row is of, `(N,)`."""
        return episode_numbers(self.parts)

    @cached_property
    def raw_reward(self) -> np.ndarray:
        """`(N,)`, as the task gives it."""
        return raw(self.dataset).columns["reward"]

    def rows(self, severity: Severity, what: str, which: np.ndarray) -> Iterator[Finding]:
        """A finding of the rows where `which (N,)` is true; none where it nowhere is."""
        if which.any():
            row = int(np.argmax(which))
            yield Finding(severity, what, int(np.count_nonzero(which)), "rows", int(self.episode_of[row]), row)

    def episodes(self, severity: Severity, what: str, which: np.ndarray) -> Iterator[Finding]:
        """The same of episodes, `which (E,)`; the place is that of the first one's last row."""
        if which.any():
            number = int(np.argmax(which))
            yield Finding(severity, what, int(np.count_nonzero(which)), "episodes", number, int(self.last[number]))
