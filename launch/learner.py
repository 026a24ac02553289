"""The learner: takes transitions in, gives policy parameters out, and walks through the phases of a plan."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from agent.policy import PolicyParams, policy_params
from agent.program import begin, program, renewal_due, with_copies
from agent.replay.balanced import renewed
from agent.replay.dataset import Dataset
from agent.replay.journal_info import session_name
from agent.replay.mixture import HUMAN, Sources, draw_on_host
from agent.replay.ring import Ring
from agent.types import SOURCES, Method, Metrics, Nets, Normalizer, Phase, State, Transition, at_step

OFFLINE_BLOCK = 100  # minibatches per program of an offline phase: how often progress is seen


class Learner:
    """Owns the state, the replay and the place in the plan.

    Args:
        nets: the run's networks.
        phases: the plan.
        normalizer: frozen observation statistics.
        ring: where transitions go.
        dataset: offline transitions, needed where a phase has a share of them.
        seed: of initialisation and all draws.
        state, method: what an earlier run left, to go on from.
    """

    def __init__(
        self,
        nets: Nets,
        phases: Sequence[Phase],
        normalizer: Normalizer,
        ring: Ring,
        dataset: Dataset | None,
        seed: int,
        state: State | None = None,
        method: Method | None = None,
    ) -> None:
        self.nets, self.phases, self.ring = nets, tuple(phases), ring
        on_data = [phase.name for phase in self.phases if phase.method is not None and phase.shares.get("offline")]
        if on_data and dataset is None:
            raise ValueError(f"phase {on_data[0]!r} trains on offline data, and there is none; give --data FILE")
        self._offline = jax.tree.map(jnp.asarray, dataset.batch()) if dataset is not None and on_data else None
        self._normalizer = jax.tree.map(jnp.asarray, normalizer)
        self._key, self._seed = jax.random.key(seed), seed
        self.method = method
        empty = State({}, {}, {}, self._normalizer, jnp.int32(0), self._key)
        self.state = empty if state is None else state.replace(key=self._key)
        self._phase = -1
        self.phase_env_steps = self.phase_updates = self.updates = 0
        self._rollout_at = 0  # insert number of the rollout's first row
        self.enter(0)

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self._phase]

    @property
    def phase_index(self) -> int:
        """Its place in the plan."""
        return self._phase

    def enter(self, index: int) -> None:
        """Begins a phase: adopts the state for its method and applies what it does on entry."""
        self._phase, self.phase_env_steps, self.phase_updates = index, 0, 0
        self._rollout_at = self.ring.inserted
        phase = self.phase
        rows = {"offline": 0 if self._offline is None else len(self._offline.reward), "online": self.ring.capacity}
        self.state, self.method = begin(self.nets, self.phases, index, self.state, self.method, rows)
        self._program = None if phase.method is None else self._compile(phase, phase.method)

    def enter_next(self) -> None:
        """Begins the next phase."""
        self.enter(self._phase + 1)

    @property
    def is_last_phase(self) -> bool:
        """Whether no phase follows."""
        return self._phase == len(self.phases) - 1

    @property
    def remaining(self) -> int:
        """Environment steps left in this phase; updates left in an offline one."""
        if self.phase.env_steps:
            return self.phase.env_steps - self.phase_env_steps
        return self.phase.updates - self.phase_updates

    def numbers(self) -> dict[str, int]:
        """The place in the plan: with the state and the replay, all from which `restore` goes on."""
        return {
            "phase": self._phase,
            "phase_env_steps": self.phase_env_steps,
            "phase_updates": self.phase_updates,
            "updates": self.updates,
        }

    def restore(self, state: State, numbers: Mapping[str, int]) -> None:
        """Goes on from a saved state and `numbers`, in the phase that they were saved in (see `enter_next`)."""
        self.state = jax.tree.map(jnp.asarray, state)
        self.phase_env_steps, self.phase_updates = numbers["phase_env_steps"], numbers["phase_updates"]
        self.updates = numbers["updates"]

    def ingest(self, transitions: Sequence[Transition], env_steps: int) -> None:
        """Puts transitions into the replay, and counts the environment steps taken: more where an operator removed some."""
        before = self.ring.inserted
        if self.phase.rollout:
            check_own(transitions)
            if not self.open_steps:
                self._rollout_at = before
        self.ring.add(transitions)
        if renewal_due(self.phase, self.phase_env_steps, self.phase_env_steps + env_steps):
            self._renew()
        self.phase_env_steps += env_steps
        if self.state.priority:
            written = jnp.asarray(np.arange(before, self.ring.inserted) % self.ring.capacity)
            self.state = self.state.replace(priority=renewed(self.state.priority, written))

    def evaluated(self, best: bool) -> None:
        """An evaluation was made, `best` of the run so far or not; running free, the policy has moved on a little since."""
        if best and not self.phase.renew_every:
            self._renew()

    def _renew(self) -> None:
        self.state = with_copies(self.state, self.phase.renews)

    @property
    def open_steps(self) -> int:
        """Environment steps of the rollout under way; 0 between two, and where the phase has none."""
        return self.phase_env_steps % self.phase.rollout if self.phase.rollout else 0

    def reopen(self, transitions: Sequence[Transition]) -> None:
        """The replay was filled again: its newest rows, which are these, are those of the rollout under way."""
        check_own(transitions)
        self._rollout_at = self.ring.inserted - len(transitions)

    def portion(self, waiting: int) -> int:
        """How many of `waiting` environment steps to ingest before learning: none of the next phase or of the next rollout."""
        within = waiting if self.is_last_phase else min(waiting, self.remaining)
        return self.phase.portion(within, self.phase_env_steps)

    @property
    def can_learn(self) -> bool:
        """Whether this phase trains, and there is something to draw: an operator may have removed every episode."""
        return self.phase.method is not None and (len(self.ring) > 0 or set(self.phase.shares) <= {"offline"})

    @property
    def owed(self) -> int:
        """Environment steps of this phase whose updates are to be made now; negative where learning is ahead.

        Of rollouts, those of one that is whole, has rows, and was not learned from.
        """
        if not self.can_learn:
            return 0
        if self.phase.rollout:
            due = self.phase_env_steps <= self.phase.env_steps and not self.open_steps and self._rollout_rows
            return self.phase.rollout if due else 0
        return min(self.phase_env_steps, self.phase.env_steps) - self.phase_updates // self.phase.utd

    def learn(self, steps: int) -> Metrics:
        """`steps` steps of `utd` minibatches each in one program (`steps` minibatches in an offline phase; a whole rollout).

        Returns the metrics on the device; nothing where the phase only collects.
        """
        if self._program is None or steps < 1:
            return {}
        sources, each = self._sources(steps), self.phase.minibatches_per_step
        start = self.phase_updates // each
        if self.phase.rollout:
            start, steps = self.phase_env_steps - steps, self.phase.minibatches_of(self._rollout_rows)
            self._rollout_at = self.ring.inserted  # it is learned from once
        self.state, metrics = self._program(self.state, sources, jnp.int32(start), steps)
        minibatches = steps * each
        self.updates += minibatches
        self.phase_updates += minibatches
        return metrics

    def policy_params(self) -> PolicyParams:
        """What the phase's behaviour needs; the parameters are copies that training does not write over."""
        assert self.phase.collect is not None
        coef = {name: float(x) for name, x in at_step(self.phase.acting, self.phase_env_steps).items()}
        now = policy_params(self.state, self.phase.collect, coef)
        params, normalizer = jax.tree.map(jnp.copy, (now.params, now.normalizer))
        return now.replace(params=params, normalizer=normalizer)

    @property
    def _rollout_rows(self) -> int:
        return self.ring.inserted - self._rollout_at

    def _sources(self, steps: int) -> Sources:
        sources = {}
        for name in self.phase.shares:
            if name == "offline":
                assert self._offline is not None
                sources[name] = (self._offline, jnp.int32(len(self._offline.reward)))
            elif self.phase.rollout:
                place = (self.ring.inserted % self.ring.capacity, self._rollout_rows)
                sources[name] = (self.ring.columns, jnp.array(place, jnp.int32))
            elif self.ring.on_device:
                sources[name] = (self.ring.columns, jnp.int32(len(self.ring)))
            else:
                # Always drawn for a power of two of steps, so that few programs are compiled.
                phase, own = self.phase, [1] if name == HUMAN else []
                rng = np.random.default_rng([self._seed, self.updates, *own])
                drawn = 1 << (steps - 1).bit_length()
                batches = draw_on_host(
                    self.ring, phase.shares, rng, drawn, phase.minibatches_per_step, phase.batch_size, name
                )
                sources[name] = (jax.device_put(batches), None)
        return sources

    def _compile(self, phase: Phase, method: Method) -> Callable[..., tuple[State, Metrics]]:
        return jax.jit(program(self.nets, phase, method), donate_argnums=0)


def fetch(metrics: Metrics) -> dict[str, float]:
    """Metrics as plain numbers."""
    return {name: float(np.asarray(value)) for name, value in metrics.items()}


def check_own(transitions: Sequence[Transition]) -> None:
    """Raises `ValueError` where not all of a rollout's actions were drawn by the policy."""
    found = next((t for t in transitions if SOURCES[t.source] != "policy"), None)
    if found is not None:
        raise ValueError(
            f"session {session_name(found.session)}: action {found.sequence} is of source {SOURCES[found.source]!r}, and an "
            "on-policy method compares probabilities of actions that its own policy drew; take that episode out with "
            "`segue journal discard` and go on with --resume, or choose another online method"
        )
