"""The pace: no drift, no bursts, and each late command is counted, whatever the work takes."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_env.env import RobotEnv
from robot_env.make import make_env
from robot_env.pace import LATE, Pace, quantiles_ms, summary
from tests.robot_env.faulty_camera import FaultyCamera, Through
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm

HZ, PERIOD_S = 10.0, 0.1
DOWN = np.array([0, 0, 0.1, 0, 0, 0], dtype=np.float32)


class Time:
    """A clock that goes on only in sleep, which overshoots or returns early as it is told, and in work."""

    def __init__(self, errors=()) -> None:
        self.now_s, self._errors = 1000.0, iter(errors)

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        assert seconds > 0
        self.now_s += max(seconds + next(self._errors, 0.0), 1e-6)


work = st.lists(st.floats(0.0, 0.35), max_size=40)


@given(work)
def test_whatever_the_work_takes_commands_go_out_on_the_beat_or_are_counted_late(work_s):
    time_ = Time()
    pace = Pace(HZ, time_.clock, time_.sleep)
    assert pace.wait() == 0.0
    due_s, sent_s, late = time_.now_s + PERIOD_S, time_.now_s, 0
    for seconds in work_s:
        time_.now_s += seconds
        found = pace.wait()
        now_s = time_.now_s
        assert now_s >= due_s - 1e-9
        assert found == pytest.approx(now_s - due_s if now_s - due_s > LATE * PERIOD_S else 0.0, abs=1e-9)
        assert now_s - sent_s >= (1 - LATE) * PERIOD_S - 1e-9  # no burst after a late one
        assert pace.step_s == pytest.approx(now_s - sent_s)
        late += found > 0
        due_s = (now_s if found else due_s) + PERIOD_S
        sent_s = now_s
    assert (pace.steps, pace.late) == (len(work_s) + 1, late)
    np.testing.assert_allclose(pace.busy_s, work_s, atol=1e-9)


@given(st.lists(st.floats(-0.004, 0.009), min_size=50, max_size=50))
def test_the_errors_of_sleeping_do_not_add_up(errors):
    time_ = Time(errors)
    pace = Pace(HZ, time_.clock, time_.sleep)
    pace.wait()
    begun_s = time_.now_s
    for _ in range(20):
        time_.now_s += 0.03
        assert pace.wait() == 0.0
    assert 0.0 <= time_.now_s - begun_s - 20 * PERIOD_S <= 0.01


def test_after_a_restart_the_next_command_is_never_late():
    time_ = Time()
    pace = Pace(HZ, time_.clock, time_.sleep)
    pace.wait()
    time_.now_s += 5.0
    pace.restart()
    assert pace.wait() == 0.0
    assert pace.step_s is None
    assert (pace.steps, pace.late, len(pace.steps_s), len(pace.busy_s)) == (2, 0, 0, 0)


def test_it_holds_its_rate_on_the_wall_clock():
    pace = Pace(100.0)
    start_s = time.monotonic()
    for _ in range(21):
        pace.wait()
    assert time.monotonic() - start_s >= 0.2 - 1e-6
    before = pace.late
    time.sleep(0.05)  # five periods gone: one late step, and no hurried ones after it
    assert pace.wait() > 0.03
    assert pace.late == before + 1
    after_s = time.monotonic()
    pace.wait()
    assert time.monotonic() - after_s >= 0.009


@pytest.mark.parametrize("hz", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(hz):
    with pytest.raises(ValueError, match="positive"):
        Pace(hz)


def test_a_summary_says_how_many_were_late_and_how_long_steps_took():
    assert summary(0, 0, []) == {"paced_steps": 0, "late_steps": 0, "late_percent": 0.0}
    found = summary(200, 3, [0.1] * 197 + [0.2, 0.3])
    assert found == {
        "paced_steps": 200,
        "late_steps": 3,
        "late_percent": 1.5,
        "period_p50_ms": 100.0,
        "period_p99_ms": 200.0,
        "period_max_ms": 300.0,
    }


@given(st.lists(st.floats(0.0, 10.0), min_size=1))
def test_quantiles_are_in_order_and_among_the_values(seconds):
    found = quantiles_ms(seconds)
    assert found["p50"] <= found["p99"] <= found["max"]
    assert set(found.values()) <= {round(1000 * value, 2) for value in seconds}


# In the environment


def paced(task=TOY, arm=None):
    time_ = Time()
    pace = Pace(task.hz, time_.clock, time_.sleep)
    return RobotEnv(task, arm or ScriptedArm(task), success=Judge(), pace=pace), time_


def test_an_environment_says_of_each_step_whether_it_was_late():
    env, time_ = paced()
    env.reset(seed=0)
    assert env.pace is not None
    infos = []
    for think_s in (0.0, 0.03, 0.25, 0.03):
        time_.now_s += think_s
        infos.append(env.step(DOWN)[4])
    assert [info["late_s"] for info in infos] == pytest.approx([0.0, 0.0, 0.15, 0.0])
    assert "step_s" not in infos[0]
    assert [info["step_s"] for info in infos[1:]] == pytest.approx([0.1, 0.25, 0.1])
    time_.now_s += 7.0  # between two episodes nothing is due
    env.reset()
    time_.now_s += 7.0
    info = env.step(DOWN)[4]
    assert info["late_s"] == 0.0
    assert (env.pace.steps, env.pace.late) == (5, 1)


def test_commands_that_hold_the_arm_keep_the_beat():
    task = replace(TOY, cameras=("wrist_1",), camera_fault="hold")
    arm = ScriptedArm(task)
    camera = FaultyCamera(arm.cameras["wrist_1"])
    env, time_ = paced(task, Through(arm, {"wrist_1": camera}))
    env.reset(seed=0)
    env.step(DOWN)
    begun_s = time_.now_s
    camera.fail("black", 3)
    info = env.step(DOWN)[4]
    assert info["held_steps"] == 4
    assert time_.now_s - begun_s == pytest.approx(5 * PERIOD_S)
    camera.fail("black", 3)
    time_.now_s += 60.0
    env.reset(seed=1)
    time_.now_s += 60.0
    env.step(DOWN)
    assert env.pace.late == 0


def test_without_a_pace_nothing_waits_and_nothing_is_said():
    env = RobotEnv(TOY, ScriptedArm(), success=Judge())
    env.reset(seed=0)
    assert env.pace is None
    assert not {"late_s", "step_s"} & set(env.step(DOWN)[4])


def test_an_environment_is_made_with_a_pace_where_real_time_is_asked_for():
    env = make_env(TOY, ScriptedArm(), realtime=True)
    assert env.pace.period_s == pytest.approx(1.0 / TOY.hz)
    assert make_env(TOY, ScriptedArm()).pace is None
