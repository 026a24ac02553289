"""Videos: a real trial of an untrained policy through the real twin, read back from the file."""

import subprocess
from dataclasses import replace

import jax
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from agent.adopt import first_state
from agent.heads import Networks
from agent.methods import find_method
from agent.policy import MODE, policy_params
from agent.types import Normalizer
from launch.attendant import program
from launch.build import networks_of
from launch.evaluate import Evaluator
from launch.recipes import Learning
from launch.video import CAPTION_PX, HOLD_S, VIEW_PX, Recorder, captioned, record_trial, see
from robot_env.env import RobotEnv
from robot_env.make import make_env
from robot_env.operator import ScriptedOperator
from robot_env.tasks import find_task
from tests.robot_env.scripted_arm import TOY, ScriptedArm

TASK = replace(find_task("peg_insertion"), max_steps=6)
LEARNING = Learning(networks=Networks((8,), (8,), 2, 1))
PICTURE = np.full((40, 60, 3), 90, np.uint8)


@pytest.fixture
def evaluator():
    env = make_env(TASK, "twin")
    env.reset(seed=0)
    try:
        env.arm.picture("scene")
    except RuntimeError as error:
        env.close()
        pytest.skip(f"no OpenGL on this machine: {error}")
    yield Evaluator(env, networks_of(TASK, LEARNING), 4, 0, program)
    env.close()


def untrained(nets):
    normalizer = Normalizer({"state": np.zeros(19, np.float32)}, {"state": np.ones(19, np.float32)})
    return policy_params(first_state(nets, find_method("sac"), normalizer, jax.random.key(0)), MODE)


def decode(path, width, height):
    """All frames `(n, height, width, 3)`, and what ffmpeg says about the file."""
    command = [get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3), done.stderr.decode()


def test_a_trial_is_filmed_from_start_to_outcome(evaluator, tmp_path):
    nets = networks_of(TASK, LEARNING)
    path = tmp_path / "new" / "before.mp4"
    trial = record_trial(evaluator, untrained(nets), "mode", 2, path, "before: offline Cal-QL")
    assert (trial.number, trial.success, trial.env_steps) == (2, False, 6)
    frames, about = decode(path, 660, 360 + CAPTION_PX)
    assert len(frames) == 6 + 1 + round(HOLD_S * TASK.hz)
    assert all(word in about for word in ("Video: h264", "yuv420p", "660x400", "10 fps"))
    assert frames[:, :360].std() > 20, "the picture is blank"
    assert np.abs(frames[0, :360].astype(int) - frames[6, :360]).max() > 50, "nothing moves"
    before, after = frames[5, -3].mean(0), frames[-1, -3].mean(0)
    assert after[0] > before[0] + 100, "a failure is not marked on the last frames"
    assert [p.name for p in path.parent.iterdir()] == ["before.mp4"]


def test_the_index_comes_first_so_that_a_browser_can_start_at_once(tmp_path):
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.add(PICTURE, times=5)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_an_error_leaves_no_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def fail():
        with Recorder(path, 10) as recorder:
            recorder.add(PICTURE)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"old"


def test_nothing_added_writes_nothing(tmp_path):
    with Recorder(tmp_path / "a.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("shape", "word"), [((41, 60, 3), "even"), ((40, 61, 3), "even")])
def test_odd_sizes_are_refused(tmp_path, shape, word):
    with pytest.raises(ValueError, match=word), Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.add(np.zeros(shape, np.uint8))


def test_a_change_of_size_is_refused(tmp_path):
    with Recorder(tmp_path / "a.mp4", 10) as recorder:
        recorder.add(PICTURE)
        with pytest.raises(ValueError, match="make them alike"):
            recorder.add(PICTURE[:20])


def test_ffmpeg_that_fails_is_told_in_one_sentence(tmp_path):
    (tmp_path / ".a.part.mp4").mkdir()
    recorder = Recorder(tmp_path / "a.mp4", 10)
    recorder.add(PICTURE)
    with pytest.raises(RuntimeError, match="ffmpeg could not write it"):
        recorder._finish(check=True)


def test_a_long_caption_stays_inside_and_odd_letters_pass():
    out = captioned(PICTURE, "x" * 200 + " é→", 0.5)
    assert out.shape == (40 + CAPTION_PX, 60, 3)
    assert (out[:40] == PICTURE).all()
    wide = captioned(np.zeros((40, 400, 3), np.uint8), "W" * 120, 2.0)
    assert (wide[44:, -10:] == wide[-1, -1]).all(), "the caption runs out of the picture"


def test_a_trial_that_a_human_discards_leaves_no_film(evaluator, tmp_path):
    evaluator.env._operator = ScriptedOperator([None, "discard"])
    nets = networks_of(TASK, LEARNING)
    assert record_trial(evaluator, untrained(nets), "mode", 0, tmp_path / "a.mp4", "a") is None
    assert list(tmp_path.iterdir()) == []


def test_an_arm_without_a_scene_camera_is_seen_by_its_own_and_one_that_fails_is_black():
    task = replace(TOY, cameras=("wrist_1", "wrist_2"))
    env = RobotEnv(task, ScriptedArm(task))
    env.reset(seed=0)
    assert see(env).shape == (VIEW_PX, 2 * VIEW_PX, 3)
    assert see(env)[:, VIEW_PX:].std() > 20

    def fail():
        raise OSError("unplugged")

    env.arm.cameras["wrist_2"].read = fail
    assert see(env)[:, :VIEW_PX].std() > 20
    assert see(env)[:, VIEW_PX:].max() == 0
