"""Which loss trains the encoder, what it sees, and that every method learns through it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.adopt import adopt, first_state, make_nets
from agent.heads import Networks
from agent.methods import find_method
from agent.policy import MODE, Policy, policy_params
from agent.program import program
from agent.replay.frames import rows_of
from agent.replay.ring import Ring
from agent.types import ENCODER, Method, Normalizer, Phase, View
from agent.update import update
from agent.vision import with_encoder
from tests.agent.pictures import CAMERAS, look, sight_of

NETWORKS = Networks((8,), (8,), critics=2)


def nets_of(**vision):
    sight = sight_of(**vision)
    return sight, make_nets({"x": (1,)}, 1, NETWORKS, sight=sight)


SIGHT, NETS = nets_of()


def normalizer(sight=SIGHT):
    shapes = {"x": (1,), **sight.statistics}
    return Normalizer({n: jnp.zeros(s) for n, s in shapes.items()}, {n: jnp.ones(s) for n, s in shapes.items()})


def columns(sight=SIGHT, rows: int = 16):
    ring = Ring(rows, {"x": (1,)}, 1, 0.9, -10.0, "device", sight)
    ring.add([look(i, action=0.1, reward=-1.0, end="truncated" if i % 8 == 7 else "") for i in range(rows)])
    return ring.columns


LEARNERS = ["sac", "td3bc", "iql", "calql", "bc", "smac"]  # with each host, and with frozen groups


@pytest.mark.parametrize("name", LEARNERS)
def test_every_method_learns_from_pictures(name):
    method = find_method(name)
    nets = make_nets({"x": (1,)}, 1, replace(NETWORKS, **method.networks), sight=SIGHT)
    small = {c: 1.0 for c in method.coef if c.endswith("_actions")}
    phase = Phase("p", replace(method, coef={**method.coef, **small}), updates=4, batch_size=4, shares={"offline": 1.0})
    own = with_encoder(nets, phase.method)
    state = first_state(nets, own, normalizer(), jax.random.key(0))
    new, metrics = jax.jit(program(nets, phase, phase.method))(
        state, {"offline": (columns(), jnp.int32(16))}, jnp.int32(0), 4
    )
    assert all(np.isfinite(x) for x in metrics.values())
    moved = any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (state.params[ENCODER], new.params[ENCODER])), strict=True)
    )
    assert moved == (not method.frozen)


def test_the_critic_s_loss_trains_it_and_no_other_does():
    own = with_encoder(NETS, find_method("sac"))
    assert [groups for groups in own.losses if ENCODER in groups] == [("critic", ENCODER)]
    assert own.targets[ENCODER] == "moving"
    assert with_encoder(NETS, own) is own
    state = first_state(NETS, own, normalizer(), jax.random.key(0))
    batch = jax.tree.map(lambda x: x[None, :4], program_batch())
    only_actor = replace(
        own, losses={"actor": own.losses["actor"]}, cadence={}, frozen=("critic", "temperature", ENCODER)
    )
    only_actor = replace(only_actor, targets={})
    state = adopt(NETS, only_actor, state, own)
    new, _ = update(NETS, only_actor, state, batch, own.coef)
    jax.tree.map(np.testing.assert_array_equal, new.params[ENCODER], state.params[ENCODER])


def program_batch():
    return rows_of(columns(), jnp.arange(8), jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "host"), [("bc", "actor"), ("iql", "critic"), ("calql_lagrange", "critic"), ("awr", "critic")]
)
def test_it_shares_the_loss_of_the_critic_or_of_what_there_is(name, host):
    own = with_encoder(NETS, find_method(name))
    joined = next(groups for groups in own.losses if ENCODER in groups)
    assert host in joined


def test_a_method_that_carries_a_frozen_policy_along_leaves_it():
    held = with_encoder(NETS, replace(find_method("sac"), frozen=("prior",)))
    assert ENCODER in held.frozen
    assert ENCODER not in held.updated
    nothing = with_encoder(NETS, Method(losses={}, frozen=("actor",)))
    assert nothing.frozen == ("actor", ENCODER)


def test_a_method_without_cameras_stays_as_it_is():
    blind, method = make_nets({"x": (1,)}, 1, NETWORKS), find_method("sac")
    assert with_encoder(blind, method) is method


def test_what_is_seen_depends_on_each_camera_and_each_vector():
    own = with_encoder(NETS, find_method("sac"))
    state = first_state(NETS, own, normalizer(), jax.random.key(0))
    view, batch = View(NETS, state, {}), program_batch()
    plain = np.asarray(view.seen(batch.obs))
    assert plain.shape == (8, 1 + 2 * 4)
    np.testing.assert_array_equal(plain[:, 0], np.asarray(batch.obs["x"])[:, 0])
    for name in ("x", *CAMERAS):
        other = {**batch.obs, name: batch.obs[name] + 1}
        assert (np.asarray(view.seen(other)) != plain).any()


def test_a_policy_sees_pictures_as_the_replay_keeps_them():
    own = with_encoder(NETS, find_method("sac"))
    state = first_state(NETS, own, normalizer(), jax.random.key(0))
    moment = look(3).obs
    kept = {name: jnp.asarray(x[:, 0]) for name, x in SIGHT.encode({c: moment[c][None] for c in CAMERAS}).items()}
    wanted = View(NETS, state, {}).pi({"x": jnp.asarray(moment["x"])[None], **kept}).mode()[0]
    now = policy_params(state, MODE)
    assert set(now.params) == {"actor", ENCODER}
    np.testing.assert_allclose(Policy(NETS, MODE, jax.random.key(0))(now, moment, 0), wanted, atol=1e-5)


def test_a_trunk_that_is_trained_begins_from_its_weights_and_moves():
    sight, nets = nets_of(train_trunk=True)
    own = with_encoder(nets, find_method("bc"))  # one pass through the trunk: it compiles long enough
    state = first_state(nets, own, normalizer(sight), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, state.params[ENCODER]["trunk"], dict(sight.trunk.params))
    assert nets.trunk is None
    phase = Phase("p", find_method("bc"), updates=1, batch_size=2, shares={"offline": 1.0})
    run = jax.jit(program(nets, phase, phase.method))
    new, _ = run(state, {"offline": (columns(sight), jnp.int32(16))}, jnp.int32(0), 1)
    before, after = (x.params[ENCODER]["trunk"]["stem"]["conv"]["kernel"] for x in (state, new))
    assert (np.asarray(before) != np.asarray(after)).any()
