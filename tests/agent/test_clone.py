"""Cloning a policy that is none of ours: it acts alike where nobody asked it, and OCR-CFT goes on from there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import make_nets
from agent.bridges.clone import Bridge, cloning
from agent.heads import Networks
from agent.methods import find_method
from agent.optim import Adam
from agent.plan import plan
from agent.policy import exploration
from agent.program import UNTRAINED_STD, begin, program
from agent.types import Phase, State, View
from tests.agent.tiny import (
    assert_same,
    constant_actor,
    differs,
    hand_nets,
    hand_state,
    identity,
    random_batch,
    tiny_nets,
    tiny_state,
)

NETS = make_nets(
    {"x": (2,)},
    2,
    Networks((32, 32), (8,), critics=2, layer_norm=False),
    {"actor": Adam(1e-3)},
)
COUNTS = {"reevaluation_updates": 5, "alignment_updates": 5}
DATA = random_batch(0, 2000, action=2)
SOURCES = {"offline": (DATA, jnp.int32(2000))}


def spiral(obs):
    """A policy in Python: branches, a loop, double precision."""
    return [[0.7 * np.sin(2.0 * x), 0.5 if y > 2.0 else 0.3 * y] for x, y in obs["x"].astype(np.float64)]


def planned(policy, online: str = "sac", offline: str = "calql", **settings) -> tuple[Phase, ...]:
    first = Phase("offline", find_method(offline), updates=10, batch_size=64, shares={"offline": 1.0})
    method = find_method(online)
    phase = Phase("online", method, env_steps=20, batch_size=64, collect=exploration(method))
    return plan(first, Bridge(policy=policy, **COUNTS, **settings), phase)


@pytest.mark.parametrize("online", ["sac", "td3"])
def test_a_policy_in_python_is_recovered_where_it_was_not_asked(online):
    phases = planned(spiral, online, clone_updates=2500)
    assert [phase.name for phase in phases] == ["clone", "re-evaluate", "align", "online"]
    state = State({}, {}, {}, identity(2), jnp.int32(0), jax.random.key(0))
    state, method = begin(NETS, phases, 0, state, None)
    obs = {"x": jnp.asarray(np.random.default_rng(1).uniform(-1.5, 1.5, (500, 2)), jnp.float32)}

    def error(state):
        found = View(NETS, state, {}).pi(obs).mode()
        return float(jnp.mean(jnp.abs(found - jnp.asarray(spiral({"x": np.asarray(obs["x"])})))))

    before = error(state)
    run = jax.jit(program(NETS, phases[0], method))
    state, _ = run(state, SOURCES, jnp.int32(0), phases[0].updates)
    assert before > 0.25
    assert error(state) < 0.03
    clone = state.params["actor"]
    state, method = begin(NETS, phases, 1, state, method)  # and it is what OCR-CFT begins with
    assert_same(state.params["actor"], clone)
    state, _ = begin(NETS, phases, 2, state, method)
    assert_same(state.params["reference"], clone)


def test_seeds_ask_it_each_for_itself():
    phases = planned(lambda obs: np.tanh(obs["x"]), "td3", clone_updates=5)
    method = phases[0].method
    assert method is not None
    view = View(NETS, tiny_state(NETS, method), {})
    rows = jax.tree.map(lambda x: x[:6].reshape(2, 3, *x.shape[1:]), DATA)
    losses = jax.vmap(lambda b: method.losses["actor"]({}, view, b, jax.random.key(0))[0])(rows)
    wanted = [np.mean((np.asarray(view.pi({"x": o}).mode()) - np.tanh(o)) ** 2) for o in np.asarray(rows.obs["x"])]
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)


@pytest.mark.parametrize(("offline", "std"), [("calql", None), ("td3bc", UNTRAINED_STD)])
def test_the_pre_trained_policy_itself_goes_into_a_fresh_one(offline, std):
    phases = planned(None, offline=offline, clone_updates=5)
    assert [phase.name for phase in phases] == ["offline", "clone", "re-evaluate", "align", "online"]
    before = tiny_state(NETS, find_method(offline))
    state, method = begin(NETS, phases, 1, before, find_method(offline))
    assert_same(state.params["prior"]["mean"], before.params["actor"]["mean"])
    assert differs(state.params["actor"], before.params["actor"])
    if std is not None:
        log_std = View(NETS, state, {}).reading({"actor": "prior"}).pi(DATA.obs).log_std
        np.testing.assert_allclose(np.exp(log_std), std, rtol=1e-5)
    state, _ = begin(NETS, phases, 2, state, method)
    assert "prior" not in state.params


@pytest.mark.parametrize("entropy", [0.0, 0.5])
def test_the_loss_is_least_at_the_variance_of_the_error_over_one_less_the_entropy_s_weight(entropy):
    """Errors of variance 0.01 before the squashing: the std's slope is 0 at 0.1 without the entropy, at 0.141 with half."""
    nets, n = hand_nets(1), 100_000
    rows = random_batch(0, n, obs=1)
    noise = np.random.default_rng(2).normal(0.0, 0.1, (n, 1))
    loss = cloning(lambda obs: np.tanh(0.3 + noise), deterministic=False)

    def slope(std):
        actor = constant_actor(0.3, std)
        view = View(nets, hand_state(nets, {"actor": actor}), {"entropy": entropy})
        return float(jax.grad(lambda own: loss({"actor": own}, view, rows, jax.random.key(0))[0])(actor)["log_std"][0])

    # The entropy of the squashed action has a little of the squashing's slope in it.
    assert slope(0.1 / np.sqrt(1.0 - entropy)) == pytest.approx(0.0, abs=0.02)
    assert slope(0.07 / np.sqrt(1.0 - entropy)) < -0.3
    assert slope(0.2 / np.sqrt(1.0 - entropy)) > 0.3


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (lambda obs: obs["x"][:, :1], r"gave actions \(4, 1\); it has to give finite ones, \(4, 2\)"),
        (lambda obs: np.full((4, 2), np.nan), "an action that is no finite number"),
    ],
)
def test_answers_that_are_no_actions_are_refused(policy, words):
    nets = tiny_nets(action=2)
    method = planned(policy, "td3")[0].method
    assert method is not None
    view = View(nets, tiny_state(nets, method), {})
    with pytest.raises(Exception, match=words):
        jax.block_until_ready(method.losses["actor"]({}, view, random_batch(0, 4, action=2), jax.random.key(0))[0])


@pytest.mark.parametrize("settings", [{"clone_updates": 0}, {"entropy": 1.0}, {"policy": 3.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="bridge 'clone'"):
        Bridge(**settings)
