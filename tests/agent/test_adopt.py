"""Carrying a state from one method to the next: what is kept, initialised, dropped and copied."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import adopt, first_state
from agent.methods import find_method
from agent.optim import Adam
from agent.types import Method
from tests.agent.tiny import assert_close, assert_same, differs, identity, tiny_nets, tiny_state

NETS = tiny_nets(2, 1)
SAC, CALQL, BC = (find_method(name) for name in ("sac", "calql", "bc"))


def pointers(tree):
    return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)]


@jax.jit
def moved(state):
    """The state after training: parameters, targets and moments all differ from a fresh one's."""
    further = {part: jax.tree.map(lambda x: x + 1, getattr(state, part)) for part in ("params", "opt", "update_count")}
    return state.replace(**further, target=jax.tree.map(lambda x: x + 0.5, state.target))


@pytest.fixture(scope="module")
def trained():
    """What Cal-QL leaves."""
    return moved(tiny_state(NETS, CALQL))


@pytest.fixture(scope="module")
def cloned():
    """What behaviour cloning leaves: an actor alone."""
    return moved(tiny_state(NETS, BC))


def test_a_method_of_the_same_groups_goes_on_where_the_other_stopped(trained):
    assert_same(adopt(NETS, SAC, trained, CALQL), trained)


def test_groups_are_kept_initialised_and_dropped(cloned, trained):
    state = adopt(NETS, SAC, cloned, BC)
    assert set(state.params) == set(state.opt) == {"critic", "actor", "temperature"}
    assert_same(state.params["actor"], cloned.params["actor"])
    assert_same(state.opt["actor"], cloned.opt["actor"])
    assert int(state.opt["critic"][0].count) == 0
    back = adopt(NETS, BC, trained, CALQL)
    assert set(back.params) == set(back.opt) == {"actor"}
    assert back.target == {}
    assert_same(back.normalizer, trained.normalizer)
    assert back.update_count == trained.update_count


def test_a_target_is_kept_where_there_was_one_and_else_a_copy(cloned, trained):
    kept = adopt(NETS, SAC, trained, CALQL)
    assert_same(kept.target["critic"], trained.target["critic"])
    assert differs(kept.target["critic"], kept.params["critic"])
    fresh = adopt(NETS, SAC, cloned, BC)
    assert_same(fresh.target["critic"], fresh.params["critic"])
    assert not set(pointers(fresh.target["critic"])) & set(pointers(fresh.params["critic"]))


def test_an_adopted_state_can_be_donated_without_a_shared_buffer(cloned):
    state = adopt(NETS, SAC, jax.tree.map(jnp.copy, cloned), BC)
    assert len(set(pointers((state.params, state.target, state.opt)))) == len(
        pointers((state.params, state.target, state.opt))
    )
    after = jax.jit(lambda s: jax.tree.map(lambda x: x * 2, s.replace(key=None)), donate_argnums=0)(state)
    assert_close(after.target, jax.tree.map(lambda x: x * 2, adopt(NETS, SAC, cloned, BC).target))


def test_moments_are_kept_only_for_an_equal_optimiser(trained):
    faster = replace(SAC, optimizer={"critic": Adam(1e-2)})
    state = adopt(NETS, faster, trained, CALQL)
    assert int(state.opt["critic"][0].count) == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.opt["critic"][0].mu))
    assert_same(state.opt["actor"], trained.opt["actor"])
    assert_same(state.params, trained.params)
    same_numbers = replace(SAC, optimizer={"critic": Adam(3e-4)})  # in another object
    again = adopt(NETS, same_numbers, trained, CALQL)
    assert_same(again.opt["critic"], trained.opt["critic"])


def test_a_phase_may_reset_all_moments(trained):
    state = adopt(NETS, SAC, trained, CALQL, keep_moments=False)
    assert [int(state.opt[group][0].count) for group in sorted(state.opt)] == [0, 0, 0]
    assert_same(state.params, trained.params)


def test_a_group_that_is_frozen_for_a_while_loses_its_moments_and_keeps_its_numbers(trained):
    frozen = Method(losses={"actor": SAC.losses["actor"]}, frozen=("critic", "temperature"))
    between = adopt(NETS, frozen, trained, CALQL)
    assert set(between.opt) == {"actor"}
    assert_same(between.params, trained.params)
    after = adopt(NETS, SAC, between, frozen)
    assert int(after.opt["critic"][0].count) == 0
    assert_same(after.params, trained.params)


def test_a_group_starts_the_same_whatever_else_the_method_trains():
    nets = tiny_nets(2, 1, actor_hidden=(4,), critic_hidden=(4,))

    def actor(method, seed):
        return jax.jit(lambda key: first_state(nets, method, identity(2), key).params["actor"])(jax.random.key(seed))

    assert_same(actor(BC, 4), actor(SAC, 4))
    assert differs(actor(BC, 4), actor(BC, 5))


def test_two_groups_of_the_same_network_start_apart():
    shared = tiny_nets(2, 1, critic_hidden=(4,))
    nets = replace(
        shared,
        modules={"critic": shared.modules["critic"], "guide": shared.modules["critic"]},
        arguments={"critic": shared.arguments["critic"], "guide": shared.arguments["critic"]},
    )
    both = Method(losses={}, frozen=("critic", "guide"))
    params = jax.jit(lambda key: first_state(nets, both, identity(2), key).params)(jax.random.key(0))
    for name in ("kernel_0", "kernel_1"):
        assert not np.any(params["critic"][name] == params["guide"][name])
