"""OCR-CFT: alignment and constraint by hand, whether alignment achieves what it is for, and what moves in which phase."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import first_state, make_nets, with_std
from agent.alignment import align_law, align_mode, fit_returns
from agent.bridges import find_bridge
from agent.bridges.reconstruct import Bridge
from agent.constraint import TargetView, auxiliary_advantage, constrained, log_ratio
from agent.heads import Networks
from agent.methods import find_method, sac, td3
from agent.optim import Adam
from agent.plan import plan
from agent.policy import exploration
from agent.program import begin, program, renewal_due, with_copies
from agent.types import Method, OnPolicy, Phase, View, at_step
from tests.agent.tiny import (
    assert_same,
    batch,
    constant_actor,
    differs,
    hand_nets,
    hand_state,
    identity,
    linear_critics,
    random_batch,
    tiny_nets,
    tiny_state,
)

NETS = tiny_nets()
QUICK = {"xla_backend_optimization_level": 0}  # a program that runs once is not worth optimising
KEY = jax.random.key(0)
SURE = 1e-5  # the least std there is
SETTINGS = {"reevaluation_updates": 5, "alignment_updates": 4, "threshold_steps": 10, "beta_steps": 10}
BC = Phase("offline", find_method("bc"), updates=10, batch_size=8, shares={"offline": 1.0})


def phases_of(online: Method, **settings) -> tuple[Phase, ...]:
    phase = Phase("online", online, env_steps=20, utd=2, batch_size=8, collect=exploration(online))
    return plan(BC, find_bridge("reconstruct", {**SETTINGS, **settings}), phase)


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
    state, method = first_state(nets, BC.method, identity(1), jax.random.key(1)), BC.method
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


class TestConstraint:
    DETERMINISTIC = constrained(td3.METHOD)
    STOCHASTIC = constrained(sac.METHOD)

    @pytest.mark.parametrize(("threshold", "loss"), [(0.01, 2.0 * 0.7 * -0.03), (0.1, 2.0 * 0.3 * 0.06)])
    def test_the_multiplier_s_loss_is_weighted_and_drives_it_up_where_violated_and_down_where_not(
        self, threshold, loss
    ):
        """Modes 0.5 and 0.3 are 0.04 apart; the multiplier is 2."""
        view = view_of(
            {"threshold": threshold}, actor=actor_at(0.5), reference=actor_at(0.3), multiplier=one_number(2.0)
        )
        own = self.DETERMINISTIC.losses["multiplier"]

        def value(raw):
            return own({"multiplier": {"raw": raw}}, view, rows(3), KEY)[0]

        raw = view.state.params["multiplier"]["raw"]
        assert float(value(raw)) == pytest.approx(loss, rel=1e-3)
        assert np.sign(float(jax.grad(value)(raw))) == np.sign(loss)  # a step goes the other way

    def test_the_divergence_of_laws_is_their_kl(self):
        """Means 0 and 0.4 before the squashing, std 0.5: `0.4^2 / (2 * 0.25)` = 0.32."""
        actor, reference = constant_actor(0.4, 0.5), constant_actor(0.0, 0.5)
        view = view_of({"threshold": 0.0}, actor=actor, reference=reference, multiplier=one_number(1.0))
        metrics = self.STOCHASTIC.losses["multiplier"]({}, view, rows(40_000), KEY)[1]
        assert float(metrics["divergence"]) == pytest.approx(0.32, abs=0.02)

    def test_a_deterministic_policy_s_loss_and_its_critic_s_target_have_the_penalty(self):
        """f = 0.04, the multiplier 2: what is followed is `Q - 0.08`, and so is the target; the data's own Q is not."""
        critics = linear_critics([0.0], [1.0], [3.0])
        actor, reference = actor_at(0.5), actor_at(0.3)
        params = {"critic": critics, "actor": actor, "reference": reference, "multiplier": one_number(2.0)}
        view = view_of(
            {"target_noise": 0.2, "noise_clip": 0.0}, target={"critic": critics, "actor": actor_at(0.7)}, **params
        )
        followed = self.DETERMINISTIC.losses["actor"]({"actor": actor}, view, rows(), KEY)[0]
        assert float(followed) == pytest.approx(-(3.5 - 0.08), abs=1e-4)
        error = self.DETERMINISTIC.losses["critic"]({"critic": critics}, view, rows(reward=1.0), KEY)[0]
        # The target's action is the slow policy's, 0.7, the penalty the present policy's; discount 0.5.
        assert float(error) == pytest.approx((3.0 - (1.0 + 0.5 * (3.7 - 0.08))) ** 2, abs=1e-3)

    def test_a_sampled_policy_s_loss_and_its_critic_s_target_have_the_penalty(self):
        critics = linear_critics([0.0], [0.0], [3.0])
        actor = constant_actor(0.4, 0.5)
        params = {"critic": critics, "actor": actor, "reference": constant_actor(0.0, 0.5)}
        params |= {"multiplier": one_number(2.0), "temperature": one_number(0.1)}
        view = view_of(target={"critic": critics}, **params)
        obs = {"x": jnp.zeros((1, 1))}
        action, log_prob = view.pi(obs).sample(KEY)
        z = math.atanh(float(action[0, 0]))
        f = (z**2 - (z - 0.4) ** 2) / (2 * 0.25)
        followed = self.STOCHASTIC.losses["actor"]({"actor": actor}, view, rows(), KEY)[0]
        assert float(followed) == pytest.approx(0.1 * float(log_prob[0]) - (3.0 - 2.0 * f), abs=1e-3)

        action, _ = view.pi(obs).sample(jax.random.split(KEY)[0])  # as the critic's loss draws it
        z = math.atanh(float(action[0, 0]))
        f = (z**2 - (z - 0.4) ** 2) / (2 * 0.25)
        error = self.STOCHASTIC.losses["critic"]({"critic": critics}, view, rows(reward=1.0), KEY)[0]
        assert float(error) == pytest.approx((3.0 - (1.0 + 0.5 * (3.0 - 2.0 * f))) ** 2, rel=1e-3)
        assert float(self.STOCHASTIC.losses["temperature"]({}, view, rows(), KEY)[0]) == float(
            sac.temperature({}, view, rows(), KEY)[0]
        )

    def test_a_policy_that_is_the_reference_feels_no_pull(self):
        critics = linear_critics([0.0], [0.0], [3.0])
        actor = constant_actor(0.4, 0.5)
        params = {"critic": critics, "actor": actor, "reference": actor, "multiplier": one_number(9.0)}
        view = view_of(target={"critic": critics}, **params, temperature=one_number(0.1))

        def slope(loss):
            return jax.grad(lambda own: loss({"actor": own}, view, rows(5), KEY)[0])(actor)

        for mine, plain in zip(
            jax.tree.leaves(slope(self.STOCHASTIC.losses["actor"])), jax.tree.leaves(slope(sac.actor)), strict=True
        ):
            np.testing.assert_allclose(mine, plain, atol=1e-5)

    def test_the_pull_towards_the_reference_is_the_kl_s_on_average(self):
        """KL of normals with std 0.5, the means 0.4 apart: its slope is `0.4 / 0.25` in the mean, 0 in the log-std."""
        actor, reference = constant_actor(0.4, 0.5), constant_actor(0.0, 0.5)
        view = view_of(actor=actor, reference=reference)
        obs = {"x": jnp.zeros((40_000, 1))}

        def value(own):
            return jnp.mean(log_ratio(view, obs, view.pi(obs, {"actor": own}).sample(KEY)[0]))

        slope = jax.grad(value)(actor)
        assert float(slope["mean"]["bias"][0]) == pytest.approx(1.6, abs=0.05)
        assert float(slope["log_std"][0]) == pytest.approx(0.0, abs=0.05)

    def test_many_actions_have_a_penalty_each(self):
        critics = linear_critics([0.0], [0.0], [3.0])
        params = {"actor": constant_actor(0.4, 0.5), "reference": constant_actor(0.0, 0.5)}
        view = view_of(target={"critic": critics}, **params, critic=critics, multiplier=one_number(2.0))
        view = TargetView(view.nets, view.state, view.coef)
        obs, actions = {"x": jnp.zeros((2, 1))}, jnp.array([[[0.1], [0.2]], [[-0.3], [0.5]], [[0.0], [0.0]]])
        q = view.q_target(obs, actions, KEY)
        assert q.shape == (1, 3, 2)
        alone = view.q_target(obs, actions[1], KEY)
        np.testing.assert_allclose(q[:, 1], alone, rtol=1e-5)
        assert float(alone[0, 0]) != pytest.approx(float(alone[0, 1]), abs=0.1)


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_what_moves_in_which_phase(name):
    """Critics alone, from random ones; then critic and policy, the targets held; then all but the reference."""
    online = find_method(name)
    phases = phases_of(online)
    assert [phase.name for phase in phases] == ["offline", "re-evaluate", "align", "online"]
    state = tiny_state(NETS, find_method("calql"))
    method, before = find_method("calql"), state
    data = (random_batch(0, 20), jnp.int32(20))
    expected = [{"critic"}, {"critic", "actor"}, {*online.updated, "multiplier"}]
    for index in (1, 2, 3):
        last = state
        state, method = begin(NETS, phases, index, state, method)
        if index == 1:
            assert differs(state.params["critic"], before.params["critic"])
            if name == "sac":
                view = View(NETS, state, {})
                assert float(view.temperature()) == pytest.approx(0.2, rel=1e-5)
        else:
            assert_same(state.params["critic"], last.params["critic"])
            assert_same(state.params["reference"], last.params["actor"])
            for group in online.targets:
                assert_same(state.target[group], state.params[group])
        run = jax.jit(program(NETS, phases[index], method), compiler_options=QUICK)
        after = run(state, dict.fromkeys(phases[index].shares, data), jnp.int32(0), 2)[0]
        moved = {group for group in state.params if differs(after.params[group], state.params[group])}
        assert moved == expected[index - 1]
        if phases[index].name == "align":
            assert_same(after.target, state.target)
        else:
            assert differs(after.target["critic"], state.target["critic"])
        state = after
    assert_same(state.params["reference"], last.params["actor"])


