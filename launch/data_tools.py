"""Data sets from anywhere: opened, brought in as journals, and given away in public formats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.replay.dataset import Dataset
from agent.replay.episodes import Tombstones
from agent.replay.journal_index import spans
from agent.replay.journal_info import DatasetInfo, journal_folder, session_folders
from agent.replay.journal_write import write_journal
from agent.replay.returns import episode_slices
from launch.formats import READERS, WRITERS
from launch.formats.source import raw
from launch.tasks import AnyTask, find_task, info_of, spaces_of, task_names
from robot_env.tasks import Task, is_task_file
from sim.d4rl import D4RLTask

UNNAMED = "unnamed"  # the task of a file that is looked at without saying what it is of


@dataclass(frozen=True)
class Source:
    """A data set and where it came from.

    Attributes:
        dataset: its transitions; those of discarded episodes are left out.
        task: None where it is not one of ours.
        discarded: episodes with a tombstone.
        unfinished: episodes of a journal that were left, or lost their end; they count as truncated where they were.
    """

    dataset: Dataset
    task: AnyTask | None
    discarded: int = 0
    unfinished: int = 0

    @property
    def remarks(self) -> list[str]:
        """What a reader would otherwise not learn of, a sentence each."""
        told = [f"{self.discarded} discarded episodes were left out"] if self.discarded else []
        return told + ([f"{self.unfinished} unfinished episodes count as truncated"] if self.unfinished else [])


def open_journal(path: Path) -> Source:
    """A journal: its folder, or that of its run. Raises `ValueError` in one sentence where it cannot be read."""
    dataset = Dataset.load(path)
    folder = journal_folder(path) or path
    removed = Tombstones.read(folder)
    kept = [
        span
        for session, where in session_folders(folder).items()
        for number, span in enumerate(spans(where))
        if (session, number) not in removed
    ]
    task = find_task(dataset.info.task) if dataset.info.task in task_names() else None
    unfinished = sum(not (span.terminated or span.truncated) for span in kept)
    return Source(dataset, task, len(removed), unfinished)


def open_source(path: Path, form: str | None, task: str | None = None, discount: float | None = None) -> Source:
    """A journal, or with a format a file as it is, before anything is made of it.

    Args:
        form: a name of `READERS`; None for a journal.
        task, discount: see `raw_info`; a journal says its own. A file may do without.

    Raises:
        ValueError: in one sentence, for what cannot be read, or was not to be given.
    """
    is_journal = journal_folder(path) is not None
    if form is None:
        if not is_journal and path.exists():
            raise ValueError(f"data {path}: it is no journal; say what it is with --format, {', '.join(READERS)}")
        if task is not None or discount is not None:
            raise ValueError(f"data {path}: a journal says its task and discount; leave out --task and --discount")
        return open_journal(path)
    if is_journal:
        raise ValueError(f"data {path}: it is a journal, not {form}; leave out --format")
    info, found = raw_info(task, discount) if task is not None else (_unnamed(), None)
    return Source(READERS[form](path, info, found.max_steps if found else None), found)


def raw_info(name: str, discount: float | None = None) -> tuple[DatasetInfo, AnyTask | None]:
    """What numbers mean that are as a file has them, and the task; None for one that is not ours.

    Args:
        discount: of a task that is not ours; it has to be given for one, and not for one of ours.

    Raises:
        ValueError: the name is unknown and there is no discount, or there is one too many, or it is not in 0..1.
    """
    if is_task_file(name) or name in task_names():
        task = find_task(name)
        if discount is not None:
            raise ValueError(f"--discount {discount:g}: task {name!r} has {task.discount:g}; leave it out")
        return info_of(replace(task, reward_scale=1.0, reward_shift=0.0), ""), task
    if discount is None:
        raise ValueError(
            f"task {name!r} is unknown; choose one of {', '.join(task_names())}, or give --discount for one of your own"
        )
    if not 0.0 < discount <= 1.0:
        raise ValueError(f"--discount {discount:g}: it is not above 0 and at most 1; correct it")
    return replace(_unnamed(), task=name, discount=discount), None


def failure_reward(task: AnyTask) -> float | None:
    """Raw reward of every step that is no success; success earns 1 more. None where the reward is dense."""
    return task.failure_reward if isinstance(task, D4RLTask) else 0.0


def failure_penalty(task: AnyTask) -> float | None:
    """What a step costs, raw, in which an operator says that an arm's episode failed; None where that only cuts it."""
    return task.failure_penalty if isinstance(task, Task) else None


