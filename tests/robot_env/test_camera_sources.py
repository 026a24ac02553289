"""Cameras of a lab: how a source is named, what each driver gives, and an arm that has them beside it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_env.arm_with_cameras import ArmWithCameras
from robot_env.camera_sources import SCHEMES, live_camera, parse_cameras, parse_source
from robot_env.make import make_env
from robot_env.opencv_camera import SETTLE_FRAMES, FileCamera, FileFrames, OpenCVCamera, fit
from tests.launch.waiting import eventually
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm

# How a source is named


@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    address=st.text("abc0/._-", min_size=1, max_size=12),
    crop=st.none() | st.tuples(*[st.integers(0, 999)] * 2, *[st.integers(1, 999)] * 2),
)
def test_a_source_is_read_as_it_was_written(scheme, address, crop):
    text = f"{scheme}:{address}" + ("" if crop is None else "@{},{},{},{}".format(*crop))
    source = parse_source(text)
    assert (source.scheme, source.address, source.crop) == (scheme, address, crop)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not SCHEME:ADDRESS"),
        ("0", "not SCHEME:ADDRESS with a scheme of opencv, file, realsense"),
        ("opencv:", "not SCHEME:ADDRESS"),
        ("http://camera", "not SCHEME:ADDRESS"),
        ("opencv:0@1,2,3", "after @ stands no x,y,width,height"),
        ("opencv:0@1,2,3,-4", "after @ stands no x,y,width,height"),
        ("opencv:0@1,2,0,4", "its crop is empty"),
    ],
)
def test_a_source_that_is_none_is_refused(text, what):
    with pytest.raises(ValueError, match=what):
        parse_source(text)


@given(st.text(max_size=20))
def test_whatever_a_source_is_it_is_read_or_refused_in_a_sentence(text):
    try:
        assert parse_source(text).scheme in SCHEMES
    except ValueError as error:
        assert "give" in str(error)  # noqa: PT017


def test_cameras_are_named_once_each():
    assert parse_cameras(["b=opencv:0", "a=file:x=y.mp4"]) == {"b": "opencv:0", "a": "file:x=y.mp4"}
    for texts in (["opencv:0"], ["=opencv:0"], ["a=opencv:0", "a=opencv:1"]):
        with pytest.raises(ValueError, match="it is not a new NAME=SOURCE"):
            parse_cameras(texts)


# What is seen


def test_pictures_keep_their_colours_and_their_middle():
    frame = np.zeros((100, 300, 3), np.uint8)
    frame[:, :, 0] = 200  # blue, as OpenCV has it
    frame[:, :90] = frame[:, 210:] = 77
    small = fit(frame)
    assert small.shape == (128, 128, 3)
    assert small[:, :, 2].max() == small[:, 10:-10, 2].min() == 200
    assert small[:, 10:-10, :2].max() == 0


@given(
    st.tuples(st.integers(0, 200), st.integers(0, 150), st.integers(1, 120), st.integers(1, 120)), st.integers(0, 2**31)
)
def test_a_crop_shows_that_part_and_nothing_else(crop, seed):
    x, y, w, h = crop
    frame = np.full((160, 240, 3), 9, np.uint8)
    if x + w > 240 or y + h > 160:
        with pytest.raises(ConnectionError, match="does not lie within its picture of 240x160"):
            fit(frame, crop)
        return
    colour = np.random.default_rng(seed).integers(20, 255, 3, dtype=np.uint8)
    frame[y : y + h, x : x + w] = colour
    assert (fit(frame, crop) == colour[::-1]).all()


# Files


@pytest.fixture
def clip(tmp_path):
    """A lossless video of 12 greys, 20 to 130, at 20 frames a second."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 20.0, (160, 128))
    for i in range(12):
        writer.write(np.full((128, 160, 3), 20 + 10 * i, np.uint8))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path):
    """Three pictures, whose names are not in the order in which they were written, and a text."""
    for name, grey in (("2.png", 200), ("0.png", 20), ("1.bmp", 110)):
        cv2.imwrite(str(tmp_path / name), np.full((130, 130, 3), grey, np.uint8))
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def greys(frames):
    found = []
    while (picture := frames.next()) is not None:
        found.append(round(float(picture.mean()) / 10) * 10)
    return found


def test_a_file_gives_its_frames_once_in_order(clip, folder):
    frames = FileFrames(str(clip))
    assert frames.fps == 20.0
    assert greys(frames) == list(range(20, 140, 10))
    assert greys(FileFrames(str(folder), (0, 0, 10, 10))) == [20, 110, 200]


