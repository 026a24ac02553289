"""Off2On's pre-training: several pairs of an actor and its own critics, each by CQL, which act as one policy.

Lee et al. 2022 (arXiv 2107.00591). An actor follows its share of the critics alone, and these bootstrap from themselves at that
actor's actions; the pairs share the minibatch and the temperature. The one policy is `agent.heads.moment_matched`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from agent.methods import cql
from agent.types import Batch, Loss, Metrics, Nets, Params, View

PAIRED = ("actor", "critic")


def pair_nets(nets: Nets) -> Nets:
    """The networks of one pair: a single actor with its share of the critics."""
    actor, critic = nets.modules["actor"], nets.modules["critic"]
    share = critic.members // actor.networks.actors
    actor = actor.clone(networks=replace(actor.networks, actors=1))
    modules = {**nets.modules, "actor": actor, "critic": critic.clone(members=share)}
    return replace(nets, modules=modules, members_per_target=min(nets.members_per_target, share))


def paired(tree: Mapping[str, Any], pairs: int) -> Params:
    """What each pair has its own of, the pair as the first axis of every array: an actor's has it as it is."""
    own = {name: tree[name] for name in PAIRED if name in tree}
    if "critic" in own:
        own["critic"] = jax.tree.map(lambda x: x.reshape(pairs, -1, *x.shape[1:]), own["critic"])
    return own


def by_pairs(loss: Loss) -> Loss:
    """The sum of a loss over the pairs, so that each learns as it would alone; the metrics are their means."""

    def over_pairs(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        pairs = view.nets.modules["actor"].networks.actors
        if pairs == 1:
            return loss(params, view, batch, key)
        nets, state = pair_nets(view.nets), view.state

        def of_one(own: Params, read: Params, target: Params, key: jax.Array) -> tuple[jax.Array, Metrics]:
            alone = state.replace(params={**state.params, **read}, target={**state.target, **target})
            return loss({**params, **own}, replace(view, nets=nets, state=alone), batch, key)

        own, read, target = (paired(tree, pairs) for tree in (params, state.params, state.target))
        values, metrics = jax.vmap(of_one)(own, read, target, jax.random.split(key, pairs))
        return jnp.sum(values), jax.tree.map(jnp.mean, metrics)

    return over_pairs


METHOD = replace(
    cql.METHOD,
    losses={group: by_pairs(loss) for group, loss in cql.METHOD.losses.items()},
    networks={"actors": 5},
    not_online="online its pairs act and learn as one policy, which every other method trains as it is",
)
