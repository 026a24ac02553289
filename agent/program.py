"""How a phase begins, and the compiled program that trains in it: for one run, and for several seeds of it as one."""

from collections.abc import Callable, Sequence

import jax

from agent.adopt import adopt, with_std
from agent.replay.mixture import Sources, draw
from agent.types import Method, Metrics, Nets, Phase, State, at_step
from agent.update import train

UNTRAINED_STD = 0.1  # given to a policy that was deterministic, where it is sampled from now on


def begin(
    nets: Nets, phases: Sequence[Phase], index: int, state: State, previous: Method | None
) -> tuple[State, Method | None]:
    """The state at the beginning of a phase, and the method that it is now of.

    It is adopted for the phase's method; then comes what the phase begins anew, copies and changes. A phase that only collects
    leaves the state as it is; where nothing was trained before, it gets that of the next method.

    Args:
        previous: the method that `state` is of; None where it holds no groups yet.
    """
    phase = phases[index]
    upcoming = next((p.method for p in phases[index:] if p.method is not None), None)
    if previous is not None and previous.explore and upcoming is not None and not upcoming.explore:
        state = with_std(state, UNTRAINED_STD)
    method = phase.method if phase.method is not None or previous is not None else upcoming
    if method is not None:
        before = state.params
        state = adopt(nets, method, state, previous, phase.optimizer == "keep", phase.fresh)
        copied = {name: jax.tree.map(lambda x: x.copy(), before[source]) for name, source in phase.copies.items()}
        state = state.replace(params={**state.params, **copied})
    for change in phase.enter:
        state = change(state)
    return state, method if method is not None else previous


def program(nets: Nets, phase: Phase, method: Method) -> Callable[..., tuple[State, Metrics]]:
    """`(state, sources, first step of the phase, steps) -> (state, metrics)`: see `agent.update.train`; not compiled yet."""
    utd = phase.utd if phase.env_steps else 1
    coef = {**method.coef, **phase.coef}

    def run(state: State, sources: Sources, start: jax.Array, steps: jax.Array) -> tuple[State, Metrics]:
        return train(
            nets,
            method,
            state,
            lambda key, i: draw(sources, phase.shares, key, i, start + i, utd, phase.batch_size),
            lambda i: at_step(coef, start + i),
            steps,
        )

    return run
