"""PPO: advantages against plain sums, the clip by hand, and that it learns from its newest rollout and nothing else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.bridges import find_bridge
from agent.methods import find_method, ppo
from agent.optim import Adam
from agent.plan import check_phase, plan
from agent.policy import SAMPLE
from agent.program import program
from agent.replay.ring import Ring
from agent.replay.rollout import minibatch, newest, orders
from agent.tanh_normal import TanhNormal
from agent.types import OnPolicy, Phase, View
from agent.update import named_key, update
from tests.agent.test_learning import BEST, TRIALS, reward_of
from tests.agent.test_learning import NETS as ONE_STEP_NETS
from tests.agent.test_losses import KEY, run, slope
from tests.agent.test_methods import linear_value
from tests.agent.tiny import (
    assert_close,
    batch,
    constant_actor,
    hand_nets,
    hand_state,
    identity,
    random_batch,
    tiny_nets,
    tiny_state,
    transition,
)

QUICK = {"xla_backend_optimization_level": 0}  # a program that runs a few times is not worth optimising
NETS = tiny_nets(layer_norm=False, std="vector")
METHOD = ppo.METHOD
R = 12

# Advantages: V(s) = 2 s + 1 by hand, discount 0.5, lambda 0.95.

HAND = hand_nets(1)
HAND_VIEW = View(
    HAND,
    hand_state(HAND, {"value": linear_value(2.0, 1.0), "actor": constant_actor(0.2, 0.5)}),
    METHOD.coef,
)
prepared = jax.jit(lambda rows: ppo.rollout(HAND_VIEW, rows))


@settings(max_examples=60)
@given(
    ends=st.lists(st.sampled_from(["", "", "terminated", "truncated", "abandoned"]), min_size=R, max_size=R),
    seed=st.integers(0, 2**16),
)
def test_advantages_are_the_sums_of_each_episode_s_td_errors(ends, seed):
    rng = np.random.default_rng(seed)
    obs, after, reward = rng.normal(size=(3, R))
    rows = batch(obs[:, None], rng.uniform(-0.9, 0.9, (R, 1)), reward, after[:, None])
    rows = rows.replace(
        mask=jnp.array([end != "terminated" for end in ends], jnp.float32),
        ended=jnp.array([end != "" for end in ends], jnp.float32),
    )
    found = prepared(rows).on_policy
    for t in range(R):
        total, weight = 0.0, 1.0
        for k in range(t, R):
            later = 0.0 if ends[k] == "terminated" else 2.0 * after[k] + 1.0
            total += weight * (reward[k] + 0.5 * later - (2.0 * obs[k] + 1.0))
            weight *= 0.5 * 0.95
            if ends[k]:
                break
        assert found.advantage[t] == pytest.approx(total, rel=1e-3, abs=1e-3)  # the value adds up numbers of a hundred
        assert found.value_target[t] == pytest.approx(total + 2.0 * obs[t] + 1.0, rel=1e-3, abs=1e-3)
    density = TanhNormal(jnp.full((R, 1), 0.2), jnp.full((R, 1), np.log(0.5))).log_prob(rows.action)
    np.testing.assert_allclose(found.log_prob, density, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("decay", "by_hand"), [(0.0, [1.0, 2.0, 4.0]), (1.0, [7.0, 6.0, 4.0]), (0.5, [3.0, 4.0, 4.0])])
def test_the_decay_goes_from_one_error_to_the_sum_of_all(decay, by_hand):
    np.testing.assert_allclose(ppo.gae(jnp.array([1.0, 2.0, 4.0]), jnp.zeros(3), decay), by_hand)


# The clip. Two actions whose z is 0.7 and -0.3 under N(0.2, 0.5^2): d log pi / d mean = (z - 0.2) / 0.25 = 2 and -2.


def clipped_rows(ratios):
    action = np.tanh([[0.7], [-0.3]])
    log_prob = TanhNormal(jnp.full((2, 1), 0.2), jnp.full((2, 1), np.log(0.5))).log_prob(
        jnp.asarray(action, jnp.float32)
    )
    rows = batch([[0.0]] * 2, action, [0.0] * 2, [[0.0]] * 2)
    # Advantages 3 and 1 are 1 and -1 once they are standardised.
    return rows.replace(on_policy=OnPolicy(log_prob - jnp.log(jnp.array(ratios)), jnp.array([3.0, 1.0]), jnp.zeros(2)))


@jax.jit
def actor_and_slope(params, rows):
    return jax.value_and_grad(lambda p: ppo.actor(p, HAND_VIEW, rows, KEY), has_aux=True)(params)


@pytest.mark.parametrize(
    ("ratios", "by_hand", "push", "clipped"),
    [
        # Of the good action, then of the bad one: what they gain, and what is left of the gradient ratio * A * (2 or -2).
        ((1.1, 0.9), (1.1, -0.9), (2 * 1.1, 2 * 0.9), 0.0),
        ((1.5, 0.5), (1.2, -0.8), (0.0, 0.0), 1.0),  # far enough already: no more is to be gained
        ((0.5, 1.5), (0.5, -1.5), (2 * 0.5, 2 * 1.5), 1.0),  # on the wrong side: all of it counts
        ((1.5, 1.5), (1.2, -1.5), (0.0, 2 * 1.5), 1.0),
        ((0.9, 0.5), (0.9, -0.8), (2 * 0.9, 0.0), 0.5),
    ],
)
def test_the_clip_on_either_side(ratios, by_hand, push, clipped):
    (loss, metrics), gradient = actor_and_slope({"actor": HAND_VIEW.state.params["actor"]}, clipped_rows(ratios))
    assert loss == pytest.approx(-np.mean(by_hand), rel=1e-4)
    assert metrics["clipped"] == clipped
    assert gradient["actor"]["mean"]["bias"] == pytest.approx(-np.mean(push), rel=1e-3, abs=1e-6)
    # E[ratio - 1 - log ratio], never below 0.
    assert metrics["kl"] == pytest.approx(np.mean([r - 1 - np.log(r) for r in ratios]), rel=1e-3)


def test_the_entropy_bonus_widens_the_policy():
    """Alone: no action has an advantage. Of a narrow policy, hardly bent by the squashing, `dH / d log_std` is 1."""
    own, rows = {"actor": constant_actor(0.0, 0.01)}, clipped_rows((1.0, 1.0))
    rows = rows.replace(on_policy=rows.on_policy.replace(advantage=jnp.ones(2)))
    view = replace(HAND_VIEW, coef={**METHOD.coef, "entropy": 0.1})
    loss, metrics = run(ppo.actor, own, view, rows)
    assert loss == pytest.approx(-0.1 * float(metrics["entropy"]), rel=1e-4)
    assert slope(ppo.actor, own, view, rows)["actor"]["log_std"] == pytest.approx(-0.1, rel=1e-2)


def test_value_loss():
    rows = batch([[0.0], [1.0]], [[0.0]] * 2, [0.0] * 2, [[0.0]] * 2)
    rows = rows.replace(on_policy=OnPolicy(jnp.zeros(2), jnp.zeros(2), jnp.array([3.0, 2.0])))
    loss, metrics = run(ppo.value, {"value": HAND_VIEW.state.params["value"]}, HAND_VIEW, rows)
    assert loss == pytest.approx((4.0 + 1.0) / 2, rel=1e-4)  # V = 1 and 3
    assert metrics["v"] == pytest.approx(2.0, rel=1e-4)


def test_before_the_policy_has_moved_the_gradient_is_the_policy_gradient():
    state = tiny_state(NETS, METHOD)
    view = View(NETS, state, METHOD.coef)
    own, rows = {"actor": state.params["actor"]}, jax.jit(lambda rows: ppo.rollout(view, rows))(random_batch(3, 20))
    a = rows.on_policy.advantage
    standard = (a - a.mean()) / a.std()

    def policy_gradient(params):
        return -jnp.mean(standard * view.pi(rows.obs, params).log_prob(rows.action))

    loss, metrics = run(ppo.actor, own, view, rows)
    assert loss == pytest.approx(0.0, abs=1e-5)  # the mean of the standardised advantages: every ratio is 1
    assert metrics["clipped"] == metrics["kl"] == 0.0
    assert_close(slope(ppo.actor, own, view, rows), jax.jit(jax.grad(policy_gradient))(own), 1e-3, 1e-5)


# The rollout: the newest rows of the ring.


@pytest.fixture(scope="module")
def ring():
    """Rows 0 to 22 of which the ring of 9 has the last, 14 to 22; episodes of five."""
    found = Ring(9, {"x": (1,)}, 1, 0.5, 0.0)
    for i in range(23):
        found.add([transition(float(i), "truncated" if i % 5 == 4 else "", x=float(i))])
    return found


@pytest.mark.parametrize("rows", [1, 4, 9])
def test_the_newest_rows_come_in_order_across_the_edge_of_the_ring(ring, rows):
    """Also as if fewer had been inserted: wherever the next row would be written."""
    take = jax.jit(lambda place: newest(ring.columns, place, rows, jax.random.key(0)))
    for last in range(14 + rows - 1, 23):
        found, numbers = take(jnp.array([(last + 1) % 9, rows], jnp.int32)), range(last - rows + 1, last + 1)
        assert found.reward.tolist() == [float(i) for i in numbers]
        assert found.ended.tolist() == [float(i % 5 == 4 or i == last) for i in numbers]


def test_rows_that_are_missing_are_made_up_for_by_those_there_are(ring):
    found = newest(ring.columns, jnp.array([23 % 9, 3], jnp.int32), 8, jax.random.key(0))
    assert found.reward.tolist() == [21.0, 22.0, 20.0, 21.0, 22.0, 20.0, 21.0, 22.0]
    assert found.ended.tolist() == [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]  # nothing flows from one turn to the other
    # So every copy of a row has the row's own advantage.
    error = jnp.take(jnp.array([1.0, 2.0, 4.0]), jnp.array([1, 2, 0, 1, 2, 0, 1, 2]))
    np.testing.assert_allclose(ppo.gae(error, found.ended, 0.5), [4.0, 4.0, 3.0, 4.0, 4.0, 3.0, 4.0, 4.0])


@pytest.mark.parametrize(("rows", "size"), [(6, 3), (7, 3), (5, 5), (8, 3)])
def test_a_pass_takes_every_row_once_and_its_own_first_ones_where_they_do_not_come_out_even(rows, size):
    table, passes = random_batch(0, rows).replace(reward=jnp.arange(rows)), 3
    order, each = orders(KEY, rows, passes), -(-rows // size)
    draw = jax.jit(lambda i: minibatch(table, order, i, size).reward)
    drawn = np.concatenate([np.asarray(draw(i)) for i in range(passes * each)], axis=1).reshape(passes, each * size)
    for of_pass in drawn:
        assert sorted(of_pass[:rows]) == list(range(rows))
        np.testing.assert_array_equal(of_pass[rows:], of_pass[: each * size - rows])
    assert len({tuple(of_pass) for of_pass in drawn}) == passes


def test_the_program_is_one_rollout_prepared_once_and_then_update_after_update():
    """Rows that are older would make everything NaN; so would the values if they were not those of the beginning."""
    phase = Phase("online", METHOD, env_steps=20, utd=2, batch_size=3, collect=SAMPLE, rollout=5)
    state, table = tiny_state(NETS, METHOD), random_batch(0, 8)
    inside = np.array([6, 7, 0, 1, 2])  # the next would be written to row 3
    older = jnp.array([3, 4, 5])
    columns = jax.tree.map(lambda x: x.at[older].set(jnp.nan) if x.dtype == jnp.float32 else x, table)
    assert phase.minibatches_of(5) == 4
    compiled = jax.jit(program(NETS, phase, METHOD), compiler_options=QUICK)
    after, metrics = compiled(state, {"online": (columns, jnp.array([3, 5], jnp.int32))}, jnp.int32(0), 4)

    rollout = jax.jit(lambda rows: ppo.rollout(View(NETS, state, METHOD.coef), rows))(
        jax.tree.map(lambda x: x[inside], columns).replace(ended=table.ended[inside].at[-1].set(1.0))
    )
    step = jax.jit(lambda state, rows: update(NETS, METHOD, state, rows, METHOD.coef), compiler_options=QUICK)
    by_hand, order = state, orders(named_key(state, "rollout"), 5, 2)
    for number in range(4):
        by_hand, _ = step(by_hand, minibatch(rollout, order, jnp.int32(number), 3))
    assert_close(after.params, by_hand.params)
    assert int(after.update_count) == 4
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_phase_counts_whole_rollouts():
    phase = Phase("online", METHOD, env_steps=105, utd=3, batch_size=4, collect=SAMPLE, rollout=10)
    assert (phase.minibatches, phase.minibatches_of(10), phase.minibatches_of(4)) == (10 * 9, 9, 3)
    assert [phase.portion(50, taken) for taken in (0, 7, 10, 19)] == [10, 3, 10, 1]
    assert phase.portion(2, 7) == 2


def online(**changed) -> Phase:
    return replace(Phase("online", METHOD, env_steps=100, batch_size=8, collect=SAMPLE, rollout=10), **changed)


OFFLINE = Phase("offline", find_method("calql"), updates=10, shares={"offline": 1.0})


@pytest.mark.parametrize(
    ("bridge", "settings"), [("direct", {}), ("warm_up", {"steps": 30}), ("scratch", {"steps": 30})]
)
def test_bridges_without_stored_data_take_it(bridge, settings):
    *_, last = plan(OFFLINE, find_bridge(bridge, settings), online())
    assert (last.method, last.rollout, last.shares) == (METHOD, 10, {"online": 1.0})


@pytest.mark.parametrize(
    ("bridge", "settings", "reason"),
    [
        ("retain", {}, "draws from a data set"),
        ("rlpd", {}, "draws from a data set"),
        ("anneal", {"weight": 0.0, "warm_up": 0}, "draws from a data set"),
        ("balanced", {}, "draws by priority"),
        ("pretrain", {"steps": 5, "updates": 5}, "draws from a data set"),
        ("jump_start", {}, "acts otherwise"),
        ("policy_only", {"steps": 20}, "acts otherwise"),
    ],
)
def test_bridges_with_others_data_are_refused_with_the_reason(bridge, settings, reason):
    with pytest.raises(ValueError, match=r"learns on-policy, only from what its own policy has just done") as refusal:
        plan(OFFLINE, find_bridge(bridge, settings), online())
    assert f"this phase {reason}; choose another bridge" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("changed", [{"batch_size": 11}, {"rollout": 0}, {"rollout": 101}])
def test_a_rollout_holds_a_minibatch_and_fits_the_phase(changed):
    with pytest.raises(ValueError, match=r"phase 'online': a rollout of \d+ steps .*; give a block between the two"):
        check_phase(online(**changed))


def test_it_learns_a_problem_whose_answer_is_known():
    """One step: the reward is -4 (a - s / 2)^2, and the best action s / 2. Every rollout is of the policy as it is by then."""
    nets, rows = ONE_STEP_NETS, 256
    # The paper's rate: nothing bounds how sharp a policy becomes without noise, and a sharp one leaps at a higher rate.
    method = replace(METHOD, optimizer={"actor": Adam(3e-4), "value": Adam(1e-2)})
    phase = Phase("online", method, env_steps=rows, utd=4, batch_size=64, collect=SAMPLE, rollout=rows)
    run_one = program(nets, phase, method)

    @jax.jit
    def learn(state):
        def one(i, state):
            obs_key, act_key = jax.random.split(jax.random.fold_in(KEY, i))
            obs = jax.random.uniform(obs_key, (rows, 1), minval=-1.0, maxval=1.0)
            action, _ = View(nets, state, {}).pi({"x": obs}).sample(act_key)
            table = batch(obs, action, jnp.zeros(rows), obs, mask=0.0)
            table = table.replace(reward=reward_of(obs, action)[:, 0], ended=jnp.ones(rows))
            return run_one(state, {"online": (table, jnp.array([0, rows], jnp.int32))}, jnp.int32(0), 16)[0]

        return jax.lax.fori_loop(0, 150, one, state)

    # A vector of zeros, as it begins, is a std of 1: far too wide, and it is learned too.
    before = tiny_state(nets, method).replace(normalizer=identity(1))
    view = View(nets, learn(before), {})
    error = np.abs(np.asarray(view.pi(TRIALS).mode()) - BEST)
    assert error.max() < 0.15, error[:, 0].round(2)
