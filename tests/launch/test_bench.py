"""The benches count what they say; speed itself is never asserted."""

import os
from contextlib import closing

import numpy as np
import pytest

from agent.heads import Networks
from launch import bench, bench_image, bench_memory, bench_methods, bench_realtime, bench_sim, bench_watchdog
from launch.robots.serl_robot import SerlRobot
from launch.robots.serving import served
from robot_env.env import RobotEnv
from robot_env.serl import SerlArm
from robot_env.tasks import find_task
from sim.d4rl_tasks import d4rl_tasks

PEG = find_task("peg_insertion")


def test_flops_of_a_step_by_hand():
    networks = Networks((8,), (4,), critics=3, members_per_target=2)
    # A critic row: (17 + 6) x 4 + 4 x 1 = 96 multiply-adds, 192 flop; an actor row: 17 x 8 + 8 x 12 = 232, 464 flop.
    critic, actor = 192, 464
    rows = 2 * 5  # two minibatches of five
    td = rows * (3 * 3 * critic + 2 * critic + actor)  # forward, backward x 2; two target members; the next action
    follow = rows * (3 * actor + 2 * 3 * critic) + rows * actor  # the actor through 3 critics; the temperature
    assert bench.flops("sac", networks, batch=5, utd=2) == td + follow


def test_sim_bench_reports_each_kind():
    rows = bench_sim.arm(repeats=1, steps=20)["control_steps"]
    assert [row["what"].split(",")[0] for row in rows] == ["arm", "arm", "environment", "environment"]
    assert all(row["steps_per_s"] > 0 for row in rows)


@pytest.mark.parametrize("name", ["sac", "cql"])
def test_each_program_trains(name):
    replay = bench.random_replay()
    nets = bench.make_nets({"state": (bench.OBS,)}, bench.ACT, Networks((8,), (8,), critics=2))
    state, metrics = bench.program(nets, name, 2, replay)(3)
    assert int(state.update_count) == 6
    assert float(metrics["critic/loss"]) > 0


def test_neither_memory_nor_descriptors_grow_while_transitions_come():
    """A process that kept them, or opened a file for each, would hold 4 MB or 5,000 descriptors more."""
    first, *_, last = bench_memory.memory(count=10_000)["memory"]
    for who in ("learner", "actor"):
        assert last[f"{who}_MB"] - first[f"{who}_MB"] < 20
        assert abs(last[f"{who}_descriptors"] - first[f"{who}_descriptors"]) < 10


def test_twins_are_timed_beside_the_library(monkeypatch):
    envs = bench_sim.library_envs()
    assert set(envs) < set(d4rl_tasks())
    monkeypatch.setattr(bench_sim, "library_envs", lambda: {"hopper": envs["hopper"]})
    (row,) = bench_sim.twins(repeats=1)
    assert row["task"] == "hopper"
    assert row["steps_per_s"] > 0
    assert row["ratio"] == pytest.approx(row["steps_per_s"] / row["library_steps_per_s"], rel=0.02)


def test_methods_are_timed_for_one_seed_and_for_several():
    found = bench_methods.methods(["bc"], [1, 2], repeats=1, updates=2)
    one, two = found["updates"]
    assert (one["method"], one["seeds"], two["seeds"], one["times_the_first"]) == ("bc", 1, 2, 1.0)
    assert one["ms_per_update"] > 0
    assert one["gflop_per_update_and_seed"] == two["gflop_per_update_and_seed"] > 0.0
    with pytest.raises(ValueError, match="--seeds 0: give at least 1"):
        bench_methods.methods(["bc"], [0], repeats=1)


def push_down():
    """A policy that costs nothing, for an actor in a process of its own."""
    return lambda obs: np.array([0.0, 0.0, 0.2, 0.0, 0.0, 0.0], np.float32)


def add_up():
    """A learner that keeps its core busy."""
    return lambda: sum(range(100_000))


def break_down():
    raise OSError("no network")


def test_an_actor_in_real_time_is_timed_beside_a_learner():
    before = (os.environ.get("XLA_FLAGS"), os.sched_getaffinity(0))
    found = bench_realtime.realtime(1, 12, push_down, add_up)
    (row,) = found["runs"]
    assert row["paced_steps"] == found["steps"] == 12
    assert 0 <= row["late_steps"] <= 12
    assert row["period_p50_ms"] > 90.0
    assert 0.0 < row["frame_to_action_p50_ms"] <= row["frame_to_action_p99_ms"]
    assert row["policy_max_ms"] < row["frame_to_action_max_ms"]
    assert row["learner_steps_per_s"] > 0
    assert (os.environ.get("XLA_FLAGS"), os.sched_getaffinity(0)) == before
    with pytest.raises(RuntimeError, match="a process of the bench ended with exit code 1"):
        bench_realtime.realtime(1, 12, break_down, add_up)
    with pytest.raises(ValueError, match="--steps 1: give at least 2"):
        bench_realtime.realtime(1, 1)


def test_the_benchs_policy_acts_on_both_frames():
    policy, rng = bench_image.sighted_policy(), np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 128, 128, 3), np.uint8)
    obs = {"wrist_1": frames[0], "wrist_2": frames[1], "state": np.zeros(19, np.float32)}
    action = policy(obs)
    assert action.shape == (6,)
    assert (np.abs(action) <= 1).all()
    for name in ("wrist_1", "wrist_2"):
        assert not np.array_equal(policy({**obs, name: 255 - obs[name]}), action)


def test_a_silence_is_timed_on_a_real_arm_and_on_its_robot_and_both_go_on():
    robot = SerlRobot(PEG, paced=True, hold_after_s=0.5, stop_after_s=1.5)
    with served(robot) as url, closing(SerlArm(PEG, url, timeout_s=60.0, hold_after_s=0.5, stop_after_s=1.5)) as arm:
        env = RobotEnv(PEG, arm)
        late = [bench_watchdog.silence(env), bench_watchdog.silence(env)]
        assert all(each[deed] >= 0.0 for each in late for deed in ("held", "stopped"))
        arm.watchdog.stop_after_s = 60.0
        assert bench_watchdog.robot_alone(env, arm, 1.5) > -1.5
        assert [bool(fault.acknowledged_by) for fault in env.faults] == [True] * 3
