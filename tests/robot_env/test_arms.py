"""What every arm must do behind `RobotEnv`, the twin, the scripted one and those behind a network alike."""

from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.robots.fci import FciTwin
from launch.robots.fci_wire import Version
from launch.robots.serl_robot import SerlRobot
from launch.robots.serving import served
from robot_env.arm import ArmCommand
from robot_env.env import RobotEnv
from robot_env.make import make_arm
from robot_env.safety import SafetyLayer
from robot_env.tasks import find_task
from sim.scripted import ScriptedInsertion, ScriptQuality
from tests.robot_env.scripted_arm import ScriptedArm
from tests.robot_env.served_twin import ServedTwin
from tests.robot_env.test_safety import assert_in_box, assert_one_step

PEG = find_task("peg_insertion")
BUSY_S = 60.0  # a time-out that a machine under full load keeps


@contextmanager
def scripted():
    yield ScriptedArm(PEG)


@contextmanager
def twin():
    yield make_arm(PEG, "twin")


@contextmanager
def serl():
    """Over HTTP, to a server in a thread of this process."""
    with served(SerlRobot(PEG)) as url:
        yield make_arm(PEG, f"serl:{url},simulated", timeout_s=BUSY_S)


@contextmanager
def franka(name: str, version: Version):
    """Through the unmodified client library, to a server in a process of its own."""
    with closing(ServedTwin(PEG, FciTwin(version))) as served:
        yield make_arm(PEG, f"{name}:{served.host},simulated")


ARMS = {
    "scripted": scripted,
    "twin": twin,
    "serl": serl,
    "panda": lambda: franka("panda", 5),
    "franky": lambda: franka("franky", 10),
}
EXACT = ("scripted", "twin")  # a reset places these; others travel, and end within a tolerance
OWN_CLOCK = ("panda", "franky")  # time goes on between two calls
EXAMPLES = {"panda": 4, "franky": 4}  # of the property below, which is 50 where a reset takes no time


@pytest.fixture(scope="module", params=ARMS)
def named_arm(request):
    """One arm for all tests here: each begins with a reset, which must not mind what the last one left."""
    with ARMS[request.param]() as arm:
        arm.connect()
        yield request.param, arm
        arm.close()
        arm.close()


@pytest.fixture
def arm(named_arm):
    return named_arm[1]


@pytest.fixture
def env(arm):
    return RobotEnv(PEG, arm)


@pytest.mark.parametrize("name", ARMS)
def test_a_fresh_arm_is_where_a_reset_may_begin(name):
    with ARMS[name]() as arm:
        arm.connect()
        safety = SafetyLayer(PEG)
        measured = safety.check_state(arm.read(), "precise")
        safety.plan_reset(measured, list(PEG.reset))
        arm.close()


def test_gymnasium_accepts_it(env, named_arm):
    if named_arm[0] in EXACT:
        check_env(env, skip_render_check=True)
        return
    for space, seen in [
        (env.observation_space, env.reset(seed=0)[0]),
        (env.observation_space, env.step(np.zeros(6))[0]),
    ]:
        assert space.contains(seen)


def test_reset_ends_at_rest_at_the_start_with_the_wrench_tared(env, arm):
    _, info = env.reset(seed=0)
    state = arm.read()
    np.testing.assert_allclose(env.safety.offset(state.tcp_pose.tolist()), info["start_offset"], atol=2e-3)
    assert np.abs(state.tcp_velocity).max() < 0.02
    assert np.abs(state.wrench[:3]).max() < 1.0
    assert np.abs(state.wrench[3:]).max() < 0.2


def test_send_reports_what_it_sent_and_lets_time_pass(env, named_arm):
    name, arm = named_arm
    env.reset(seed=0)
    before = arm.read()
    command = ArmCommand(before.tcp_pose.copy())
    sent = arm.send(command)
    after = arm.read()
    np.testing.assert_allclose(sent.tcp_pose, command.tcp_pose, atol=1e-9)
    if name in OWN_CLOCK:
        assert after.stamp_s - before.stamp_s > 0.8 / PEG.hz
    else:
        assert after.stamp_s - before.stamp_s == pytest.approx(1.0 / PEG.hz)


def test_readings_are_copies(env, arm):
    env.reset(seed=0)
    state = arm.read()
    kept = state.tcp_pose.copy()
    for _ in range(3):
        env.step(np.full(6, 0.8))
    np.testing.assert_array_equal(state.tcp_pose, kept)
    assert np.abs(arm.read().tcp_pose - kept).max() > 1e-3