def test_thresholds_are_the_papers_of_each_kind_and_rise():
    for name, first, last in (("sac", 0.125, 2.0), ("td3", 0.0025, 0.01)):
        online = phases_of(find_method(name))[-1]
        found = [float(at_step(online.coef, t)["threshold"]) for t in (0, 5, 10, 20)]
        assert found == pytest.approx([first, (first + last) / 2, last, last])
        assert dict(online.shares) == {"offline": 0.5, "online": 0.5}
        assert dict(online.renews) == {"reference": "actor"}
    given = phases_of(sac.METHOD, threshold=0.005, threshold_end=0.125, renew_every=7)[-1]
    assert [float(at_step(given.coef, t)["threshold"]) for t in (0, 10)] == pytest.approx([0.005, 0.125])
    assert given.renew_every == 7


def test_a_reference_is_renewed_as_a_copy_and_at_its_interval():
    phase = phases_of(sac.METHOD, renew_every=7)[-1]
    state = tiny_state(NETS, phase.method)
    renewed = with_copies(state, phase.renews)
    assert differs(state.params["reference"], state.params["actor"])
    assert_same(renewed.params["reference"], state.params["actor"])
    pairs = zip(jax.tree.leaves(renewed.params["reference"]), jax.tree.leaves(renewed.params["actor"]), strict=True)
    assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in pairs)  # the state is donated
    assert [t for t in range(20) if renewal_due(phase, t, t + 1)] == [6, 13]
    assert renewal_due(phase, 5, 20)
    assert not renewal_due(replace(phase, renew_every=0), 5, 20)


