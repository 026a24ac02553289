"""Value alignment, by hand and by what it is for: that the policy's action is the best, and worth what it was."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import first_state, make_nets, with_std
from agent.alignment import align_law, align_mode
from agent.bridges import find_bridge
from agent.heads import Networks
from agent.methods import bc, find_method
from agent.optim import Adam
from agent.plan import plan
from agent.policy import exploration
from agent.program import begin, program
from agent.types import Phase, View
from tests.agent.tiny import batch, constant_actor, hand_nets, hand_state, identity, linear_critics

KEY = jax.random.key(0)
SURE = 1e-5  # the least std there is
BC = Phase("offline", bc.METHOD, updates=10, batch_size=8, shares={"offline": 1.0})


def actor_at(action: float, std: float = SURE):
    return constant_actor(math.atanh(action), std)


def one_number(value: float):
    return {"raw": jnp.float32(math.log(math.expm1(value)))}


def view_of(coef=None, members: int = 1, target=None, **params) -> View:
    nets = hand_nets(members)
    return View(nets, hand_state(nets, params, target), coef or {})


def rows(n: int = 1, reward: float = 0.0):
    return batch([[0.0]] * n, [[0.0]] * n, [reward] * n, [[0.0]] * n)


class TestAlignment:
    """A critic that is 0 everywhere: the loss is the mean square of what it ought to be."""

    def aligned(self, loss, reference, actor, on_action, constant, coef=None, temperature=0.2):
        members = len(constant)
        zero = linear_critics([0.0] * members, [0.0] * members, [0.0] * members)
        before = linear_critics([0.0] * members, on_action, constant)
        view = view_of(
            coef,
            members,
            {"critic": before},
            reference=reference,
            actor=actor,
            critic=zero,
            temperature=one_number(temperature),
        )
        value, metrics = loss({"critic": zero}, view, rows(), KEY)
        assert float(value) == pytest.approx(float(metrics["align"] + metrics["retain"]))
        return float(metrics["align"]), float(metrics["retain"])

    def test_of_a_law_each_member_is_lowered_to_what_its_density_says_or_left_where_it_is_lower(self):
        """Reference: mode 0, std 0.5. At 0.3 its log-density is less by `atanh(0.3)^2 / 0.5 + log(1 - 0.09)` = 0.0973."""
        drop = math.atanh(0.3) ** 2 / 0.5 + math.log(1.0 - 0.09)
        found = self.aligned(align_law, actor_at(0.0, 0.5), actor_at(0.3), [2.0, -1.0], [1.0, 3.0])
        wanted = [1.0 - 0.2 * drop, 3.0 - 0.3]  # of 1.6 and 2.7: the second is low enough
        assert found == pytest.approx((np.mean(np.square(wanted)), (1.0 + 9.0) / 2), abs=1e-3)

    def test_where_the_squashed_density_is_higher_than_at_the_mode_q_is_not(self):
        """Mode 0.76, std 0.5: the density of the squashed action rises up to an action of 0.9."""
        further = 0.85
        view = view_of(actor=actor_at(0.76, 0.5))
        policy = view.pi({"x": jnp.zeros((1, 1))})
        assert float(policy.log_prob(jnp.array([[further]]))[0]) > float(policy.log_prob(policy.mode())[0])
        assert self.aligned(align_law, actor_at(0.76, 0.5), actor_at(further), [1.0], [1.0]) == pytest.approx(
            (1.76**2, 1.76**2), abs=1e-2
        )

    def test_no_log_density_is_below_its_floor(self):
        """Std 0.01, so 0.5 is 55 std away: `log pi` is -50 there, and `log(1 / (0.01 sqrt(2 pi)))` at the mode."""
        drop = math.log(100.0 / math.sqrt(2 * math.pi)) + 50.0
        found = self.aligned(align_law, actor_at(0.0, 0.01), actor_at(0.5), [0.0], [1.0])
        assert found == pytest.approx(((1.0 - 0.2 * drop) ** 2, 1.0), rel=1e-3)

    @pytest.mark.parametrize("q", [2.0, -2.0])
    @pytest.mark.parametrize(("action", "squared"), [(0.03, 0.03**2), (0.4, 0.05**2)])
    def test_of_a_mode_q_falls_with_the_distance_up_to_the_noise_s_std(self, q, action, squared):
        """k = 100, std 0.05. The second action is uniform, and with this key further away than that."""
        coef = {"target_noise": 0.05, "noise_clip": 0.0, "k": 100.0}
        near, far = (1.0 + 100.0 * d for d in (squared, 0.05**2))
        wanted = [q / near, q / far] if q > 0 else [q * near, q * far]
        found = self.aligned(align_mode, actor_at(0.0), actor_at(action), [0.0], [q], coef)
        assert found == pytest.approx((np.mean(np.square(wanted)), 4.0), rel=1e-3)
        assert all(x < q for x in wanted)

    def test_of_a_mode_what_is_low_enough_stays(self):
        """Q = 2 - 4 a is 0.4 at 0.4, and its uniform action's own."""
        coef = {"target_noise": 0.05, "noise_clip": 0.0, "k": 0.0}
        low = self.aligned(align_mode, actor_at(0.0), actor_at(0.4), [-4.0], [2.0], coef)[0]
        other = self.aligned(align_mode, actor_at(0.0), actor_at(0.0), [-4.0], [2.0], coef)[0]
        assert 2 * (other - low) == pytest.approx(2.0**2 - 0.4**2, rel=1e-3)  # the same uniform action


