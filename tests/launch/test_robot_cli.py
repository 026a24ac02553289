"""`segue robot`: what an operator sees of an arm, and what they can do to it."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch.attendant import attendant_of, nobody, program
from launch.robots.serl_robot import SerlRobot
from launch.robots.serving import served
from robot_env.make import make_arm, parse_arm
from robot_env.serl_http import SerlServer
from robot_env.tasks import find_task

PEG = find_task("peg_insertion")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def robot(monkeypatch):
    """A served twin; its client's time-out is one that a machine under full load keeps."""
    build = SerlServer.__init__
    monkeypatch.setattr(SerlServer, "__init__", lambda self, url, timeout_s: build(self, url, 60.0))
    robot = SerlRobot(PEG)
    with served(robot) as url:
        robot.arm = f"serl:{url}"
        yield robot


@pytest.mark.parametrize("arm", ["twin", None])
def test_check_says_how_the_arm_stands_and_moves_nothing(segue, robot, arm):
    before = robot.state()
    code, out, _ = segue("robot", "check", "--arm", arm or robot.arm, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["fault"] is None
    assert facts["box"] == "outside by 0.2808 m, 0.0000 rad"
    assert [row["joint"] for row in facts["joints"]] == [1, 2, 3, 4, 5, 6, 7]
    assert facts["joints"][3] == {"joint": 4, "rad": -2.3562, "margin rad": 0.6859}
    assert facts["read p50 ms"] >= 0.0
    assert robot.state() == before


def test_home_brings_it_into_the_box_and_check_says_so(segue, robot):
    code, out, _ = segue("robot", "home", "--arm", robot.arm, "--json")
    assert code == 0
    assert json.loads(out)["off m"] < 0.01
    assert json.loads(segue("robot", "check", "--arm", robot.arm, "--json")[1])["box"] == "inside"


def test_a_stopped_arm_comes_home_only_in_somebodys_name(segue, robot):
    code, out, _ = segue("robot", "stop", "--arm", robot.arm, "--json")
    assert (code, json.loads(out)) == (0, {"arm": robot.arm, "stopped": True})
    assert not robot._impedance
    code, out, err = segue("robot", "home", "--arm", robot.arm)
    assert (code, out) == (1, "")
    assert "the impedance controller is off" in err
    assert "--acknowledge NAME" in err
    assert not robot._impedance
    code, out, _ = segue("robot", "home", "--arm", robot.arm, "--acknowledge", "Ada", "--json")
    assert code == 0
    assert "the impedance controller is off" in json.loads(out)["acknowledged"]


def test_check_tells_a_latched_fault(segue, robot):
    robot._stop("nobody has said anything for a while")
    code, out, err = segue("robot", "check", "--arm", robot.arm, "--json")
    assert code == 1
    assert "nobody has said anything" in json.loads(out)["fault"]
    assert "then `segue robot home --acknowledge NAME`" in err
    assert robot.fault is not None


def test_nobody_there_is_one_sentence(segue):
    gone = "serl:http://127.0.0.1:9"
    code, out, err = segue("robot", "check", "--arm", gone)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "cannot be reached; start the robot's server" in err
    code, out, err = segue("robot", "stop", "--arm", gone, "--json")
    assert (code, json.loads(out)["stopped"]) == (1, False)
    assert "press the robot's own stop" in err


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("kuka", "arm 'kuka' is unknown; choose one of serl, twin"),
        ("serl:", "has an empty address; write serl:ADDRESS"),
        (
            "twin:5000",
            "twin 5000: it cannot be read (No such file or directory); give the twin.json of `segue twin fit`",
        ),
        ("twin,simulated", "the twin is in this process, and simulated anyway; leave ',simulated' out"),
        ("serl:robot:5000", "is no URL; write it as http://HOST:5000"),
    ],
)
def test_an_arm_that_is_written_wrongly_is_one_sentence(segue, arm, words):
    code, out, err = segue("robot", "check", "--arm", arm)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.sub(r"(\w+, )*(?=serl, twin)", "", err).find(words) >= 0, err


def test_a_task_without_an_arm_is_refused(segue):
    code, _, err = segue("robot", "home", "--task", "narrow_passage")
    assert code == 2
    assert "it has no arm" in err


def test_an_arm_is_written_with_its_address_and_whether_it_is_simulated():
    assert parse_arm("twin") == ("twin", None, True)
    assert parse_arm("twin:runs/fit/twin.json") == ("twin", "runs/fit/twin.json", True)
    assert parse_arm("serl") == ("serl", None, False)
    assert parse_arm("serl:http://10.0.0.2:5000") == ("serl", "http://10.0.0.2:5000", False)
    assert parse_arm("serl:http://10.0.0.2:5000,simulated") == ("serl", "http://10.0.0.2:5000", True)
    assert make_arm(PEG, "serl:http://10.0.0.2:5000/")._server.url == "http://10.0.0.2:5000"
    for simulated in ("twin", "twin:fit.json", "serl:http://h:1,simulated"):
        assert attendant_of(simulated) is program
    assert attendant_of("serl:http://h:1") is nobody


@contextmanager
def serving(*options):
    command = [sys.executable, "-m", "launch.cli", "robot", "serve", "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stderr.readline()
        finally:
            process.kill()


def test_serve_says_where_it_is_and_ends_when_it_is_told_to():
    with serving("--pace", "--hold-after-s", "0.4") as (process, said):
        address = re.search(r"`--arm (serl:http://127\.0\.0\.1:\d+,simulated)`", said)
        assert address, said
        assert "time passes on the wall clock" in said
        arm = make_arm(PEG, address[1], timeout_s=60.0)
        arm.connect()
        assert arm.read().stamp_s > 0.0
        arm.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60.0) in (0, 130)


def test_deadlines_that_are_none_are_one_sentence(segue):
    code, _, err = segue("robot", "serve", "--port", "0", "--hold-after-s", "9", "--stop-after-s", "1")
    assert (code, err.count("\n")) == (2, 1)
    assert "are no deadlines" in err
