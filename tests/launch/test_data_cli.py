"""`segue data ...`, as people use it."""

import json
from typing import get_args

import matplotlib.image
import numpy as np
import pytest

from agent.replay.dataset import Dataset
from agent.replay.episodes import Tombstones
from agent.replay.journal_info import session_folders
from agent.replay.journal_write import write_journal
from launch.cli_data import Format, WriteFormat, data
from launch.data_facts import facts
from launch.data_plot import draw
from launch.data_tools import Source
from launch.formats import READERS, WRITERS
from launch.tasks import find_task
from tests.launch.data_samples import episode_bytes, walk, with_column

PEG, DOOR = "peg_insertion", "door-binary"


@pytest.fixture
def run(capsys):
    """Runs a command: `(exit code, what it printed as JSON)`."""

    def call(*arguments):
        code = 0
        try:
            data.cli(prog="segue data", args=[*map(str, arguments), "--json"])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    return call


@pytest.fixture
def journal(tmp_path):
    write_journal(walk(PEG, [10, 20, 30, 40], [0, 2]), tmp_path / "peg")
    return tmp_path / "peg"


def test_out_and_in_again(run, tmp_path):
    write_journal(walk(DOOR, [10, 20], [0]), tmp_path / "door")
    before = (tmp_path / "door" / "journal.json").read_bytes()
    assert run("export", tmp_path / "door", "--format", "d4rl", "--out", tmp_path / "door.hdf5")[0] == 0
    code, told = run("validate", tmp_path / "door.hdf5", "--format", "d4rl")
    assert (code, told["task"]) == (0, "unnamed")
    options = ["--format", "d4rl", "--task", DOOR, "--out", tmp_path / "back"]
    code, told = run("import", tmp_path / "door.hdf5", *options)
    assert (code, told["transitions"]) == (0, 30)
    assert "error" not in {finding["severity"] for finding in told["findings"]}
    assert Dataset.load(tmp_path / "back").success_rate() == 0.5
    assert (tmp_path / "door" / "journal.json").read_bytes() == before


def test_what_is_imported_with_errors_is_written_and_fails(run, tmp_path):
    dataset = walk(DOOR, [10, 20], [0])
    write_journal(with_column(dataset, "reward", dataset.columns["reward"] + 1.0), tmp_path / "door")
    assert run("export", tmp_path / "door", "--format", "d4rl", "--out", tmp_path / "door.hdf5")[0] == 0
    options = ["--format", "d4rl", "--task", DOOR, "--out", tmp_path / "back"]
    code, told = run("import", tmp_path / "door.hdf5", *options)
    assert code == 1
    assert told["findings"][0]["severity"] == "error"
    assert "shifted by +1" in told["findings"][0]["what"]
    assert run("validate", tmp_path / "back")[0] == 1


def test_info_counts_and_draws(run, journal, tmp_path):
    code, told = run("info", journal, "--plot", tmp_path / "pictures" / "peg.png")
    assert (code, told["episodes"], told["transitions"], told["success rate"]) == (0, 4, 100, 0.5)
    assert told["ended"] == {"terminal, success": 2, "truncated, no success": 2}
    assert told["rewards, raw"] == {"0": 98, "1": 2}
    assert told["sources"] == {"policy": 50, "human": 20, "offline": 30}
    assert told["length, env steps"]["median"] == 25
    assert told["return, raw"]["mean"] == 0.5
    assert len(told["action"]) == 6
    picture = matplotlib.image.imread(told["plot"])
    assert picture.shape[0] > 800
    assert picture.std() > 0.05


