"""Policies as runs leave them."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from agent.policy import PolicyParams
from agent.types import Nets, Normalizer
from launch.build import networks_of
from launch.checkpoint import open_checkpoint
from launch.recipe_files import structure
from launch.recipes import Learning
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
