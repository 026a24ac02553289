"""The only gradient code: what a step of any method does to the state."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from agent.types import Batch, Groups, Loss, Method, Metrics, Nets, State, View, group_names

Coef = Mapping[str, Any]


def optimizer_of(nets: Nets, method: Method, group: str) -> Any:
    """The optimiser's description for a group: the method's where it names one, else the run's."""
    return method.optimizer[group] if group in method.optimizer else nets.optimizer[group]


def update(nets: Nets, method: Method, state: State, batches: Batch, coef: Coef) -> tuple[State, Metrics]:
    """One step: `each` losses on U minibatches in turn, then `once` losses on their union (WSRL, Algorithm 1).

    Args:
        batches: U minibatches stacked, `(U, B, ...)`.
        coef: the method's numbers at this step.

    Returns:
        The new state and the metrics, named `group/metric`, averaged over the minibatches that computed them. A group that
        is not updated does not move: neither its parameters nor its moments are touched.
    """
    often = {g: loss for g, loss in method.losses.items() if method.cadence.get(g, "each") != "once"}
    once = {g: loss for g, loss in method.losses.items() if g not in often}

    def minibatch(state: State, batch: Batch) -> tuple[State, Metrics]:
        state, metrics = _update_groups(nets, method, often, state, batch, coef)
        return _move_targets(nets, method, state).replace(update_count=state.update_count + 1), metrics

    state, metrics = jax.lax.scan(minibatch, state, batches)
    metrics = jax.tree.map(jnp.nanmean, metrics)
    if once:
        union = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)
        state, more = _update_groups(nets, method, once, state, union, coef)
        metrics = metrics | more
    return state, metrics


def train(
    nets: Nets,
    method: Method,
    state: State,
    draw: Callable[[State, jax.Array, jax.Array], Batch],
    coef: Callable[[jax.Array], Coef],
    steps: jax.Array | int,
    after: Callable[[State, Batch, jax.Array], State] = lambda state, batches, step: state,
) -> tuple[State, Metrics]:
    """`steps` steps in one program: draw U minibatches, update, repeat. The program is the same for any number of steps.

    Args:
        draw: `(state, key, step) -> (U, B, ...)` minibatches, the step counted from 0 within this call.
        coef: `step -> the method's numbers`.
        after: `(state, minibatches, step) -> state`: what the step's minibatches leave behind besides the update.

    Returns:
        The state and the metrics averaged over the steps that computed them, NaN where none did, infinite where one was no
        number; nothing leaves the device in between.
    """

    def step(i: jax.Array, state: State) -> tuple[State, Metrics]:
        batches = draw(state, named_key(state, "draw"), i)
        state, metrics = update(nets, method, state, batches, coef(i))
        return after(state, batches, i), metrics

    def add(i: jax.Array, carry: tuple[State, Metrics, Metrics]) -> tuple[State, Metrics, Metrics]:
        state, total, count = carry
        state, new = step(i, state)
        total = jax.tree.map(lambda t, x: t + jnp.where(jnp.isnan(x), 0.0, x), total, new)
        return state, total, jax.tree.map(lambda c, x: c + ~jnp.isnan(x), count, new)

    shapes = jax.eval_shape(step, jnp.int32(0), state)[1]
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    state, total, count = jax.lax.fori_loop(0, steps, add, (state, zero, zero))
    return state, jax.tree.map(lambda t, c: t / c, total, count)


def named_key(state: State, name: str) -> jax.Array:
    """A key for one named use at this update; a name's letters tell the uses apart."""
    return jax.random.fold_in(jax.random.fold_in(state.key, state.update_count), sum(map(ord, name)))


def _update_groups(
    nets: Nets, method: Method, losses: Mapping[Groups, Loss], state: State, batch: Batch, coef: Coef
) -> tuple[State, Metrics]:
    keys = jax.random.split(named_key(state, "loss"), len(method.losses))
    order = list(method.losses)
    metrics: Metrics = {}
    for groups, loss in losses.items():
        key = keys[order.index(groups)]
        every = method.cadence.get(groups, "each")

        def run(state: State, groups=groups, loss=loss, key=key) -> tuple[State, Metrics]:
            return _update_group(nets, method, groups, loss, state, batch, coef, key)

        if isinstance(every, int) and every > 1:
            shapes = jax.eval_shape(run, state)[1]
            skipped = jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes)
            due = state.update_count % every == every - 1
            state, new = jax.lax.cond(due, run, lambda state, skipped=skipped: (state, skipped), state)
        else:
            state, new = run(state)
        metrics |= {f"{'+'.join(group_names(groups))}/{name}": value for name, value in new.items()}
    return state, metrics


def _update_group(
    nets: Nets, method: Method, groups: Groups, loss: Loss, state: State, batch: Batch, coef: Coef, key: jax.Array
) -> tuple[State, Metrics]:
    names = group_names(groups)
    own = {name: state.params[name] for name in names}
    view = View(nets, state, coef)
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(own, view, batch, key)
    params, opt = dict(state.params), dict(state.opt)
    for name in names:
        transformation = optimizer_of(nets, method, name).transformation()
        delta, opt[name] = transformation.update(gradient[name], state.opt[name], own[name])
        params[name] = optax.apply_updates(own[name], delta)
    # What is no number becomes infinite: NaN is kept for what was not computed.
    found = jax.tree.map(lambda x: jnp.where(jnp.isnan(x), jnp.inf, x), {"loss": value, **metrics})
    return state.replace(params=params, opt=opt), found


def _move_targets(nets: Nets, method: Method, state: State) -> State:
    moved = {
        name: optax.incremental_update(state.params[name], target, nets.tau)
        if method.targets[name] == "moving"
        else target
        for name, target in state.target.items()
    }
    return state.replace(target=moved)
