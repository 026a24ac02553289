"""What the doctor finds, and that it says what to do."""

import json
import resource
import socket
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from launch import doctor
from launch.doctor import Finding, guarded, misfit, rate_hz, real_time, room
from launch.robots.fci import FciTwin
from robot_env.make import parse_arm
from robot_env.tasks import find_task
from tests.robot_env.scripted_arm import TOY, ScriptedArm
from tests.robot_env.served_twin import ServedTwin


@pytest.fixture
def realtime_kernel(tmp_path: Path) -> Path:
    (tmp_path / "realtime").write_text("1\n")
    return tmp_path / "realtime"


def test_the_twin_on_this_machine_is_well(segue):
    code, out, err = segue("doctor", "--json")
    told = json.loads(out)
    assert (code, told["wrong"]) == (0, []), err
    found = {each["what"]: each for each in told["findings"]}
    assert {"python", "libraries", "accelerator", "rendering", "disk", "real time", "arm twin", "latency"} <= set(found)
    assert found["rendering"]["state"] == "well"
    assert all(each["do"] for each in told["findings"] if each["state"] != "well")


def test_an_arm_that_is_not_there_is_the_last_thing_that_is_told(segue):
    code, out, _ = segue("doctor", "--arm", "serl:http://127.0.0.1:1")
    assert code == 1
    assert "wrong  arm: " in out
    assert "cable, address" in out


def test_names_that_are_written_wrongly_are_refused_at_once(segue):
    for flags, words in (
        (("--arm", "nobody"), "arm 'nobody' is unknown"),
        (("--task", "hopper"), "it has no arm"),
        (("--camera", "wrist_9=opencv:0"), "wrist_9"),
    ):
        code, out, err = segue("doctor", *flags)
        assert (code, out) == (2, "")
        assert words in err


@pytest.mark.parametrize(
    ("arm", "limit", "state"),
    [
        ("franky", 99, "well"),
        ("franky", 0, "wrong"),
        ("franky", resource.RLIM_INFINITY, "well"),
        ("franky:127.0.0.1,simulated", 0, "note"),
        ("twin", 0, "note"),
    ],
)
def test_priority_is_needed_for_a_real_fr3_alone(realtime_kernel, arm, limit, state):
    found = real_time(parse_arm(arm), realtime_kernel, limit)
    assert found.state == state
    assert ("rtprio" in found.do) == (state != "well")


def test_a_kernel_without_real_time_is_told(tmp_path):
    assert real_time(parse_arm("franky"), tmp_path / "none", 99).state == "wrong"
    assert real_time(parse_arm("panda"), tmp_path / "none", 99).state == "note"


def test_a_library_that_is_missing_or_another_is_told():
    assert misfit(Requirement("numpy>=1")) is None
    assert misfit(Requirement("numpy==0.1")) is not None
    assert misfit(Requirement("no-such-library")) == "no-such-library is not installed"


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    assert room(tmp_path).what == "disk"
    monkeypatch.setattr(doctor, "ROOM_GB", 1e9)
    assert room(tmp_path).state == "wrong"


def test_what_was_found_before_a_connection_is_lost_is_told_too():
    def look():
        yield Finding("arm", "well", "there")
        raise ConnectionError("gone")

    found = list(guarded("arm", "its cable", look))
    assert [each.state for each in found] == ["well", "wrong"]
    assert (found[1].found, found[1].do) == ("gone", "look at its cable")


def test_readings_are_counted_over_a_second():
    ticks = iter([0.0, 0.25, 0.5, 0.75, 1.0])
    assert rate_hz(ScriptedArm(replace(TOY)), lambda: next(ticks)) == pytest.approx(3.0)


@pytest.mark.parametrize(("arm", "version"), [("panda", 5), ("franky", 10)])
def test_a_robot_of_another_interface_version_is_told_and_one_of_ours_is_well_and_stays_free(arm, version):
    other = {"panda": "franky", "franky": "panda"}[arm]
    with closing(ServedTwin(find_task("peg_insertion"), FciTwin(version))) as served:
        (found,) = doctor.firmware(parse_arm(f"{arm}:{served.host},simulated"))
        assert found.state == "well"
        (found,) = doctor.firmware(parse_arm(f"{other}:{served.host},simulated"))
        assert (found.state, found.do) == ("wrong", f"this is an arm for --arm {arm}")
        assert f"speaks version {version}" in found.found
        assert doctor.spoken_version(served.host, version) == version


@pytest.mark.parametrize("says", [b"", b"GARBAGE" * 9, b"\0" * 15], ids=["nothing", "text", "zeros"])
def test_what_is_no_franka_is_one_sentence(says):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client = listener.accept()[0]
            client.recv(64)
            client.sendall(says)
            client.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionError, match=r"robot at 127\.0\.0\.1:"):
            doctor.spoken_version("127.0.0.1", 5, listener.getsockname()[1])
        thread.join()
    with pytest.raises(ConnectionError, match="refused"):
        doctor.spoken_version("127.0.0.1", 5, 1)
