"""From pictures to a fine-tuned policy: the whole line, small, and what it says to wrong requests."""

import numpy as np
import pytest

from agent.replay.dataset import Dataset
from launch.policies import load_policy
from launch.runs import read_lines

TASK = "peg_insertion_image"


def flags(line: str) -> list[str]:
    return line.split()


SMALL = flags(
    "--learning.networks.actor-hidden 8 --learning.networks.critic-hidden 8 --learning.networks.critics 2"
    " --learning.vision.pooling softmax --learning.vision.bottleneck 4"
)
ONLINE = flags(
    "--online.method td3 --online.bridge direct --online.block 20 --online.env-steps 40 --online.batch-size 4 --online.utd 1"
    " --evaluation.trials 1 --evaluation.every-env-steps 40 --in-process"
)


def test_the_whole_line_by_sight(segue, tmp_path):
    data, pre, fine = (tmp_path / name for name in ("data", "pre", "fine"))
    assert segue("collect", "--task", TASK, "--collect.transitions", "60", "--out", data)[0] == 0
    code, _, err = segue(
        *("pretrain", "--task", TASK, "--data", data, "--out", pre, *SMALL),
        *("--offline.method", "td3bc", "--offline.updates", "3", "--offline.batch-size", "4"),
    )
    assert code == 0, err
    code, _, err = segue("finetune", "--task", TASK, "--checkpoint", pre, "--out", fine, *SMALL, *ONLINE)
    assert code == 0, err
    first, last = load_policy(pre)[0], load_policy(fine)[0]
    assert set(last.params) == {"actor", "encoder"}
    before, after = (now.params["encoder"]["wrist_1"]["kernel"] for now in (first, last))
    assert np.any(np.asarray(before) != np.asarray(after))
    assert len(read_lines(fine / "scores.jsonl")) == 2
    kept = Dataset.load(fine).columns["next_obs/wrist_2"]  # the journal has the pictures, not their features
    assert kept.shape == (40, 128, 128, 3)
    assert kept.dtype == np.uint8


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_several_seeds_at_once_are_refused(segue, tmp_path, command):
    where = ("--data", tmp_path) if command == "pretrain" else ("--online.bridge", "scratch")
    code, _, err = segue(command, "--task", TASK, *where, "--seeds", "2", "--out", tmp_path / "x")
    assert code == 2
    assert "has cameras" in err


def test_an_encoder_that_is_not_there_is_refused(segue, tmp_path):
    finetune = ("finetune", "--task", TASK, "--online.bridge", "scratch")
    code, _, err = segue(*finetune, "--learning.vision.trunk", tmp_path / "no", "--out", tmp_path / "x")
    assert code == 2
    assert "there is no such file" in err
    assert not (tmp_path / "x").exists()
