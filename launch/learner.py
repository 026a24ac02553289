"""The learner: takes transitions in, gives policy parameters out, and walks through the phases of a plan."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.adopt import adopt, first_state
from agent.policy import PolicyParams, policy_params
from agent.replay.dataset import Dataset
from agent.replay.mixture import draw
from agent.replay.ring import Ring
from agent.types import Batch, Method, Metrics, Nets, Normalizer, Phase, State, Transition
from agent.update import train


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
        for phase in self.phases:
            if phase.method is not None and phase.shares.get("offline") and dataset is None:
                raise ValueError(f"phase {phase.name!r} trains on offline data, and there is none; give --data FILE")
        uses_data = any(p.method is not None and p.shares.get("offline") for p in self.phases)
        self._offline = jax.tree.map(jnp.asarray, dataset.batch()) if dataset is not None and uses_data else None
        self._normalizer = jax.tree.map(jnp.asarray, normalizer)
        self._key = jax.random.key(seed)
        self.method = method
        self.state = State({}, {}, {}, self._normalizer, jnp.int32(0), self._key) if state is None else state
        self._phase = -1
        self.phase_env_steps = self.phase_updates = self.updates = 0
        self.enter(0)

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self._phase]

    def enter(self, index: int) -> None:
        """Begins a phase: adopts the state for its method and applies what it does on entry."""
        self._phase, self.phase_env_steps, self.phase_updates = index, 0, 0
        phase = self.phase
        method = phase.method
        if method is None and not self.state.params:
            # Acting before anything was trained needs networks: those of the next phase that has a method.
            method = next((p.method for p in self.phases[index:] if p.method is not None), None)
        if method is not None:
            if self.state.params:
                self.state = adopt(self.nets, method, self.state, self.method, phase.optimizer == "keep")
            else:
                self.state = first_state(self.nets, method, self._normalizer, self._key)
            self.method = method
        for change in phase.enter:
            self.state = change(self.state)
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

    def ingest(self, transitions: Sequence[Transition]) -> None:
        """Puts transitions into the replay."""
        self.ring.add(transitions)
        self.phase_env_steps += len(transitions)

    def learn(self, steps: int) -> Metrics:
        """`steps` steps of `utd` minibatches each in one program (`steps` minibatches in an offline phase).

        Returns the metrics on the device; nothing where the phase only collects.
        """
        if self._program is None or steps < 1:
            return {}
        sources = {}
        for name in self.phase.shares:
            columns = self._offline if name == "offline" else self.ring.columns
            sources[name] = (columns, jnp.int32(len(columns.reward) if name == "offline" else len(self.ring)))
        self.state, metrics = self._program(self.state, sources, jnp.int32(self.phase_env_steps - steps), steps)
        minibatches = steps * (self.phase.utd if self.phase.env_steps else 1)
        self.updates += minibatches
        self.phase_updates += minibatches
        return metrics

    def policy_params(self) -> PolicyParams:
        """What the phase's behaviour needs; the parameters are copies that training does not write over."""
        assert self.phase.collect is not None
        return jax.tree.map(jnp.copy, policy_params(self.state, self.phase.collect))

    def _compile(self, phase: Phase, method: Method) -> Any:
        utd = phase.utd if phase.env_steps else 1
        fixed = {**method.coef, **{name: c for name, c in phase.coef.items() if not callable(c)}}
        schedules = {name: c for name, c in phase.coef.items() if callable(c)}

        @partial(jax.jit, donate_argnums=0)
        def program(
            state: State, sources: Mapping[str, tuple[Batch, jax.Array]], start: jax.Array, steps: jax.Array
        ) -> tuple[State, Metrics]:
            return train(
                self.nets,
                method,
                state,
                lambda key, i: draw(sources, phase.shares, key, utd, phase.batch_size),
                lambda i: {**fixed, **{name: schedule(start + i) for name, schedule in schedules.items()}},
                steps,
            )

        return program


def fetch(metrics: Metrics) -> dict[str, float]:
    """Metrics as plain numbers."""
    return {name: float(np.asarray(value)) for name, value in metrics.items()}
