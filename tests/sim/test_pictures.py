"""The cameras."""

import os
import subprocess
import sys

import mujoco
import numpy as np

SIZES = {"wrist_1": (128, 128, 3), "wrist_2": (128, 128, 3), "scene": (360, 480, 3)}


def _share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    """The share of pixels whose hue is like `colour`: brightness divided out, within 0.12."""
    pixels = picture.astype(float) + 1e-9
    hue = pixels / pixels.sum(axis=2, keepdims=True)
    wanted = np.array(colour, float) / sum(colour)
    bright = pixels.sum(axis=2) > 90
    return float((bright & (np.abs(hue - wanted).max(axis=2) < 0.06)).mean())


def test_pictures_have_their_size_and_are_not_blank(bench):
    bench.reset()
    assert set(bench.arm.cameras) == set(SIZES)
    for name, camera in bench.arm.cameras.items():
        picture = camera.read().picture
        assert picture.shape == SIZES[name]
        assert picture.dtype == np.uint8
        assert picture.std() > 15.0
        assert picture.flags.owndata
        assert np.array_equal(picture, camera.read().picture)


def test_every_camera_sees_the_peg_and_the_hole(bench):
    bench.reset((0.0, 0.0, 0.08))
    for name, camera in bench.arm.cameras.items():
        picture = camera.read().picture
        assert _share(picture, (235, 115, 26)) > (0.02 if name != "scene" else 0.0005), name  # the peg
        assert _share(picture, (242, 199, 38)) > (0.003 if name != "scene" else 0.0001), name  # the hole's frame


def test_the_hole_is_where_it_really_is(make_bench):
    """The picture shows the hidden offset: another hole, another picture, from the same arm pose."""
    bench, pictures = make_bench(), []
    for seed in (0, 1):
        bench.reset(seed=seed)
        pictures.append(bench.arm.cameras["wrist_1"].read().picture.astype(int))
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 30).sum() > 10


def test_no_camera_sees_where_the_arm_was_told_to_go(bench):
    """The controller's reference is a site before the fingers, and no such thing is there to be seen on a robot."""
    bench.reset()
    arm = bench.arm
    before = {name: camera.read().picture for name, camera in arm.cameras.items()}
    for x_m, y_m in ((0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03)):
        arm._set_reference(bench.pose((x_m, y_m, 0.06)))
        mujoco.mj_forward(arm.model, arm.data)
        for name, camera in arm.cameras.items():
            assert np.array_equal(camera.read().picture, before[name]), name


def test_cameras_work_again_after_close(bench):
    bench.reset()
    before = bench.arm.cameras["wrist_2"].read().picture
    bench.arm.close()
    bench.arm.close()
    assert np.array_equal(before, bench.arm.cameras["wrist_2"].read().picture)


def _run(code: str, **environment: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**env, **environment}, capture_output=True, text=True, timeout=60
    )


DRAW = (
    "from robot_env.tasks import find_task; from sim.twin_arm import TwinArm;"
    "arm = TwinArm(find_task('peg_insertion')); print(arm.cameras['wrist_1'].read().picture.shape)"
)


def test_without_a_display_and_without_settings_it_draws_and_exits_quietly():
    done = _run(DRAW)
    assert done.stdout.strip() == "(128, 128, 3)"
    assert done.stderr == ""
    assert done.returncode == 0


def test_without_opengl_the_error_says_what_to_install():
    done = _run(DRAW, MUJOCO_GL="disabled")
    assert done.returncode != 0
    assert "RuntimeError: cannot draw pictures" in done.stderr
    assert "libegl1" in done.stderr