def test_every_kind_of_data_can_be_drawn(tmp_path):
    task, rng = find_task("antmaze-umaze"), np.random.default_rng(0)
    state = rng.standard_normal((9, task.obs_dim))
    action = np.zeros((9, task.action_dim))
    info = walk(PEG, [1]).info
    ends = np.arange(9) == 8
    columns = ({"state": state}, {"state": state}, action, np.zeros(9), np.zeros(9, bool), ends)
    source = Source(Dataset.of(info, *columns), task)
    draw(source, tmp_path / "x.png")
    one = Source(source.dataset.rows(slice(8, 9)), task)
    draw(one, tmp_path / "y.PNG")
    assert facts(one)["episodes"] == 1
    pictures = {"obs/front": np.zeros((9, 4, 4, 3), np.uint8), "next_obs/front": np.zeros((9, 4, 4, 3), np.uint8)}
    plain = {name: x for name, x in source.dataset.columns.items() if "state" not in name}
    draw(Source(Dataset(info, {**plain, **pictures}), None), tmp_path / "z.png")
    narrow = {**plain, "obs/height": state[:, :1], "next_obs/height": state[:, :1]}
    draw(Source(Dataset(info, narrow), None), tmp_path / "n.png")
    with pytest.raises(ValueError, match=r"ends in \.png"):
        draw(source, tmp_path / "x.pdf")


def test_a_normalised_score_is_of_the_task():
    door = walk(DOOR, [10, 20], [0])
    assert facts(Source(door, find_task(DOOR)))["normalised score, mean"] == pytest.approx(50.0)
    assert "normalised score, mean" not in facts(Source(walk(PEG, [10]), find_task(PEG)))


def test_edits_give_new_journals(run, journal, tmp_path):
    whole = episode_bytes(Dataset.load(journal))
    code, told = run("filter", journal, "--successful", "--min-length", 20, "--out", tmp_path / "good")
    assert (code, told["transitions"]) == (0, 30)
    assert episode_bytes(Dataset.load(tmp_path / "good")) == [whole[2]]
    parts = ["--out", tmp_path / "a", "--out-rest", tmp_path / "b"]
    code, told = run("split", journal, *parts, "--share", 0.5, "--seed", 1)
    assert code == 0
    assert sum(part["transitions"] for part in told["parts"]) == 100
    code, told = run("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "whole")
    assert (code, told["transitions"]) == (0, 100)
    assert sorted(episode_bytes(Dataset.load(tmp_path / "whole"))) == sorted(whole)
    assert episode_bytes(Dataset.load(journal)) == whole


def test_relabel(run, tmp_path):
    dataset = walk(DOOR, [10, 20], [0])
    dense = with_column(dataset, "reward", np.full(30, 0.5))
    write_journal(dense, tmp_path / "dense")
    code, told = run("relabel", tmp_path / "dense", "--task", DOOR, "--only-successes", "--out", tmp_path / "sparse")
    assert (code, told["transitions"], told["task"]) == (0, 10, DOOR)
    assert "1 of 2 episodes succeed and end there, the others are dropped; 10 of 30 steps are left." in told["made by"]
    assert Dataset.load(tmp_path / "sparse").columns["reward"].tolist() == [-1.0] * 9 + [0.0]


def test_what_was_left_out_is_told(run, journal, tmp_path):
    session = next(iter(session_folders(journal)))
    Tombstones.discard(journal, session, 0, "camera covered", "someone")
    code, told = run("filter", journal, "--min-length", 1, "--out", tmp_path / "rest")
    assert (code, told["transitions"]) == (0, 90)
    assert told["remarks"] == ["1 discarded episodes were left out"]
    assert run("info", journal)[1]["remarks"] == ["1 discarded episodes were left out"]


def test_findings_are_told_to_people_too(journal, capsys):
    data.cli(prog="segue data", args=["validate", str(journal)])
    assert "findings" in capsys.readouterr().out


def test_every_format_is_offered():
    assert get_args(Format) == tuple(READERS)
    assert get_args(WriteFormat) == tuple(WRITERS)


@pytest.mark.parametrize("command", ["import", "export", "validate", "info", "filter", "merge", "split", "relabel"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        data.cli(prog="segue data", args=[command, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "(required)" in said
    assert "--json" in said


def test_a_folder_for_both_parts_is_refused(journal, tmp_path):
    same = str(tmp_path / "a")
    with pytest.raises(ValueError, match="give each part its own"):
        data.cli(prog="segue data", args=["split", str(journal), "--out", same, "--out-rest", same])
    assert not (tmp_path / "a").exists()
