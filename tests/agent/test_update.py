"""What a step does to the state: order, cadence, targets, keys, and many steps in one program."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agent.methods import find_method
from agent.optim import Adam
from agent.types import Method, View
from agent.update import optimizer_of, train, update
from tests.agent.tiny import assert_close, assert_same, differs, random_batch, stacked, tiny_nets, tiny_state

NETS = tiny_nets(
    2, 1, layer_norm=False, optimizer={"actor": Adam(1e-2), "critic": Adam(3e-2), "temperature": Adam(1e-2)}, tau=0.1
)


def fit(params, view, batch, key):
    """Q at the data is the reward: a critic's loss without a draw."""
    return jnp.mean((view.q(batch.obs, batch.action, params) - batch.reward[None, :]) ** 2), {}


def climb(params, view, batch, key):
    """The mode's Q: an actor's loss without a draw."""
    return -jnp.mean(view.q(batch.obs, view.pi(batch.obs, params).mode())), {}


def drift(params, view, batch, key):
    """A slope of its own, so that the temperature moves whenever it is updated; tells which random number it drew."""
    u = jax.random.uniform(key)
    return view.temperature(params) * jnp.mean(batch.reward + 2.0), {"u": u, "square": u**2}


STEADY = Method(
    losses={"critic": fit, "actor": climb, "temperature": drift},
    cadence={"actor": "once", "temperature": "once"},
    targets={"critic": "moving"},
)
BATCHES = stacked([random_batch(seed, 4) for seed in range(3)])


def compiled(method, nets=NETS):
    return jax.jit(lambda state, batches: update(nets, method, state, batches, method.coef))


@pytest.fixture(scope="module")
def steady():
    """A state, and the step of `STEADY`."""
    return tiny_state(NETS, STEADY), compiled(STEADY)


def adam_step(rate, params, opt, gradient):
    delta, opt = optax.adam(rate).update(gradient, opt, params)
    return optax.apply_updates(params, delta), opt


def test_a_step_is_algorithm_1(steady):
    state, step = steady
    after, _ = step(state, BATCHES)
    params, opt, target = dict(state.params), dict(state.opt), state.target["critic"]

    def now():
        return View(NETS, state.replace(params=params), {})

    @jax.jit
    def slope_of_fit(params, batch):
        view = View(NETS, state.replace(params=params), {})
        return jax.grad(lambda own: fit({"critic": own}, view, batch, None)[0])(params["critic"])

    for u in range(3):  # U critic updates, one for each minibatch, the target after each
        gradient = slope_of_fit(params, jax.tree.map(lambda x, u=u: x[u], BATCHES))
        params["critic"], opt["critic"] = adam_step(3e-2, params["critic"], opt["critic"], gradient)
        target = jax.tree.map(lambda p, t: 0.1 * p + 0.9 * t, params["critic"], target)
    union = jax.tree.map(lambda x: jnp.concatenate([x[0], x[1], x[2]]), BATCHES)  # one actor update on all of it
    gradient = jax.jit(jax.grad(lambda own: climb({"actor": own}, now(), union, None)[0]))(params["actor"])
    params["actor"], opt["actor"] = adam_step(1e-2, params["actor"], opt["actor"], gradient)

    for group in ("critic", "actor"):
        assert_close(after.params[group], params[group], rtol=1e-4, atol=1e-5)
        assert_close(after.opt[group], opt[group], rtol=1e-3, atol=1e-5)
    assert_close(after.target["critic"], target, rtol=1e-4, atol=1e-5)
    assert after.update_count == 3


def updates_of(state, group):
    """How often Adam has stepped."""
    return int(state.opt[group][0].count)


