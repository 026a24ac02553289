"""The ensemble of pairs: the one policy by hand, each pair as plain CQL on its own part, and the way to an online method."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import adopt, first_state, with_std
from agent.bridges import find_bridge
from agent.heads import MAX_STD, MIN_STD, Networks, moment_matched
from agent.methods import cql, cql_ensemble, find_method, sac
from agent.plan import plan
from agent.policy import MODE, SAMPLE, act, exploration
from agent.program import begin, program
from agent.types import Phase, View
from agent.update import update
from tests.agent.tiny import assert_close, assert_same, differs, identity, random_batch, stacked, tiny_nets, tiny_state

PAIRS = 3
NETS = tiny_nets(critics=6, actors=PAIRS)
ALONE = tiny_nets(critics=2)
METHOD = cql_ensemble.METHOD
COEF = {"conservative": 2.0, "sampled_actions": 2, "backup_actions": 2}
KEY = jax.random.key(3)
QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="module")
def state():
    return tiny_state(NETS, METHOD)


def pair(tree, i):
    """The groups of pair i alone, cut out by hand."""
    cut = {"actor": lambda x: x[i], "critic": lambda x: x[2 * i : 2 * i + 2]}
    return {name: jax.tree.map(cut.get(name, lambda x: x), x) for name, x in tree.items()}


def test_the_one_policy_has_the_moments_of_the_mixture():
    mean = jnp.array([[[0.0, 1000.0]], [[4.0, 1000.0]]])
    log_std = jnp.log(jnp.array([[[3.0, 1e-3]], [[1.0, 1e-3]]]))
    centre, spread = moment_matched(mean, log_std)
    # (9 + 1) / 2 + (2^2 + 2^2) / 2 = 9. A second moment of 1e6 less the mean's square would leave nothing of 1e-6.
    np.testing.assert_allclose(centre, [[2.0, 1000.0]])
    np.testing.assert_allclose(np.exp(spread), [[3.0, 1e-3]], rtol=1e-5)
    far = moment_matched(jnp.array([[[-50.0]], [[50.0]]]), jnp.zeros((2, 1, 1)))[1]
    assert np.exp(far) == pytest.approx(MAX_STD, rel=1e-5)
    near = moment_matched(jnp.zeros((2, 1, 1)), jnp.full((2, 1, 1), np.log(MIN_STD)))[1]
    assert np.exp(near) == pytest.approx(MIN_STD, rel=1e-4)


@pytest.mark.parametrize("std", ["state", "vector"])
def test_a_member_is_an_actor_and_the_view_shows_them_as_one(std):
    nets, alone = tiny_nets(critics=6, actors=PAIRS, std=std), tiny_nets(critics=2, std=std)
    state = tiny_state(nets, METHOD)
    obs = random_batch(0, 5).obs

    @jax.jit
    def policies():
        members = nets.modules["actor"].apply({"params": state.params["actor"]}, obs["x"], method="members")
        own = [View(alone, state.replace(params=pair(state.params, i)), {}).pi(obs) for i in range(PAIRS)]
        one = View(nets, state, {}).pi(obs)
        acts = [
            act(nets, how, state.params, state.normalizer, {}, {"x": obs["x"][0]}, KEY, 3, 1) for how in (MODE, SAMPLE)
        ]
        return members, [(p.mean, p.log_std) for p in own], (one.mean, one.log_std), moment_matched(*members), acts

    members, own, one, matched, acts = policies()
    assert_close(members, tuple(jnp.stack(x) for x in zip(*own, strict=True)))
    assert_close(one, matched)
    np.testing.assert_allclose(acts[0], np.tanh(one[0][0]), rtol=1e-5)
    assert acts[1].shape == (1,)


def test_every_pair_starts_different():
    start = jax.jit(lambda key: first_state(NETS, METHOD, identity(2), key).params, compiler_options=QUICK)(KEY)
    kernels = [start["actor"]["Trunk_0"]["Dense_0"]["kernel"], start["actor"]["mean"]["kernel"]]
    kernels += [start["critic"]["kernel_0"]]
    for kernel in kernels:
        assert len(np.unique(np.asarray(kernel).reshape(len(kernel), -1)[:, 0])) == len(kernel)
    scale = np.asarray(jnp.einsum("nij,nkj->nik", kernels[0], kernels[0]))
    np.testing.assert_allclose(scale, np.broadcast_to(2 * np.eye(2), (PAIRS, 2, 2)), atol=1e-5)  # each on its own


@pytest.mark.parametrize(
    ("group", "plain"), [("critic", cql.critic), ("actor", sac.actor), ("temperature", sac.temperature)]
)
def test_a_pair_learns_what_it_would_alone(state, group, plain):
    """Value and gradient are those of plain CQL on the pair's own part: nothing of another pair reaches it."""
    rows = random_batch(1, 6)

    def both(params):
        view, each = View(NETS, state, COEF), []
        for i, key in enumerate(jax.random.split(KEY, PAIRS)):
            own = state.replace(params=pair(state.params, i), target=pair(state.target, i))
            each.append(jax.value_and_grad(plain, has_aux=True)(pair(params, i), View(ALONE, own, COEF), rows, key))
        return jax.value_and_grad(METHOD.losses[group], has_aux=True)(params, view, rows, KEY), each

    ours, each = jax.jit(both, compiler_options=QUICK)({group: state.params[group]})
    ((value, metrics), gradient), singles = ours, [single for single, _ in each]
    slopes = [slope[group] for _, slope in each]
    assert value == pytest.approx(float(sum(loss for loss, _ in singles)), rel=1e-4)
    assert_close(metrics, jax.tree.map(lambda *x: np.mean(x), *[m for _, m in singles]), rtol=1e-4, atol=1e-5)
    if group == "temperature":
        assert_close(gradient[group], jax.tree.map(lambda *x: sum(x), *slopes), rtol=1e-4, atol=1e-5)
    else:
        joined = jnp.stack if group == "actor" else jnp.concatenate
        assert_close(gradient[group], jax.tree.map(lambda *x: joined(x), *slopes), rtol=1e-3, atol=1e-4)


