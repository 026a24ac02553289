"""Adroit door-binary from 25 human demonstrations: behaviour cloning, binary data, Cal-QL, WSRL.

The data are made as AWAC's, which WSRL and SOAR start from: the demonstrations that succeed, and what succeeds of a policy
cloned from all of them; each cut at its first success.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from agent.heads import Networks
from agent.replay.dataset import Dataset
from launch.data_edit import merged, relabelled
from launch.data_tools import open_source
from launch.experiment_parts import ExperimentRecipe, finish, write_once
from launch.finetune import finetune_stage
from launch.recipe_files import to_json
from launch.recipes import (
    Collect,
    CollectRecipe,
    Evaluation,
    FinetuneRecipe,
    Learning,
    Offline,
    Online,
    PretrainRecipe,
)
from launch.runs import prepare
from launch.stages import collect_stage, pretrain_stage

TASK = "door-binary"
PAPERS = {"WSRL": 0.8, "SOAR": 1.0, "Cal-QL": 0.19}  # success after 400,000 steps, SOAR's table


@dataclass(frozen=True)
class Recipe(ExperimentRecipe):
    """What `segue run adroit-door` does.

    Attributes:
        data: the demonstrations, D4RL's HDF5 or an .npz of the same arrays, with the dense task's observations.
        cloning_learning, cloning: the policy that is cloned from all demonstrations.
        collect: its successes.
        online_learning: networks and optimisers online; the networks have to be those of `learning`.
    """

    cloning_learning: Learning = field(default_factory=Learning)
    cloning: Offline = field(default_factory=lambda: Offline("bc"))
    collect: Collect = field(default_factory=Collect)
    online_learning: Learning = field(default_factory=Learning)


# WSRL, appendix C and I, and its public code (Adroit): for a GPU.
LEARNING = Learning(Networks((512, 512), (512, 512, 512)), actor_lr=1e-4, critic_lr=3e-4, temperature_lr=1e-4)
PAPER = Recipe(
    preset="paper",
    cloning_learning=Learning(Networks((256, 256), (256, 256), critics=2)),
    cloning=Offline("bc", updates=2_000),
    # As many as AWAC made; the share that succeeds differs with the clone.
    collect=Collect(transitions=50_000, behavior="policy", noise=True, only_successes=True),
    learning=LEARNING,
    online_learning=LEARNING,
    offline=Offline(
        "calql", {"conservative": 1.0, "sampled_actions": 10, "backup_actions": 10}, updates=20_000, batch_size=256
    ),
    online=Online(
        "sac_min", bridge="warm_up", bridge_settings={"steps": 5_000}, env_steps=400_000, replay_capacity=400_000
    ),
    evaluation=Evaluation(trials=20, every_env_steps=10_000),
)
# For two cores: smaller networks and fewer of everything.
SCALED = replace(
    PAPER,
    preset="scaled",
    cloning_learning=replace(PAPER.cloning_learning, actor_lr=1e-3),
    cloning=Offline("bc", {"noise": 0.1}, updates=3_000),
    collect=replace(PAPER.collect, transitions=6_000),
    learning=Learning(Networks((256, 256), (128, 128), critics=4), tau=0.02, temperature=0.002, temperature_lr=1e-6),
    offline=Offline(
        "calql_cloned",
        {"conservative": 1.0, "sampled_actions": 3, "backup_actions": 1, "noise": 0.1},
        updates=6_000,
        batch_size=128,
    ),
    # WSRL's own learning rates. Success falls to nothing at first, as the paper's does on this task, and comes back by 50,000
    # to 70,000 steps; a much lower actor rate delays the fall and the learning alike.
    online_learning=replace(LEARNING, networks=Networks((256, 256), (128, 128), critics=4), temperature=0.002),
    online=replace(
        PAPER.online,
        bridge_settings={"steps": 10_000},
        env_steps=100_000,
        batch_size=128,
        block=50,
        replay_capacity=100_000,
    ),
    evaluation=Evaluation(trials=20, every_env_steps=10_000),
)
PRESETS = {"scaled": SCALED, "paper": PAPER}


def as_observed(dataset: Dataset) -> Dataset:
    """In the twin's single precision, so that both can be merged."""
    columns = {
        name: x if name == "reward" or x.dtype != np.float64 else x.astype(np.float32)
        for name, x in dataset.columns.items()
    }
    return replace(dataset, columns=columns)


def binary_data(out: Path) -> Dataset:
    """The demonstrations that succeed, and the clone's successes."""
    successes = relabelled(Dataset.load(out / "demonstrations"), TASK, only_successes=True)
    return merged([successes, Dataset.load(out / "rollouts")], ["demonstrations", "rollouts"])


def run(
    recipe: Recipe, out: Path, progress: Progress, resume: bool = False, in_process: bool = False
) -> dict[str, Any]:
    """All stages into `out`; returns what `result.json` holds."""
    if recipe.data is None:
        raise ValueError("segue run adroit-door: starts from human demonstrations; give them with --data FILE")
    demonstrations = relabelled(as_observed(open_source(Path(recipe.data), "d4rl", "door").dataset), TASK)
    prepare(out, to_json(recipe), resume)
    write_once(lambda: demonstrations, out / "demonstrations")
    seed, clone = recipe.seed, out / "clone"
    pretrain_stage(
        PretrainRecipe(str(out / "demonstrations"), TASK, seed, recipe.cloning_learning, recipe.cloning),
        clone,
        progress,
        resume,
    )
    collect = replace(recipe.collect, source=str(clone))
    collect_stage(CollectRecipe(TASK, seed, collect), out / "rollouts", progress, resume)
    write_once(lambda: binary_data(out), out / "data")
    pretrain = PretrainRecipe(str(out / "data"), TASK, seed, recipe.learning, recipe.offline)
    pretrain_stage(pretrain, out / "pretrain", progress, resume)
    finetune = FinetuneRecipe(
        checkpoint=str(out / "pretrain"),
        task=TASK,
        seed=seed,
        learning=recipe.online_learning,
        online=recipe.online,
        evaluation=recipe.evaluation,
    )
    finetune_stage(finetune, out / "wsrl", progress, resume, in_process)
    return finish("adroit-door", recipe, TASK, out, papers_after_400000_steps=PAPERS)
