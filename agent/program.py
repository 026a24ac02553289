"""How a phase begins, and the compiled program that trains in it: for one run, and for several seeds of it as one."""

from collections.abc import Callable, Mapping, Sequence

import jax

from agent.adopt import adopt, with_std
from agent.replay.balanced import draw_balanced, first_priorities, prioritised
from agent.replay.mixture import Sources, draw
from agent.replay.rollout import minibatch, newest, orders
from agent.types import Batch, Method, Metrics, Nets, Params, Phase, State, View, at_step
from agent.update import named_key, train
from agent.vision import with_encoder

UNTRAINED_STD = 0.1  # given to a policy that was deterministic, where it is sampled from now on


def begin(
    nets: Nets,
    phases: Sequence[Phase],
    index: int,
    state: State,
    previous: Method | None,
    rows: Mapping[str, int] | None = None,
) -> tuple[State, Method | None]:
    """The state at the beginning of a phase, and the method that it is now of.

    It is adopted for the phase's method; then comes what the phase begins anew, copies and changes. A phase that only collects
    leaves the state as it is; where nothing was trained before, it gets that of the next method.

    Args:
        previous: the method that `state` is of; None where it holds no groups yet.
        rows: how many the sources have, which a balanced replay gives priorities to.
    """
    phase = phases[index]
    upcoming = next((p.method for p in phases[index:] if p.method is not None), None)
    if previous is not None and previous.explore and upcoming is not None and not upcoming.explore:
        state = with_std(state, UNTRAINED_STD)
    method = phase.method if phase.method is not None or previous is not None else upcoming
    if method is not None:
        before = state.params
        before_it = None if previous is None else with_encoder(nets, previous)
        state = adopt(nets, with_encoder(nets, method), state, before_it, phase.optimizer == "keep", phase.fresh)
        state = with_copies(state, phase.copies, before)
    if phase.replay == "balanced" and rows:
        state = state.replace(priority=first_priorities(rows))
    elif state.priority:
        state = state.replace(priority={})
    for change in phase.enter:
        state = change(state)
    return state, method if method is not None else previous


def with_copies(state: State, copies: Mapping[str, str], of: Params | None = None) -> State:
    """The state with groups that are copies of others, `{copy: source}`: of its own, or of the parameters given."""
    sources = state.params if of is None else of
    copied = {name: jax.tree.map(lambda x: x.copy(), sources[source]) for name, source in copies.items()}
    return state.replace(params={**state.params, **copied})


def renewal_due(phase: Phase, before: int, now: int) -> bool:
    """Whether groups are renewed between two environment steps of a phase that renews at an interval."""
    return phase.renew_every > 0 and before // phase.renew_every != now // phase.renew_every


def program(nets: Nets, phase: Phase, method: Method) -> Callable[..., tuple[State, Metrics]]:
    """`(state, sources, first step of the phase, steps) -> (state, metrics)`: see `agent.update.train`; not compiled yet.

    Of a phase with rollouts, a step is a minibatch, and the first step is the environment step that the rollout began at.
    """
    if phase.rollout:
        return _of_rollouts(nets, phase, method)
    method, coef = with_encoder(nets, method), {**method.coef, **phase.coef}
    balanced, count = phase.replay == "balanced", phase.minibatches_per_step

    def run(state: State, sources: Sources, start: jax.Array, steps: jax.Array) -> tuple[State, Metrics]:
        def batches(state: State, key: jax.Array, i: jax.Array) -> Batch:
            if balanced:
                return draw_balanced(sources, state.priority, key, count, phase.batch_size)
            return draw(sources, phase.shares, key, i, start + i, count, phase.batch_size)

        def after(state: State, batches: Batch, i: jax.Array) -> State:
            return prioritised(View(nets, state, at_step(coef, start + i)), batches) if balanced else state

        return train(nets, method, state, batches, lambda i: at_step(coef, start + i), steps, after)

    return run


def _of_rollouts(nets: Nets, phase: Phase, method: Method) -> Callable[..., tuple[State, Metrics]]:
    """`program` of an on-policy method: one rollout, the newest rows of the replay, in so many minibatches."""
    assert method.rollout is not None
    method, prepare, values = with_encoder(nets, method), method.rollout, {**method.coef, **phase.coef}

    def run(state: State, sources: Sources, start: jax.Array, steps: jax.Array) -> tuple[State, Metrics]:
        columns, place = sources["online"]
        assert place is not None
        coef, key = at_step(values, start), named_key(state, "rollout")
        rollout = prepare(View(nets, state, coef), newest(columns, place, phase.rollout, key))
        order = orders(key, phase.rollout, phase.utd)

        def batches(state: State, key: jax.Array, i: jax.Array) -> Batch:
            return minibatch(rollout, order, i, phase.batch_size)

        return train(nets, method, state, batches, lambda i: coef, steps)

    return run
