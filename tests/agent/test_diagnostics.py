"""Diagnostics on networks against numbers worked by hand or by an independent numpy computation."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from agent import diagnostics as d
from agent.methods import sac
from agent.types import Method, View
from tests.agent.tiny import (
    assert_close,
    batch,
    constant_actor,
    differs,
    hand_nets,
    hand_state,
    linear_critics,
    random_batch,
    tiny_nets,
    tiny_state,
)

KEY = jax.random.key(0)
READ = Method(losses={}, frozen=("actor", "critic"), targets={"critic": "moving"})
NETS = tiny_nets(2, 2)
# XLA takes subnormal numbers for 0.
preferences = hnp.arrays(np.float32, st.just(12), elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False))
sqor, sqog, o_sqor = jax.jit(d.sqor), jax.jit(d.sqog), jax.jit(d.o_sqor)
volatility = jax.jit(d.volatility, static_argnums=1)


def linear_view(on_action, constant, actor=(0.0, 1.0), target=None):
    """A view of critics `Q_e = s + on_action_e a + constant_e` and a policy of one law."""
    nets = hand_nets(len(constant))
    critic = linear_critics([1.0] * len(constant), on_action, constant)
    params = {"actor": constant_actor(*actor), "critic": critic}
    return View(nets, hand_state(nets, params, {"critic": critic if target is None else target}), {})


@cache
def rows_of_data():
    return random_batch(0, 6, 2, 2)


@cache
def tiny_view(seed):
    return View(NETS, tiny_state(NETS, READ, seed), {})


def laws(views, obs):
    """Mean and std before the squashing, `(B, A)` each, in double precision."""
    policies = jax.jit(lambda: [(p.mean, p.log_std) for p in (view.pi(obs) for view in views)])()
    return [(np.asarray(mean, np.float64), np.exp(np.asarray(log_std, np.float64))) for mean, log_std in policies]


def column(*numbers):
    return jnp.array(numbers, jnp.float32)[:, None]


def test_preference_by_hand():
    # The mean Q is s + 2 a.
    @jax.jit
    def found():
        obs, now, off = {"x": column(1.0, 7.0, -2.0)}, column(0.5, 0.1, 0.0), column(0.25, 0.6, 0.0)
        return d.preference(linear_view([1.0, 3.0], [5.0, -5.0]), obs, now, off)

    np.testing.assert_allclose(found(), [0.5, -1.0, 0.0], atol=2e-5)


def test_preference_is_that_of_each_members_q():
    view, rows = tiny_view(1), rows_of_data()
    found, here, there = jax.jit(
        lambda: (
            d.preference(view, rows.obs, rows.action, -rows.action),
            view.q(rows.obs, rows.action),
            view.q(rows.obs, -rows.action),
        )
    )()
    by_numpy = np.mean(np.asarray(here, np.float64) - np.asarray(there, np.float64), axis=0)
    np.testing.assert_allclose(found, by_numpy, rtol=1e-4, atol=1e-5)


def test_actions_of_other_states_are_refused():
    # Twice as many actions as states would pass through the critic as two actions for each.
    twice = jnp.zeros((12, 2))
    with pytest.raises(ValueError, match=r"12 rows, observations {'x': 6}"):
        d.preference(tiny_view(1), rows_of_data().obs, twice, twice)


NOW = np.float32([1.0, -1.0, 2.0, -3.0, 0.0, 4.0])
FINAL = np.float32([-2.0, 0.5, 1.0, -1.0, -1.0, -0.25])


def test_the_ratios_and_the_gap_by_hand():
    # Misordered are states 0, 1 and 5, of six; two of them, 0 and 5, prefer the current action now.
    assert sqor(NOW, FINAL) == pytest.approx(3 / 6)
    assert o_sqor(NOW, FINAL) == pytest.approx(2 / 6)
    assert sqog(NOW, FINAL) == pytest.approx((3.0 + 1.5 + 4.25) / 3)


def test_without_a_misordered_state_everything_is_zero():
    for measure in (sqor, sqog, o_sqor):
        assert measure(NOW, NOW) == 0.0


def test_signs_count_however_small_the_preferences():
    small = np.float32([1e-30, -1e-30])
    assert sqor(small, -small) == 1.0
    assert o_sqor(small, -small) == 0.5


@pytest.mark.parametrize("measure", [sqor, sqog, o_sqor])
@pytest.mark.parametrize("other", [1.0, -1.0])
def test_a_critic_that_diverged_is_not_called_well_ordered(measure, other):
    broken, sound = np.float32([np.nan, 1.0]), np.float32([other, 1.0])
    assert np.isnan(measure(broken, sound))
    assert np.isnan(measure(sound, broken))


@given(preferences, preferences)
def test_laws_of_the_ratios(now, final):
    ratio, one_sided, gap = float(sqor(now, final)), float(o_sqor(now, final)), float(sqog(now, final))
    opposed = (np.sign(now) * np.sign(final)) < 0
    assert ratio == pytest.approx(opposed.mean())
    # The two one-sided ratios add up to the whole, and so does the ratio with the critics exchanged.
    assert one_sided + float(o_sqor(-now, -final)) == pytest.approx(ratio)
    assert sqor(final, now) == pytest.approx(ratio)
    assert (gap > 0) == (ratio > 0)
    if opposed.any():
        assert gap == pytest.approx(np.abs(now.astype(float) - final)[opposed].mean(), rel=1e-5)


@pytest.mark.parametrize(("now", "final"), [((3,), (4,)), ((3,), (1,)), ((3, 1), (3, 1)), ((), ()), ((0,), (0,))])
@pytest.mark.parametrize("measure", [d.sqor, d.sqog, d.o_sqor])
def test_preferences_of_different_states_are_refused(measure, now, final):
    with pytest.raises(ValueError, match="preferences") as refusal:
        measure(jnp.zeros(now), jnp.zeros(final))
    assert "\n" not in str(refusal.value)


def test_squared_change_by_hand():
    # The mean Q goes from s + 2 a to s + 3 a + 0.5, so it changes by a + 0.5: 1 and -1.5 here.
    @jax.jit
    def found():
        before, after = linear_view([1.0, 3.0], [0.0, 0.0]), linear_view([2.0, 4.0], [1.0, 0.0])
        rows = {"x": column(4.0, -3.0)}, column(0.5, -2.0)
        return d.squared_change(before, after, *rows), d.squared_change(before, before, *rows)

    assert found()[0] == pytest.approx((1.0 + 2.25) / 2, rel=1e-4)
    assert found()[1] == 0.0


def test_volatility_by_hand():
    # beta 0.5: m = 2, 1, 4.5; divided by 0.5, 0.75, 0.875.
    np.testing.assert_allclose(d.volatility(jnp.array([4.0, 0.0, 8.0]), 0.5), np.sqrt([4.0, 4 / 3, 36 / 7]), rtol=1e-6)


@given(
    hnp.arrays(np.float32, st.just(20), elements=st.floats(0.0, 1e3, width=32, allow_subnormal=False)),
    st.sampled_from([0.0, 0.5, 0.9, 0.99]),
)
def test_volatility_is_the_weighted_mean_of_the_past(changes, beta):
    found = volatility(changes, beta)
    for t in range(len(changes)):
        weight = beta ** np.arange(t, -1, -1.0)
        past = changes[: t + 1].astype(float)
        np.testing.assert_allclose(found[t], np.sqrt(past @ weight / weight.sum()), rtol=1e-4, atol=1e-12)


def test_volatility_takes_the_paper_s_beta():
    changes = jnp.array([1.0, 0.0, 3.0, 0.5])
    np.testing.assert_array_equal(volatility(changes), volatility(changes, 0.9))


@pytest.mark.parametrize(("changes", "beta"), [(jnp.zeros((2, 2)), 0.9), (jnp.zeros(3), 1.0), (jnp.zeros(3), -0.1)])
def test_volatility_refuses_what_has_no_average(changes, beta):
    with pytest.raises(ValueError, match="volatility"):
        d.volatility(changes, beta)


@jax.jit
def kl_of_normals(laws):
    return d.policy_kl(*(linear_view([0.0], [0.0], law) for law in laws), {"x": column(1.0, -3.0)})


def test_policy_kl_of_two_known_normals():
    # log(0.4 / 0.2) + (0.2^2 + 0.6^2) / (2 * 0.4^2) - 1/2 = 0.693147 + 1.25 - 0.5, at each state.
    assert kl_of_normals(((0.5, 0.2), (-0.1, 0.4))) == pytest.approx(1.443147, rel=1e-5)


def test_policy_kl_adds_up_over_dimensions_and_averages_over_states():
    before, after, obs = tiny_view(1), tiny_view(2), rows_of_data().obs
    found = jax.jit(lambda: d.policy_kl(before, after, obs))()
    (m, s), (m2, s2) = laws((before, after), obs)
    by_numpy = np.log(s2 / s) + (s**2 + (m - m2) ** 2) / (2 * s2**2) - 0.5
    assert m.shape == (6, 2)
    assert found == pytest.approx(by_numpy.sum() / 6, rel=1e-4)


def test_policy_kl_is_that_of_the_squashed_laws():
    # By integration over the actions of the squashed densities, written out.
    edges = np.tanh(np.linspace(-4.0, 4.0, 4001))
    action, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    p, q = (norm.pdf(np.arctanh(action), *law) / (1 - action**2) for law in ((0.3, 0.4), (0.0, 0.6)))
    assert kl_of_normals(((0.3, 0.4), (0.0, 0.6))) == pytest.approx(np.sum(p * np.log(p / q) * width), rel=1e-4)


@given(st.floats(-3, 3), st.floats(0.01, 3), st.floats(-3, 3), st.floats(0.01, 3))
def test_the_kl_of_policies_is_not_negative(mean, std, other_mean, other_std):
    found = kl_of_normals(((mean, std), (other_mean, other_std)))
    by_numpy = np.log(other_std / std) + (std**2 + (mean - other_mean) ** 2) / (2 * other_std**2) - 0.5
    assert found >= -1e-6
    assert found == pytest.approx(by_numpy, rel=1e-3, abs=1e-5)


def test_the_kl_of_a_policy_to_itself_is_zero_and_to_a_close_one_is_exact():
    assert kl_of_normals(((0.5, 0.2), (0.5, 0.2))) == 0.0
    # A std larger by a factor e^x has, for small x, a divergence of x^2.
    assert kl_of_normals(((0.5, 0.2), (0.5, 0.2 * np.exp(0.001)))) == pytest.approx(0.001**2, rel=0.01)


def test_softmax_q_kl_against_numpy():
    before, after, obs = tiny_view(1), tiny_view(2), rows_of_data().obs

    def both():
        keys = jax.random.split(KEY)
        actions = jnp.concatenate([before.pi(obs).sample(keys[0], 3)[0], after.pi(obs).sample(keys[1], 3)[0]])
        return d.softmax_q_kl(before, after, obs, KEY, 6), before.q(obs, actions), after.q(obs, actions)

    found, *each = jax.jit(both)()
    p, q = (np.exp(np.mean(np.asarray(x, np.float64), axis=0)) for x in each)
    p, q = p / p.sum(axis=0), q / q.sum(axis=0)
    assert p.shape == (6, 6)
    assert found == pytest.approx(np.sum(p * np.log(p / q), axis=0).mean(), rel=1e-3)
    assert found > 1e-3


@jax.jit
def q_kl(slopes, constants, actors):
    """Of two linear critics at 8 actions and one state."""
    before, after = (linear_view([a], [b], law) for a, b, law in zip(slopes, constants, actors, strict=True))
    return d.softmax_q_kl(before, after, {"x": column(3.0)}, KEY, 8)


def test_half_of_the_actions_are_each_policy_s():
    # Either policy has one action, 0 and 0.8. Q goes from 0 to 2 a, so the softmax goes from equal weights to 1 and e^1.6.
    zero, high = (0.0, 1e-5), (float(np.arctanh(0.8)), 1e-5)
    q = np.exp([0.0, 1.6]) / (1 + np.exp(1.6))
    found = q_kl((0.0, 2.0), (0.0, 0.0), (zero, high))
    assert found == pytest.approx(np.sum(0.5 * np.log(0.5 / q)), rel=1e-3)
    # The first law is the pre-trained one: the other way round the number is another.
    turned = q_kl((2.0, 0.0), (0.0, 0.0), (high, zero))
    assert turned == pytest.approx(np.sum(q * np.log(q / 0.5)), rel=1e-3)


def test_the_softmax_bears_large_values_and_does_not_see_a_constant():
    wide = (0.0, 1.0)
    assert q_kl((900.0, 900.0), (0.0, 0.0), (wide, wide)) == 0.0
    assert q_kl((900.0, 900.0), (0.0, 4096.0), (wide, wide)) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("n", [0, 1, 3, -2])
def test_the_actions_of_a_softmax_must_halve(n):
    view = tiny_view(1)
    with pytest.raises(ValueError, match=f"n is {n}"):
        d.softmax_q_kl(view, view, rows_of_data().obs, KEY, n)


def test_q_and_td_by_hand():
    @jax.jit
    def found():
        target = linear_critics([1.0, 1.0], [0.0, 0.0], [4.0, 6.0])  # the smaller is s' + 4
        view = linear_view([1.0, 1.0], [0.0, 1.0], target=target)  # Q = s + a, s + a + 1
        rows = batch([[1.0], [2.0]], [[0.5], [0.0]], [2.0, 1.0], [[3.0], [3.0]], mask=[1.0, 0.0])
        return d.q_and_td(view, rows, KEY)

    # Q = 1.5, 2.5 and 2, 3; y = 2 + 0.5 * 7 = 5.5 and, terminated, 1.
    assert found()["q"] == pytest.approx((1.5 + 2.5 + 2.0 + 3.0) / 4, rel=1e-5)
    assert found()["td"] == pytest.approx((16.0 + 9.0 + 1.0 + 4.0) / 4, rel=1e-5)


def test_q_and_td_are_what_sac_trains_on():
    view, rows = tiny_view(1), rows_of_data()

    def both(key):
        trained, _ = sac.critic({"critic": view.state.params["critic"]}, view, rows, key)
        return d.q_and_td(view, rows, key), trained, jnp.mean(view.q(rows.obs, rows.action))

    call = jax.jit(both)
    (found, trained, q), (other, *_) = call(KEY), call(jax.random.key(1))
    assert found["td"] == pytest.approx(float(trained), rel=1e-5)
    assert found["q"] == pytest.approx(float(q), rel=1e-5)
    assert other["td"] != found["td"]  # the draws follow the key
    assert other["q"] == found["q"]


def test_value_bias_by_hand():
    @jax.jit
    def found():
        view = linear_view([1.0, 3.0], [1.0, -1.0])  # mean Q = s + 2 a = 2, 2, 2
        obs, action = {"x": column(1.0, 2.0, 3.0)}, column(0.5, 0.0, -0.5)
        return d.value_bias(view, obs, action, np.float32([1.0, 2.5, 0.0]))

    assert found() == pytest.approx((1.0 - 0.5 + 2.0) / 3, rel=1e-4)


@pytest.mark.parametrize("shape", [(3, 1), (1,), ()])
def test_value_bias_wants_one_return_for_each_row(shape):
    with pytest.raises(ValueError, match="value_bias"):
        jax.eval_shape(
            lambda: d.value_bias(
                linear_view([1.0], [0.0]), {"x": column(1.0, 2.0, 3.0)}, column(0.0, 0.0, 0.0), np.zeros(shape)
            )
        )


def test_seeds_are_one_more_axis():
    rows, states = rows_of_data(), [tiny_view(seed).state for seed in (1, 2)]
    start = tiny_view(1)

    def measure(state):
        view = View(NETS, state, {})
        return {
            "kl": d.policy_kl(start, view, rows.obs),
            "change": d.squared_change(start, view, rows.obs, rows.action),
            "delta": d.preference(view, rows.obs, rows.action, -rows.action),
        }

    together = jax.jit(jax.vmap(measure))(jax.tree.map(lambda *x: jnp.stack(x), *states))
    alone = jax.jit(measure)(states[1])
    assert_close(jax.tree.map(lambda x: x[1], together), alone, rtol=1e-4, atol=1e-5)
    assert together["kl"][0] == pytest.approx(0.0, abs=1e-9)  # not bit for bit: one network has a batch of seeds


@pytest.fixture(scope="module")
def corners():
    """The parameters of three tiny actors."""
    return [tiny_view(seed).state.params["actor"] for seed in (1, 2, 3)]


def flat(tree):
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])


def test_a_line_ends_exactly_at_both_and_is_straight_between(corners):
    a, b, _ = corners
    points = jax.jit(d.line)(a, b, [0.0, 0.25, 1.0, -0.5])
    at = [jax.tree.map(lambda x, i=i: x[i], points) for i in range(4)]
    assert not differs(at[0], a)
    assert not differs(at[2], b)
    for point, t in ((at[1], 0.25), (at[3], -0.5)):
        np.testing.assert_allclose(flat(point), flat(a) + t * (flat(b) - flat(a)), rtol=1e-5, atol=1e-6)


def test_a_line_takes_single_numbers_and_can_be_rolled_out_at_once(corners):
    a, b, _ = corners
    assert d.line({"raw": jnp.float32(1.0)}, {"raw": jnp.float32(3.0)}, np.linspace(0, 1, 3))["raw"].tolist() == [
        1,
        2,
        3,
    ]
    obs, actor = rows_of_data().obs["x"], NETS.modules["actor"]
    roll = jax.jit(jax.vmap(lambda p: actor.apply({"params": p}, obs)[0]))
    means = roll(d.line(a, b, [0.5, 1.0]))
    assert means.shape == (2, 6, 2)
    np.testing.assert_allclose(means[1], laws([tiny_view(2)], rows_of_data().obs)[0][0], rtol=1e-5)


def test_a_plane_goes_through_its_three_points(corners):
    u, v, coordinates = d.plane(*corners)
    assert coordinates.shape == (3, 2)
    for (x, y), corner in zip(coordinates, corners, strict=True):
        assert_close(d.at(corners[0], u, v, float(x), float(y)), corner, rtol=1e-5, atol=1e-5)
    assert not differs(d.at(corners[0], u, v, 0.0, 0.0), corners[0])


def test_the_directions_of_a_plane_are_at_right_angles_and_as_long_as_in_the_paper(corners):
    u, v, coordinates = d.plane(*corners)
    a, b, c = map(flat, corners)
    assert abs(float(u @ v)) < 1e-5 * float(jnp.linalg.norm(u) * jnp.linalg.norm(v))
    np.testing.assert_allclose(u, b - a, rtol=1e-6)
    np.testing.assert_allclose(coordinates[:2], [[0.0, 0.0], [1.0, 0.0]])
    # By least squares instead: the share of c - a along u, and what is left of it.
    (along,), *_ = np.linalg.lstsq((b - a)[:, None], c - a, rcond=None)
    np.testing.assert_allclose(coordinates[2], [along, 1.0], rtol=1e-6)
    np.testing.assert_allclose(v, c - a - along * (b - a), rtol=1e-4, atol=1e-6)


def test_a_plane_by_hand():
    a, b, c = (
        {"w": jnp.array(x), "z": jnp.array(y)} for x, y in (([1.0, 1.0], 0.0), ([3.0, 1.0], 0.0), ([2.0, 1.0], 4.0))
    )
    u, v, coordinates = d.plane(a, b, c)
    np.testing.assert_allclose(u, [2.0, 0.0, 0.0])
    np.testing.assert_allclose(v, [0.0, 0.0, 4.0])
    np.testing.assert_allclose(coordinates, [[0, 0], [1, 0], [0.5, 1]])
    assert_close(d.at(a, u, v, 2.0, -0.5), {"w": jnp.array([5.0, 1.0]), "z": jnp.array(-2.0)})


@given(hnp.arrays(np.float32, (3, 6), elements=st.floats(-8, 8, width=16)))
def test_any_three_points_span_a_plane_or_are_refused(points):
    trees = [{"w": jnp.asarray(x[:4].reshape(2, 2)), "z": jnp.asarray(x[4:])} for x in points]
    w = points[1:].astype(float) - points[0]
    try:
        u, v, coordinates = d.plane(*trees)
    except ValueError:
        gram = w @ w.T
        assert np.linalg.det(gram) <= 1e-9 * max(gram[0, 0] * gram[1, 1], 1e-3)
        return
    for (x, y), tree in zip(coordinates, trees, strict=True):
        off = flat(d.at(trees[0], u, v, float(x), float(y))) - flat(tree)
        assert np.abs(off).max() <= 1e-5 * (np.abs(points).max() + abs(x) * np.abs(w).max())


def test_a_grid_over_a_plane_is_one_program(corners):
    u, v, _ = d.plane(*corners)
    x, y = (jnp.asarray(g.ravel(), jnp.float32) for g in np.meshgrid([0.0, 1.0, 2.0], [-1.0, 0.5]))
    grid = jax.jit(jax.vmap(d.at, (None, None, None, 0, 0)))(corners[0], u, v, x, y)
    for i in (1, 5):
        by_numpy = flat(corners[0]) + float(x[i]) * np.asarray(u) + float(y[i]) * np.asarray(v)
        np.testing.assert_allclose(flat(jax.tree.map(lambda g, i=i: g[i], grid)), by_numpy, rtol=1e-4, atol=1e-5)


def test_three_points_on_a_line_span_no_plane(corners):
    a, b, _ = corners
    middle = jax.tree.map(lambda x, y: np.float32(0.7) * np.asarray(x) + np.float32(0.3) * np.asarray(y), a, b)
    for three in ((a, b, middle), (a, b, b), (a, a, b), (a, b, a), (a, a, a)):
        with pytest.raises(ValueError, match="lie on one line"):
            d.plane(*three)


def test_parameters_of_other_networks_are_refused(corners):
    a, b, _ = corners
    wider = {**a, "Trunk_0": {"Dense_0": {"kernel": jnp.zeros((2, 9)), "bias": jnp.zeros(9)}}}
    for call in (lambda: d.line(a, wider, [0.5]), lambda: d.plane(a, b, wider), lambda: d.line(a, {}, [0.5])):
        with pytest.raises(ValueError, match=r"parameters\['Trunk_0'\]") as refusal:
            call()
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 200
