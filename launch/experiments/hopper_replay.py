"""Hopper from its own replay: an agent from scratch, stopped at a third of the expert; its replay as data; CQL; WSRL.

WSRL, appendix B: medium-replay is the replay buffer of a policy trained to about a third of the expert's performance. The
replay goes out to D4RL's HDF5 and comes in again, as another project's would.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from agent.heads import Networks
from agent.replay.dataset import Dataset
from launch.data_tools import raw_info
from launch.experiment_parts import ExperimentRecipe, finish, scored, write_once
from launch.finetune import finetune_stage
from launch.formats import READERS, WRITERS
from launch.recipe_files import to_json
from launch.recipes import Evaluation, FinetuneRecipe, Learning, Offline, Online, PretrainRecipe
from launch.runs import prepare
from launch.stages import pretrain_stage

TASK = "hopper"


@dataclass(frozen=True)
class Recipe(ExperimentRecipe):
    """What `segue run hopper-replay` does.

    Attributes:
        data: none is needed.
        behavior_learning, behavior: the agent whose replay becomes the data.
    """

    behavior_learning: Learning = field(default_factory=Learning)
    behavior: Online = field(default_factory=Online)


# WSRL, appendix C and I, and its public code (locomotion): for a GPU.
PAPER = Recipe(
    preset="paper",
    behavior_learning=Learning(Networks((256, 256), (256, 256), critics=2, layer_norm=False)),
    behavior=Online(
        "sac",
        bridge="scratch",
        bridge_settings={"steps": 10_000},
        env_steps=1_000_000,
        utd=1,
        replay_capacity=1_000_000,
        stop_score=100.0 / 3.0,
    ),
    learning=Learning(Networks((256, 256), (256, 256)), actor_lr=1e-4, critic_lr=3e-4, temperature_lr=1e-4),
    offline=Offline("cql", {"conservative": 5.0, "sampled_actions": 10, "backup_actions": 10}, updates=250_000),
    online=Online(
        "sac", bridge="warm_up", bridge_settings={"steps": 5_000}, env_steps=300_000, replay_capacity=300_000
    ),
    evaluation=Evaluation(trials=20, every_env_steps=5_000, headline="mode"),
)
# For two cores: fewer critics and fewer of everything.
SCALED = replace(
    PAPER,
    preset="scaled",
    behavior=replace(PAPER.behavior, bridge_settings={"steps": 5_000}, env_steps=150_000, block=50),
    learning=replace(PAPER.learning, networks=Networks((256, 256), (256, 256), critics=4), actor_lr=3e-4),
    offline=Offline(
        "cql", {"conservative": 5.0, "sampled_actions": 4, "backup_actions": 4}, updates=20_000, batch_size=128
    ),
    online=replace(PAPER.online, bridge_settings={"steps": 2_000}, env_steps=30_000, batch_size=128, block=50),
    evaluation=Evaluation(trials=10, every_env_steps=2_500, headline="mode"),
)
PRESETS = {"scaled": SCALED, "paper": PAPER}


def run(
    recipe: Recipe, out: Path, progress: Progress, resume: bool = False, in_process: bool = False
) -> dict[str, Any]:
    """All stages into `out`; returns what `result.json` holds."""
    if recipe.data is not None:
        raise ValueError("segue run hopper-replay: makes its own data; leave out --data")
    prepare(out, to_json(recipe), resume)
    learned = {"task": TASK, "seed": recipe.seed, "evaluation": recipe.evaluation}
    behavior = FinetuneRecipe(learning=recipe.behavior_learning, online=recipe.behavior, **learned)
    finetune_stage(behavior, out / "behavior", progress, resume, in_process)
    if not (out / "replay.hdf5").exists():
        WRITERS["d4rl"](Dataset.load(out / "behavior"), out / "replay.hdf5")
    info, task = raw_info(TASK)
    limit = None if task is None else task.max_steps
    write_once(lambda: READERS["d4rl"](out / "replay.hdf5", info, limit), out / "data")
    pretrain = PretrainRecipe(str(out / "data"), TASK, recipe.seed, recipe.learning, recipe.offline)
    pretrain_stage(pretrain, out / "pretrain", progress, resume)
    wsrl = FinetuneRecipe(str(out / "pretrain"), learning=recipe.learning, online=recipe.online, **learned)
    finetune_stage(wsrl, out / "wsrl", progress, resume, in_process)
    return finish("hopper-replay", recipe, TASK, out, behavior=scored(out / "behavior"))
