"""Plans: what each bridge makes of two phases, what is refused and how, and that a method or a bridge is one file."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent.bridges
import agent.methods
from agent.bridges import bridge_names, find_bridge
from agent.methods import find_method, method_names
from agent.plan import acting, check_method, plan, prepared, with_human_share
from agent.policy import MODE, SAMPLE, UNIFORM
from agent.types import Behavior, Method, Phase
from agent.update import update
from tests.agent.tiny import assert_close, random_batch, stacked, tiny_nets, tiny_state

OFFLINE = Phase("offline", find_method("calql"), updates=100, shares={"offline": 1.0})
ONLINE = Phase("online", find_method("sac"), env_steps=1000, utd=4, collect=SAMPLE)
NO_LOSS = find_method("sac").losses


def test_a_human_share_is_taken_from_the_replays_share_of_online_batches_alone():
    phases = plan(OFFLINE, lambda a, b: with_human_share(find_bridge("warm_up", {"steps": 300})(a, b), 0.25), ONLINE)
    assert phases[:2] == plan(OFFLINE, find_bridge("warm_up", {"steps": 300}), ONLINE)[:2]
    assert phases[2].shares == {"online": 0.75, "human": 0.25}
    (rlpd,) = with_human_share(find_bridge("rlpd")(OFFLINE, ONLINE), 0.1)
    assert rlpd.shares == {"offline": 0.5, "online": 0.4, "human": 0.1}
    assert with_human_share((OFFLINE, ONLINE), 0.0) == (OFFLINE, ONLINE)


@pytest.mark.parametrize(
    ("bridge", "share", "why"),
    [
        ("rlpd", 0.5, "the whole replay has 0.5 of it"),
        ("balanced", 0.1, "it draws by priority"),
        ("anneal", 0.1, "its shares change with the step"),
        ("direct", 1.0, "give a number from 0, below 1"),
        ("direct", -0.1, "give a number from 0, below 1"),
    ],
)
def test_a_human_share_that_a_phase_has_no_room_for_is_refused(bridge, share, why):
    phases = find_bridge(bridge)(OFFLINE, replace(ONLINE, method=find_method("calql"), env_steps=50_000))
    with pytest.raises(ValueError, match=why):
        with_human_share(phases, share)


def test_direct_is_both_phases_as_they_are():
    assert plan(OFFLINE, find_bridge("direct"), ONLINE) == (OFFLINE, ONLINE)


def test_warm_up_collects_with_the_frozen_policy_and_counts_its_steps():
    before, collect, after = plan(OFFLINE, find_bridge("warm_up", {"steps": 300}), ONLINE)
    assert before == OFFLINE
    assert (collect.env_steps, collect.method, collect.minibatches, collect.collect) == (300, None, 0, SAMPLE)
    assert after == replace(ONLINE, env_steps=700)
    assert after.minibatches == 2800  # four for every step after the warm-up
    assert after.shares == {"online": 1.0}  # no data is retained


def test_rlpd_has_no_pretraining_and_half_of_each_batch_from_the_data():
    (only,) = plan(OFFLINE, find_bridge("rlpd"), ONLINE)
    assert only == replace(ONLINE, shares={"offline": 0.5, "online": 0.5})


def test_from_scratch_random_actions_come_first_and_count():
    random, after = plan(OFFLINE, find_bridge("scratch", {"steps": 300}), ONLINE)
    assert (random.env_steps, random.method, random.collect) == (300, None, UNIFORM)
    assert after == replace(ONLINE, env_steps=700)


@given(
    bridge=st.sampled_from(["direct", "warm_up", "rlpd", "scratch"]),
    steps=st.integers(1, 50),
    env_steps=st.integers(-5, 60),
    updates=st.integers(-5, 60),
    utd=st.integers(0, 4),
    batch_size=st.integers(0, 8),
)
def test_a_plan_takes_exactly_the_steps_it_was_given_or_is_refused_in_a_sentence(
    bridge, steps, env_steps, updates, utd, batch_size
):
    settings = {"steps": steps} if bridge in ("warm_up", "scratch") else {}
    offline = replace(OFFLINE, updates=updates)
    online = replace(ONLINE, env_steps=env_steps, utd=utd, batch_size=batch_size)
    fits = env_steps > 0 and utd > 0 and batch_size > (1 if bridge == "rlpd" else 0)  # half a transition is none
    fits = fits and (bridge in ("rlpd", "scratch") or updates > 0) and (not settings or steps < env_steps)
    if not fits:
        with pytest.raises(ValueError, match=r"\A.*phase.*\Z") as refusal:
            plan(offline, find_bridge(bridge, settings), online)
        assert "\n" not in str(refusal.value)
        return
    phases = plan(offline, find_bridge(bridge, settings), online)
    assert sum(p.env_steps for p in phases) == env_steps
    assert phases[-1].minibatches == utd * phases[-1].env_steps
    assert len({p.name for p in phases}) == len(phases)


LOST = Behavior(("guide",), SAMPLE.act)
REFUSED = {
    "negative count": (replace(ONLINE, env_steps=-1), "count is negative"),
    "no minibatch": (replace(ONLINE, utd=0), "count is negative or a batch empty"),
    "empty batch": (replace(ONLINE, batch_size=0), "count is negative or a batch empty"),
    "two budgets": (replace(ONLINE, updates=5), "both env_steps and updates"),
    "no budget": (replace(ONLINE, env_steps=0), "neither env_steps nor updates"),
    "nothing acts": (replace(ONLINE, collect=None), "nothing acts"),
    "shares too large": (replace(ONLINE, shares={"online": 0.9, "offline": 0.2}), "do not add up to 1"),
    "shares below zero": (replace(ONLINE, shares={"online": 1.5, "offline": -0.5}), "do not add up to 1"),
    "no shares": (replace(ONLINE, shares={}), "do not add up to 1"),
    "shares not numbers": (replace(ONLINE, shares={"online": float("nan")}), "do not add up to 1"),
    "unknown source": (replace(ONLINE, shares={"on-line": 1.0}), "'on-line'"),
    "offline on online data": (replace(ONLINE, env_steps=0, updates=5, collect=None), "the data set only"),
    "unknown coefficient": (replace(ONLINE, coef={"beta": 1.0}), "no coefficient 'beta'; it has none"),
    "coefficients there are": (
        replace(ONLINE, method=find_method("cql"), coef={"beta": 1.0}),
        "it has " + ", ".join(sorted(find_method("cql").coef)),
    ),
    "acts without a network": (replace(ONLINE, collect=LOST), "group 'guide'"),
    "two losses": (
        replace(ONLINE, method=Method({"actor": NO_LOSS["actor"], ("critic", "actor"): NO_LOSS["critic"]})),
        "group 'actor' has two losses",
    ),
    "frozen with a loss": (
        replace(ONLINE, method=Method(NO_LOSS, frozen=("critic",))),
        "'critic' is frozen and has a loss",
    ),
    "cadence of nothing": (replace(ONLINE, method=Method(NO_LOSS, cadence={"value": "once"})), "cadence names 'value'"),
    "target of nothing": (replace(ONLINE, method=Method(NO_LOSS, targets={"value": "held"})), "targets names 'value'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_phase_that_cannot_run_is_refused_in_one_sentence(case):
    phase, words = REFUSED[case]
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are compared as they are
        plan(OFFLINE, find_bridge("direct"), phase)
    assert words in str(refusal.value)
    assert "phase 'online'" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_bridge_that_returns_nothing_is_refused():
    with pytest.raises(ValueError, match="returned no phase"):
        plan(OFFLINE, lambda offline, online: (), ONLINE)


def test_every_method_there_is_makes_sense():
    assert {"bc", "sac", "cql", "calql"} <= set(method_names())
    for name in method_names():
        check_method(find_method(name))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: find_method("td9"), r"method 'td9' is unknown; choose one of .*calql"),
        (lambda: find_bridge("ferry"), r"bridge 'ferry' is unknown; choose one of .*rlpd"),
        (lambda: find_bridge("direct", {"steps": 5}), r"bridge 'direct' has no setting 'steps'; it has none"),
        (lambda: find_bridge("warm_up", {"step": 5}), r"bridge 'warm_up' has no setting 'step'; it has steps"),
        (lambda: find_bridge("warm_up", {"steps": 0}), r"steps is 0; give at least 1"),
        (lambda: find_bridge("rlpd", {"offline_share": 1.0}), r"offline_share is 1.0; give a number between"),
        (lambda: find_bridge("warm_up", {"steps": 1000})(OFFLINE, ONLINE), r"1000 steps leave nothing of .* 1000"),
        (lambda: find_bridge("scratch", {"steps": 0}), r"steps is 0; give at least 1"),
        (
            lambda: find_bridge("scratch", {"steps": 1000})(OFFLINE, ONLINE),
            r"1000 steps leave nothing of .* 1000",
        ),
    ],
)
def test_unknown_names_and_impossible_settings_are_answered_with_a_remedy(ask, words):
    with pytest.raises(ValueError, match=words) as refusal:
        ask()
    assert "\n" not in str(refusal.value)


TOY_METHOD = '''
"""Pulls the policy's mode towards zero."""
import jax.numpy as jnp
from agent.types import Method

