"""Pre-training: taken up again where an earlier part was saved."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from agent.replay.dataset import Dataset
from launch import stages
from launch.finetune import finetune_stage
from launch.learner import OFFLINE_BLOCK, Learner
from launch.policies import load_policy
from launch.recipes import Offline, PretrainRecipe
from launch.runs import progress_bar, read_lines
from launch.stages import load_state, pretrain_stage
from robot_env.tasks import find_task
from tests.launch.conftest import TINY


def run(recipe: PretrainRecipe, folder, resume: bool = False) -> None:
    with progress_bar() as progress:
        pretrain_stage(recipe, folder, progress, resume)


@pytest.fixture
def recipe(data_file) -> PretrainRecipe:
    offline = Offline("bc", {}, updates=5 * OFFLINE_BLOCK, batch_size=32)
    return PretrainRecipe(str(data_file), learning=TINY.learning, offline=offline)


def test_an_interrupted_pre_training_ends_as_if_it_had_not_been(recipe, tmp_path, monkeypatch):
    run(recipe, tmp_path / "whole")
    monkeypatch.setattr(stages, "SAVE_EVERY_S", 0.0)
    learn, blocks = Learner.learn, []

    def cut(self: Learner, steps: int):
        if len(blocks) == 3:
            raise KeyboardInterrupt
        blocks.append(steps)
        return learn(self, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", cut)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path / "cut")
    with pytest.raises(ValueError, match="interrupted"):
        load_state(tmp_path / "cut", find_task("peg_insertion"), recipe.learning)
    taken_up = []
    monkeypatch.setattr(Learner, "learn", lambda self, steps: taken_up.append(steps) or learn(self, steps))
    run(recipe, tmp_path / "cut", resume=True)
    assert taken_up == [OFFLINE_BLOCK] * 2, "it began again, or did not go on"
    whole, cut_policy = load_policy(tmp_path / "whole")[0], load_policy(tmp_path / "cut")[0]
    assert whole.version == cut_policy.version == recipe.offline.updates
    jax.tree.map(np.testing.assert_array_equal, whole.params, cut_policy.params)
    updates = [[row["updates"] for row in read_lines(tmp_path / name / "metrics.jsonl")] for name in ("whole", "cut")]
    assert updates[0][-1] == updates[1][-1] == recipe.offline.updates
    assert updates[1] == sorted(set(updates[1])), "rows after the checkpoint were written twice"


def test_a_resumed_run_of_other_settings_is_refused_by_name(recipe, tmp_path):
    run(recipe, tmp_path / "run")
    with pytest.raises(ValueError, match="seed"):
        run(replace(recipe, seed=3), tmp_path / "run", resume=True)


def test_a_journal_is_a_data_set(tiny_finetune, recipe, tmp_path):
    with progress_bar() as progress:
        finetune_stage(tiny_finetune, tmp_path / "run", progress, in_process=True)
    dataset = Dataset.load(tmp_path / "run" / "journal")
    assert len(dataset) == tiny_finetune.online.env_steps
    run(replace(recipe, data=str(tmp_path / "run" / "journal")), tmp_path / "pre")
    assert load_policy(tmp_path / "pre")[0].version == recipe.offline.updates