def on_policy() -> Method:
    """Advantages are the rewards."""

    def rollout(view, rows):
        return rows.replace(on_policy=OnPolicy(jnp.zeros_like(rows.reward), rows.reward, rows.reward))

    def value(params, view, batch, key):
        return jnp.mean((view.v(batch.obs, params) - batch.on_policy.value_target) ** 2), {}

    def actor(params, view, batch, key):
        return -jnp.mean(view.pi(batch.obs, params).log_prob(batch.action) * batch.on_policy.advantage), {}

    return Method(losses={"value": value, "actor": actor}, rollout=rollout)


class TestOnPolicy:
    def test_values_are_fitted_to_returns_and_then_all_learn(self):
        first, fit, online = phases_of(on_policy())
        assert (first, fit.name, fit.updates, dict(fit.shares)) == (BC, "re-evaluate", 5, {"offline": 1.0})
        assert fit.method is not None
        assert fit.method.updated == ("value",)
        assert fit.method.rollout is None
        assert "actor" in fit.method.frozen
        assert fit.fresh == ("value",)
        assert [float(at_step(online.coef, t)["beta"]) for t in (0, 5, 10, 20)] == [1.0, 0.5, 0.0, 0.0]
        assert dict(online.copies) == dict(online.renews) == {"reference": "actor"}
        assert dict(online.shares) == {"online": 1.0}

    def test_only_returns_that_are_known_count(self):
        state = tiny_state(NETS, on_policy())
        view = View(NETS, state, {})
        known = random_batch(0, 4)
        half = known.replace(has_return=jnp.array([1.0, 0.0, 1.0, 0.0]))
        error = (view.v(known.obs) - known.mc_return) ** 2
        assert float(fit_returns({}, view, half, KEY)[0]) == pytest.approx(float((error[0] + error[2]) / 2), rel=1e-5)

    @pytest.mark.parametrize("beta", [1.0, 0.25])
    def test_the_auxiliary_advantage_by_hand(self, beta):
        """Reference: mean 0.2, std 0.5 before the squashing. An action z std from the mean has `(1 - z^2) / 2`, clipped."""
        z = np.array([0.0, 1.0, -2.0])
        action = np.tanh(0.2 + 0.5 * z)[:, None]
        rows = batch([[0.0]] * 3, action, [1.0, 2.0, 6.0], [[0.0]] * 3)
        view = view_of({"beta": beta}, reference=constant_actor(0.2, 0.5))
        phase = phases_of(on_policy())[-1]
        assert phase.method is not None
        assert phase.method.rollout is not None
        found = phase.method.rollout(view, rows).on_policy
        assert found is not None
        clipped = np.log1p(np.exp((1.0 - z**2) / 2.0 + 4.0)) - 4.0
        wanted = np.array([1.0, 2.0, 6.0]) + beta * 2.0 * np.std([1.0, 2.0, 6.0]) * clipped
        np.testing.assert_allclose(found.advantage, wanted, rtol=1e-4)
        np.testing.assert_array_equal(found.value_target, [1.0, 2.0, 6.0])

    def test_it_is_nothing_on_average_under_the_reference_and_between_minus_4_and_a_half(self):
        view = view_of(reference=constant_actor(0.2, 0.5))
        n = 50_000
        own = (
            View(view.nets, view.state, {}).reading({"actor": "reference"}).pi({"x": jnp.zeros((n, 1))}).sample(KEY)[0]
        )
        found = np.asarray(auxiliary_advantage(view, rows(n).replace(action=own)))
        assert found.mean() == pytest.approx(0.033, abs=0.02)  # the clip, which is smooth, adds 0.033
        assert found.max() <= 0.52
        everywhere = np.asarray(auxiliary_advantage(view, rows(n).replace(action=jnp.linspace(-1.0, 1.0, n)[:, None])))
        assert everywhere.min() >= -4.0
        assert everywhere.min() < -3.9


@pytest.mark.parametrize(
    ("online", "words"),
    [("iql", "clones actions of the data"), ("awac", "clones actions of the data"), ("bc", "trains no critic")],
)
def test_methods_whose_policy_climbs_no_critic_are_refused(online, words):
    with pytest.raises(ValueError, match=words):
        phases_of(find_method(online))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": 0.0}, "an alpha above 0"),
        ({"alignment_updates": 0}, "at least 1"),
        ({"offline_share": 1.0}, "between"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Bridge(**settings)
