"""Whole experiments, tiny: every stage, what they leave, and how they go on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from agent.heads import Networks
from agent.replay.dataset import Dataset
from launch.checkpoint import open_checkpoint
from launch.experiments import adroit_door, experiment_names, find_experiment, hopper_replay
from launch.finetune import finetune_stage
from launch.options import experiment_recipe
from launch.recipe_files import read_recipe, to_json
from launch.recipes import Collect, Evaluation, FinetuneRecipe, Learning, Offline, Online
from launch.runs import progress_bar, read_lines
from tests.d4rl_data import demonstration_data

SMALL = Learning(Networks((16, 16), (16, 16), critics=2))
ONLINE = Online(bridge_settings={"steps": 60}, env_steps=150, utd=1, batch_size=16, replay_capacity=300)
COMMON = {"learning": SMALL, "online": ONLINE, "evaluation": Evaluation(trials=1, every_env_steps=100)}
CQL = {"sampled_actions": 2, "backup_actions": 1}
DOOR = adroit_door.Recipe(
    preset="tiny",
    cloning_learning=SMALL,
    online_learning=SMALL,
    cloning=Offline("bc", updates=20, batch_size=32),
    collect=Collect(transitions=100, behavior="policy"),
    offline=Offline("calql", CQL, updates=20, batch_size=16),
    **COMMON,
)
HOPPER = hopper_replay.Recipe(
    preset="tiny",
    behavior_learning=SMALL,
    behavior=replace(ONLINE, bridge="scratch", env_steps=300, bridge_settings={"steps": 100}),
    offline=Offline("cql", CQL, updates=20, batch_size=16),
    **COMMON,
)


def run(recipe, out, resume: bool = False):
    with progress_bar() as progress:
        return find_experiment(to_json(recipe)["command"]).run(recipe, out, progress, resume, in_process=True)


def test_from_demonstrations_to_a_fine_tuned_policy(tmp_path):
    data = demonstration_data() / "adroit_door_human25.npz"
    recipe, out = replace(DOOR, data=str(data)), tmp_path / "door"
    result = run(recipe, out)
    assert result == json.loads((out / "result.json").read_text())
    assert result["env_steps"][0] == 0
    assert result["env_steps"][-1] == 150
    assert read_recipe(out / "recipe.json") == recipe
    demonstrations = Dataset.load(out / "demonstrations")
    assert len(demonstrations.episodes) == 25
    assert demonstrations.success_rate() == pytest.approx(7 / 25)
    merged, rollouts = Dataset.load(out / "data"), Dataset.load(out / "rollouts")
    assert len(merged.episodes) == 7 + len(rollouts.episodes)
    assert merged.columns["reward"].max() == 0.0
    assert set(np.unique(merged.columns["reward"])) == {-1.0, 0.0}
    assert "adroit_door_human25.npz" in merged.info.provenance
    before = {p: p.stat().st_mtime_ns for p in out.rglob("checkpoint/*")}
    assert run(recipe, out, resume=True) == result
    assert {p: p.stat().st_mtime_ns for p in out.rglob("checkpoint/*")} == before


def test_an_agent_s_replay_is_data_as_another_project_would_take_it(tmp_path):
    result = run(HOPPER, tmp_path / "hopper")
    out = tmp_path / "hopper"
    taken, given = Dataset.load(out / "behavior"), Dataset.load(out / "data")
    for name in ("obs/state", "next_obs/state", "action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(taken.columns[name], given.columns[name])
    assert "replay.hdf5" in given.info.provenance
    assert result["env_steps"][-1] == 150
    assert len(result["mode"]["normalized"]) == len(result["env_steps"])


@pytest.mark.parametrize(("stop_score", "env_steps"), [(0.0, 0), (1000.0, 300)])
def test_a_run_stops_at_the_score_it_was_given(stop_score, env_steps, tmp_path):
    """A hopper that nobody trained scores a little above 0, so the first evaluation is enough."""
    online = replace(HOPPER.behavior, stop_score=stop_score)
    recipe = FinetuneRecipe(task="hopper", learning=SMALL, online=online, evaluation=Evaluation(1, 100))
    for resume in (False, True):  # it is finished, also when it is opened again
        with progress_bar() as progress:
            finetune_stage(recipe, tmp_path / "run", progress, resume, in_process=True)
    rows = read_lines(tmp_path / "run" / "scores.jsonl")
    assert rows[-1]["env_steps"] == env_steps
    assert open_checkpoint(tmp_path / "run").meta()["finished"]


@pytest.mark.parametrize("name", experiment_names())
def test_presets_are_recipes_that_can_be_saved(name, tmp_path):
    for preset, recipe in find_experiment(name).PRESETS.items():
        assert recipe.preset == preset
        path = tmp_path / f"{preset}.json"
        path.write_text(json.dumps(to_json(recipe)))
        assert read_recipe(path) == recipe


def test_options_of_an_experiment():
    recipe = experiment_recipe("hopper-replay", None, "paper", 7)
    assert recipe == replace(hopper_replay.PAPER, seed=7)
    with pytest.raises(ValueError, match="--preset huge: experiment 'hopper-replay' has scaled, paper"):
        experiment_recipe("hopper-replay", None, "huge", None)


def test_what_is_missing_or_too_much_is_said_in_a_sentence(segue, tmp_path):
    def said(*arguments):
        code, out, err = segue("run", *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return err

    assert "--data FILE" in said("adroit-door", "--out", tmp_path / "x")
    assert "leave out --data" in said("hopper-replay", "--out", tmp_path / "x", "--data", "y")
    assert "no file and no experiment" in said("adroid-door", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(to_json(HOPPER)))
    assert "leave these options out" in said(file, "--out", tmp_path / "x", "--seed", "3")