def the_criterion(
    online: str, shift: float, std: float, updates: int, alpha: float = 0.5
) -> tuple[float, float, float]:
    """On 500 observations that no update has seen: of those whose policy action was not better than 64 uniform ones after
    the re-evaluation, the share where it is after the alignment; the mean relative change of its Q; how far the policy moved.

    The policy's is a random function of one number, the data its own with noise; an action 0.3 further in both dimensions
    would be worth more, by rewards around `shift`.
    """
    networks = Networks((64,), (64, 64), critics=2, members_per_target=2, layer_norm=False)
    rates = {"actor": Adam(3e-4), "critic": Adam(1e-3)}
    nets = make_nets({"x": (1,)}, 2, networks, rates, discount=0.8, tau=0.02)
    state, method = first_state(nets, bc.METHOD, identity(1), jax.random.key(1)), bc.METHOD
    actor = {**state.params["actor"], "mean": jax.tree.map(lambda x: 400.0 * x, state.params["actor"]["mean"])}
    state = with_std(state.replace(params={"actor": actor}), std)
    rng = np.random.default_rng(1)
    at = lambda obs: View(nets, state, {}).pi({"x": jnp.asarray(obs, jnp.float32)}).mode()  # noqa: E731
    obs = rng.uniform(-1, 1, (4000, 1))
    own = np.asarray(at(obs))
    action = np.clip(own + std * rng.normal(size=own.shape), -1, 1)
    reward = shift - np.sum((action - own - 0.3) ** 2, axis=1)
    data = batch(obs, action, reward, np.clip(0.8 * obs + 0.3 * action[:, :1], -1, 1))
    held = rng.uniform(-1, 1, (500, 1))
    best, uniform = at(held), jnp.asarray(rng.uniform(-1, 1, (64, 500, 2)), jnp.float32)

    def ranked(state):
        actions = jnp.concatenate([best[None], uniform])
        q = np.asarray(jnp.min(View(nets, state, {}).q({"x": jnp.asarray(held, jnp.float32)}, actions), axis=0))
        return q[0], q[0] > q[1:].max(axis=0)

    online_method = find_method(online)
    phase = Phase("online", online_method, env_steps=9, batch_size=128, collect=exploration(online_method))
    settings = {"reevaluation_updates": 1500, "alignment_updates": updates, "alpha": alpha}
    phases = plan(BC, find_bridge("reconstruct", settings), phase)
    found = []
    for index in (1, 2):
        state, method = begin(nets, phases, index, state, method)
        run = jax.jit(program(nets, phases[index], method))
        state, _ = run(state, {"offline": (data, jnp.int32(4000))}, jnp.int32(0), phases[index].updates)
        found.append(ranked(state))
    (q_before, first_before), (q_after, first_after) = found
    assert np.mean(first_before) < 0.5
    moved = float(jnp.mean(jnp.abs(at(held) - best)))
    return np.mean(first_after[~first_before]), np.mean(np.abs(q_after / q_before - 1.0)), moved


@pytest.mark.parametrize(("online", "shift", "std"), [("sac", 1.0, 0.1), ("td3", 1.0, 0.15), ("td3", -1.0, 0.15)])
def test_after_alignment_the_policys_action_is_the_best_and_worth_what_it_was(online, shift, std):
    first, change, moved = the_criterion(online, shift, std, updates=6000)
    assert first >= 0.95
    assert change < 0.05
    assert moved < 0.05
