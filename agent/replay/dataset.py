"""Data sets: transitions in order, with what they mean, in one checked file."""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from agent.replay.episodes import episodes
from agent.replay.journal_info import JournalInfo
from agent.replay.returns import discounted_returns, episode_slices
from agent.types import Batch, Normalizer, Transition

MIN_STD = 1e-3  # below this an observation counts as one that never varied: it is centred and left at its own scale
ACTION_LIMIT = 0.99999  # tanh policies cannot reach +-1; WSRL's public code clips the data's actions so


@dataclass(frozen=True)
class DatasetInfo:
    """What the numbers mean.

    Attributes:
        task: name of the task.
        reward_scale, reward_shift: reward = scale x raw + shift.
        discount: of the task, per step.
        provenance: how it was made, in a sentence.
    """

    task: str
    reward_scale: float
    reward_shift: float
    discount: float
    provenance: str = ""


@dataclass(frozen=True)
class Dataset:
    """Transitions in the order they happened, whole episodes one after another.

    Attributes:
        info: what the numbers mean.
        columns: arrays `(N, ...)`: `obs/NAME`, `next_obs/NAME`, `action`, `executed`, `reward`, `terminated`, `truncated`,
            `source`, `policy_version`, `sequence`.
    """

    info: DatasetInfo
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["reward"])

    @classmethod
    def from_transitions(cls, transitions: Sequence[Transition], info: DatasetInfo) -> "Dataset":
        """Stacks transitions into columns. Raises `ValueError` when there are none."""
        if not transitions:
            raise ValueError("data set: there are no transitions to save; collect at least one episode")
        columns = {}
        for kind in ("obs", "next_obs"):
            for name in getattr(transitions[0], kind):
                columns[f"{kind}/{name}"] = np.stack([getattr(t, kind)[name] for t in transitions])
        types = {
            "action": np.float32,
            "executed": np.float32,
            "reward": np.float32,
            "terminated": bool,
            "truncated": bool,
        }
        types |= {"source": np.int32, "policy_version": np.int64, "sequence": np.int64}
        for name, kind in types.items():
            columns[name] = np.asarray([getattr(t, name) for t in transitions], kind)
        return cls(info, columns)

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            np.savez(file, allow_pickle=False, info=np.str_(json.dumps(asdict(self.info))), **self.columns)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Dataset":
        """Reads a file that `save` wrote, or a journal: its folder, or that of its run.

        Raises:
            ValueError: in one sentence, for anything else.
        """
        journal = next((folder for folder in (path, path / "journal") if (folder / "journal.json").is_file()), None)
        if journal is not None:
            return cls._from_journal(journal)
        if not path.is_file():
            raise ValueError(f"data set {path}: there is no such file; make one with `segue collect --out DIR`")
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
            info = DatasetInfo(**json.loads(str(columns.pop("info"))))
        except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"data set {path}: not a data set of this program or damaged ({error}); make it again with `segue collect`"
            ) from error
        return cls(info, columns)

    @classmethod
    def _from_journal(cls, folder: Path) -> "Dataset":
        """All episodes without a tombstone. One that was cut off counts as truncated where it was: a loss is no end."""
        transitions: list[Transition] = []
        try:
            found = JournalInfo.read(folder)
            for episode in episodes(folder):
                *others, last = episode.transitions
                transitions += [*others, last if episode.complete else replace(last, truncated=True)]
        except (OSError, ValueError) as error:
            raise ValueError(f"data set {folder}: {error}") from error
        info = DatasetInfo(found.task, found.reward_scale, found.reward_shift, found.discount, found.provenance)
        return cls.from_transitions(transitions, info)

    def check(self, obs_shapes: Mapping[str, tuple[int, ...]], action_dim: int, task: str) -> None:
        """Raises `ValueError`, one sentence, where the data does not fit the task or holds numbers that are none."""
        if self.info.task != task:
            raise ValueError(
                f"data set: it is of task {self.info.task!r}, not {task!r}; give one collected on {task!r}"
            )
        want = {f"{kind}/{name}": shape for kind in ("obs", "next_obs") for name, shape in obs_shapes.items()}
        want |= {"action": (action_dim,), "reward": (), "terminated": (), "truncated": ()}
        for name in want:
            if name not in self.columns:
                raise ValueError(f"data set: column {name!r} is missing; collect or import it again")
        rows = self.columns["action"].shape[:1]
        for name, shape in want.items():
            values = self.columns[name]
            if values.shape != (*rows, *shape):
                raise ValueError(
                    f"data set: {name} has shape {values.shape}, the task wants {(*rows, *shape)}; "
                    "use data of this task with the same observations"
                )
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0, 0])
                raise ValueError(f"data set: {name} is not finite in row {row}; remove that episode")
        if not len(self):
            raise ValueError("data set: it has no transitions; collect some")

    @property
    def episodes(self) -> list[slice]:
        """Whole episodes, in order."""
        return episode_slices(self.columns["terminated"] | self.columns["truncated"])

    def success_rate(self) -> float:
        """Share of whole episodes that end in termination."""
        return float(np.mean([self.columns["terminated"][e.stop - 1] for e in self.episodes] or [0.0]))

    def batch(self) -> Batch:
        """All transitions as numpy columns in the replay's layout, with Monte-Carlo returns for whole episodes."""
        c, n = self.columns, len(self)
        mc_return, has_return = np.zeros(n, np.float32), np.zeros(n, np.float32)
        cut = self.info.reward_shift / (1.0 - self.info.discount)
        for episode in self.episodes:
            tail = 0.0 if c["terminated"][episode.stop - 1] else cut
            mc_return[episode] = discounted_returns(c["reward"][episode], tail, self.info.discount)
            has_return[episode] = 1.0
        return Batch(
            obs=_named(c, "obs/"),
            action=np.clip(c["action"], -ACTION_LIMIT, ACTION_LIMIT),
            reward=c["reward"],
            next_obs=_named(c, "next_obs/"),
            mask=1.0 - c["terminated"].astype(np.float32),
            mc_return=mc_return,
            has_return=has_return,
            source=np.full(n, 2, np.int32),
        )

    def normalizer(self) -> Normalizer:
        """Observation statistics of this data, to be frozen into the run."""
        obs = _named(self.columns, "obs/")
        mean = {name: x.mean(axis=0, dtype=np.float64).astype(np.float32) for name, x in obs.items()}
        std = {name: x.std(axis=0, dtype=np.float64).astype(np.float32) for name, x in obs.items()}
        return Normalizer(mean, {name: np.where(x < MIN_STD, np.float32(1.0), x) for name, x in std.items()})


def _named(columns: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): x for name, x in columns.items() if name.startswith(prefix)}