def test_the_arm_follows_the_actions(env):
    start = (0.0, 0.0, 0.08, 0.0, 0.0, 0.0)
    for axis, sign in [(0, 1), (1, -1), (2, -1), (5, 1)]:
        first, _ = env.reset(seed=0, options={"offset": start})
        action = np.zeros(6)
        action[axis] = sign
        for _ in range(4):
            obs, _, _, truncated, info = env.step(action)
            assert not truncated, info
        turn = np.array([1, -1, -1, 1, -1, -1])  # the tool points down: its y and z are minus the base's
        moved = (obs["state"][4:10] - first["state"][4:10]) * turn * sign
        assert moved[axis] == max(moved), (axis, moved)
        assert moved[axis] > 0.01


def test_seeds_repeat(env, named_arm):
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (5, 6))
    runs = []
    for _ in range(2):
        obs, _ = env.reset(seed=4)
        runs.append([obs["state"]] + [env.step(action)[0]["state"] for action in actions])
    if named_arm[0] in EXACT:
        np.testing.assert_array_equal(*runs)
    else:  # on a clock of its own a step is longer or shorter, by what the policy takes
        # Behind a server starts repeat within the tolerance of a reset.
        tolerance = 2e-2 if named_arm[0] in OWN_CLOCK else 1e-2
        np.testing.assert_allclose(*[[state[4:10] for state in run] for run in runs], atol=tolerance)


def test_a_stopped_arm_stays_where_it_is_until_the_next_reset(env, arm):
    env.reset(seed=0)
    env.step(np.full(6, np.nan))
    assert env.fault is not None
    env.acknowledge("Ada")
    env.reset(seed=0)
    *_, truncated, info = env.step(np.zeros(6))
    assert not truncated, info
    arm.stop("twice is harmless")
    arm.stop("twice is harmless")


corner = st.lists(st.sampled_from([-1.0, 1.0, 0.3]), min_size=6, max_size=6)
huge = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=6, max_size=6)
broken = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=6, max_size=6)
pushes = st.tuples(corner, st.integers(1, 10)).map(lambda drawn: [drawn[0]] * drawn[1])  # one corner, again and again
bursts = st.one_of(pushes, pushes, huge.map(lambda action: [action]), broken.map(lambda action: [action]))


def test_whatever_is_asked_the_commanded_pose_stays_in_the_box(named_arm):
    name, arm = named_arm

    @settings(max_examples=EXAMPLES.get(name, 50), deadline=None)
    @given(bursts=st.lists(bursts, min_size=3, max_size=12), seed=st.integers(0, 100))
    def check(bursts, seed):
        watched = Watched(arm)
        env = RobotEnv(PEG, watched)
        env.reset(seed=seed)
        for action in chain.from_iterable(bursts if name in EXACT else bursts[:3]):  # a step takes ten times as long
            *_, terminated, truncated, _ = env.step(np.array(action, dtype=np.float32))
            if terminated or truncated:
                if env.fault is not None:
                    env.acknowledge("a test")
                env.reset()
        for measured, pose in watched.commands:
            assert_in_box(pose, PEG)
            assert_one_step(measured, pose, PEG)
        for path in watched.paths[1:]:  # the first begins where the last test left the arm
            assert_in_box(path[-1], PEG)

    check()


class Watched:
    """An arm whose commands are written down on the way, with the pose measured before each."""

    def __init__(self, arm) -> None:
        self._arm, self.commands, self.paths = arm, [], []
        self.read, self.stop, self.connect, self.rest = arm.read, arm.stop, arm.connect, arm.rest
        self.cameras = arm.cameras

    def send(self, command):
        self.commands.append((self._arm.read().tcp_pose, command.tcp_pose))
        return self._arm.send(command)

    def reset(self, path, rng):
        self.paths.append(path)
        self._arm.reset(path, rng)


def test_a_twin_with_cameras_shows_them():
    task = replace(PEG, cameras=("wrist_1", "wrist_2"))
    env = RobotEnv(task, make_arm(task, "twin"))
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert obs["wrist_1"].std() > 1.0
    env.close()


def test_a_peg_that_goes_in_is_a_success_and_one_beside_the_hole_is_not():
    arm = make_arm(PEG, "twin")
    env = RobotEnv(PEG, arm)
    ends = []
    for seed in range(4):
        env.reset(seed=seed)
        shift = np.array([0.006, 0, 0, 0, 0, 0, 0]) if seed == 3 else np.zeros(7)  # beside the hole, on the rim
        expert = ScriptedInsertion(PEG, arm.hole_pose + shift, ScriptQuality(), np.random.default_rng(seed))
        over = False
        while not over:
            _, reward, terminated, truncated, info = env.step(expert.act(arm.read()))
            over = terminated or truncated
        ends.append((reward, terminated, truncated, info["succeed"]))
    assert ends == [(0.0, True, False, True)] * 3 + [(-1.0, False, True, False)]
