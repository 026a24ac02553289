"""`segue data filter, merge, split, relabel`: new data sets from old ones. What goes in is never changed.

Each takes data sets and gives new ones, by whole episodes, with a sentence more of how they came about.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np

from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from agent.types import SOURCES
from launch.data_tools import failure_reward, misfit, noted, raw_info, stretches, success_in
from launch.formats.source import raw
from launch.tasks import AnyTask, find_task


@dataclass(frozen=True)
class Keep:
    """Which episodes to keep: those of which all that is given holds.

    Attributes:
        min_return: Least return: undiscounted, of raw rewards.
        max_return: Greatest return.
        min_length: Least length, env steps.
        max_length: Greatest length, env steps.
        successful: Only episodes that succeed.
        source: Only episodes in which this one acted at some step.
    """

    min_return: float | None = None
    max_return: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    successful: bool = False
    source: Literal["policy", "human", "offline"] | None = None

    @property
    def words(self) -> str:
        """What is given, as it would be written."""
        given = [(f.name.replace("_", " "), getattr(self, f.name)) for f in fields(self)]
        asked = [(name, x) for name, x in given if x is not None and x is not False]
        return ", ".join(
            name if x is True else f"{name} {x:g}" if isinstance(x, float) else f"{name} {x}" for name, x in asked
        )


def filtered(dataset: Dataset, keep: Keep) -> Dataset:
    """The episodes to keep, in order. Raises `ValueError` where nothing is given, or nothing is left."""
    if not keep.words:
        raise ValueError(
            "data filter: it is not said what to keep; give at least one of --min-return, --successful, ..."
        )
    for name in ("min_return", "max_return"):
        if (given := getattr(keep, name)) is not None and not np.isfinite(given):
            raise ValueError(f"data filter: {name.replace('_', '-')} is {given}; give a finite number")
    parts, reward = stretches(dataset), raw(dataset).columns["reward"]
    kept = [part for part in parts if _is_kept(dataset, part, float(reward[part].sum()), keep)]
    if not kept:
        raise ValueError(f"data filter: no episode of {len(parts)} is left with {keep.words}; ask for less")
    return noted(_of(dataset, kept), f"Kept {len(kept)} of {len(parts)} episodes: {keep.words}.")


def _is_kept(dataset: Dataset, part: slice, raw_return: float, keep: Keep) -> bool:
    steps, c = part.stop - part.start, dataset.columns
    ranges = ((keep.min_return, raw_return, keep.max_return), (keep.min_length, steps, keep.max_length))
    if any((low is not None and x < low) or (high is not None and x > high) for low, x, high in ranges):
        return False
    if keep.source is not None and not (c["source"][part] == SOURCES.index(keep.source)).any():
        return False
    return not keep.successful or bool(c["success"][part.stop - 1])


def _of(dataset: Dataset, parts: Sequence[slice]) -> Dataset:
    """The episodes at `parts`, one at least."""
    return dataset.rows(np.concatenate([np.arange(part.start, part.stop) for part in parts]))


def merged(datasets: Sequence[Dataset], names: Sequence[str]) -> Dataset:
    """All episodes of several data sets of one kind, one set after another.

    Args:
        names: what to call each in a sentence.

    Raises:
        ValueError: they differ in task, layout or what their rewards mean, or there are not two.
    """
    if len(datasets) < 2:
        raise ValueError("data merge: give at least two journals")
    first = datasets[0]
    for dataset, name in zip(datasets[1:], names[1:], strict=True):
        for what, mine, its in zip(_KIND, _kind(first), _kind(dataset), strict=True):
            if mine != its:
                raise ValueError(f"data merge: {name} has {what} {its}, {names[0]} has {mine}; merge what is alike")
    closed = [_closed(dataset) for dataset in datasets]
    columns = {name: np.concatenate([dataset.columns[name] for dataset in closed]) for name in first.columns}
    stories = [f"{name}: {dataset.info.provenance}" for name, dataset in zip(names, datasets, strict=True)]
    info = replace(first.info, provenance=f"Merged of {len(datasets)} data sets. {' '.join(stories)}")
    return Dataset(info, columns)


_KIND = ("task", "discount", "reward scale", "reward shift", "truncation value", "observations", "actions")


def _kind(dataset: Dataset) -> tuple:
    info, layout = dataset.info, dataset.layout
    convention = (info.discount, info.reward_scale, info.reward_shift, info.truncation_value)
    observations = {name: (dtype, tuple(shape)) for name, (dtype, shape) in layout.obs.items()}
    return (info.task, *convention, dict(sorted(observations.items())), (layout.action_dtype, layout.action_dim))


def _closed(dataset: Dataset) -> Dataset:
    """With an end mark on the last episode: where it has none, it was cut off, and another may follow."""
    if dataset.columns["terminated"][-1] or dataset.columns["truncated"][-1]:
        return dataset
    truncated = dataset.columns["truncated"].copy()
    truncated[-1] = True
    return replace(dataset, columns={**dataset.columns, "truncated": truncated})


def split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Two data sets of whole episodes drawn at random, each in the order that they had.

    Args:
        share: of the episodes that go to the first, rounded so that both have one at least.

    Raises:
        ValueError: the share is not between 0 and 1, or there is only one episode.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"--share {share:g}: it is not between 0 and 1; give such as 0.9")
    dataset = _closed(dataset)
    parts = stretches(dataset)
    if len(parts) < 2:
        raise ValueError("data split: there is only one episode; give at least two")
    count = min(max(round(share * len(parts)), 1), len(parts) - 1)
    drawn = np.random.default_rng(seed).permutation(len(parts))
    first, rest = ([parts[i] for i in sorted(chosen)] for chosen in (drawn[:count], drawn[count:]))
    told = f"of {len(parts)} episodes, drawn with seed {seed}"
    return (
        noted(_of(dataset, first), f"Split off: {count} {told}."),
        noted(_of(dataset, rest), f"The rest of a split: {len(parts) - count} {told}."),
    )


def relabelled(
    dataset: Dataset, name: str, only_successes: bool = False, judge: Callable[[Dataset], np.ndarray] | None = None
) -> Dataset:
    """The data set as a sparse task would have recorded it, with raw rewards.

    Success is judged by what each step led to. The first one earns 1 more than failing and is terminal; what comes after it is
    dropped. An episode without success earns the failing reward throughout and is truncated at its end: nothing but success
    ends such a task.

    Args:
        name: of the task.
        only_successes: drop episodes that never succeed, as Cal-QL and WSRL do with Adroit's.
        judge: says of each step `(N,)` whether it led to success, such as a classifier of pictures; by default the task does.

    Raises:
        ValueError: the task's reward cannot be told from observations, the data is not of its size, or nothing is left.
    """
    task = find_task(name)
    failure, judge = _failure(task), judge or _observed(task)
    reason = misfit(dataset, task)
    if reason is not None:
        raise ValueError(f"data relabel: {reason}")
    dataset = _closed(dataset)
    steps = judge(dataset)
    c, parts = dataset.columns, stretches(dataset)
    won = [part for part in parts if steps[part].any()]
    cut = {part.start: part.start + int(np.argmax(steps[part])) + 1 for part in won}
    kept = [slice(part.start, cut.get(part.start, part.stop)) for part in (won if only_successes else parts)]
    if not kept:
        raise ValueError(f"data relabel: none of {len(parts)} episodes succeeds; leave out --only-successes")
    columns = {**c, "success": steps, "terminated": steps, "truncated": (c["terminated"] | c["truncated"]) & ~steps}
    columns["reward"] = np.where(steps, failure + 1.0, failure)
    info = replace(raw_info(name)[0], provenance=dataset.info.provenance)
    out = _of(Dataset(info, columns), kept)
    others = "the others are dropped" if only_successes else "the others are truncated"
    told = f"{len(won)} of {len(parts)} episodes succeed and end there, {others}"
    return noted(out, f"Relabelled for {name}: {told}; {len(out)} of {len(dataset)} steps are left.")


def _failure(task: AnyTask) -> float:
    """The reward of a step that is no success."""
    failure = failure_reward(task)
    if failure is None:
        raise ValueError(
            f"data relabel: the reward of {task.name!r} is dense and cannot be told from observations; give a sparse task"
        )
    return failure


def _observed(task: AnyTask) -> Callable[[Dataset], np.ndarray]:
    """What sees success in the observations that steps led to."""
    seen = success_in(task)
    if seen is None:
        raise ValueError(
            f"data relabel: the observations of {task.name!r} do not tell of success; give a task whose observations do"
        )
    return lambda dataset: seen(dataset.columns["next_obs/state"])


def write_all(datasets: Sequence[Dataset], folders: Sequence[Path]) -> None:
    """Writes a journal of each, all or none. Raises `ValueError` where a folder is there or is given twice."""
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise ValueError(f"data {folders[0]}: it is given twice; give each its own folder")
    for folder, place in zip(folders, places, strict=True):
        inside = next((p for p in place.parents if p in places or (p / "journal.json").is_file()), None)
        if inside is not None:
            raise ValueError(f"data {folder}: it would lie within the journal {inside}; give a folder outside of it")
    for folder in folders:
        if folder.exists():
            raise ValueError(f"journal {folder}: it is already there; give another folder")
    written: list[Path] = []
    try:
        for dataset, folder in zip(datasets, folders, strict=True):
            write_journal(dataset, folder)
            written.append(folder)
    except BaseException:
        for folder in written:
            shutil.rmtree(folder)
        raise
