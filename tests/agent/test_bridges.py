"""What bridges do to a plan, step by step; and that methods and bridges fit together."""

import itertools
import os
from dataclasses import replace
from functools import cache, partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import init_group
from agent.bridges import bridge_names, find_bridge
from agent.methods import find_method, method_names
from agent.plan import plan, prepared
from agent.policy import MODE, SAMPLE, act, exploration
from agent.program import UNTRAINED_STD, begin, program
from agent.replay.mixture import draw
from agent.types import Phase, State, at_step
from tests.agent.tiny import identity, random_batch, tiny_nets, tiny_state

QUICK = {"xla_backend_optimization_level": 0}  # a program that runs once is not worth optimising
NETS = tiny_nets()
OFFLINE = Phase("offline", find_method("calql"), updates=10, batch_size=8, shares={"offline": 1.0})


def online_phase(method: str, env_steps: int = 200) -> Phase:
    found = find_method(method)
    return Phase("online", found, env_steps=env_steps, utd=2, batch_size=8, collect=exploration(found))


def bridged(bridge: str, settings: dict | None = None, online: str = "sac") -> tuple[Phase, ...]:
    return plan(OFFLINE, find_bridge(bridge, settings), online_phase(online))


class TestAnneal:
    SETTINGS: ClassVar = {"share": 0.5, "share_steps": 40, "weight": 2.0, "rate": 3.0, "weight_steps": 80, "warm_up": 0}

    def test_share_and_weight_are_the_papers_and_reach_exactly_zero(self):
        online = bridged("anneal", self.SETTINGS, "calql")[-1]
        shares = [at_step(online.shares, t) for t in (0, 10, 39, 40, 199)]
        assert [float(s["offline"]) for s in shares] == pytest.approx([0.5, 0.375, 0.0125, 0.0, 0.0])
        assert float(shares[3]["offline"]) == float(shares[4]["offline"]) == 0.0
        assert all(float(s["offline"] + s["online"]) == pytest.approx(1.0) for s in shares)
        weights = [float(at_step(online.coef, t)["conservative"]) for t in (0, 20, 79, 80, 199)]
        assert weights[:3] == pytest.approx([2.0, 2.0 * np.exp(-0.75), 2.0 * np.exp(-3.0 * 79 / 80)])
        assert weights[3:] == [0.0, 0.0]

    def test_a_batch_holds_the_share_of_its_step_and_none_at_the_end(self):
        online = bridged("anneal", self.SETTINGS, "calql")[-1]
        offline, fresh = (random_batch(i, 30).replace(source=jnp.full(30, i, jnp.int32)) for i in (0, 1))
        sources = {"offline": (offline, jnp.int32(30)), "online": (fresh, jnp.int32(30))}
        drawn = jax.jit(lambda t: draw(sources, online.shares, jax.random.key(0), jnp.int32(0), t, 3, 8).source)
        for step, from_data in ((0, 4), (10, 3), (30, 1), (40, 0), (150, 0)):
            assert np.sum(np.asarray(drawn(jnp.int32(step))) == 0, axis=1).tolist() == [from_data] * 3

    def test_the_methods_own_weight_is_where_it_begins(self):
        online = bridged("anneal", {"warm_up": 0}, "cql")[-1]
        assert float(at_step(online.coef, 0)["conservative"]) == find_method("cql").coef["conservative"]

    def test_each_alone_and_what_cannot_be_annealed_is_refused(self):
        share_only = bridged("anneal", {**self.SETTINGS, "weight": 0}, "sac")[-1]
        assert set(share_only.shares) == {"offline", "online"}
        assert share_only.coef == {}
        weight_only = bridged("anneal", {**self.SETTINGS, "share": 0}, "calql")[-1]
        assert weight_only.shares == {"online": 1.0}
        assert "conservative" in weight_only.coef
        with pytest.raises(ValueError, match="no conservative weight to anneal; set weight 0"):
            bridged("anneal", self.SETTINGS, "sac")
        with pytest.raises(ValueError, match="neither a share nor a weight"):
            bridged("anneal", {**self.SETTINGS, "share": 0, "weight": 0}, "calql")
        with pytest.raises(ValueError, match="neither a share nor a weight"):
            bridged("anneal", {"share": 0}, "sac")


