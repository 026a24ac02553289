"""The raw results of a comparison, cell by cell.

A cell is one (offline method, bridge, online method) on one task, run with S seeds and evaluated T times.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NOTHING = "none"  # the offline method of a cell that starts from nothing


@dataclass(frozen=True)
class Acting:
    """Scores of one way of acting, `(S, T)` each: success rate, raw return, and the normalised score where there is one."""

    success: np.ndarray
    returns: np.ndarray
    normalized: np.ndarray | None

    @property
    def score(self) -> np.ndarray:
        """What is compared, `(S, T)` in 0..1: the normalised score where there is one (of sparse tasks, the success rate)."""
        return self.success if self.normalized is None else np.clip(self.normalized / 100.0, 0.0, 1.0)


@dataclass(frozen=True)
class Cell:
    """Raw results of one cell. `env_steps (T,)` counts warm-up; `diagnostics` are `(S,)` each."""

    offline: str
    bridge: str
    online: str
    task: str
    seeds: tuple[int, ...]
    env_steps: np.ndarray
    mode: Acting
    sample: Acting
    trials: int
    wall_s: float
    data_score: float
    data_return: float
    diagnostics: Mapping[str, np.ndarray]

    @classmethod
    def from_json(cls, value: Any, path: Path) -> "Cell":
        """The cell that a JSON object holds; `path` is named where it does not. Raises `ValueError` in one sentence."""
        fields = _Fields(value, path)
        seeds = fields.numbers("seeds", (None,), whole=True)
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"comparison: {path} has the same seed twice in 'seeds'; run the cell again")
        env_steps = fields.numbers("env_steps", (None,), low=0)
        if not np.all(np.diff(env_steps) > 0):
            raise ValueError(f"comparison: {path} has 'env_steps' that do not rise; run the cell again")
        count, shape = (len(seeds),), (len(seeds), len(env_steps))
        return cls(
            **{name: fields.text(name) for name in ("offline", "bridge", "online", "task")},
            seeds=tuple(int(seed) for seed in seeds),
            env_steps=env_steps,
            mode=fields.acting("mode", shape),
            sample=fields.acting("sample", shape),
            trials=int(fields.numbers("trials", (), low=1, whole=True)),
            wall_s=float(fields.numbers("wall_s", (), low=0)),
            data_score=float(fields.numbers("data.mean_score", (), low=0, high=1)),
            data_return=float(fields.numbers("data.mean_return", ())),
            diagnostics={name: fields.numbers(f"diagnostics.{name}", count) for name in fields.names("diagnostics")},
        )

    @property
    def label(self) -> str:
        """The cell's methods in their order; those of a cell that starts from nothing leave the offline one out."""
        return " → ".join(name for name in (self.offline, self.bridge, self.online) if name != NOTHING)


@dataclass(frozen=True)
class _Fields:
    """Fields of a JSON object by their dotted names, checked as they are read."""

    value: Any
    path: Path

    def get(self, name: str) -> Any:
        value = self.value
        for part in name.split(".", 1):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def text(self, name: str) -> str:
        value = self.get(name)
        return value if isinstance(value, str) and value else self._refuse(name, "a name")

    def names(self, name: str) -> list[str]:
        value = self.get(name)
        return list(value) if isinstance(value, dict) else self._refuse(name, "an object")

    def acting(self, name: str, shape: tuple[int, int]) -> Acting:
        scored = self.get(f"{name}.normalized") is not None
        return Acting(
            success=self.numbers(f"{name}.success", shape, low=0, high=1),
            returns=self.numbers(f"{name}.return", shape),
            normalized=self.numbers(f"{name}.normalized", shape) if scored else None,
        )

    def numbers(
        self, name: str, shape: tuple[int | None, ...], low: float = -np.inf, high: float = np.inf, whole: bool = False
    ) -> np.ndarray:
        """Finite numbers of a shape, where None is any length above 0, from `low` to `high`."""
        wanted = f"{'whole' if whole else 'finite'} numbers of shape {shape} from {low} to {high}".replace(
            "None", "any"
        )
        try:
            found = np.asarray(self.get(name))
        except ValueError:  # rows of different lengths
            return self._refuse(name, wanted)
        fits = found.ndim == len(shape) and all(n == m if m else n > 0 for n, m in zip(found.shape, shape, strict=True))
        if not fits or found.dtype.kind not in ("iu" if whole else "iuf"):
            return self._refuse(name, wanted)
        if not np.all(np.isfinite(found) & (found >= low) & (found <= high)):
            return self._refuse(name, wanted)
        return found

    def _refuse(self, name: str, wanted: str) -> Any:
        found = reprlib.repr(self.get(name))
        raise ValueError(f"comparison: {self.path} has {found} for {name!r}, not {wanted}; run the cell again")