class Time:
    def __init__(self) -> None:
        self.now_s, self.slept = 0.0, []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_as_a_camera_a_file_plays_at_its_rate_over_and_over(clip):
    time = Time()
    camera = FileCamera(str(clip), clock=time.clock, sleep=time.sleep)
    taken = [camera.read() for _ in range(26)]
    stamps = np.array([frame.stamp_s for frame in taken])
    np.testing.assert_allclose(np.diff(stamps), 0.05)
    assert [round(float(frame.picture.mean()) / 10) for frame in taken] == [*range(2, 14)] * 2 + [2, 3]
    camera.close()
    camera.close()


def test_a_file_that_is_none_says_so(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ConnectionError, match=r"broken.png is no picture"):
        FileFrames(str(tmp_path)).next()
    with pytest.raises(ConnectionError, match=r"none.mp4 cannot be opened; give a video, or a folder"):
        FileFrames(str(tmp_path / "none.mp4"))


# Cameras of the operating system


class Capture:
    """A camera as OpenCV gives it, whose cable can be pulled; notes what it is told."""

    log: list[tuple]
    plugged = True

    def __init__(self, address) -> None:
        self.address, self.opened, Capture.log = address, Capture.plugged, []

    def isOpened(self):
        return self.opened

    def set(self, what, value):
        Capture.log.append((what, value))
        return True

    def get(self, what):
        return {cv2.CAP_PROP_EXPOSURE: 157.0, cv2.CAP_PROP_WB_TEMPERATURE: 4600.0, cv2.CAP_PROP_FPS: 25.0}[what]

    def grab(self):
        Capture.log.append(("grab",))
        return Capture.plugged

    def read(self):
        return Capture.plugged, np.full((480, 640, 3), 99, np.uint8)

    def release(self):
        self.opened = False


@pytest.fixture
def opencv(monkeypatch):
    monkeypatch.setattr(Capture, "plugged", True)
    time = Time()
    return time, OpenCVCamera("/dev/video2", capture=Capture, clock=time.clock)


def test_exposure_is_found_first_and_then_fixed(opencv):
    log, exposure = Capture.log, [v for k, *v in Capture.log if k == cv2.CAP_PROP_AUTO_EXPOSURE]
    assert exposure == [[3.0], [1.0]]
    assert log.count(("grab",)) == SETTLE_FRAMES
    last_grab = max(i for i, each in enumerate(log) if each == ("grab",))
    assert (cv2.CAP_PROP_EXPOSURE, 157.0) in log[last_grab:]
    assert (cv2.CAP_PROP_WB_TEMPERATURE, 4600.0) in log[last_grab:]
    assert (cv2.CAP_PROP_BUFFERSIZE, 1) in log


def test_frames_are_stamped_when_they_come_and_a_pulled_cable_is_found_again(opencv):
    time, camera = opencv
    time.now_s = 3.0
    frame = camera.read()
    assert (frame.stamp_s, frame.picture.shape, int(frame.picture[0, 0, 0])) == (3.0, (128, 128, 3), 99)
    assert camera.fps == 25.0
    Capture.plugged = False
    with pytest.raises(ConnectionError, match="gives no more frames; look at its cable"):
        camera.read()
    with pytest.raises(ConnectionError, match="opencv:/dev/video2 cannot be opened; give the number or path"):
        camera.read()
    Capture.plugged = True
    assert camera.read().picture.mean() == 99
    camera.close()


def test_a_camera_that_is_not_there_says_so():
    with pytest.raises(ConnectionError, match="opencv:/dev/no-camera cannot be opened"):
        OpenCVCamera("/dev/no-camera")


# RealSense, through librealsense's own simulated device


@pytest.fixture
def realsense():
    """A RealSense, and what has it take a picture of one colour."""
    rs = pytest.importorskip("pyrealsense2", reason="libusb is absent", exc_type=ImportError)
    from robot_env.realsense_camera import RealSenseCamera

    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, "130322270000")
    sensor = device.add_sensor("RGB Camera")
    stream, intrinsics = rs.video_stream(), rs.intrinsics()
    intrinsics.width, intrinsics.height, intrinsics.model = 640, 480, rs.distortion.none
    stream.type, stream.fmt, stream.uid, stream.index = rs.stream.color, rs.format.rgb8, 1, 0
    stream.width, stream.height, stream.fps, stream.bpp, stream.intrinsics = 640, 480, 30, 3, intrinsics
    profile = sensor.add_video_stream(stream).as_video_stream_profile()
    count, clock = iter(range(1, 1000)), Time()

    def expose(*colour: int) -> None:
        frame = rs.software_video_frame()
        frame.pixels = np.full((480, 640, 3), colour, np.uint8)
        frame.stride, frame.bpp, frame.frame_number, frame.profile = 1920, 3, next(count), profile
        frame.timestamp = 33.0 * frame.frame_number
        sensor.on_video_frame(frame)

    def opened(serial: str = "130322270000"):
        return RealSenseCamera(serial, devices=lambda: [device], clock=clock.clock)

    return opened, expose, clock