class TestJumpStart:
    @staticmethod
    def chosen(phase: Phase, env_step: int, episodes: int, length: int) -> np.ndarray:
        """Where the prior acted, `(episodes, length)`: the two policies act far apart."""
        actor = tiny_state(NETS, find_method("sac")).params["actor"]
        far = jax.tree.map(jnp.zeros_like, actor)
        prior, own = (
            {**far, "mean": {**far["mean"], "bias": jnp.full_like(far["mean"]["bias"], x)}} for x in (3.0, -3.0)
        )
        small = {
            "kernel": jnp.zeros_like(far["log_std"]["kernel"]),
            "bias": jnp.full_like(far["log_std"]["bias"], -5.0),
        }
        params = {"actor": {**own, "log_std": small}, "prior": {**prior, "log_std": small}}
        coef = at_step(phase.acting, env_step)

        def one(episode, step):
            call = episode * length + step
            obs = {"x": jnp.zeros(2)}
            return act(NETS, phase.collect, params, identity(2), coef, obs, jax.random.key(0), call, step)[0]

        grid = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
        return np.asarray(jax.jit(grid)(jnp.arange(episodes), jnp.arange(length))) > 0

    def test_episodes_roll_in_as_often_and_as_long_as_stated(self):
        phase = bridged("jump_start", {"probability": 0.5, "steps": 100, "gamma": 0.9})[-1]
        prior = self.chosen(phase, 0, 4000, 30)
        lengths = prior.sum(axis=1)
        assert (np.diff(prior.astype(int), axis=1) <= 0).all()  # it hands over once
        for k in (1, 3, 10):
            assert np.mean(lengths >= k) == pytest.approx(0.5 * 0.9**k, abs=0.03)

    def test_the_probability_falls_linearly_to_nothing(self):
        phase = bridged("jump_start", {"probability": 0.5, "steps": 100, "gamma": 0.9})[-1]
        assert [at_step(phase.acting, t)["roll_in"] for t in (0, 50, 100, 150)] == [0.5, 0.25, 0.0, 0.0]
        assert np.mean(self.chosen(phase, 50, 4000, 1)) == pytest.approx(0.25 * 0.9, abs=0.03)
        assert not self.chosen(phase, 100, 500, 10).any()

    def test_the_policy_begins_as_the_prior_and_the_critics_at_random(self):
        phases = bridged("jump_start")
        before = tiny_state(NETS, find_method("calql"))
        state, _ = begin(NETS, phases, 1, before, find_method("calql"))
        jax.tree.map(np.testing.assert_array_equal, state.params["prior"], before.params["actor"])
        jax.tree.map(np.testing.assert_array_equal, state.params["actor"], before.params["actor"])
        kernel = np.asarray(state.params["critic"]["kernel_0"])
        assert np.abs(kernel - np.asarray(before.params["critic"]["kernel_0"])).max() > 0.1
        np.testing.assert_array_equal(kernel, state.target["critic"]["kernel_0"])


class TestPolicyOnly:
    def test_critics_begin_anew_and_learn_alone_before_the_policy_moves(self):
        phases = bridged("policy_only", {"steps": 50, "epsilon": 0.2, "utd": 7})
        assert [(p.name, p.env_steps, p.utd) for p in phases[1:]] == [("critics", 50, 7), ("online", 150, 2)]
        before = tiny_state(NETS, find_method("calql"))
        state, method = begin(NETS, phases, 1, before, find_method("calql"))
        sources = {"online": (random_batch(0, 20), jnp.int32(20))}
        after, _ = program(NETS, phases[1], phases[1].method)(state, sources, jnp.int32(0), 3)
        jax.tree.map(np.testing.assert_array_equal, after.params["actor"], before.params["actor"])
        jax.tree.map(np.testing.assert_array_equal, after.params["temperature"], before.params["temperature"])
        assert not np.array_equal(after.params["critic"]["kernel_0"], state.params["critic"]["kernel_0"])
        assert not np.array_equal(state.params["critic"]["kernel_0"], before.params["critic"]["kernel_0"])
        last, _ = begin(NETS, phases, 2, after, method)
        np.testing.assert_array_equal(last.params["critic"]["kernel_0"], after.params["critic"]["kernel_0"])

    def test_actions_are_uniform_as_often_as_stated(self):
        phase = bridged("policy_only", {"steps": 50, "epsilon": 0.3})[1]
        actor = jax.tree.map(jnp.zeros_like, tiny_state(NETS, find_method("sac")).params["actor"])
        actor["log_std"]["bias"] = jnp.full_like(actor["log_std"]["bias"], -12.0)

        def one(call):
            obs = {"x": jnp.zeros(2)}
            return act(NETS, phase.collect, {"actor": actor}, identity(2), {}, obs, jax.random.key(1), call, 0)[0]

        actions = np.asarray(jax.jit(jax.vmap(one))(jnp.arange(4000)))
        random = np.abs(actions) > 1e-3
        assert np.mean(random) == pytest.approx(0.3, abs=0.03)
        assert np.mean(actions[random]) == pytest.approx(0.0, abs=0.06)
        assert np.std(actions[random]) == pytest.approx(1 / np.sqrt(3), abs=0.04)


def test_retained_data_are_a_fixed_share_and_nothing_else_changes():
    offline, online = bridged("retain", {"offline_share": 0.25})
    assert offline == OFFLINE
    assert online == replace(online_phase("sac"), shares={"offline": 0.25, "online": 0.75})


