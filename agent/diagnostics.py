"""What is measured on networks and states: why a fine-tuned policy falls, forgets, or does not.

Everything here reads; nothing trains. Functions of a `View` can be traced by `jax.jit` and, over seeds, by `jax.vmap`. Q
without a subscript is the mean over the ensemble. B is the batch size, A the action dimension, n a number of actions, T of
points or steps, N of parameters.

SOAR's ratios take two critics and one set of actions: those of the policy at step t and of the offline policy, at the same
states. `preference` is called with the critic of step t and again with the critic that the run ended with.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from agent.methods import sac
from agent.types import Array, Batch, View

Obs = Mapping[str, jax.Array]


def preference(view: View, obs: Obs, current_action: jax.Array, offline_action: jax.Array) -> jax.Array:
    """`Delta(s) = Q(s, a_current) - Q(s, a_offline)`, `(B,)`, for two actions `(B, A)` (SOAR, section 6.1)."""
    current, offline = _mean_q(view, obs, jnp.stack([current_action, offline_action]))
    return current - offline


def sqor(delta_now: Array, delta_final: Array) -> jax.Array:
    """Spurious Q-optimism ratio, `()`: the share of states whose two preferences `(B,)` oppose each other (SOAR, section 6.1).

    A preference of 0 opposes nothing, as in the paper's `Delta_t * Delta_final < 0`. A critic that diverged gives NaN.
    """
    return jnp.mean(_opposed(delta_now, delta_final))


def sqog(delta_now: Array, delta_final: Array) -> jax.Array:
    """Spurious Q-optimism gap, `()`: the mean of `|Delta_t - Delta_final|` over the states that `sqor` counts.

    It is 0 where no state is misordered; the paper (SOAR, appendix A) leaves that case open. Its set also holds states with
    one preference of exactly 0, which `sqor` does not count; here both count the same states.
    """
    opposed = _opposed(delta_now, delta_final)
    gap = jnp.where(opposed > 0, jnp.abs(jnp.asarray(delta_now) - jnp.asarray(delta_final)), 0.0)
    return jnp.sum(gap) / jnp.maximum(jnp.sum(opposed), 1.0)


def o_sqor(delta_now: Array, delta_final: Array) -> jax.Array:
    """The one-sided ratio, `()`: the share of states with `Delta_t > 0` and `Delta_final < 0` (SOAR, appendix A)."""
    # Not times a comparison: XLA turns that into a selection, which would lose a NaN.
    return jnp.mean(_opposed(delta_now, delta_final) * jnp.maximum(jnp.sign(jnp.asarray(delta_now)), 0.0))


def _opposed(delta_now: Array, delta_final: Array) -> jax.Array:
    """1 where the signs are opposite, else 0; NaN where a preference is. Signs, as a product of small numbers may be 0."""
    now, final = jnp.shape(delta_now), jnp.shape(delta_final)
    if len(now) != 1 or now != final or not now[0]:
        raise ValueError(
            f"preferences: now {now} and final {final}; give both as (B,) of the same states, at least one"
        )
    return jnp.maximum(-jnp.sign(jnp.asarray(delta_now)) * jnp.sign(jnp.asarray(delta_final)), 0.0)


def squared_change(before: View, after: View, obs: Obs, action: jax.Array) -> jax.Array:
    """`E[(Q_after(s, a) - Q_before(s, a))^2]`, `()`, over actions `(B, A)`: of one update, what `volatility` takes."""
    return jnp.mean((_mean_q(after, obs, action) - _mean_q(before, obs, action)) ** 2)


def volatility(changes: Array, beta: float = 0.9) -> jax.Array:
    """Root of the bias-corrected moving average of mean squared one-step changes of Q `(T,)`, `(T,)` (SOAR, appendix A).

    `sqrt(m_t / (1 - beta^t))` with `m_t = beta m_(t-1) + (1 - beta) changes_t`, t from 1 and m_0 = 0.
    """
    if len(jnp.shape(changes)) != 1 or not 0.0 <= beta < 1.0:
        raise ValueError(
            f"volatility: changes {jnp.shape(changes)} and beta {beta}; give changes as (T,) and beta in 0..1, below 1"
        )

    def step(carry: tuple[jax.Array, jax.Array], change: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        average, weight = beta * carry[0] + (1.0 - beta) * change, beta * carry[1] + (1.0 - beta)
        return (average, weight), average / weight  # the weight is 1 - beta^t, without its cancellation

    start = (jnp.float32(0.0), jnp.float32(0.0))
    return jnp.sqrt(jax.lax.scan(step, start, jnp.asarray(changes, jnp.float32))[1])


def policy_kl(before: View, after: View, obs: Obs) -> jax.Array:
    """`E[KL(pi_before || pi_after)]` in nats, `()`, over the batch: how far a policy left its pre-training (WSRL, appendix E).

    Exact: tanh is one bijection for both, so it is the divergence of the normals under it. A deterministic method leaves the
    std untrained, and the number then says nothing.
    """
    p, q = before.pi(obs), after.pi(obs)
    scaled = (p.mean - q.mean) * jnp.exp(-q.log_std)
    ratio = p.log_std - q.log_std
    # exp(2 r) - 1 as one function: for laws that are almost the same, the terms would cancel to rounding error.
    per_dimension = 0.5 * (jnp.expm1(2.0 * ratio) + scaled**2) - ratio
    return jnp.mean(jnp.sum(per_dimension, axis=-1))


def softmax_q_kl(before: View, after: View, obs: Obs, key: jax.Array, n: int) -> jax.Array:
    """`E[KL(softmax(Q_before) || softmax(Q_after))]` in nats, `()`: how far a critic left its pre-training (WSRL, appendix E).

    The softmax runs over `n` actions at each state, half of them drawn from either policy. WSRL's figure 8 prints
    softmax(pi); the text says softmax(Q). Neither the figure nor the text weights or scales Q, so its unit matters.
    """
    if n < 2 or n % 2:
        raise ValueError(f"softmax_q_kl: n is {n}; give an even number of actions, half for each policy")
    keys = jax.random.split(key)
    drawn = [view.pi(obs).sample(k, n // 2)[0] for view, k in zip((before, after), keys, strict=True)]
    actions = jnp.concatenate(drawn)
    log_p, log_q = (jax.nn.log_softmax(_mean_q(view, obs, actions), axis=0) for view in (before, after))
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=0))


def q_and_td(view: View, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    """Mean Q and mean squared TD error, both `()`, on offline or on online transitions (WSRL, figures 3 and 11).

    The target is that of `agent.methods.sac` whatever the method trains on, so that methods can be compared: no entropy, no
    penalty, the minimum of the sampled target members at one action of the policy.
    """
    td, metrics = sac.critic({}, view, batch, key)
    return {"q": metrics["q"], "td": td}


def value_bias(view: View, obs: Obs, action: jax.Array, mc_return: Array) -> jax.Array:
    """`E[Q(s, a) - return]`, `()`, in units of the return; above 0 the critic promises too much.

    OPT (appendix D, figure 9) measures it at 10 fixed pairs against the critic of a near-optimal policy, which can be handed
    in as well, and prints no normalisation: there is none here.

    Args:
        action: `(B, A)`.
        mc_return: `(B,)` discounted returns, of the rewards that learning sees, of episodes of the policy that Q is to judge;
            only rows where it is known (`Batch.has_return`).
    """
    q = _mean_q(view, obs, action)
    if jnp.shape(mc_return) != q.shape:
        raise ValueError(
            f"value_bias: mc_return is {jnp.shape(mc_return)}, Q is {q.shape}; give one return for each row"
        )
    return jnp.mean(q - jnp.asarray(mc_return))


def _mean_q(view: View, obs: Obs, action: jax.Array) -> jax.Array:
    """Q, the mean over the ensemble: `(B,)` for actions `(B, A)`, `(n, B)` for `(n, B, A)`."""
    rows = {name: len(x) for name, x in obs.items()}
    if set(rows.values()) != {action.shape[-2]}:
        raise ValueError(
            f"actions {action.shape} have {action.shape[-2]} rows, observations {rows}; give as many of each"
        )
    return jnp.mean(view.q(obs, action), axis=0)


def line(a: Any, b: Any, ts: Sequence[float] | Array) -> Any:
    """Parameters on the straight line `(1 - t) a + t b`, stacked `(T, ...)`; exactly a at t = 0 and b at t = 1.

    SMAC's figure 4, with 0 the pre-trained and 1 the fine-tuned parameters, as its caption says; its section 5 prints the
    line the other way round. Roll the policies out, or `jax.vmap` over the first axis.
    """
    _check_alike(a, b)

    def between(x: jax.Array, y: jax.Array) -> jax.Array:
        t = jnp.asarray(ts, jnp.result_type(x)).reshape(-1, *(1,) * jnp.ndim(x))
        return (1 - t) * x[None] + t * y[None]  # a + t (b - a) would miss b by a rounding

    return jax.tree.map(between, a, b)


def plane(a: Any, b: Any, c: Any) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """The plane through three sets of parameters: two directions `(N,)` at right angles, and where the three lie.

    `u = b - a` and `v = w - (w.u / u.u) u` for `w = c - a` (SMAC, appendix M, whose printed v' is not orthogonal). As there,
    neither is scaled to length 1, so a is at (0, 0), b at (1, 0) and c at (w.u / u.u, 1). SMAC's grid of -0.2..1.2 holds c
    only where its first coordinate lies there too. Runs on the host, in double precision.

    Returns:
        u, v, and the coordinates `(3, 2)` of a, b, c; `at` goes from coordinates to parameters.

    Raises:
        ValueError: they differ in shape, or lie on one line.
    """
    _check_alike(a, b, c)
    origin, second, third = (np.asarray(ravel_pytree(x)[0], np.float64) for x in (a, b, c))
    u, w = second - origin, third - origin
    along = float(w @ u / (u @ u)) if u.any() else 0.0
    v = w - along * u
    # Points on one line, rounded to single precision, seem to leave it by about this much.
    rounding = 4 * np.finfo(np.float32).eps * max(np.linalg.norm(x) for x in (origin, second, third))
    if min(np.linalg.norm(u), np.linalg.norm(v)) <= rounding:
        raise ValueError(
            "plane: the three sets of parameters lie on one line; give three that span a plane, or use line"
        )
    return jnp.asarray(u, jnp.float32), jnp.asarray(v, jnp.float32), np.array([[0.0, 0.0], [1.0, 0.0], [along, 1.0]])


def at(origin: Any, u: jax.Array, v: jax.Array, x: float | jax.Array, y: float | jax.Array) -> Any:
    """The parameters `origin + x u + y v`, shaped like `origin`; u and v are `(N,)`, as `plane` gives them."""
    flat, restore = ravel_pytree(origin)
    return restore(flat + x * u + y * v)


def _check_alike(first: Any, *others: Any) -> None:
    expected = _shapes(first)
    for found in map(_shapes, others):
        for name in {**expected, **found}:
            here, there = expected.get(name, "absent"), found.get(name, "absent")
            if here != there:
                raise ValueError(f"parameters{name}: {here} in one, {there} in another; give those of equal networks")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape by the path of a leaf."""
    return {jax.tree_util.keystr(path): jnp.shape(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}