def test_a_realsense_gives_its_colours_with_stamps(realsense):
    opened, expose, clock = realsense
    camera = opened()
    for i in range(20):  # past the frames in which its exposure settles
        clock.now_s = float(i)
        expose(200, 10, i)
        frame = camera.read()
        assert (frame.stamp_s, frame.picture.shape) == (i, (128, 128, 3))
        assert frame.picture[64, 64].tolist() == [200, 10, i]
    camera.close()
    camera.close()


def test_a_realsense_that_falls_silent_is_noticed_and_opened_again(realsense, monkeypatch):
    opened, expose, _ = realsense
    monkeypatch.setattr("robot_env.realsense_camera.TIMEOUT_MS", 50)
    camera = opened()
    with pytest.raises(ConnectionError, match="gives no frame in 50 ms; look at its cable"):
        camera.read()
    with pytest.raises(ConnectionError, match="gives no frame"):  # open again, but nothing there yet
        camera.read()
    camera._open()
    expose(1, 2, 3)
    assert camera.read().picture[0, 0].tolist() == [1, 2, 3]
    camera.close()


def test_a_realsense_that_is_not_there_is_named_beside_those_that_are(realsense):
    opened, *_ = realsense
    with pytest.raises(
        ConnectionError, match="realsense:7 is not there; plugged in are 130322270000; give one of these"
    ):
        opened("7")


# Beside an arm

SEES = replace(TOY, cameras=("wrist_1",))


@pytest.fixture
def textured(tmp_path):
    """A video in which no two frames are alike and none is of one colour."""
    path = tmp_path / "textured.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 100.0, (160, 128))
    noise = np.random.default_rng(0).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    for i in range(60):
        writer.write(np.ascontiguousarray(np.roll(np.kron(noise, np.ones((8, 8, 1), np.uint8)), i, axis=1)))
    writer.release()
    return path


def test_an_arm_without_cameras_sees_through_those_beside_it(textured):
    arm, task = ScriptedArm(), replace(SEES, hz=50.0, max_steps=10_000)
    env = make_env(task, arm, success=Judge(), cameras={"wrist_1": f"file:{textured}"}, realtime=True)
    try:
        first, _ = env.reset(seed=0)
        assert first["wrist_1"].std() > 10
        assert eventually(lambda: not np.array_equal(env.step(np.zeros(6))[0]["wrist_1"], first["wrist_1"]))
        assert env.fault is None
    finally:
        env.close()
    env.close()
    assert arm.closed == 2


def test_cameras_are_opened_once_and_closed_with_the_arm(textured):
    inner = ScriptedArm()
    arm = ArmWithCameras(inner, {"wrist_1": f"file:{textured}"})
    assert arm.cameras == {}
    arm.connect()
    camera = arm.cameras["wrist_1"]
    arm.connect()  # as after a fault
    assert arm.cameras["wrist_1"] is camera
    assert inner.connections == 2
    assert eventually(lambda: camera.read().picture.std() > 10)
    arm.close()
    assert arm.cameras == {}
    assert not camera._thread.is_alive()


def test_a_camera_that_gives_nothing_is_no_connection_and_the_others_are_closed(textured, tmp_path):
    arm = ArmWithCameras(ScriptedArm(), {"a": f"file:{textured}", "b": f"file:{tmp_path / 'none.mp4'}"}, timeout_s=0.2)
    with pytest.raises(ConnectionError, match=r"camera 'b': no frame in 0.2 s .*none.mp4 cannot be opened"):
        arm.connect()
    arm.close()


def test_a_camera_that_the_task_does_not_have_is_refused():
    with pytest.raises(ValueError, match="camera top=opencv:0: task 'toy' has the cameras wrist_1; name one of these"):
        make_env(SEES, ScriptedArm(), cameras={"top": "opencv:0"})


def test_a_live_camera_gives_its_driver_back(textured):
    camera = live_camera("wrist_1", f"file:{textured}")
    camera.open()
    camera.close()
    assert eventually(lambda: camera._source._driver._frames._capture.isOpened() is False)
