"""SMAC: the score-matching loss by hand and by differences, and a Q that falls in every direction away from the data."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from agent.adopt import adopt, first_state
from agent.methods import smac
from agent.optim import Adam, Muon
from agent.plan import check_method, plan
from agent.types import Array, Method, Phase, View
from agent.update import train
from tests.agent.test_losses import KEY, known_view, run
from tests.agent.tiny import batch, hand_nets, hand_state, identity, linear_critics, random_batch, tiny_nets, tiny_state


@dataclass(frozen=True)
class KnownNoise:
    """A model that predicts `by_action a + constant`, at the best outcome and the first step alone."""

    by_action: float
    constant: float

    def apply(self, variables, obs, action, outcome, step):
        found = self.by_action * action + self.constant
        return jnp.where((outcome == 1.0) & (step == 1), jnp.moveaxis(found, -1, 0), jnp.nan).T


def hand_view(members, noise, critic, alpha, coef, rows):
    """The policy's action is 0.25 and `alpha(s) = alpha s`."""
    nets = hand_nets(members)
    nets = replace(nets, modules={**nets.modules, "score": noise})
    # One hidden unit that passes s on where it is positive.
    head = {
        "Trunk_0": {"Dense_0": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}},
        "Dense_0": {"kernel": jnp.full((1, 1), alpha), "bias": jnp.zeros(1)},
    }
    own = {"critic": critic, "alpha": head}
    return own, known_view(nets, hand_state(nets, own, {"critic": critic, "score": {}}), coef, [0.25], 0.0, rows)


def test_the_loss_by_hand():
    """Q is s + 2a and s - a; the noise 0.5; alpha(s) = -3 s."""
    critic = linear_critics([1.0, 1.0], [2.0, -1.0], [0.0, 0.0])
    own, view = hand_view(2, KnownNoise(0.0, 0.5), critic, -3.0, {"kappa": 40.0}, 2)
    rows = batch([[1.0], [2.0]], [[0.5], [0.5]], [2.0, 2.0], [[0.0], [0.0]], mask=0.0)
    loss, metrics = run(smac.critic, own, view, rows)
    # Slopes 2 and -1 should be -1.5 and -3: 3.5^2, 5^2, 0.5^2 and 2^2, mean 10.375.
    # TD: Q = 2, 3 and 0.5, 1.5 where 2 is wanted: 0, 1, 2.25 and 0.25, mean 0.875. 40 * 10.375 + 0.875 = 415.875.
    assert float(metrics["mismatch"]) == pytest.approx(10.375, rel=1e-4)
    assert float(metrics["td"]) == pytest.approx(0.875, rel=1e-3)
    assert float(loss) == pytest.approx(415.875, rel=1e-4)
    assert float(metrics["alpha"]) == pytest.approx(-4.5, rel=1e-4)
    assert float(metrics["inverted"]) == 0.0


def test_half_of_the_actions_are_the_policy_s_and_half_uniform():
    """Where Q is flat and `alpha(s) eps(a) = a`, the mismatch is the mean square of the actions."""
    own, view = hand_view(1, KnownNoise(1.0, 0.0), linear_critics([0.0], [0.0], [0.0]), 1.0, {"kappa": 1.0}, 20_000)
    ones = np.ones((20_000, 1))
    _, metrics = run(smac.critic, own, view, batch(ones, 0 * ones, 0 * ones[:, 0], ones, mask=0.0))
    assert float(metrics["mismatch"]) == pytest.approx((0.25**2 + 1 / 3) / 2, rel=0.02)


def test_the_gradient_is_the_difference_quotient():
    """Of the critic's parameters, through its slope, and of alpha's, in double precision; layer norm and tanh."""
    with jax.enable_x64(True):
        nets = tiny_nets(1, 2, critic_hidden=(4,), actor_hidden=(4,), critics=2, critic_activation="tanh")
        double = lambda tree: jax.tree.map(lambda x: x.astype(float) if x.dtype == jnp.float32 else x, tree)  # noqa: E731
        state, rows = double(tiny_state(nets, smac.METHOD)), double(random_batch(0, 4, 1, 2))

        @jax.jit
        def mismatch(own):
            return smac.critic(own, View(nets, state, {"kappa": 40.0}), rows, KEY)[1]["mismatch"]

        own = {name: state.params[name] for name in ("critic", "alpha")}
        check_grads(mismatch, (own,), order=1, modes=["rev"], atol=1e-4, rtol=1e-4, eps=1e-5)
        slopes = jax.grad(mismatch)(own)
        assert all(np.abs(slopes["critic"][name]).max() > 1e-3 for name in ("kernel_0", "kernel_1", "scale_0"))
        assert not slopes["critic"]["bias_1"].any()  # a constant has no slope