@pytest.mark.parametrize("std", ["state", "vector"])
def test_a_deterministic_policy_gets_a_std_before_it_is_sampled_and_a_trained_one_keeps_its_own(std):
    nets = tiny_nets(std=std)
    phases = bridged("warm_up", {"steps": 50})
    for previous, kept in (("td3bc", False), ("calql", True)):
        method = find_method(previous)
        before = tiny_state(nets, method)
        state, _ = begin(nets, phases, 1, before, method)  # the warm-up only collects, and samples
        obs = nets.arguments["actor"][0]
        log_std = nets.modules["actor"].apply({"params": state.params["actor"]}, obs)[1]
        if kept:
            assert state is before
        else:
            np.testing.assert_allclose(np.exp(log_std), UNTRAINED_STD, rtol=1e-5)
            same = jax.tree.map(np.array_equal, state.params["actor"]["mean"], before.params["actor"]["mean"])
            assert all(jax.tree.leaves(same))


def _each_once(kinds: list[list[str]]) -> list[tuple[str, ...]]:
    """So few combinations that every name occurs; no two kinds walk in step."""
    count = max(map(len, kinds))
    return [tuple(names[(i + shift) % len(names)] for shift, names in enumerate(kinds)) for i in range(count)]


OFFLINE_METHODS = [name for name in method_names() if not find_method(name).not_offline]
# On-policy methods take few bridges: tests/agent/test_ppo.py.
ONLINE_METHODS = [m for m in method_names() if not find_method(m).not_online and find_method(m).rollout is None]
KINDS = [OFFLINE_METHODS, bridge_names(), ONLINE_METHODS]
ALL = os.environ.get("SEGUE_MATRIX") == "all"
TRACED: set[tuple] = set()
SETTINGS = {
    "anneal": {"weight": 0.0, "warm_up": 0},
    "warm_up": {"steps": 5},
    "policy_only": {"steps": 5},
    "pretrain": {"steps": 5, "updates": 5},
    "scratch": {"steps": 5},
    "reconstruct": {"reevaluation_updates": 5, "alignment_updates": 5},
    "clone": {"reevaluation_updates": 5, "alignment_updates": 5, "clone_updates": 5},
}
CLONING = ("awac", "awr", "iql")  # their policies climb no critic, which is what these two bridges make ready
REFUSED = {(bridge, online) for bridge in ("reconstruct", "clone") for online in CLONING}


@cache
def blank(name: str) -> dict:
    """Zeros in the shape of a group's parameters."""
    shapes = jax.eval_shape(partial(init_group, NETS, name), jax.random.key(0))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


@pytest.mark.parametrize(("offline", "bridge", "online"), list(itertools.product(*KINDS)) if ALL else _each_once(KINDS))
def test_methods_and_bridges_fit_together(offline, bridge, online, monkeypatch):
    """What an update or an action is made of is worked out once for each that is distinct, of their shapes alone."""
    if ALL:  # to initialise the networks thousands of times would take an hour
        monkeypatch.setattr("agent.adopt.init_group", lambda nets, name, key: blank(name))
    first = replace(OFFLINE, method=find_method(offline))
    if (bridge, online) in REFUSED:
        with pytest.raises(ValueError, match="clones actions of the data"):
            plan(first, find_bridge(bridge, SETTINGS.get(bridge)), online_phase(online))
        return
    phases = plan(first, find_bridge(bridge, SETTINGS.get(bridge)), online_phase(online, env_steps=10))
    data = random_batch(0, 20)
    sources = {"offline": (data, jnp.int32(20)), "online": (data, jnp.int32(20))}
    state, method = State({}, {}, {}, identity(2), jnp.int32(0), jax.random.key(0)), None
    for index, phase in enumerate(phases):
        state, method = begin(NETS, phases, index, state, method, {"offline": 20, "online": 20})
        # Offline phases are the same whatever follows, the others are whatever came before.
        kind = (offline, index) if phase in prepared([first]) else (bridge, online, phase.name)
        if kind in TRACED:
            continue
        TRACED.add(kind)
        if phase.collect is not None:
            params = {group: state.params[group] for group in phase.collect.groups}
            numbers = at_step(phase.acting, 0)
            action = act(NETS, phase.collect, params, identity(2), numbers, {"x": jnp.zeros(2)}, state.key, 3, 1)
            assert action.shape == (1,)
            assert abs(float(action[0])) <= 1.0
        if phase.method is not None:  # what an update does is the contract of methods; to compile it takes five seconds
            arguments = state, {name: sources[name] for name in phase.shares}, jnp.int32(0), 2
            after, _ = jax.eval_shape(program(NETS, phase, phase.method), *arguments)
            assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
                lambda x: (x.shape, x.dtype), state
            )
    assert set(state.params) == {*method.updated, *method.frozen}
    assert exploration(find_method(online)) in (SAMPLE, MODE) or method.explore
