"""OPT: Eq. 3 with its gradient, the mixture of two critics, and what moves in which phase."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from agent.bridges import find_bridge
from agent.bridges.pretrain import Mixture, adapting, mixed, second
from agent.methods import find_method, sac, td3
from agent.plan import plan
from agent.policy import exploration
from agent.program import begin, program
from agent.types import Phase, View, at_step
from tests.agent.tiny import (
    assert_same,
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

NETS = tiny_nets()
QUICK = {"xla_backend_optimization_level": 0}  # a program that runs once is not worth optimising
SETTINGS = {"steps": 5, "updates": 30, "kappa_steps": 8}


def phases_of(online: str) -> tuple[Phase, ...]:
    method = find_method(online)
    offline = Phase("offline", find_method("calql"), updates=10, batch_size=8, shares={"offline": 1.0})
    phase = Phase("online", method, env_steps=20, utd=2, batch_size=8, collect=exploration(method))
    return plan(offline, find_bridge("pretrain", SETTINGS), phase)


def test_the_gradient_goes_through_the_inner_step():
    """Against finite differences, in double precision; with no inner step it would be another one."""
    with jax.enable_x64(True):
        double = lambda tree: jax.tree.map(lambda x: x.astype(float) if x.dtype == jnp.float32 else x, tree)  # noqa: E731
        state, rows = double(tiny_state(NETS, phases_of("sac")[3].method)), double(random_batch(0, 12))
        objective = adapting(second(sac.critic, ("critic",)))

        @jax.jit
        def value(params, inner_step=0.05):
            view = View(NETS, state, {"inner_step": inner_step})
            return objective({"critic_on": params}, view, rows, jax.random.key(0))[0]

        params = state.params["critic_on"]
        check_grads(value, (params,), order=1, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)
        slopes = [jax.tree.leaves(jax.grad(value)(params, step))[0] for step in (0.05, 0.0)]
        assert np.abs(slopes[0] - slopes[1]).max() > 1e-3


def test_each_term_has_its_own_half_and_the_step_is_as_long_as_said():
    """`Q = w`, rewards 1 in the data and 5 in the replay: at w = 2, `L_off = 1`, and a step of 0.1 goes to `w = 1.8`."""
    nets = hand_nets(1)
    critics = linear_critics([0.0], [0.0], [2.0])
    state = hand_state(nets, {"critic": critics, "critic_on": critics, "actor": constant_actor(0.0, 1.0)})
    zero = [[0.0]] * 4
    rows = batch(zero, zero, [1.0, 1.0, 5.0, 5.0], zero, mask=0.0)

    def error(params, view, batch, key):
        own = {"critic": {**critics, **params["critic"]}}  # the last layer's bias alone is moved
        return jnp.mean((view.q(batch.obs, batch.action, own)[0] - batch.reward) ** 2), {}

    view = View(nets, state, {"inner_step": 0.1})
    loss = adapting(second(error, ("critic",)))
    value, metrics = loss({"critic_on": {"bias_1": critics["bias_1"]}}, view, rows, jax.random.key(0))
    assert float(metrics["offline"]) == pytest.approx(1.0, abs=1e-4)
    assert float(metrics["adapted"]) == pytest.approx(3.2**2, abs=1e-3)
    assert float(value) == pytest.approx(1.0 + 3.2**2, abs=1e-3)


def test_the_policy_follows_the_mixture_of_both():
    """Q is 2 of the first critic's members and 6 of the second's, V is 1 and 3."""
    nets = hand_nets(2)
    first, other = (linear_critics([0.0] * 2, [0.0] * 2, [c, c]) for c in (2.0, 6.0))
    head = lambda c: {  # noqa: E731
        "Trunk_0": {"Dense_0": {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}},
        "Dense_0": {"kernel": jnp.zeros((1, 1)), "bias": jnp.array([c])},
    }
    params = {
        "critic": first,
        "critic_on": other,
        "value": head(1.0),
        "value_on": head(3.0),
        "actor": constant_actor(0.0, 1.0),
    }
    state = hand_state(nets, params, {"critic": first, "critic_on": other})
    obs = {"x": jnp.zeros((3, 1))}
    view = View(nets, state, {"kappa": 0.25})
    mixture = Mixture(nets, state, {"kappa": 0.25})
    assert mixture.q(obs, jnp.zeros((3, 1))).tolist() == [[3.0] * 3] * 2
    assert mixture.q_target(obs, jnp.zeros((3, 1)), jax.random.key(0)).tolist() == [[3.0] * 3] * 2
    assert mixture.v(obs).tolist() == [1.5] * 3
    rows = batch([[0.0]] * 3, [[0.0]] * 3, [0.0] * 3, [[0.0]] * 3)
    assert float(mixed(td3.actor)(params, view, rows, jax.random.key(0))[0]) == pytest.approx(-3.0)
    assert float(td3.actor(params, view, rows, jax.random.key(0))[0]) == pytest.approx(-2.0)


def test_the_weight_goes_from_one_critic_to_the_other():
    _, collect, pretrain, online = phases_of("sac")
    assert [float(at_step(online.coef, t)["kappa"]) for t in (0, 4, 8, 14)] == pytest.approx([0.1, 0.5, 0.9, 0.9])
    assert (collect.env_steps, pretrain.updates, online.env_steps) == (5, 30, 15)
    assert collect.method is None
    assert (pretrain.batch_size, dict(pretrain.shares)) == (16, {"offline": 0.5, "online": 0.5})
    assert online.replay == "balanced"


def test_only_the_second_values_learn_first_and_then_all_do():
    phases = phases_of("iql")
    state, method = tiny_state(NETS, phases[0].method), phases[0].method
    rows = {"offline": 20, "online": 20}
    sources = {"offline": (random_batch(0, 20), jnp.int32(20)), "online": (random_batch(1, 20), jnp.int32(20))}

    def after(index, steps):
        run = jax.jit(program(NETS, phases[index], phases[index].method), compiler_options=QUICK)
        return run(state, sources, jnp.int32(0), steps)[0]

    for index in (1, 2):
        state, method = begin(NETS, phases, index, state, method, rows)
    assert all(differs(state.params[f"{name}_on"], state.params[name]) for name in ("critic", "value"))
    trained = after(2, 3)
    assert {name for name in state.params if differs(trained.params[name], state.params[name])} == {
        "critic_on",
        "value_on",
    }
    assert {name for name in state.target if differs(trained.target[name], state.target[name])} == {"critic_on"}
    state, method = begin(NETS, phases, 3, trained, method, rows)
    for name in trained.params:
        assert_same(state.params[name], trained.params[name])  # nothing begins anew
    moved = after(3, 3)
    assert {name for name in moved.params if differs(moved.params[name], state.params[name])} == set(state.params)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 20}, "20 steps leave nothing of the online phase's 20"),
        ({"kappa": 1.5}, "give weights from 0 to 1"),
        ({"updates": 0}, "give counts of at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        find_bridge("pretrain", settings)(phases_of("sac")[0], Phase("online", sac.METHOD, env_steps=20))
