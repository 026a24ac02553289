"""`segue camera check`: rate, age, brightness, frozen or not, and a picture."""

import json

import cv2
import numpy as np
import pytest

from launch.camera_check import Seen, check_cameras
from robot_env.arm import Frame
from tests.robot_env.scripted_arm import GRADIENT


class Gives:
    """A camera that gives a frame of some time, or raises."""

    def __init__(self) -> None:
        self.found = Frame(GRADIENT, 0.0)

    def read(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_rate_age_and_the_longest_gap_are_counted():
    seen, camera = Seen(10.0, 10.0), Gives()
    for i, now_s in enumerate([10.1, 10.2, 10.5, 10.6]):
        camera.found = Frame(GRADIENT, float(i))
        seen.look(camera, now_s)
        seen.look(camera, now_s + 0.01)  # the same frame again counts once
    assert seen.row(10.65) == {
        "rate_hz": pytest.approx(4 / 0.65, abs=0.1),
        "age_ms": 50,
        "longest_gap_ms": 300,
        "brightness": round(float(GRADIENT.mean())),
        "state": "well",
    }
    assert seen.row(10.9)["state"] == "frozen"
    assert seen.row(11.2)["longest_gap_ms"] == 600


def test_what_a_run_would_stop_for_is_said():
    seen, camera = Seen(0.0, 0.0), Gives()
    camera.found = Frame(np.full((128, 128, 3), 7, np.uint8), 1.0)
    seen.look(camera, 0.1)
    assert seen.row(0.1)["state"] == "shows nothing: of one colour"
    camera.found = OSError("it was unplugged")
    seen.look(camera, 0.2)
    assert seen.row(0.2)["state"] == "it was unplugged"
    camera.found = Frame(GRADIENT, 2.0)
    seen.look(camera, 0.3)
    assert seen.row(0.3)["state"] == "well"


@pytest.fixture
def pictures(tmp_path):
    """A folder of two pictures: red, with a gradient."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(2):
        picture = np.roll(GRADIENT, i, axis=0).copy()
        picture[..., 1:] = 0
        cv2.imwrite(str(folder / f"{i}.png"), picture[..., ::-1])
    return folder


def test_the_command_shows_each_camera_and_writes_what_a_policy_sees(segue, pictures, tmp_path):
    command = ["camera", "check", "--camera", f"wrist_1=file:{pictures}", "--seconds", "0.3"]
    code, out, said = segue(*command, "--pictures", tmp_path / "seen", "--json")
    assert code == 0, said
    (row,) = json.loads(out)["cameras"]
    assert (row["camera"], row["state"]) == ("wrist_1", "well")
    assert row["rate_hz"] > 0
    seen = cv2.imread(row["picture"])
    assert seen.shape == (128, 128, 3)
    assert seen[..., 2].max() > 200
    assert seen[..., :2].max() == 0


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--camera", "wrist_1=0"], "camera source '0'"),
        (["--camera", "wrist_1"], "it is not a new NAME=SOURCE"),
        (["--camera", "a=opencv:0", "--seconds", "0"], "--seconds 0: give a number above 0"),
    ],
)
def test_what_is_written_wrongly_is_refused(segue, flags, word):
    code, out, said = segue("camera", "check", *flags)
    assert (code, out, said.count("\n")) == (2, "", 1), said
    assert word in said


def test_a_camera_that_gives_nothing_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("launch.camera_check.OPEN_S", 0.1)
    with pytest.raises(ConnectionError, match=r"camera 'a': no frame in 0.1 s"):
        check_cameras({"a": f"file:{tmp_path / 'none.avi'}"}, 1.0)