def actor(params, view, batch, key):
    return view.coef["pull"] * jnp.mean(view.pi(batch.obs, params).mean ** 2), {}

METHOD = Method(losses={"actor": actor}, coef={"pull": 2.0})
'''
TOY_BRIDGE = '''
"""The offline phase twice."""
from dataclasses import dataclass, replace

@dataclass(frozen=True)
class Bridge:
    times: int = 2

    def __call__(self, offline, online):
        return *(replace(offline, name=f"offline {i}") for i in range(self.times)), online
'''


def test_a_method_and_a_bridge_are_one_file_each(tmp_path, monkeypatch):
    for package, name, text in ((agent.methods, "toy", TOY_METHOD), (agent.bridges, "twice", TOY_BRIDGE)):
        (tmp_path / package.__name__).mkdir()
        (tmp_path / package.__name__ / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / package.__name__)])
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)  # removed again when the test ends
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}")
    assert "toy" in method_names()
    assert "twice" in bridge_names()
    method = find_method("toy")
    phases = plan(replace(OFFLINE, method=method), find_bridge("twice", {"times": 3}), ONLINE)
    assert [p.name for p in phases] == ["offline 0", "offline 1", "offline 2", "online"]

    nets = tiny_nets(2, 1)
    rows, state = stacked([random_batch(0, 8)]), tiny_state(nets, method)
    step = jax.jit(lambda s: update(nets, method, s, rows, method.coef))
    losses = []
    for _ in range(5):
        state, metrics = step(state)
        losses.append(float(metrics["actor/loss"]))
    assert np.all(np.diff(losses) < 0)
    assert_close(state.update_count, jnp.int32(5))


# What a method learns first.

MODEL = Method(losses={"density": NO_LOSS["critic"]})
NEEDS_A_MODEL = replace(
    find_method("td3"), before=MODEL, frozen=("density",), coef={"weight": 2.0}, cools={"weight": 0.5}
)


def modelled(**changes) -> Phase:
    phase = Phase("offline", NEEDS_A_MODEL, updates=100, batch_size=32, shares={"offline": 1.0})
    return replace(phase, **changes)


def test_what_a_method_learns_first_is_a_phase_of_its_own():
    first, second = prepared([modelled()])
    assert (first.updates, first.batch_size, dict(first.shares)) == (100, 32, {"offline": 1.0})
    assert first.method.updated == ("density",)
    assert second == modelled()
    assert prepared([modelled(before_updates=7)])[0].updates == 7


def test_it_is_learned_once_and_not_again_while_it_is_carried():
    online = replace(ONLINE, method=NEEDS_A_MODEL, collect=SAMPLE)
    phases = plan(modelled(), find_bridge("warm_up", {"steps": 10}), online)
    assert [phase.name for phase in phases] == ["before", "offline", "warm-up", "online"]


def test_it_is_learned_before_an_online_method_that_needs_it_and_nothing_else_is_lost():
    online = replace(ONLINE, method=NEEDS_A_MODEL, before_updates=30)
    phases = plan(OFFLINE, find_bridge("direct"), online)
    assert [phase.name for phase in phases] == ["offline", "before", "online"]
    carried = phases[1].method
    assert set(carried.frozen) == set(OFFLINE.method.updated)
    assert carried.targets == {"critic": "held"}
    assert phases[1].updates == 30


def test_from_scratch_the_policy_that_has_acted_stays_while_it_is_learned():
    online = replace(ONLINE, method=NEEDS_A_MODEL, before_updates=30)
    phases = plan(OFFLINE, find_bridge("scratch", {"steps": 10}), online)
    assert [phase.name for phase in phases] == ["random", "before", "online"]
    assert {"actor", "critic"} <= set(phases[1].method.frozen)


def test_a_method_that_does_not_carry_what_it_learned_first_is_refused():
    with pytest.raises(ValueError, match="'density' is learned before, and not carried along; name it in frozen"):
        check_method(replace(NEEDS_A_MODEL, frozen=()))
    with pytest.raises(ValueError, match="cools names 'wait'"):
        check_method(replace(NEEDS_A_MODEL, cools={"wait": 0.5}))


def test_a_plan_is_evaluated_as_its_last_phase_acts():
    plain = plan(OFFLINE, find_bridge("warm_up", {"steps": 10}), ONLINE)
    assert acting(plain) == {"mode": MODE, "sample": SAMPLE}
    wide = Behavior(("actor", "critic"), SAMPLE.act)
    with_critic = replace(ONLINE, policy=lambda behavior: wide)
    assert acting([with_critic]) == {"mode": wide, "sample": wide}
    with pytest.raises(ValueError, match="acts without group 'critic'"):
        plan(OFFLINE, find_bridge("direct"), with_critic)
    plan(OFFLINE, find_bridge("direct"), replace(with_critic, collect=wide))