def test_each_member_has_its_own_slope():
    nets = tiny_nets(2, 2, critic_hidden=(8,), critics=3, critic_activation="tanh")
    state, rows = tiny_state(nets, smac.METHOD), random_batch(0, 5, 2, 2)
    view, own = View(nets, state, {}), {"critic": state.params["critic"]}
    slope = jax.jit(lambda: smac.action_slope(own, view, rows, rows.action))()
    assert slope.shape == (3, 5, 2)
    steps = 1e-2 * jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    q = jax.jit(view.q)(rows.obs, rows.action[None] + steps[:, None])
    quotient = jnp.stack([q[:, 0] - q[:, 1], q[:, 2] - q[:, 3]], axis=-1) / 2e-2
    np.testing.assert_allclose(slope, quotient, rtol=0.02, atol=2e-3)


CENTRE, WIDTH, ROWS = np.array([0.3, -0.2]), 0.2, 2048
TOY = tiny_nets(
    1,
    2,
    actor_hidden=(8,),
    critic_hidden=(48,),
    critics=2,
    optimizer={"score": Adam(2e-3), "temperature": Adam(1e-2)},
    temperature=0.1,
    **smac.METHOD.networks,
)
FASTER = replace(smac.METHOD, optimizer=dict.fromkeys(("critic", "actor", "alpha"), Muon(3e-3)))


@pytest.fixture(scope="module")
def learn():
    """`(alpha at first, kappa, updates) -> a view, alpha`: one state, actions around a point, worth less off in x alone."""
    rng = np.random.default_rng(0)
    action, none = CENTRE + WIDTH * rng.normal(size=(ROWS, 2)), np.zeros((ROWS, 1))
    rows = batch(none, action, -10.0 * (action[:, 0] - CENTRE[0]) ** 2, none, mask=0.0)
    rows = rows.replace(outcome=jnp.ones(ROWS))

    def trained(method, size):
        def draw(state, key, step):
            return jax.tree.map(lambda x: x[jax.random.randint(key, (1, size), 0, ROWS)], rows)

        return jax.jit(
            lambda state, kappa, steps: train(TOY, method, state, draw, lambda _: {"kappa": kappa}, steps)[0]
        )

    everything = Method(losses={}, frozen=(*FASTER.updated, "score"))
    fresh = jax.jit(lambda key: first_state(TOY, everything, identity(1), key))(KEY)
    scored = trained(FASTER.before, 128)(adopt(TOY, FASTER.before, fresh, None), 0.0, 600)
    scored = scored.replace(params={**fresh.params, **scored.params})
    program = trained(FASTER, 64)

    def run(alpha: float, kappa: float, steps: int) -> tuple[View, Array]:
        head = {**scored.params["alpha"]}
        head["Dense_0"] = {**head["Dense_0"], "bias": jnp.full(1, alpha)}
        start = adopt(TOY, FASTER, scored.replace(params={**scored.params, "alpha": head}), None)
        view = View(TOY, program(start, kappa, steps), {})
        return view, float(view.apply("alpha", jnp.zeros((1, 1)))[0])

    return run


def falling(view):
    """Along which of 16 directions Q falls at each step from the data's centre to 0.7 off, 3.5 of the data's std."""
    angle = np.arange(16) * np.pi / 8
    direction, distance = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.linspace(0.0, 0.7, 8)
    action = (CENTRE + distance[:, None, None] * direction[None]).reshape(-1, 2)
    q = view.q({"x": jnp.zeros((len(action), 1))}, jnp.asarray(action, jnp.float32)).mean(0).reshape(8, 16)
    return (np.diff(q, axis=0) < 0).all(axis=0)


def test_q_falls_away_from_the_data_in_every_direction(learn):
    """Also in y, where the rewards say nothing; without the score it does not."""
    view, alpha = learn(-1.0, 40.0, 800)
    assert falling(view).all()
    assert alpha < -0.1
    best = np.asarray(view.pi({"x": jnp.zeros((1, 1))}).mode()[0])
    assert np.linalg.norm(best - CENTRE) < WIDTH
    assert not falling(learn(-1.0, 0.0, 800)[0]).all()


def test_alpha_finds_its_sign(learn):
    """It begins where Q would rise away from the data, and the rewards turn it; sooner where they weigh more."""
    assert learn(0.2, 1.0, 1200)[1] < -0.05


def test_alpha_begins_pessimistic():
    params = jax.jit(TOY.modules["alpha"].init)(KEY, jnp.zeros((1, 1)))
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(50, 1)), jnp.float32)
    np.testing.assert_allclose(jax.jit(TOY.modules["alpha"].apply)(params, obs), -1.0, atol=0.1)


def test_the_tables():
    method = smac.METHOD
    check_method(method.before, "before")
    assert method.before.updated == method.frozen == ("score",)
    assert method.before.targets == {"score": "moving"}
    assert method.targets["score"] == "held"
    assert method.coef["kappa"] == 40.0
    assert {name: x.learning_rate for name, x in method.optimizer.items()} == {
        "critic": 3e-4,
        "actor": 1e-4,
        "alpha": 1e-4,
    }
    offline = Phase("offline", method, updates=1, shares={"offline": 1.0})
    first, second = plan(offline, lambda offline, _: (offline,), offline)
    assert (first.method.updated, second) == (("score",), offline)
