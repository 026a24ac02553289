"""Frames of video files, labelled by a table or by keys in a terminal."""

import os
import pty
import sys
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.classifier_camera import LABELS, Source, read_spans, record_cameras, task_cameras
from robot_env.tasks import find_task

TASK = find_task("peg_insertion_image")
ONE = replace(TASK, cameras=("wrist_1",), hz=10.0)


def video(path, count=40, fps=20.0, size=(160, 128)):
    """A lossless video: frame i is one grey of 5 i, red at its left edge."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), fps, size)
    assert writer.isOpened()
    for i in range(count):
        frame = np.full((size[1], size[0], 3), 5 * i % 256, np.uint8)
        frame[:, :8] = (0, 0, 255)
        writer.write(frame)
    writer.release()
    return path


def table(path, text):
    path.write_text(text)
    return path


def test_a_table_says_what_frames_are(tmp_path):
    labels = table(tmp_path / "l.csv", "start,end,label,episode\n20,31,success,3\n0,10,failure,3\n35,36,0,9\n")
    data = record_cameras(ONE, {"wrist_1": f"file:{video(tmp_path / 'v.avi')}"}, labels)
    assert data.step.tolist() == [0, 2, 4, 6, 8, 20, 22, 24, 26, 28, 30, 35]  # 20 frames per second, at 10 Hz
    assert data.label.tolist() == [False] * 5 + [True] * 6 + [False]
    assert data.episode.tolist() == [3] * 11 + [9]
    assert data.kind.tolist() == ["failure"] * 5 + ["success"] * 6 + ["failure"]
    frames = data.frames["wrist_1"]
    assert frames.shape == (12, 128, 128, 3)
    # The codec rounds colours; the red edge lies outside of the middle square.
    assert np.abs(frames - 5.0 * data.step[:, None, None, None]).max() <= 2.0


def test_several_cameras_end_with_the_first_and_rows_are_episodes_where_no_others_are_named(tmp_path):
    long, short = video(tmp_path / "a.avi", 40), video(tmp_path / "b.avi", 20)
    labels = table(tmp_path / "l.csv", "start,end,label\n0,4,success\n10,14,failure\n")
    data = record_cameras(TASK, {"wrist_1": f"file:{long}", "wrist_2": f"file:{short}"}, labels)
    assert data.cameras == ("wrist_1", "wrist_2")
    assert data.episode.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(data.frames["wrist_1"], data.frames["wrist_2"])
    beyond = table(tmp_path / "m.csv", "start,end,label\n18,22,success\n")
    with pytest.raises(ValueError, match="frames 18 to 22 are named, the video has 20"):
        record_cameras(TASK, {"wrist_1": f"file:{long}", "wrist_2": f"file:{short}"}, beyond)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its columns are none"),
        ("start,end\n0,1\n", "its columns are end, start"),
        ("start,end,label,colour\n0,1,1,red\n", "its columns are colour"),
        ("start,end,label\n", "it has no rows"),
        ("start,end,label\n0,4,maybe\n", "line 2 is not whole numbers"),
        ("start,end,label\n0,4,1\n4,x,1\n", "line 3 is not whole numbers"),
        ("start,end,label\n4,4,1\n", "line 2 is not start,end,label with"),
        ("start,end,label\n-1,4,1\n", "line 2 is not start,end,label with"),
        ("start,end,label\n0,4,1,9\n", "line 2 is not start,end,label with"),
        ("start,end,label\n0,4\n", "line 2 is not whole numbers"),
        ("start,end,label\n0,5,1\n4,9,0\n", "frame 4 has two labels"),
    ],
)
def test_a_table_that_says_nothing_clear_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_spans(table(tmp_path / "l.csv", text))


@given(data=st.binary(max_size=80), text=st.text("0123456789,\n\"'- successfailure", max_size=80))
def test_whatever_a_table_holds_it_is_read_or_refused(tmp_path_factory, data, text):
    path = tmp_path_factory.mktemp("tables") / "l.csv"
    for content in (data, f"start,end,label\n{text}".encode()):
        path.write_bytes(content)
        try:
            spans = read_spans(path)
        except ValueError as error:
            assert "\n" not in str(error).removeprefix(f"--labels {path}: ")  # noqa: PT017
        else:
            assert spans
            assert all(span.start < span.end for span in spans)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.sampled_from(sorted(LABELS))), min_size=1, max_size=8)
)
def test_a_table_in_any_order_is_read_as_it_was_written(tmp_path_factory, rows):
    path, start, lines = tmp_path_factory.mktemp("tables") / "l.csv", 0, []
    for gap, length, label in rows:
        start += gap
        lines.append((start, start + length, label))
        start += length
    path.write_text("start,end,label\n" + "".join(f"{a},{b},{label}\n" for a, b, label in reversed(lines)))
    assert [(s.start, s.end, s.label) for s in read_spans(path)] == [(a, b, LABELS[label]) for a, b, label in lines]


def test_cameras_are_the_tasks_own():
    named = ["wrist_2=file:b.avi", "wrist_1=opencv:0"]
    assert list(task_cameras(named, TASK).items()) == [("wrist_1", "opencv:0"), ("wrist_2", "file:b.avi")]
    for texts in (["wrist_1=opencv:0"], [], ["wrist_1=opencv:0", "wrist_2=opencv:1", "top=opencv:2"]):
        with pytest.raises(ValueError, match="has the cameras wrist_1, wrist_2; give --camera wrist_1=SOURCE"):
            task_cameras(texts, TASK)


def test_a_source_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConnectionError, match="cannot be opened"):
        Source(f"file:{tmp_path / 'none.avi'}", 10.0)


def test_without_a_terminal_there_are_no_keys(tmp_path, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(ValueError, match="standard input is no terminal; give --labels"):
            record_cameras(ONE, {"wrist_1": f"file:{video(tmp_path / 'v.avi')}"}, None)


def test_keys_say_what_is_seen(tmp_path, monkeypatch):
    keyboard, terminal = pty.openpty()
    path, fast, said = video(tmp_path / "v.avi", 500, size=(128, 128)), replace(ONE, hz=50.0), []

    def press() -> None:
        for key in (b"f", b"n", b"s", b" ", b"q"):
            time.sleep(0.2)
            os.write(keyboard, key)

    typist = threading.Thread(target=press)

    def say(text: str) -> None:
        said.append(text)
        typist.start()

    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        data = record_cameras(fast, {"wrist_1": f"file:{path}"}, None, say)
        typist.join()
    os.close(keyboard)
    assert "s: success" in said[0]
    failed = data.step[~data.label]
    assert data.label.any()
    assert failed[0] > 0
    assert len(failed) == failed[-1] - failed[0] + 1  # from f to s without a gap
    assert (np.sort(data.label) == data.label).all()
    assert data.episode[0] == 0
    assert set(data.episode[data.label]) == {1}
    assert data.step[-1] < 490  # q ended it, not the video