def test_one_pair_is_cql(state):
    alone = state.replace(params=pair(state.params, 0), target=pair(state.target, 0))
    view, rows = View(ALONE, alone, COEF), random_batch(1, 6)
    both = jax.jit(lambda p: [loss(p, view, rows, KEY) for loss in (METHOD.losses["critic"], cql.critic)])
    assert_same(*both({"critic": alone.params["critic"]}))


@pytest.mark.parametrize(("per_target", "drawn"), [(1, 1), (2, 2), (5, 2)])
def test_a_target_is_the_lowest_of_so_many_of_the_pair_s_own(per_target, drawn):
    nets = cql_ensemble.pair_nets(tiny_nets(critics=6, actors=PAIRS, members_per_target=per_target))
    assert nets.members_per_target == drawn
    assert (nets.modules["critic"].members, nets.modules["actor"].networks.actors) == (2, 1)


def test_an_update_moves_every_member_of_both():
    nets = tiny_nets(critics=3, actors=3, layer_norm=False, std="vector")
    start = tiny_state(nets, METHOD)
    rows = stacked([random_batch(0, 8)])
    after = jax.jit(lambda s: update(nets, METHOD, s, rows, COEF)[0], compiler_options=QUICK)(start)
    for group in ("actor", "critic"):
        for i in range(3):
            cut = [jax.tree.map(lambda x, i=i: x[i], s.params[group]) for s in (start, after)]
            assert differs(*cut)


@pytest.mark.parametrize("name", ["sac", "td3", "iql"])
def test_an_online_method_goes_on_with_the_one_policy(state, name):
    online = find_method(name)
    offline = Phase("offline", METHOD, updates=1, batch_size=8, shares={"offline": 1.0})
    phase = Phase("online", online, env_steps=10, batch_size=8, collect=exploration(online))
    phases = plan(offline, find_bridge("balanced"), phase)
    then, _ = begin(NETS, phases, 1, state, METHOD, {"offline": 20, "online": 20})
    assert_same(then.params["actor"], state.params["actor"])
    assert_same(then.target["critic"], state.target["critic"])
    sources = {source: (random_batch(0, 20), jnp.int32(20)) for source in ("offline", "online")}
    after, _ = jax.eval_shape(program(NETS, phases[1], phases[1].method), then, sources, jnp.int32(0), 2)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (after, then)]
    assert shapes[0] == shapes[1]


def test_online_sac_trains_all_members_through_the_one_policy(state):
    rows = random_batch(2, 8)
    then = adopt(NETS, sac.METHOD, state, METHOD)

    def loss(actor):
        return sac.actor({"actor": actor}, View(NETS, then, {}), rows, KEY)[0]

    slopes = jax.jit(jax.grad(loss), compiler_options=QUICK)(then.params["actor"])
    assert all(np.abs(slopes["mean"]["kernel"][i]).max() > 0 for i in range(PAIRS))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize("std", ["state", "vector"])
def test_a_std_is_given_to_each_member(std):
    nets = tiny_nets(critics=6, actors=PAIRS, std=std)
    given = with_std(tiny_state(nets, METHOD), 0.1)
    obs = random_batch(0, 4).obs["x"]
    call = jax.jit(
        lambda p: [nets.modules["actor"].apply({"params": p}, obs, method=name) for name in ("members", "__call__")]
    )
    (mean, log_std), one = call(given.params["actor"])
    np.testing.assert_allclose(np.exp(log_std), 0.1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(one[1]), np.sqrt(0.01 + np.var(mean, axis=0)), rtol=1e-4)


def test_the_published_ensemble_is_five_pairs_with_two_critics_each():
    networks = replace(Networks(), **METHOD.networks)
    assert (networks.actors, networks.critics // networks.actors) == (5, 2)
