"""OCR-CFT: the constraint and the auxiliary advantage by hand, and what moves in which phase."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.alignment import fit_returns
from agent.bridges import find_bridge
from agent.bridges.reconstruct import Bridge
from agent.constraint import TargetView, auxiliary_advantage, constrained, log_ratio
from agent.methods import find_method, sac, td3
from agent.plan import plan
from agent.policy import exploration
from agent.program import begin, program, renewal_due, with_copies
from agent.types import Method, OnPolicy, Phase, View, at_step
from tests.agent.test_alignment import BC, KEY, actor_at, one_number, rows, view_of
from tests.agent.tiny import (
    assert_same,
    batch,
    constant_actor,
    differs,
    linear_critics,
    random_batch,
    tiny_nets,
    tiny_state,
)

NETS = tiny_nets()
QUICK = {"xla_backend_optimization_level": 0}  # a program that runs once is not worth optimising
SETTINGS = {"reevaluation_updates": 5, "alignment_updates": 4, "threshold_steps": 10, "beta_steps": 10}


def phases_of(online: Method, **settings) -> tuple[Phase, ...]:
    rollout = 0 if online.rollout is None else 10
    phase = Phase("online", online, env_steps=20, utd=2, batch_size=8, collect=exploration(online), rollout=rollout)
    return plan(BC, find_bridge("reconstruct", {**SETTINGS, **settings}), phase)


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
