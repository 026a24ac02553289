"""A lab's own task, `--task FILE.py`: from its data to its evaluation, wherever the program is started."""

import json
from pathlib import Path

import pytest

import robot_env.tasks
from agent.replay.dataset import Dataset
from launch.checkpoint import about_checkpoint
from launch.data_tools import raw_info
from launch.recipes import CompareRecipe, FinetuneRecipe
from launch.tasks import find_task
from tests.launch.test_cli import TINY_FLAGS, refused

ROOT = Path(__file__).resolve().parents[2]
CLONED = ("--offline.method", "bc", "--offline.updates", "20", "--offline.batch-size", "16", *TINY_FLAGS)
SHORT = ("--online.bridge", "scratch", "--online.bridge-settings", "steps", "20", "--online.env-steps", "30")
SHORT += ("--online.utd", "1", "--online.batch-size", "16", "--evaluation.trials", "1", *TINY_FLAGS)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a task like the peg's, in the folder that the program is started in."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\n\nfrom robot_env.tasks import find_task\n\n"
        'TASK = replace(find_task("peg_insertion"), name="mine", max_steps=30)\n'
    )
    monkeypatch.chdir(tmp_path)
    return path


def test_a_run_from_its_data_to_its_evaluation(segue, mine, tmp_path, monkeypatch):
    def done(*arguments) -> str:
        code, out, said = segue(*arguments, "--json")
        assert code == 0, said
        return out

    done("collect", "--task", "mine.py", "--collect.transitions", "100", "--out", "data")
    done("pretrain", "--task", "mine.py", "--data", "data", "--out", "pre", *CLONED)
    tune = ("finetune", "--data", tmp_path / "data", "--out", tmp_path / "run", *SHORT)
    monkeypatch.chdir(ROOT)
    done(*tune, "--task", mine)  # its actor is another process
    other = ("finetune", "--checkpoint", tmp_path / "pre", "--out", tmp_path / "x", *TINY_FLAGS)
    refused(segue(*other), "mine.py", "not 'peg_insertion'")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder in ("pre", "run"):
        told = json.loads(done("evaluate", tmp_path / folder, "--trials", "1"))
        assert told["task"] == "mine"
    done(*tune, "--task", "../mine.py", "--resume")
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["task"] == str(mine)
    assert about_checkpoint(tmp_path / "run")["task"] == str(mine)
    for data in ("data", "run"):
        assert Dataset.load(tmp_path / data).info.task == "mine"  # what is told to others is its name
    mine.rename(tmp_path / "moved.py")
    robot_env.tasks._read.cache_clear()  # as in another program
    refused(segue("evaluate", tmp_path / "run", "--trials", "1"), f"task file {mine}: there is no such file")


def test_a_recipe_names_a_file_by_its_absolute_path(mine):
    assert FinetuneRecipe(task="mine.py").task == CompareRecipe("./mine.py", "data").task == str(mine)
    assert FinetuneRecipe(task="peg_insertion").task == "peg_insertion"
    assert FinetuneRecipe(task=str(mine)).task == str(mine)


def test_a_file_is_a_task_of_data_too(mine):
    info, task = raw_info("mine.py")
    assert (info.task, info.reward_shift, task) == ("mine", 0.0, find_task("mine.py"))
    with pytest.raises(ValueError, match=r"has 0\.98; leave it out"):
        raw_info("mine.py", 0.9)


def test_a_name_that_a_simulated_task_has_is_refused(mine):
    mine.write_text(mine.read_text().replace('"mine"', '"hopper"'))
    path = mine.rename(mine.with_name("hopper.py"))
    with pytest.raises(ValueError, match=r"hopper\.py: there is a task 'hopper' already"):
        find_task(str(path))


def test_what_is_no_task_is_one_sentence(segue, mine, tmp_path):
    mine.write_text("TASK = 1 / 0\n")
    for command in (("collect", "--out", "x"), ("robot", "check"), ("doctor",)):
        refused(segue(*command, "--task", "mine.py"), "reading it failed (ZeroDivisionError: division by zero)")
    assert [each.name for each in tmp_path.iterdir()] == ["mine.py"]
