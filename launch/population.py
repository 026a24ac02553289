"""Several seeds of one run, trained as one program: the seeds are a leading axis of states, replays and actions."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.policy import act
from agent.program import begin, program, renewal_due, with_copies
from agent.replay.balanced import renewed
from agent.replay.dataset import Dataset
from agent.replay.rings import Rings
from agent.types import Behavior, Method, Metrics, Nets, Normalizer, Phase, State, at_step
from launch.actor import episode_seed
from launch.fleet import Fleet
from launch.tasks import TrialStart

# All seeds have made as many updates; an unbatched count lets a cadence skip its work instead of computing and discarding it.
_axes: Any = State  # its fields hold axes here, not arrays
AXES = _axes(params=0, target=0, opt=0, normalizer=0, update_count=None, key=0, priority=0)


def stack(states: Sequence[State]) -> State:
    """States of as many seeds as one, `(S, ...)`."""
    joined = jax.tree.map(lambda *x: jnp.stack(x), *states)
    return joined.replace(update_count=states[0].update_count)


def member(state: State, index: int) -> State:
    """One seed's state out of a stacked one."""
    one = jax.tree.map(lambda x: x[index], state.replace(update_count=jnp.zeros(index + 1, jnp.int32)))
    return one.replace(update_count=state.update_count)


def seeds_program(nets: Nets, phase: Phase, method: Method, count: int) -> Callable[..., tuple[State, Metrics]]:
    """`agent.program.program` of `count` seeds: `(state, columns by source, sizes by source, first step, steps)`.

    State and the replay's columns have a leading axis of seeds, and so have the metrics; data set and sizes are of all. One
    seed is run without the axis: on a CPU a second batch axis makes CQL's products two to eight times as slow.
    """
    run, axes = program(nets, phase, method), {name: 0 if name == "online" else None for name in phase.shares}

    def one(state: State, filled: Mapping[str, Any], sizes: Any, start: Any, steps: Any) -> tuple[State, Metrics]:
        return run(state, {name: (filled[name], sizes[name]) for name in filled}, start, steps)

    def alone(state: State, filled: Mapping[str, Any], sizes: Any, start: Any, steps: Any) -> tuple[State, Metrics]:
        own = {n: x if axes[n] is None else jax.tree.map(lambda leaf: leaf[0], x) for n, x in filled.items()}
        after, metrics = one(member(state, 0), own, sizes, start, steps)
        return stack([after]), jax.tree.map(lambda x: x[None], metrics)

    return alone if count == 1 else jax.vmap(one, in_axes=(AXES, axes, None, None, None), out_axes=(AXES, 0))


