"""Each method learns a problem whose answer is known.

One step: an observation s in -1..1, an action a, the reward -4 (a - s / 2)^2, and the end. The best action is s / 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import adopt, first_state
from agent.methods import find_method
from agent.optim import Adam
from agent.types import Method, View
from agent.update import train
from tests.agent.tiny import batch, identity, tiny_nets

NETS = tiny_nets(
    1,
    1,
    actor_hidden=(32,),
    critic_hidden=(32,),
    critics=2,
    optimizer={"actor": Adam(3e-3), "critic": Adam(3e-3), "temperature": Adam(1e-2)},
    temperature=0.1,
)
ROWS = 2000
TRIALS = {"x": jnp.linspace(-0.9, 0.9, 19)[:, None]}
BEST = np.asarray(TRIALS["x"]) / 2


def reward_of(obs, action):
    return -4.0 * (action - obs / 2) ** 2


def data(low: float, high: float):
    """Observations all over, actions uniform between two numbers."""
    rng = np.random.default_rng(0)
    obs, action = rng.uniform(-1, 1, (ROWS, 1)), rng.uniform(low, high, (ROWS, 1))
    reward = reward_of(obs, action)[:, 0]
    return batch(obs, action, reward, obs, mask=0.0, mc_return=reward, has_return=1.0)


@pytest.fixture(scope="module")
def fresh():
    """Fresh networks of all groups."""
    everything = Method(losses={}, frozen=tuple(NETS.modules))
    return jax.jit(lambda key: first_state(NETS, everything, identity(1), key))(jax.random.key(0))


COEF = {"conservative": 2.0, "sampled_actions": 2, "backup_actions": 2, "noise": 0.0}


@pytest.fixture(scope="module")
def learn(fresh):
    """`(method's name, table, steps) -> a view of what it learned`, compiled once for each method."""

    def compiled(name):
        method = find_method(name)

        def program(state, table, steps):
            def draw(state, key, step):
                return jax.tree.map(lambda x: x[jax.random.randint(key, (1, 32), 0, ROWS)], table)

            return train(NETS, method, state, draw, lambda i: COEF, steps)[0]

        return method, jax.jit(program)

    programs = {}

    def run(name, table, steps):
        method, program = programs.setdefault(name, compiled(name))
        return View(NETS, program(adopt(NETS, method, fresh, None), table, steps), COEF)

    return run


def test_behaviour_cloning_recovers_the_action_of_the_data(learn):
    rows = data(-1.0, 1.0)
    rows = rows.replace(action=rows.obs["x"] / 2)
    view = learn("bc", rows, 600)
    np.testing.assert_allclose(view.pi(TRIALS).mode(), BEST, atol=0.1)


def test_sac_finds_the_best_action_from_random_ones(learn):
    view = learn("sac", data(-1.0, 1.0), 800)
    np.testing.assert_allclose(view.pi(TRIALS).mode(), BEST, atol=0.15)
    q = view.q(TRIALS, jnp.asarray(BEST))
    np.testing.assert_allclose(q, 0.0, atol=0.15)  # the best reward there is


@pytest.fixture(scope="module")
def pessimism(learn):
    """Mean Q by method far outside the data, at the data's own actions, and at the policy's."""
    table = data(-0.3, 0.3)
    found = {}
    for name in ("sac", "cql", "calql"):
        view = learn(name, table, 400)
        far = jnp.stack([jnp.full((19, 1), a) for a in (-0.9, -0.8, 0.8, 0.9)])
        near = jnp.stack([jnp.full((19, 1), a) for a in (-0.2, 0.0, 0.2)])
        policy = view.pi(TRIALS).sample(jax.random.key(1), 16)[0]
        found[name] = [float(jnp.mean(view.q(TRIALS, a))) for a in (far, near, policy)]
    return found


def test_cql_does_not_believe_in_actions_that_the_data_lacks(pessimism):
    far, near = ({name: q[i] for name, q in pessimism.items()} for i in (0, 1))
    # True rewards: about -3.2 far out, -0.4 near the data. CQL puts the far ones well below what SAC reads off the same data.
    assert far["cql"] < far["sac"] - 2.0
    assert near["cql"] > far["cql"] + 3.0
    assert near["sac"] == pytest.approx(-0.41, abs=0.1)


def test_calql_lies_between_cql_and_sac_at_the_actions_of_the_policy(pessimism):
    at_policy = {name: q[2] for name, q in pessimism.items()}
    assert at_policy["cql"] + 0.05 < at_policy["calql"] < at_policy["sac"] - 0.02
