"""The fixed trials of a task for every seed of a population at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from agent.types import Behavior, Nets, State
from launch.evaluate import MODES, Mode
from launch.fleet import is_vectorised, make_fleet
from launch.population import acting
from launch.tasks import AnyTask, normalized_score, trial_starts

NO_ACTOR = 2**31 - 1  # folded into a seed's key; actors fold their own small numbers


@dataclass(frozen=True)
class Outcomes:
    """Of S seeds on N trials.

    Attributes:
        success, raw_return: `(S, N)`.
        normalized: `(S, N)`, or None where the task has no such score.
    """

    success: np.ndarray
    raw_return: np.ndarray
    normalized: np.ndarray | None


class Examiner:
    """Runs a task's fixed trials with the policies of S seeds, in lanes of S environments each.

    Args:
        nets, task: of the run.
        seeds: S; of sampled actions.
        trials: how many.
        behaviors: how policies act in each mode.
    """

    def __init__(
        self, nets: Nets, task: AnyTask, seeds: Sequence[int], trials: int, behaviors: Mapping[Mode, Behavior]
    ) -> None:
        self._task, self._starts, self._members = task, trial_starts(task, trials), len(seeds)
        self._lanes = trials if is_vectorised(task) else 1
        self._fleet = make_fleet(task, self._members * self._lanes)
        self._groups = {mode: behavior.groups for mode, behavior in behaviors.items()}
        self._policies = {mode: self._in_lanes(acting(nets, behavior)) for mode, behavior in behaviors.items()}
        self._keys = jnp.stack([jax.random.fold_in(jax.random.key(seed), NO_ACTOR) for seed in seeds])
        self.evaluations = 0

    def _in_lanes(self, policy: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        # Seeds are the outer axis, so that parameters are read once for all lanes of a seed.
        over_lanes = jax.vmap(policy, in_axes=(None, None, None, 1, None, 1, 1), out_axes=1)
        return jax.jit(over_lanes)

    def both(self, state: State) -> dict[Mode, Outcomes]:
        """All trials with each way of acting; `state` is a population's."""
        self.evaluations += 1
        return {mode: self(state, mode) for mode in MODES}

    def __call__(self, state: State, mode: Mode) -> Outcomes:
        """All trials with one way of acting."""
        parts = [self._round(state, mode, first) for first in range(0, len(self._starts), self._lanes)]
        success, raw = (np.concatenate([part[i] for part in parts], axis=1) for i in range(2))
        scores = [normalized_score(self._task, float(r), bool(s)) for r, s in zip(raw.flat, success.flat, strict=True)]
        known = None if scores[0] is None else np.asarray(scores, float).reshape(raw.shape)
        return Outcomes(success, raw, known)

    def _round(self, state: State, mode: Mode, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Trials `first` and on, one in each lane: success and raw return `(S, lanes)`."""
        s, lanes = self._members, self._lanes
        params = {group: state.params[group] for group in self._groups[mode]}
        keys = jax.vmap(lambda key: jax.random.fold_in(key, self.evaluations))(self._keys)
        starts = [self._starts[first + lane] for lane in range(lanes)] * s
        obs = self._fleet.reset(range(s * lanes), starts)
        live, raw, success = np.ones(s * lanes, bool), np.zeros(s * lanes), np.zeros(s * lanes, bool)
        step, limit = 0, self._task.max_steps + 1
        calls = np.broadcast_to(np.arange(first, first + lanes)[None, :] * limit, (s, lanes))
        while live.any():
            folded = {name: x.reshape(s, lanes, *x.shape[1:]) for name, x in obs.items()}
            at = np.full((s, lanes), step, np.int32)
            actions = self._policies[mode](
                params, state.normalizer, {}, folded, keys, (calls + step).astype(np.int32), at
            )
            taken = self._fleet.step(np.asarray(actions).reshape(s * lanes, -1), live)
            raw += np.where(live, taken.raw_reward, 0.0)
            success |= live & taken.succeed
            live &= ~taken.over
            obs, step = taken.next_obs, step + 1
        return success.reshape(s, lanes), raw.reshape(s, lanes)

    def close(self) -> None:
        """Closes the environments."""
        self._fleet.close()
