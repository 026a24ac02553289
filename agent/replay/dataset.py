"""Data sets: transitions in order as columns, with what they mean."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.replay.columns import read_columns
from agent.replay.entry import Layout
from agent.replay.frames import FRAME, Encode
from agent.replay.journal_info import DatasetInfo, JournalInfo, journal_folder
from agent.replay.returns import discounted_returns, episode_slices
from agent.types import SOURCES, Batch, Normalizer

MIN_STD = 1e-3  # below this an observation counts as one that never varied: it is centred and left at its own scale
ACTION_LIMIT = 0.99999  # tanh policies cannot reach +-1; WSRL's public code clips the data's actions so


@dataclass(frozen=True)
class Dataset:
    """Transitions in the order they happened, one episode after another.

    Attributes:
        info: what the numbers mean.
        columns: arrays `(N, ...)`: `obs/NAME`, `next_obs/NAME`, `action`, `executed`, `reward` (float64), `terminated`,
            `truncated`, `success` (whether the episode has succeeded by then), `source`, `policy_version`.
        frames: once pictures are told apart from the rest (see `encoded`): each once, `(F, 1 + V, ...)` by camera; the columns
            then have `obs/frame` and `next_obs/frame` in their place.
    """

    info: DatasetInfo
    columns: Mapping[str, np.ndarray]
    frames: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["reward"])

    @classmethod
    def of(
        cls,
        info: DatasetInfo,
        obs: Mapping[str, np.ndarray],
        next_obs: Mapping[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        success: np.ndarray | None = None,
        **others: np.ndarray,
    ) -> "Dataset":
        """A data set of arrays `(N, ...)` in order.

        Args:
            success: `(N,)` whether the episode has succeeded by then; never where it is None.
            others: `executed`, `source`, `policy_version`; by default the action, offline, and 0.

        Raises:
            ValueError: there are no transitions, or the arrays are not equally long.
        """
        columns = {f"obs/{name}": np.asarray(x) for name, x in obs.items()}
        columns |= {f"next_obs/{name}": np.asarray(x) for name, x in next_obs.items()}
        action, rows = np.asarray(action), len(reward)
        columns |= {"action": action, "executed": action, "reward": np.asarray(reward, np.float64)}
        columns |= {"terminated": np.asarray(terminated, bool), "truncated": np.asarray(truncated, bool)}
        columns["success"] = np.zeros(rows, bool) if success is None else np.asarray(success, bool)
        columns["source"] = np.full(rows, SOURCES.index("offline"), np.int32)
        columns |= {"policy_version": np.zeros(rows, np.int64), **others}
        for name, x in columns.items():
            if len(x) != rows:
                raise ValueError(f"data set: {name} has {len(x)} rows, reward has {rows}; they must be equally many")
        if not rows:
            raise ValueError("data set: there are no transitions; give at least one episode")
        return cls(info, columns)

    @property
    def layout(self) -> Layout:
        """What one transition holds."""
        obs = {name: (x.dtype.str, x.shape[1:]) for name, x in self._named("obs/").items()}
        return Layout(obs, self.columns["action"].shape[1], self.columns["action"].dtype.str)

    def rows(self, which: Any) -> "Dataset":
        """The rows that an index or a mask picks, in the same order."""
        return replace(self, columns={name: x[which] for name, x in self.columns.items()})

    @classmethod
    def load(cls, path: Path) -> "Dataset":
        """Reads a journal: its folder, or that of its run. One episode that was cut off counts as truncated where it was.

        Raises:
            ValueError: in one sentence, for anything else.
        """
        folder = journal_folder(path)
        if folder is None:
            raise ValueError(
                f"data set {path}: there is no journal; make one with `segue collect`, or with `segue data import`"
            )
        try:
            info = JournalInfo.read(folder)
            columns = read_columns(folder, info)
        except (OSError, ValueError) as error:
            raise ValueError(f"data set {folder}: {error}") from error
        if not len(columns["reward"]):
            raise ValueError(f"data set {folder}: it holds no transition that may be learned from; collect some")
        names = DatasetInfo.__dataclass_fields__
        return cls(DatasetInfo(**{name: getattr(info, name) for name in names}), columns)

    def under(self, info: DatasetInfo) -> "Dataset":
        """The same transitions as another convention for the same raw rewards has them: reward, discount, truncation value."""
        mine, columns = self.info, dict(self.columns)
        if (mine.reward_scale, mine.reward_shift) != (info.reward_scale, info.reward_shift):
            raw = (columns["reward"] - mine.reward_shift) / mine.reward_scale
            columns["reward"] = info.reward_scale * raw + info.reward_shift
        kept = {name: getattr(info, name) for name in ("discount", "reward_scale", "reward_shift", "truncation_value")}
        return replace(self, info=replace(mine, **kept), columns=columns)

    def pictures(self, cameras: Collection[str]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Each picture once, `(F, H, W, 3)` by camera, in order; and where each transition's first and next one are, `(N,)`."""
        end = self.columns["terminated"] | self.columns["truncated"]
        episodes = episode_slices(np.append(end[:-1], True))  # with one at the end that has no end mark
        starts = np.zeros(len(self), bool)
        starts[[episode.start for episode in episodes]] = True
        following = np.arange(len(self)) + np.cumsum(starts)
        found = {}
        for name in cameras:
            found[name] = np.empty((len(self) + len(episodes), *self.columns[f"obs/{name}"].shape[1:]), np.uint8)
            found[name][following] = self.columns[f"next_obs/{name}"]
            found[name][(following - 1)[starts]] = self.columns[f"obs/{name}"][starts]
        return found, (following - 1).astype(np.int32), following.astype(np.int32)

    def encoded(self, cameras: Collection[str], encode: Encode) -> "Dataset":
        """The same with what is kept of pictures in their place: `encode` makes it of each once."""
        pictures, first, following = self.pictures(cameras)
        rest = {name: x for name, x in self.columns.items() if name.partition("/")[2] not in cameras}
        rest |= {f"obs/{FRAME}": first, f"next_obs/{FRAME}": following}
        return replace(self, columns=rest, frames=encode(pictures))

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
        """Share of whole episodes that succeeded."""
        return float(np.mean([self.columns["success"][e.stop - 1] for e in self.episodes] or [0.0]))

    def batch(self) -> Batch:
        """All transitions as numpy columns in the replay's layout, with Monte-Carlo returns for whole episodes."""
        c, n = self.columns, len(self)
        mc_return, has_return, ended = np.zeros((3, n), np.float32)
        reward = c["reward"].astype(np.float32)  # as the temporal-difference target sees it
        for episode in self.episodes:
            tail = 0.0 if c["terminated"][episode.stop - 1] else self.info.truncation_value
            mc_return[episode] = discounted_returns(reward[episode], tail, self.info.discount)
            has_return[episode] = 1.0
            ended[episode.stop - 1] = 1.0
        return Batch(
            obs=_single(self._named("obs/")),
            action=np.clip(c["action"], -ACTION_LIMIT, ACTION_LIMIT).astype(np.float32),
            reward=reward,
            next_obs=_single(self._named("next_obs/")),
            mask=1.0 - c["terminated"].astype(np.float32),
            mc_return=mc_return,
            has_return=has_return,
            source=np.full(n, SOURCES.index("offline"), np.int32),
            ended=ended,
            outcome=self._outcome(),
            frames=dict(self.frames) or None,
        )

    def _outcome(self) -> np.ndarray:
        """The undiscounted return of each transition's whole episode, scaled to 0..1 over the data (SMAC, section 6.1)."""
        found = np.zeros(len(self), np.float32)
        totals = np.asarray([self.columns["reward"][episode].sum() for episode in self.episodes])
        spread = np.ptp(totals) if len(totals) else 0.0
        for episode, total in zip(self.episodes, totals, strict=True):
            found[episode] = (total - totals.min()) / spread if spread > 0 else 1.0
        return found

    def normalizer(self) -> Normalizer:
        """Observation statistics of this data, to be frozen into the run; of features, for each channel; pictures have none."""
        obs = {name: x for name, x in self._named("obs/").items() if name != FRAME}
        features = {name: x[:, 0] for name, x in self.frames.items() if x.dtype != np.uint8}
        obs |= {name: x.reshape(-1, x.shape[-1]) for name, x in features.items()}
        mean = {name: x.mean(axis=0, dtype=np.float64).astype(np.float32) for name, x in obs.items()}
        std = {name: x.std(axis=0, dtype=np.float64).astype(np.float32) for name, x in obs.items()}
        return Normalizer(mean, {name: np.where(x < MIN_STD, np.float32(1.0), x) for name, x in std.items()})

    def _named(self, prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): x for name, x in self.columns.items() if name.startswith(prefix)}


def _single(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in arrays.items()}
