"""What every camera must do, and that a driver that waits or raises never keeps the control loop."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from robot_env.arm import Frame
from robot_env.camera_thread import ThreadedCamera
from robot_env.env import RobotEnv
from robot_env.make import make_arm
from robot_env.tasks import find_task
from tests.launch.waiting import eventually
from tests.robot_env.faulty_camera import ShutterCamera, Through
from tests.robot_env.scripted_arm import GRADIENT, TOY, Judge, ScriptedArm

IMAGE = find_task("peg_insertion_image")
SEES = replace(TOY, cameras=("wrist_1",), max_steps=1000)
DOWN = np.array([0, 0, 0.2, 0, 0, 0], dtype=np.float32)


def exposed(shutter, camera, picture=GRADIENT):
    """Lets a camera's driver have a frame, and waits until the thread has taken it."""
    stamp_s = shutter.expose(picture)
    assert eventually(lambda: stamp_of(camera) == stamp_s)


def stamp_of(camera):
    try:
        return camera.read().stamp_s
    except Exception:  # whatever the driver raised
        return None


@pytest.fixture(params=["twin", "scripted", "threaded"])
def camera(request):
    """A camera, and what lets a control period pass."""
    if request.param == "threaded":
        shutter = ShutterCamera()
        threaded = ThreadedCamera("wrist_1", shutter)
        shutter.expose(GRADIENT)
        threaded.open()
        yield threaded, lambda: exposed(shutter, threaded)
        shutter.break_down(OSError("over"))
        threaded.close()
        return
    arm = make_arm(IMAGE, "twin") if request.param == "twin" else ScriptedArm(SEES)
    env = RobotEnv(IMAGE if request.param == "twin" else SEES, arm)
    env.reset(seed=0)
    yield arm.cameras["wrist_1"], lambda: env.step(DOWN)
    env.close()


def test_a_camera_gives_stamped_frames_that_stay_as_they_are(camera):
    camera, period = camera
    frames, kept = [], []
    for _ in range(4):
        frame = camera.read()
        assert isinstance(frame, Frame)
        assert (frame.picture.shape, frame.picture.dtype) == ((128, 128, 3), np.uint8)
        assert camera.read().stamp_s == frame.stamp_s  # no time has passed
        frames.append(frame)
        kept.append(frame.picture.copy())
        period()
    stamps = [frame.stamp_s for frame in frames]
    assert np.isfinite(stamps).all()
    assert stamps == sorted(set(stamps))
    for frame, picture in zip(frames, kept, strict=True):
        np.testing.assert_array_equal(frame.picture, picture)


# A driver of its own pace


@pytest.fixture
def shutter():
    return ShutterCamera()


@pytest.fixture
def threaded(shutter):
    camera = ThreadedCamera("wrist_1", shutter)
    shutter.expose(GRADIENT)
    camera.open()
    yield camera
    shutter.break_down(OSError("over"))
    camera.close()


def moving(shutter, camera, policy, alive):
    """An arm whose camera takes another picture in each control period while `alive` says so."""
    count = iter(range(1, 128))

    def after_send():
        if alive():
            exposed(shutter, camera, np.roll(GRADIENT, next(count), axis=0))

    arm = Through(ScriptedArm(SEES), {"wrist_1": camera}, after_send)
    env = RobotEnv(replace(SEES, camera_fault=policy), arm, success=Judge())
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("policy", ["stop", "hold"])
def test_a_driver_that_waits_for_ever_is_noticed_within_three_steps_and_waited_for_by_nobody(shutter, threaded, policy):
    works = [True]
    env = moving(shutter, threaded, policy, lambda: works[0])
    for _ in range(5):
        assert not env.step(DOWN)[3]
    works[0] = False  # from here on the thread is inside the driver's read, and stays there
    ends = [env.step(DOWN) for _ in range(2)]
    assert [end[3] for end in ends] == [False, True]
    assert "camera 'wrist_1' is frozen: no frame newer than" in ends[-1][4]["fault"]
    assert ("held for 20" in ends[-1][4]["fault"]) == (policy == "hold")


def test_a_driver_that_waits_a_while_is_held_for(shutter, threaded):
    skipped = iter([True, True, *[False] * 5, *[True] * 100])
    env = moving(shutter, threaded, "hold", lambda: next(skipped))
    held = [env.step(np.zeros(6))[4].get("held_steps", 0) for _ in range(6)]
    assert held == [
        0,
        0,
        0,
        5,
        0,
        0,
    ]  # two good, one missed, four held without a frame and two with one: the last ends it


def test_a_driver_that_raises_is_asked_again_until_it_is_well(shutter):
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        return False

    camera = ThreadedCamera("wrist_1", shutter, pause)
    shutter.break_down(OSError("not yet"))
    shutter.expose(GRADIENT)
    camera.open()
    assert len(pauses) == 1
    for attempt in range(2):
        shutter.break_down(OSError(f"device gone {attempt}"))
        with pytest.raises(OSError, match="device gone"):
            assert eventually(lambda: camera.read() is None)
        for _ in range(3):
            with pytest.raises(OSError, match="device gone"):
                camera.read()
        exposed(shutter, camera)
    shutter.break_down(OSError("over"))
    camera.close()


def test_something_that_is_no_frame_is_an_error_not_the_end_of_the_thread(shutter, threaded):
    shutter._exposures.put("noise")
    with pytest.raises(AttributeError):
        assert eventually(lambda: threaded.read() is None)
    exposed(shutter, threaded)


def test_a_buffer_that_the_driver_uses_again_changes_no_frame(shutter, threaded):
    buffer = GRADIENT.copy()
    exposed(shutter, threaded, buffer)
    frame = threaded.read()
    buffer[:] = 0
    np.testing.assert_array_equal(frame.picture, GRADIENT)


def test_a_camera_that_gives_nothing_is_told_of_in_time(shutter):
    camera = ThreadedCamera("wrist_1", shutter)
    with pytest.raises(ConnectionError, match="has given no frame yet; open it first"):
        camera.read()
    with pytest.raises(
        ConnectionError, match=r"camera 'wrist_1': no frame in 0\.05 s \(it gives nothing\); look at its"
    ):
        camera.open(timeout_s=0.05)
    shutter.break_down(OSError("let it go"))


def test_a_camera_that_only_raises_says_why_it_did_not_open():
    class Broken:
        def read(self):
            raise OSError("no such device")

    camera = ThreadedCamera("wrist_1", Broken())
    with pytest.raises(ConnectionError, match="OSError: no such device"):
        camera.open(timeout_s=0.05)
    camera.close()
    camera.close()
    assert "camera wrist_1" not in [thread.name for thread in threading.enumerate()]


def test_closing_leaves_a_driver_that_waits_behind(shutter, threaded):
    threaded.close(timeout_s=0.01)
    assert "camera wrist_1" in [thread.name for thread in threading.enumerate()]
    shutter.break_down(OSError("woken"))
    assert eventually(lambda: "camera wrist_1" not in [thread.name for thread in threading.enumerate()])
