"""Balanced replay: what is drawn, what priorities become, and that the network finds a ratio of densities."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import first_state
from agent.bridges import find_bridge
from agent.bridges.balanced import density
from agent.methods import find_method
from agent.optim import Adam
from agent.plan import plan
from agent.policy import SAMPLE
from agent.program import begin, program
from agent.replay.balanced import draw_balanced, first_priorities, halves, prioritised, renewed
from agent.types import SOURCES, Method, Phase, View
from agent.update import train
from tests.agent.tiny import batch, hand_nets, hand_state, identity, linear_critics, random_batch, tiny_nets, tiny_state


def numbered(first: int, rows: int, source: str):
    """A replay whose rewards are its row numbers."""
    found = random_batch(0, rows)
    return found.replace(
        reward=jnp.arange(first, first + rows, dtype=jnp.float32),
        source=jnp.full(rows, SOURCES.index(source), jnp.int32),
    )


SOURCES_HERE = {
    "offline": (numbered(0, 3, "offline"), jnp.int32(3)),
    "online": (numbered(3, 4, "policy"), jnp.int32(2)),
}


def test_transitions_are_drawn_in_proportion_to_their_priorities_and_new_ones_as_often_as_the_highest():
    priority = {"offline": jnp.array([1.0, 2.0, 0.5]), "online": jnp.array([0.5, 0.0, 9.0, 9.0])}  # two are not filled
    priority["highest"] = jnp.float32(4.0)
    drawn = draw_balanced(
        SOURCES_HERE, priority | {"online": priority["online"].at[2:].set(0)}, jax.random.key(0), 50, 1000
    )
    assert drawn.reward.shape == drawn.index.shape == (50, 1000)
    np.testing.assert_array_equal(drawn.reward, drawn.index)  # each row is what its index says
    np.testing.assert_array_equal(drawn.source == SOURCES.index("offline"), drawn.index < 3)
    often = np.bincount(np.asarray(drawn.index).ravel(), minlength=7) / 50_000
    np.testing.assert_allclose(often, np.array([1.0, 2.0, 0.5, 0.5, 4.0, 0.0, 0.0]) / 8.0, atol=0.01)


def test_the_contrast_is_half_of_each_drawn_evenly():
    priority = {"offline": jnp.array([1.0, 0.0, 0.0]), "online": jnp.zeros(4), "highest": jnp.float32(1.0)}
    drawn = draw_balanced(SOURCES_HERE, priority, jax.random.key(1), 20, 300)
    offline, online = halves(drawn.contrast, axis=1)
    assert offline.reward.shape == online.reward.shape == (20, 300)
    often = [np.bincount(np.asarray(half.reward, int).ravel(), minlength=7) / 6000 for half in (offline, online)]
    np.testing.assert_allclose(often[0], [1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0], atol=0.03)
    np.testing.assert_allclose(often[1], [0, 0, 0, 1 / 2, 1 / 2, 0, 0], atol=0.03)


def test_a_row_that_was_written_anew_is_new_again():
    priority = {"offline": jnp.ones(2), "online": jnp.full(3, 0.2)}
    after = renewed(priority, jnp.array([2, 0]))
    assert after["online"].tolist() == [0.0, pytest.approx(0.2), 0.0]
    assert after["offline"].tolist() == [1.0, 1.0]


def test_the_first_thousand_new_transitions_make_three_quarters_of_the_draws():
    first = first_priorities({"offline": 5000, "online": 2000})
    assert float(first["offline"].sum()) == 5000.0
    assert 1000 * float(first["highest"]) / (1000 * float(first["highest"]) + 5000) == pytest.approx(0.75)
    assert not first["online"].any()
    assert float(first_priorities({"offline": 9, "online": 9})["highest"]) == 1.0  # never less than the data set's


def test_priorities_are_powers_of_the_ratio_over_their_mean_on_the_data():
    """`w = softplus(a + log(e - 1))`, from a critic whose value is the action."""
    nets = hand_nets(1)
    linear = {"Critics_0": linear_critics([0.0], [1.0], [0.0])}
    old = {"offline": jnp.full(3, 7.0), "online": jnp.full(2, 8.0), "highest": jnp.float32(0.9)}
    state = hand_state(nets, {"density": linear}).replace(priority=old)
    view = View(nets, state, {"density_temperature": 5.0})
    zero = [[0.0]] * 2
    contrast = batch(zero, [[0.5], [0.1]], [0, 0], zero)  # the data set's row, then the replay's
    drawn = batch(zero, [[0.2], [-0.4]], [0, 0], zero).replace(index=jnp.array([2, 3]), contrast=contrast)
    after = prioritised(view, jax.tree.map(lambda x: x[None], drawn)).priority

    w = lambda a: np.log1p(np.exp(a + np.log(np.e - 1.0))) ** 0.2  # noqa: E731
    np.testing.assert_allclose(after["offline"], [7.0, 7.0, w(0.2) / w(0.5)], rtol=1e-5)
    assert float(after["highest"]) == pytest.approx(max(0.9, w(0.2) / w(0.5)))
    np.testing.assert_allclose(after["online"], [w(-0.4) / w(0.5), 8.0], rtol=1e-5)


def test_the_network_finds_the_ratio_of_two_normal_densities():
    """Data N(0, 1), replay N(0.5, 1): the ratio is `exp(0.5 a - 0.125)`."""
    nets = tiny_nets(actor_hidden=(8,), critic_hidden=(32,), layer_norm=False, optimizer={"density": Adam(3e-3)})
    method = Method(losses={"density": density}, coef={"density_temperature": 5.0})
    state = first_state(nets, method, identity(2), jax.random.key(0))

    def draw(state, key, i):
        shift = jnp.repeat(jnp.array([0.0, 0.5]), 512)[None, :, None]
        action = jax.random.normal(key, (1, 1024, 1)) + shift
        rows = jax.tree.map(lambda x: jnp.zeros((1, 1024, *x.shape[1:]), x.dtype), random_batch(0, 1))
        return rows.replace(contrast=rows.replace(action=action))

    state, _ = jax.jit(lambda s: train(nets, method, s, draw, lambda i: method.coef, 3000))(state)
    a = np.linspace(-1.5, 2.0, 30)[:, None].astype(np.float32)
    found = View(nets, state, {}).density_ratio({"x": jnp.zeros((30, 2))}, jnp.asarray(a))
    wrong = np.abs(np.asarray(found) / np.exp(0.5 * a[:, 0] - 0.125) - 1.0)
    assert wrong.mean() < 0.05
    assert wrong.max() < 0.10


def test_the_bridge_trains_with_priorities_that_move():
    nets, method = tiny_nets(), find_method("sac")
    offline = Phase("offline", find_method("calql"), updates=1, batch_size=8, shares={"offline": 1.0})
    online = Phase("online", method, env_steps=20, utd=2, batch_size=8, collect=SAMPLE)
    phases = plan(offline, find_bridge("balanced"), online)
    rows = {"offline": 20, "online": 30}
    state, _ = begin(nets, phases, 1, tiny_state(nets, method), method, rows)
    sources = {"offline": (random_batch(0, 20), jnp.int32(20)), "online": (random_batch(1, 30), jnp.int32(10))}
    run = jax.jit(program(nets, phases[1], phases[1].method), compiler_options={"xla_backend_optimization_level": 0})
    state, metrics = run(state, sources, jnp.int32(0), 12)
    assert all(np.isfinite(x) for x in metrics.values())
    online_priority = np.asarray(state.priority["online"])
    assert (online_priority[10:] == 0.0).all()  # nothing is there, so nothing was drawn
    assert len(np.unique(online_priority[:10])) > 5


def test_a_phase_that_cannot_be_balanced_is_refused():
    offline = Phase("offline", find_method("calql"), updates=1, batch_size=8, shares={"offline": 1.0})
    online = Phase("online", find_method("sac"), env_steps=20, batch_size=8, collect=SAMPLE, replay="balanced")
    with pytest.raises(ValueError, match="draws from the data set and the replay; give it shares of both"):
        plan(offline, find_bridge("direct"), online)
    with pytest.raises(ValueError, match="temperature is 0; give a number above 0"):
        find_bridge("balanced", {"temperature": 0})
    with pytest.raises(ValueError, match=r"trains offline on .* give it shares of the data set only"):
        plan(replace(offline, shares={"offline": 0.5, "online": 0.5}), find_bridge("direct"), online)
