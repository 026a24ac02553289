"""Policies as runs leave them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from agent.methods import find_method
from agent.plan import acting
from agent.policy import MODE, PolicyParams, exploration
from agent.types import Behavior, Nets, Normalizer
from launch.build import fine_tuning_phases, networks_of
from launch.checkpoint import open_checkpoint
from launch.evaluate import Mode
from launch.recipe_files import structure
from launch.recipes import FinetuneRecipe, Learning, Online
from launch.tasks import find_task


def load_policy(folder: Path) -> tuple[PolicyParams, Nets, dict[str, Any]]:
    """The policy of a pretrain or finetune run's newest checkpoint, its networks, and what the checkpoint says of itself."""
    checkpoints = open_checkpoint(folder)
    try:
        meta, saved = checkpoints.meta(), checkpoints.policy()
    finally:
        checkpoints.close()
    saved = jax.tree.map(jnp.asarray, saved)
    nets = networks_of(find_task(meta["task"]), structure(meta["learning"], Learning))
    normalizer = Normalizer(saved["normalizer"]["mean"], saved["normalizer"]["std"])
    return PolicyParams(saved["params"], normalizer, meta["version"]), nets, meta


def acting_recipe(meta: Mapping[str, Any], arm: str, reward: str | None) -> FinetuneRecipe:
    """What the environment of a checkpoint's policy is made of.

    Args:
        meta: what the checkpoint says of itself.
        arm: which one.
        reward: folder of a classifier that judges; None for the task's own judgement.
    """
    return FinetuneRecipe(task=meta["task"], arm=arm, reward=reward, learning=structure(meta["learning"], Learning))


def ways_of_acting(meta: Mapping[str, Any]) -> dict[Mode, Behavior]:
    """How the policy of a checkpoint acts in each mode: as its bridge has it, which may have left it more than an actor."""
    if "online" in meta:
        return acting(fine_tuning_phases(structure(meta["online"], Online)))
    return {"mode": MODE, "sample": exploration(find_method(meta["method"]))}