class Population:
    """What `launch.learner.Learner` is to one run, to S of them that differ in their seed.

    Args:
        nets, phases, normalizer, dataset: as of a learner.
        seeds: S seeds, of initialisation, resets, actions and draws.
        rings: their replays; None where all phases are offline.
        state: what an earlier run left, one state or `(S, ...)`, to go on from; None for nothing.
        method: which that was trained with.
    """

    def __init__(
        self,
        nets: Nets,
        phases: Sequence[Phase],
        normalizer: Normalizer,
        dataset: Dataset | None,
        seeds: Sequence[int],
        rings: Rings | None = None,
        states: Sequence[State] | None = None,
        method: Method | None = None,
    ) -> None:
        self.nets, self.phases, self.seeds, self.rings = nets, tuple(phases), tuple(seeds), rings
        on_data = any(phase.method is not None and "offline" in phase.shares for phase in self.phases)
        self._offline = jax.tree.map(jnp.asarray, dataset.batch()) if dataset is not None and on_data else None
        self.keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        normalizer = jax.tree.map(jnp.asarray, normalizer)
        empty = State({}, {}, {}, normalizer, jnp.int32(0), self.keys[0])
        self.method = method
        self.state = stack([empty] * len(seeds) if states is None else states).replace(key=self.keys)
        self.phase_index, self.phase_env_steps, self.phase_updates = -1, 0, 0
        self.enter(0)

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self.phase_index]

    @property
    def is_last_phase(self) -> bool:
        """Whether no phase follows."""
        return self.phase_index == len(self.phases) - 1

    @property
    def remaining(self) -> int:
        """Environment steps, of each seed, left in this phase; updates left in an offline one."""
        if self.phase.env_steps:
            return self.phase.env_steps - self.phase_env_steps
        return self.phase.updates - self.phase_updates

    def enter(self, index: int) -> None:
        """Begins a phase."""
        self.phase_index, self.phase_env_steps, self.phase_updates = index, 0, 0
        # One by one and not compiled: in one program on a CPU, XLA's orthogonal initialisers wait for each other for ever.
        rows = {"offline": 0 if self._offline is None else len(self._offline.reward)}
        rows["online"] = 0 if self.rings is None else self.rings.capacity
        begun = [
            begin(self.nets, self.phases, index, member(self.state, i), self.method, rows)
            for i in range(len(self.seeds))
        ]
        self.state, self.method = stack([state for state, _ in begun]), begun[0][1]
        self._program = None if self.phase.method is None else self._compile(self.phase, self.phase.method)

    def _compile(self, phase: Phase, method: Method) -> Callable[..., Any]:
        return jax.jit(seeds_program(self.nets, phase, method, len(self.seeds)), donate_argnums=0)

    def portion(self, waiting: int) -> int:
        """How many of `waiting` environment steps to take before learning, as of a learner."""
        return self.phase.portion(min(waiting, self.remaining), self.phase_env_steps)

    def learn(self, steps: int) -> Metrics:
        """`steps` steps of `utd` minibatches each, of every seed; of rollouts, one that is whole after them.

        Returns metrics `(S,)` on the device, nothing where a rollout is under way.
        """
        assert self._program is not None
        phase, each = self.phase, self.phase.minibatches_per_step
        start = self.phase_updates // each
        if phase.rollout:
            if self.phase_env_steps % phase.rollout:
                return {}
            start, steps = self.phase_env_steps - phase.rollout, phase.minibatches_of(phase.rollout)
        filled, sizes = {}, {}
        for name in self.phase.shares:
            if name == "offline":
                assert self._offline is not None
                filled[name], sizes[name] = self._offline, jnp.int32(len(self._offline.reward))
            else:
                assert self.rings is not None
                place = (self.rings.inserted % self.rings.capacity, phase.rollout)
                size = jnp.array(place, jnp.int32) if phase.rollout else jnp.int32(len(self.rings))
                filled[name], sizes[name] = self.rings.columns, size
        self.state, metrics = self._program(self.state, filled, sizes, jnp.int32(start), steps)
        self.phase_updates += steps * each
        return metrics

    def ingest(
        self, count: int, obs: Mapping[str, np.ndarray], next_obs: Mapping[str, np.ndarray], **columns: np.ndarray
    ) -> None:
        """Puts `count` steps of every seed into the replays; see `Rings.add`."""
        assert self.rings is not None
        before = self.rings.inserted
        self.rings.add(obs, next_obs, **columns)
        if renewal_due(self.phase, self.phase_env_steps, self.phase_env_steps + count):
            self.state = with_copies(self.state, self.phase.renews)
        self.phase_env_steps += count
        if self.state.priority:
            written = jnp.asarray(np.arange(before, self.rings.inserted) % self.rings.capacity)
            priority = jax.vmap(renewed, in_axes=(0, None))(self.state.priority, written)
            self.state = self.state.replace(priority=priority)

    def evaluated(self, best: np.ndarray) -> None:
        """An evaluation was made of the policies that there are; `best (S,)` tells whose was that seed's best so far."""
        if not self.phase.renews or self.phase.renew_every:
            return
        renewed = with_copies(self.state, self.phase.renews).params

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(best.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        self.state = self.state.replace(params=jax.tree.map(choose, renewed, self.state.params))

    def numbers(self) -> dict[str, int]:
        """The place in the plan."""
        return {
            "phase": self.phase_index,
            "phase_env_steps": self.phase_env_steps,
            "phase_updates": self.phase_updates,
            "inserted": 0 if self.rings is None else self.rings.inserted,
        }

    def arrays(self) -> dict[str, Any]:
        """All arrays from which `restore` goes on."""
        return {"state": self.state} if self.rings is None else {"state": self.state, "replay": self.rings.columns}

    def restore(self, arrays: Mapping[str, Any], numbers: Mapping[str, int]) -> None:
        """Goes on in the phase that was entered; the episodes that were open are forgotten."""
        self.state = jax.tree.map(jnp.asarray, arrays["state"])
        self.phase_env_steps, self.phase_updates = numbers["phase_env_steps"], numbers["phase_updates"]
        if self.rings is not None:
            self.rings.columns = jax.tree.map(jnp.asarray, arrays["replay"])
            self.rings.inserted = numbers["inserted"]
            self.rings.abandon()


class Crew:
    """Acts for all seeds of a population, each as `launch.actor.Actor` would for it.

    Args:
        population: whose policies act, and whose replays are filled.
        fleet: one environment for each seed.
    """

    def __init__(self, population: Population, fleet: Fleet) -> None:
        self.population, self.fleet = population, fleet
        self.episodes = np.zeros(fleet.count, int)
        self.env_steps = 0
        self._steps = np.zeros(fleet.count, np.int32)
        self._obs: dict[str, np.ndarray] | None = None
        self._policies: dict[int, Callable[..., jax.Array]] = {}
        self._keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(population.keys)

    def perform(self, count: int) -> None:
        """`count` control steps of every seed, with the policies as they are, into the replays."""
        population, fleet = self.population, self.fleet
        behavior, phase = population.phase.collect, population.phase
        assert behavior is not None
        policy = self._policies.setdefault(population.phase_index, acting(population.nets, behavior))
        params = {group: population.state.params[group] for group in behavior.groups}
        coef = {name: float(x) for name, x in at_step(phase.acting, population.phase_env_steps).items()}
        taken, before, live = [], [], np.ones(fleet.count, bool)
        for _ in range(count):
            self._begin()
            obs = {name: x.copy() for name, x in (self._obs or {}).items()}
            call = np.full(fleet.count, self.env_steps, np.int32)
            actions = policy(params, population.state.normalizer, coef, obs, self._keys, call, self._steps)
            steps = fleet.step(np.asarray(actions), live)
            before.append(obs)
            taken.append(steps)
            # A copy: a new episode is written into it, and these are also what the replay gets as next observations.
            self._obs = {name: np.array(x) for name, x in steps.next_obs.items()}
            self._steps = np.where(steps.over, 0, self._steps + 1).astype(np.int32)
            self.env_steps += 1
        names = ("action", "reward", "terminated", "truncated")
        columns = {name: np.stack([getattr(steps, name) for steps in taken], axis=1) for name in names}
        population.ingest(count, _in_turn(before), _in_turn([steps.next_obs for steps in taken]), **columns)

    def _begin(self) -> None:
        """Begins an episode in every row that has none under way."""
        rows = np.flatnonzero(self._steps == 0)
        if not len(rows):
            return
        starts = [TrialStart(episode_seed(self.population.seeds[row], int(self.episodes[row]))) for row in rows]
        first = self.fleet.reset(rows.tolist(), starts)
        if self._obs is None:
            self._obs = {name: np.zeros((self.fleet.count, *x.shape[1:]), x.dtype) for name, x in first.items()}
        for name, x in first.items():
            self._obs[name][rows] = x
        self.episodes[rows] += 1


def _in_turn(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """n steps of `(S, ...)` as `(S, n, ...)`."""
    return {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}


def acting(nets: Nets, behavior: Behavior) -> Callable[..., jax.Array]:
    """`agent.policy.act` of every seed, compiled: all arguments but the behaviour's numbers `(S, ...)`."""
    return jax.jit(jax.vmap(partial(act, nets, behavior), in_axes=(0, 0, None, 0, 0, 0, 0)))