@pytest.mark.parametrize("every", [2, 3])
def test_cadence_counts(every):
    method = replace(STEADY, cadence={"critic": "each", "actor": every, "temperature": "once"})
    state, step = tiny_state(NETS, method), compiled(method)
    for steps in (1, 2, 3):
        state, _ = step(state, BATCHES)
        assert state.update_count == 3 * steps
        counts = [updates_of(state, group) for group in ("critic", "actor", "temperature")]
        assert counts == [3 * steps, 3 * steps // every, steps]


def test_a_group_that_is_not_due_stays_bit_identical_with_its_moments():
    method = replace(STEADY, cadence={"critic": "each", "actor": 4, "temperature": "once"})
    step, one = compiled(method), jax.tree.map(lambda x: x[:1], BATCHES)
    state = tiny_state(NETS, method)
    for i in range(8):
        before = state
        state, metrics = step(state, one)
        assert differs(before.params["critic"], state.params["critic"])
        if i % 4 == 3:
            assert differs(before.params["actor"], state.params["actor"])
            assert np.isfinite(metrics["actor/loss"])
        else:  # from the fifth on there is momentum that a zero gradient would follow
            assert_same(before.params["actor"], state.params["actor"])
            assert_same(before.opt["actor"], state.opt["actor"])
            assert np.isnan(metrics["actor/loss"])
    assert np.any(state.opt["actor"][0].mu["mean"]["bias"] != 0.0)


def test_a_frozen_group_is_carried_and_read_and_never_moves(steady):
    trained, _ = steady[1](steady[0], BATCHES)
    method = Method(losses={"actor": climb}, frozen=("critic", "temperature"))
    state = trained.replace(opt={"actor": trained.opt["actor"]}, target={})
    after, metrics = compiled(method)(state, BATCHES)
    assert set(metrics) == {"actor/loss"}
    assert differs(trained.params["actor"], after.params["actor"])
    for group in ("critic", "temperature"):
        assert_same(trained.params[group], after.params[group])


def test_a_held_target_never_moves(steady):
    method = replace(STEADY, targets={"critic": "held"})
    state, _ = compiled(method)(steady[0], BATCHES)
    assert_same(state.target, steady[0].target)
    assert differs(state.params["critic"], state.target["critic"])


def test_groups_in_one_loss_share_one_backward_pass():
    def joint(params, view, batch, key):
        return view.temperature(params) * fit(params, view, batch, key)[0], {}

    method = Method(losses={("critic", "temperature"): joint}, frozen=("actor",))
    state, one = tiny_state(NETS, method), jax.tree.map(lambda x: x[:1], BATCHES)
    after, metrics = compiled(method)(state, one)
    own = {name: state.params[name] for name in ("critic", "temperature")}
    rows = jax.tree.map(lambda x: x[0], one)
    value, slopes = jax.jit(jax.value_and_grad(lambda p: joint(p, View(NETS, state, {}), rows, None)[0]))(own)
    for name, rate in (("critic", 3e-2), ("temperature", 1e-2)):  # both slopes at the parameters before the step
        by_hand, _ = adam_step(rate, own[name], state.opt[name], slopes[name])
        assert_close(after.params[name], by_hand, rtol=1e-4, atol=1e-5)
    assert metrics["critic+temperature/loss"] == pytest.approx(float(value), rel=1e-5)


def test_a_loss_moves_only_its_own_groups():
    method = Method(losses={"actor": climb}, frozen=("critic",))
    state = tiny_state(NETS, method)
    slopes = jax.grad(
        lambda p: climb({"actor": p["actor"]}, View(NETS, state.replace(params=p), {}), random_batch(0, 4), None)[0]
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(jax.jit(slopes)(state.params)["critic"]))


def test_every_update_minibatch_and_group_draws_its_own_numbers():
    method = replace(STEADY, losses={"critic": also_drawing, "actor": climb, "temperature": drift})
    state, step = tiny_state(NETS, method), compiled(method)
    seen = []
    for _ in range(3):
        state, metrics = step(state, BATCHES)
        spread = metrics["critic/square"] - metrics["critic/u"] ** 2
        assert spread > 1e-4  # the three minibatches drew different numbers
        seen += [float(metrics["critic/u"]), float(metrics["temperature/u"])]
    assert len(set(seen)) == 6


def also_drawing(params, view, batch, key):
    u = jax.random.uniform(key)
    return fit(params, view, batch, key)[0], {"u": u, "square": u**2}


def test_seeds_as_a_leading_axis_train_as_they_do_alone():
    losses = {"critic": also_drawing, "actor": climb, "temperature": drift}
    method = replace(STEADY, losses=losses, cadence={"actor": 2, "temperature": "once"})
    states = [tiny_state(NETS, method, seed) for seed in (0, 1)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *states)
    after, metrics = jax.jit(jax.vmap(lambda s: update(NETS, method, s, BATCHES, {})))(together)
    step = compiled(method)
    for i, state in enumerate(states):
        alone, alone_metrics = step(state, BATCHES)
        assert_close(jax.tree.map(lambda x, i=i: x[i], after.params), alone.params, rtol=1e-3, atol=1e-4)
        assert_close(jax.tree.map(lambda x, i=i: x[i], after.target), alone.target, rtol=1e-3, atol=1e-4)
        assert updates_of(alone, "actor") == 1
        assert metrics["critic/u"][i] == pytest.approx(float(alone_metrics["critic/u"]), abs=1e-6)
    assert metrics["critic/u"][0] != metrics["critic/u"][1]


def draw(state, key, step):
    """Three minibatches of 4 rows of a fixed table."""
    table = random_batch(9, 50)
    return jax.tree.map(lambda x: x[jax.random.randint(key, (3, 4), 0, 50)], table)


@pytest.fixture(scope="module")
def program():
    """`train` on SAC, for any number of steps."""
    method = find_method("sac")
    return jax.jit(lambda state, steps: train(NETS, method, state, draw, lambda i: {}, steps))


def test_many_steps_in_one_program_equal_as_many_programs(program):
    start = tiny_state(NETS, find_method("sac"))
    together, mean = program(start, 3)
    apart, losses = start, []
    for _ in range(3):
        apart, metrics = program(apart, 1)
        losses.append(float(metrics["critic/loss"]))
    assert_same(together, apart)
    assert mean["critic/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert program._cache_size() == 1  # any number of steps is the same program


def test_the_same_seed_gives_the_same_run_and_another_seed_another(program):
    start = tiny_state(NETS, find_method("sac"))
    first, second, other = (program(start.replace(key=jax.random.key(seed)), 2)[0] for seed in (0, 0, 1))
    assert_same(first, second)
    assert differs(first.params["critic"], other.params["critic"])
    assert differs(first.params["actor"], other.params["actor"])


def test_no_steps_change_nothing(program):
    start = tiny_state(NETS, find_method("sac"))
    assert_same(program(start, 0)[0], start)


def test_every_step_draws_other_rows():
    def rows(params, view, batch, key):
        return view.temperature(params), {"first": batch.reward[0]}

    method = Method(losses={"temperature": rows})
    state = tiny_state(NETS, method)
    step = jax.jit(lambda state: train(NETS, method, state, draw, lambda i: {}, 1))
    seen = []
    for _ in range(4):
        state, metrics = step(state)
        seen.append(float(metrics["temperature/first"]))
    assert len(set(seen)) == 4


def test_coefficients_follow_the_step_and_metrics_average_where_they_were_computed():
    def told(params, view, batch, key):
        return view.temperature(params), {"x": view.coef["x"]}

    method = Method(losses={"temperature": told, "critic": fit}, cadence={"temperature": 6}, coef={"x": 0.0})
    state = tiny_state(NETS, method)
    # Three minibatches a step, every sixth due: steps 1 and 3 of 0..3 compute it, with x = 10 and 30.
    run = jax.jit(lambda s: train(NETS, method, s, draw, lambda i: {"x": 10.0 * i}, 4))
    assert run(state)[1]["temperature/x"] == 20.0


def test_a_loss_that_overflows_is_not_reported_as_a_number():
    def overflow(params, view, batch, key):
        return view.temperature(params), {"x": jnp.exp(1000.0 * view.temperature())}

    method = Method(losses={"temperature": overflow})
    state = tiny_state(NETS, method)
    assert np.isinf(jax.jit(lambda s: train(NETS, method, s, draw, lambda i: {}, 2))(state)[1]["temperature/x"])


def test_a_loss_that_is_no_number_is_told_from_one_that_was_not_due():
    def no_number(params, view, batch, key):
        return view.temperature(params), {"x": jnp.log(-view.temperature())}

    def metric(steps):
        method = Method(losses={"temperature": no_number}, cadence={"temperature": 4})
        state = tiny_state(NETS, method)
        return float(jax.jit(lambda s: train(NETS, method, s, draw, lambda i: {}, steps))(state)[1]["temperature/x"])

    assert np.isnan(metric(1))  # of three minibatches a step the fourth is due
    assert metric(2) == np.inf


def test_the_state_can_be_donated():
    step = jax.jit(lambda s, b: update(NETS, STEADY, s, b, {})[0], donate_argnums=0)
    state = tiny_state(NETS, STEADY)
    for _ in range(3):
        before, state = state, step(state, BATCHES)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_a_method_may_bring_the_optimiser_of_a_group_that_the_run_has_none_for():
    nets = replace(NETS, optimizer={"actor": Adam(1e-2)})
    method = replace(STEADY, optimizer={"critic": Adam(0.5), "actor": Adam(0.25)})
    assert optimizer_of(nets, method, "critic") == Adam(0.5)
    assert optimizer_of(nets, method, "actor") == Adam(0.25)
    assert optimizer_of(nets, STEADY, "actor") == Adam(1e-2)


def test_clipping_bounds_the_gradient_before_adam():
    clipped = Adam(1e-3, clip_norm=1.0).transformation()
    params = jnp.zeros(2)
    state = clipped.init(params)
    for gradient in ([3.0, 4.0], [0.3, 0.4]):
        _, state = clipped.update(jnp.array(gradient), state, params)
    # Of length 5 and clipped to 0.6, 0.8; then of length 0.5 and left alone. mu = 0.9 * 0.1 * g1 + 0.1 * g2.
    np.testing.assert_allclose(optax.tree_utils.tree_get(state, "mu"), [0.054 + 0.03, 0.072 + 0.04], rtol=1e-5)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        Adam(0.0)
