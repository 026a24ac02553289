"""A data set written as a journal: the form in which data is kept."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np

from agent.replay.dataset import Dataset
from agent.replay.entry import Begin, Entry, Step, encode
from agent.replay.journal import Journal
from agent.replay.journal_info import DatasetInfo, JournalInfo
from agent.types import Transition

SESSION = 1  # of all data sets that are written whole: the same data gives the same bytes


def write_journal(dataset: Dataset, folder: Path, began: str = "") -> None:
    """Writes a data set as a journal of one session, whole or not at all.

    Args:
        folder: must not be there yet.
        began: when the data was made (UTC, ISO), where that is known.

    Raises:
        ValueError: the folder is there, or the data holds what a record cannot, such as numbers that are not finite.
    """
    if folder.exists():
        raise ValueError(f"journal {folder}: it is already there; give another folder")
    told = {f.name: getattr(dataset.info, f.name) for f in fields(DatasetInfo)}
    info = JournalInfo(**told, layout=dataset.layout, transitions=len(dataset))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        private = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ValueError(f"journal {folder}: it cannot be made ({error.strerror}); give another folder") from error
    part = private / folder.name
    try:
        with closing(Journal.open(part, info)) as journal:
            for entry in _entries(dataset, began):
                journal.append(entry, encode(entry, dataset.layout))
        part.rename(folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _entries(dataset: Dataset, began: str) -> Iterator[Entry]:
    """A begin, then every transition; one whose `obs` is not the `next_obs` before it carries its own and begins an episode."""
    c = dataset.columns
    yield Entry(SESSION, 0, Begin(0, "data", began))
    names = list(dataset.layout.obs)
    joined = ~(c["terminated"] | c["truncated"])[:-1]
    for name in names:
        same = c[f"obs/{name}"][1:] == c[f"next_obs/{name}"][:-1]
        joined &= same.all(axis=tuple(range(1, same.ndim)))
    first = np.concatenate([[True], ~joined])
    for i in range(len(dataset)):
        transition = Transition(
            obs={name: c[f"obs/{name}"][i] for name in names},
            action=c["action"][i],
            executed=c["executed"][i],
            reward=float(c["reward"][i]),
            next_obs={name: c[f"next_obs/{name}"][i] for name in names},
            terminated=bool(c["terminated"][i]),
            truncated=bool(c["truncated"][i]),
            source=int(c["source"][i]),
            policy_version=int(c["policy_version"][i]),
            session=SESSION,
            sequence=i,
        )
        yield Entry(SESSION, i + 1, Step(transition, bool(first[i]), bool(c["success"][i])))
