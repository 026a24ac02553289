"""The command line: results on standard output, and one sentence with exit code 2 for a user's mistake."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.bridges import bridge_names
from agent.methods import method_names
from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from launch.build import fine_tuning_phases
from launch.recipe_files import read_recipe
from launch.stages import load_dataset
from launch.tasks import find_task, task_names

TINY_FLAGS = ("--learning.networks.actor-hidden", "16", "16", "--learning.networks.critic-hidden", "16", "16")
TINY_FLAGS += ("--learning.networks.critics", "3")


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    """One sentence on standard error that holds the words, nothing on standard output, exit code 2."""
    code, out, err = outcome
    assert (code, out) == (2, ""), (code, out, err)
    assert err.startswith("segue: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err, (word, err)


def test_methods_lists_every_method_and_bridge(segue):
    code, out, _ = segue("methods", "--json")
    listed = json.loads(out)
    assert code == 0
    assert [m["name"] for m in listed["methods"]] == method_names()
    assert [b["name"] for b in listed["bridges"]] == bridge_names()
    assert all(entry["what"] for kind in ("methods", "bridges") for entry in listed[kind])


def test_tasks_lists_spaces_and_limits(segue):
    _, out, _ = segue("tasks", "--json")
    listed = {t["name"]: t for t in json.loads(out)["tasks"]}
    assert list(listed) == task_names()
    peg = listed["peg_insertion"]
    assert peg["observation"] == {"state": [19]}
    assert (peg["action"], peg["max_steps"], peg["hz"]) == ([6], 45, 10.0)


def test_tasks_for_people_is_a_table(segue):
    code, out, _ = segue("tasks")
    assert code == 0
    assert "peg_insertion" in out
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


def test_json_is_one_object_and_nothing_else(segue, pretrained):
    code, out, _ = segue("evaluate", pretrained, "--trials", "2", "--json")
    result = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert result["mode"]["trials"] == result["sample"]["trials"] == 2
    assert len(result["mode"]["outcomes"]) == 2


@pytest.mark.parametrize(
    "command", ["collect", "pretrain", "finetune", "evaluate", "report", "rehearse", "run", "bench"]
)
def test_help_says_what_a_command_does(segue, command):
    code, out, _ = segue(command, "--help")
    assert code == 0
    assert f"usage: segue {command}" in out
    assert "--json" in out


def test_unknown_method(segue, data_file, tmp_path):
    outcome = segue("pretrain", "--data", data_file, "--out", tmp_path / "x", "--offline.method", "calqll")
    refused(outcome, "'calqll'", "calql")
    assert not (tmp_path / "x").exists()


def test_unknown_coefficient(segue, data_file, tmp_path):
    outcome = segue("pretrain", "--data", data_file, "--out", tmp_path / "x", "--offline.coef", "alpha", "1")
    refused(outcome, "'alpha'", "conservative")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--offline.updates", "-1"), ("count is negative",)),
        (("--offline.updates", "0"), ("updates",)),
        (("--offline.batch-size", "0"), ("batch_size",)),
        (("--offline.coef", "conservative", "nan"), ("conservative", "finite")),
        (("--offline.coef", "sampled_actions", "2.5"), ("sampled_actions", "whole")),
        (("--offline.coef", "sampled_actions", "0"), ("sampled_actions", "whole")),
    ],
)
def test_numbers_that_make_no_sense_leave_no_folder(segue, data_file, tmp_path, flags, words):
    refused(segue("pretrain", "--data", data_file, "--out", tmp_path / "x", *flags), *words)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("flags", [("--seed", "-1"), ("--online.block", "0"), ("--learning.tau", "-1")])
def test_numbers_that_the_parser_refuses(segue, tmp_path, flags):
    code, out, err = segue("finetune", "--out", tmp_path / "x", *flags)
    assert (code, out) == (2, "")
    assert flags[1] in err
    assert not (tmp_path / "x").exists()


def test_a_bridges_whole_numbers_stay_whole(segue, pretrained, tmp_path):
    tiny = (*TINY_FLAGS, "--evaluation.trials", "1", "--online.env-steps", "100", "--online.batch-size", "16")
    start = ("finetune", "--checkpoint", pretrained, *tiny, "--online.bridge-settings", "steps")
    refused(segue(*start, "50.5", "--out", tmp_path / "x"), "steps is 50.5", "whole")
    code, out, _ = segue(*start, "55", "--out", tmp_path / "a", "--json")
    assert (code, json.loads(out)["curve"][-1]["env_steps"]) == (0, 100)
    again = fine_tuning_phases(read_recipe(tmp_path / "a" / "recipe.json").online)
    assert [phase.env_steps for phase in again] == [55, 45]


def test_another_method_takes_its_own_numbers(segue, data_file, tmp_path):
    flags = ("--offline.method", "bc", "--offline.updates", "20", "--offline.batch-size", "16", *TINY_FLAGS)
    code, out, _ = segue("pretrain", "--data", data_file, "--out", tmp_path / "x", *flags, "--json")
    assert code == 0
    assert json.loads(out)["updates"] == 20
    assert json.loads((tmp_path / "x" / "recipe.json").read_text())["offline"]["coef"] == {}


def test_a_damaged_checkpoint_is_named(segue, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "run")
    number = next(p for p in (tmp_path / "run" / "checkpoint").iterdir() if p.is_dir())
    shutil.rmtree(number / "policy")
    refused(segue("evaluate", tmp_path / "run"), "policy", "damaged", f"remove the folder {number.name}")
    (number / "meta" / "metadata").write_text("{}")
    refused(segue("evaluate", tmp_path / "run"), "meta", "damaged")


def test_a_refused_collection_leaves_the_folder_free(segue, tmp_path):
    refused(segue("collect", "--collect.widen", "100", "--out", tmp_path / "x"), "task")
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written(segue):
    refused(segue("collect", "--out", "/proc/segue"), "/proc/segue", "cannot be written")


def test_unknown_bridge_and_setting(segue, pretrained, tmp_path):
    start = ("finetune", "--checkpoint", pretrained, "--out", tmp_path)
    refused(segue(*start, "--online.bridge", "warmup"), "'warmup'", "warm_up")
    refused(segue(*start, "--online.bridge-settings", "k", "100"), "'k'", "steps")


def test_unknown_task(segue, tmp_path):
    refused(segue("collect", "--task", "peg", "--out", tmp_path / "x"), "'peg'", "peg_insertion")


def test_missing_data(segue, tmp_path):
    refused(segue("pretrain", "--data", tmp_path / "none", "--out", tmp_path / "x"), "none", "segue collect")


def altered(data_file: Path, to: Path, **columns: np.ndarray) -> Path:
    dataset = Dataset.load(data_file)
    write_journal(Dataset(dataset.info, {**dataset.columns, **columns}), to)
    return to


def test_data_of_another_shape(segue, data_file, tmp_path):
    obs = {f"{kind}/state": Dataset.load(data_file).columns[f"{kind}/state"][:, :7] for kind in ("obs", "next_obs")}
    bad = altered(data_file, tmp_path / "bad", **obs)
    refused(segue("pretrain", "--data", bad, "--out", tmp_path / "x"), "obs/state", "7", "19")
    assert not (tmp_path / "x").exists()


def test_data_of_another_convention_takes_the_task_s(data_file, tmp_path):
    dataset = Dataset.load(data_file)
    other = replace(dataset.info, discount=0.9, reward_scale=4.0, reward_shift=2.0, truncation_value=20.0)
    write_journal(dataset.under(other), tmp_path / "other")
    found, wanted = (load_dataset(path, find_task("peg_insertion")) for path in (tmp_path / "other", data_file))
    assert found.info == wanted.info
    for name in ("reward", "mc_return", "mask"):
        np.testing.assert_array_equal(getattr(found.batch(), name), getattr(wanted.batch(), name))


def test_checkpoint_of_another_task(segue, pretrained, tmp_path, another_task):
    outcome = segue(
        "finetune", "--checkpoint", pretrained, "--task", another_task, "--out", tmp_path / "x", *TINY_FLAGS
    )
    refused(outcome, "peg_insertion", another_task)


def test_checkpoint_of_other_networks_names_the_field_and_the_flag(segue, pretrained, tmp_path):
    outcome = segue("finetune", "--checkpoint", pretrained, "--out", tmp_path / "x")
    refused(outcome, "networks.actor_hidden", "--learning.networks.actor-hidden 16 16")


def test_checkpoint_that_is_none(segue, tmp_path):
    refused(segue("evaluate", tmp_path), "checkpoint", "pretrain")


def test_box_with_low_above_high(segue, tmp_path, upside_down_task):
    refused(segue("collect", "--task", upside_down_task, "--out", tmp_path / "x"), "low", "high")


def test_warm_up_needs_a_checkpoint_and_rlpd_none(segue, pretrained, data_file, tmp_path):
    refused(segue("finetune", "--out", tmp_path / "x"), "warm_up", "--checkpoint")
    flags = ("--online.bridge", "rlpd", "--out", tmp_path / "x")
    refused(segue("finetune", *flags, "--checkpoint", pretrained, "--data", data_file), "rlpd", "leave it out")
    refused(segue("finetune", *flags), "rlpd", "--data")


def test_a_folder_that_holds_a_run_is_not_written_over(segue, data_file, pretrained):
    before = (pretrained / "recipe.json").read_text()
    refused(segue("pretrain", "--data", data_file, "--out", pretrained), "--resume")
    refused(segue("pretrain", "--data", data_file, "--out", pretrained, "--seed", "5", "--resume"), "seed")
    assert (pretrained / "recipe.json").read_text() == before


def test_a_folder_with_other_things_is_left_alone(segue, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    refused(segue("collect", "--out", tmp_path), "not empty")
    refused(segue("collect", "--out", tmp_path / "thesis.txt"), "file")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "cannot be read"),
        ("[]", "recipe.json"),
        ('{"command": "dance"}', "command"),
        ('{"command": "collect", "sed": 1}', "sed"),
        ('{"command": "collect", "seed": "one"}', "seed"),
        ('{"command": "collect", "seed": 1.5}', "1.5 is no int"),
        ('{"command": "collect", "collect": {"good_share": 2.0}}', "good_share is 2.0"),
    ],
)
def test_run_refuses_what_is_no_recipe(segue, tmp_path, text, word):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    refused(segue("run", path, "--out", tmp_path / "x"), word)