def success_in(task: AnyTask | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """What tells successes from observations; None where the task's observations do not."""
    return task.success_in if isinstance(task, D4RLTask) else None


def _unnamed() -> DatasetInfo:
    return DatasetInfo(task=UNNAMED, discount=1.0, reward_scale=1.0, reward_shift=0.0, truncation_value=0.0)


def stretches(dataset: Dataset) -> list[slice]:
    """All episodes in order, with one at the end that has no end mark."""
    end = dataset.columns["terminated"] | dataset.columns["truncated"]
    return episode_slices(np.append(end[:-1], True))


def episode_numbers(parts: Sequence[slice]) -> np.ndarray:
    """Which episode each row is of, `(N,)`, counted from 0."""
    return np.repeat(np.arange(len(parts)), [part.stop - part.start for part in parts])


def noted(dataset: Dataset, sentence: str) -> Dataset:
    """The data set with a sentence more of how it came about."""
    before = dataset.info.provenance
    story = f"{before}{'' if before.endswith('.') else '.'} {sentence}" if before else sentence
    return replace(dataset, info=replace(dataset.info, provenance=story))


def judged(dataset: Dataset, task: AnyTask | None) -> Dataset:
    """The data set with successes, where it tells of none and its task can: by the observations, or by a sparse reward."""
    steps = success_steps(dataset, task)
    if steps is None or dataset.columns["success"].any():
        return dataset
    success = np.concatenate([np.maximum.accumulate(steps[part]) for part in stretches(dataset)])
    by = "the reward" if success_in(task) is None else "the observations"
    return noted(replace(dataset, columns={**dataset.columns, "success": success}), f"Success is judged by {by}.")


def success_steps(dataset: Dataset, task: AnyTask | None) -> np.ndarray | None:
    """Whether each step led to success, `(N,)` bool; None where the task cannot tell."""
    seen = success_in(task)
    if seen is not None:
        return np.asarray(seen(dataset.columns["next_obs/state"]), bool)
    if isinstance(task, D4RLTask) and task.counted is not None:
        return raw(dataset).columns["reward"] >= task.counted
    failure = None if task is None else failure_reward(task)
    return None if failure is None else raw(dataset).columns["reward"] > failure


def finite_episodes(dataset: Dataset) -> Dataset:
    """The episodes whose numbers are all finite. Raises `ValueError` where there is none."""
    bad = ~finite_rows(dataset)
    parts = stretches(dataset)
    keep = np.concatenate([np.full(part.stop - part.start, not bad[part].any()) for part in parts])
    if not keep.any():
        raise ValueError("data: every episode holds a number that is not finite; make the file again")
    dropped = sum(bool(bad[part].any()) for part in parts)
    return noted(dataset.rows(keep), f"{dropped} episodes with numbers that are not finite were left out.")


def require_finite(dataset: Dataset, path: Path, remedy: str) -> None:
    """Raises `ValueError` where a number is not finite."""
    bad = int(np.count_nonzero(~finite_rows(dataset)))
    if bad:
        raise ValueError(f"data {path}: {bad} rows hold numbers that are not finite; {remedy}")


def finite_rows(dataset: Dataset) -> np.ndarray:
    """Whether all numbers of each row are finite, `(N,)` bool."""
    rows = np.ones(len(dataset), bool)
    for x in dataset.columns.values():
        if x.dtype.kind == "f":
            rows &= np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    return rows


def bring_in(
    path: Path, form: str, task: str, out: Path, discount: float | None = None, finite: bool = False
) -> Source:
    """Makes a journal of a file, with the rewards that it has, whole or not at all.

    Args:
        form: a name of `READERS`.
        task, discount: see `raw_info`.
        finite: leave out episodes with numbers that are not finite; otherwise there may be none.

    Raises:
        ValueError: in one sentence, where the file cannot be read, or is not of the task.
    """
    if out.exists():
        raise ValueError(f"journal {out}: it is already there; give another folder")
    source = open_source(path, form, task, discount)
    dataset = finite_episodes(source.dataset) if finite else source.dataset
    reason = misfit(dataset, source.task) if source.task is not None else None
    if reason is not None:
        raise ValueError(f"data {path}: {reason}")
    require_finite(dataset, path, "leave their episodes out with --finite")
    dataset = judged(dataset, source.task)
    write_journal(dataset, out)
    return replace(source, dataset=dataset)


def misfit(dataset: Dataset, task: AnyTask) -> str | None:
    """Why a data set cannot be of a task, in a sentence: names and sizes of what it holds. None where it can."""
    observations, actions = spaces_of(task)
    want = {name: tuple(space.shape or ()) for name, space in observations.items()}
    found = {name: tuple(shape) for name, (_, shape) in dataset.layout.obs.items()}
    if found != want:
        return f"observations are {_sizes(found)}, task {task.name!r} has {_sizes(want)}; use data of this task"
    here = dataset.layout.action_dim
    if (here,) != actions.shape:
        return f"actions have {here} dimensions, task {task.name!r} has {task.action_dim}; use data of this task"
    return None


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in sorted(shapes.items()))


def export(source: Source, form: str, out: Path) -> None:
    """Writes a data set in a public format, with raw rewards, whole or not at all. Raises `ValueError` if that cannot be."""
    WRITERS[form](source.dataset, out)
