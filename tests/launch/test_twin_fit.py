"""`segue twin fit`: what was altered is found again, and what cannot be found is said."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from agent.replay.dataset import Dataset
from agent.replay.journal_write import write_journal
from launch.runs import write_json
from launch.tasks import find_task, info_of
from launch.twin_data import Episode, read_log
from launch.twin_fit import fit, split, useful
from launch.twin_log import Logging, log_stage
from robot_env.make import make_env
from sim.dynamics import PUBLISHED, Dynamics, file_of
from sim.replay import Motion, Replay

PEG = find_task("peg_insertion")
ALTERED = Dynamics(0.8, 0.85, 1.3, 1.2, 0.5, 0.04)


def logged(folder: Path, dynamics: Dynamics = PUBLISHED, task=PEG, episodes: int = 2, steps: int = 60) -> Path:
    """A log of a twin that moves so."""
    write_json(folder / "arm.json", file_of(dynamics, task, {}))
    log_stage(Logging(arm=f"twin:{folder / 'arm.json'}", episodes=episodes, steps=steps), task, folder / "log", False)
    return folder / "log"


@pytest.fixture(scope="module")
def altered_log(tmp_path_factory) -> Path:
    return logged(tmp_path_factory.mktemp("altered"), ALTERED)


def test_what_was_altered_is_found_and_is_an_arm_of_every_command(segue, altered_log, tmp_path):
    out = tmp_path / "fit"
    code, said, err = segue("twin", "fit", altered_log, "--out", out, "--json")
    assert (code, err) == (0, "")
    found = json.loads(said)
    for name, value in asdict(ALTERED).items():
        assert found["values"][name] == pytest.approx(value, rel=0.03), name
        assert 0.0 < found["standard_errors"][name] < 0.1 * value
    assert found["steps"] == {"logged": 120, "in contact": 0, "fitted": 96, "put aside": 24}
    assert found["not_told_apart"] == []
    for row in (*found["residuals_one_step_ahead"].values(), found["residual_over_the_picture"]):
        assert row["after_mm"] < 0.2 < 2.0 < row["before_mm"]
        assert row["after_mrad"] < 1.5 < 10.0 < row["before_mrad"]
    assert {path.name for path in out.iterdir()} == {"recipe.json", "twin.json", "motion.png"}
    assert (out / "motion.png").read_bytes().startswith(b"\x89PNG")

    arm = f"twin:{out / 'twin.json'}"
    env = make_env(PEG, arm)
    assert asdict(env.arm.dynamics) == found["values"]
    env.close()
    assert segue("robot", "home", "--arm", arm, "--json")[0] == 0
    assert segue("twin", "log", "--arm", arm, "--episodes", "1", "--steps", "5", "--out", tmp_path / "again")[0] == 0
    code, _, err = segue("twin", "fit", altered_log, "--out", out)
    assert (code, "already holds a run" in err) == (2, True)


def test_it_is_told_to_people_too(segue, altered_log, tmp_path):
    code, said, _ = segue("twin", "fit", altered_log, "--out", tmp_path / "fit")
    assert code == 0
    for words in ("--arm", "standard error", "latency_s", "put aside", "in one go", "not told apart"):
        assert words in said


def test_the_twin_as_published_finds_itself(tmp_path):
    log = read_log(logged(tmp_path))
    found = fit(PEG, useful(log.episodes))
    for name, value in asdict(PUBLISHED).items():
        assert getattr(found.dynamics, name) == pytest.approx(value, abs=0.02 if name != "latency_s" else 0.001), name


def at_rest(altered_log: Path, rows: int = 60) -> Motion:
    """An arm that was told to stay where it is, and did."""
    here = np.repeat(read_log(altered_log).episodes[0].motion.pose[:1], rows, axis=0)
    return Motion(here, np.zeros((rows, 6)), here, here, here, np.zeros((rows, 6)))


def test_references_that_never_change_do_not_tell_the_latency(altered_log):
    there = at_rest(altered_log)
    there = replace(there, reference=there.reference + 0.02 * np.eye(7)[0], last=there.last + 0.02 * np.eye(7)[0])
    poses, velocities = Replay(PEG, [there]).predict(ALTERED)
    found = fit(PEG, [replace(there, next_pose=poses, next_velocity=velocities)])
    assert ["latency_s"] in found.together
    assert "latency_s" not in found.errors
    assert found.dynamics.latency_s == PUBLISHED.latency_s


def test_an_arm_at_rest_tells_nothing(altered_log):
    with pytest.raises(ValueError, match="the motion tells none of the values"):
        fit(PEG, [at_rest(altered_log)])


def test_steps_in_contact_are_left_out(segue, altered_log, tmp_path):
    dataset = Dataset.load(altered_log)
    columns = {name: x.copy() for name, x in dataset.columns.items()}
    columns["next_obs/state"][10:20, 3] = 20.0
    columns["obs/state"][11:21, 3] = 20.0
    columns["next_obs/state"][10:20, 4] += 0.03  # what it is pushed to must not count
    columns["obs/state"][11:21, 4] += 0.03
    write_journal(replace(dataset, columns=columns), tmp_path / "log")
    code, said, _ = segue("twin", "fit", tmp_path / "log", "--out", tmp_path / "fit", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["steps"]["in contact"] == 11
    assert found["steps"]["fitted"] == 96 - 11
    assert found["values"]["translational_stiffness"] == pytest.approx(0.8, rel=0.03)


def touching(folder: Path, log: Path) -> Path:
    dataset = Dataset.load(log)
    columns = dict(dataset.columns)
    for name in ("obs/state", "next_obs/state"):
        columns[name] = columns[name].copy()
        columns[name][:, 3] = 20.0
    write_journal(replace(dataset, columns=columns), folder / "touching")
    return folder / "touching"


def of_pen(folder: Path, log: Path) -> Path:
    rows, pen = 60, find_task("pen")
    obs = {"state": np.zeros((rows, 45), np.float32)}
    action, ends = np.zeros((rows, 24), np.float32), np.arange(rows) == rows - 1
    write_journal(Dataset.of(info_of(pen, ""), obs, obs, action, np.zeros(rows), ends & False, ends), folder / "pen")
    return folder / "pen"


def of_other_sizes(folder: Path, log: Path) -> Path:
    rows = 60
    obs = {"state": np.zeros((rows, 7), np.float32)}
    action, ends = np.zeros((rows, 6), np.float32), np.arange(rows) == rows - 1
    write_journal(Dataset.of(info_of(PEG, ""), obs, obs, action, np.zeros(rows), ends & False, ends), folder / "sizes")
    return folder / "sizes"


def short(folder: Path, log: Path) -> Path:
    write_journal(Dataset.load(log).rows(slice(0, 30)), folder / "short")
    return folder / "short"


def nowhere(folder: Path, log: Path) -> Path:
    return folder / "nowhere"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nowhere, "there is no journal"),
        (of_pen, "its task 'pen' has no arm; give one of `segue twin log`"),
        (of_other_sizes, "obs/state has shape (7,), task 'peg_insertion' has (19,)"),
        (short, "of 30 steps and 24 are left to fit, which wants 50; log a longer motion in free space"),
        (touching, "of 120 steps, 120 touch something (above 5 N or 1 N·m) and 0 are left to fit"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(segue, altered_log, tmp_path, make, words):
    code, out, err = segue("twin", "fit", make(tmp_path, altered_log), "--out", tmp_path / "fit")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize(("episodes", "fitted", "held"), [(1, 80, 20), (4, 320, 80), (5, 400, 100), (11, 900, 200)])
def test_every_fifth_episode_is_put_aside_or_the_last_fifth_of_few(episodes, fitted, held):
    motion = Motion(*(np.zeros((100, n)) for n in (7, 6, 7, 7, 7, 6)))
    sides = split([Episode(motion, np.ones(100, bool))] * episodes)
    assert [sum(map(len, useful(side))) for side in sides] == [fitted, held]
