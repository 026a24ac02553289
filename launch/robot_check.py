"""What `segue robot check` and `home` do."""

import time
from contextlib import closing
from typing import Any

import numpy as np

from robot_env.arm import Arm, ArmState
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault, Violation
from robot_env.joints import elbow_height, margins
from robot_env.pace import quantiles_ms
from robot_env.pose import euler_from_quat
from robot_env.safety import SafetyLayer
from robot_env.tasks import Task

READS = 20


def check_arm(arm: Arm, task: Task) -> tuple[dict[str, Any], str | None]:
    """Connects and reads `READS` times; what was found, and what is wrong with it, if anything. Nothing moves.

    Raises `ConnectionError` or `TimeoutError` where the arm does not answer.
    """
    arm.connect()
    safety, took_s = SafetyLayer(task), []
    try:
        state = arm.read()
        for _ in range(READS):
            begun_s = time.perf_counter()
            state = arm.read()
            took_s.append(time.perf_counter() - begun_s)
    except Violation as error:
        return {"fault": str(error)}, f"{error}; look at it, then `segue robot home --acknowledge NAME`"
    latency = {f"read {name} ms": value for name, value in quantiles_ms(took_s).items()}
    facts = {**describe(state, safety), **latency}
    try:
        measured = safety.check_state(state, "precise")
        safety.plan_reset(measured, list(task.reset))
    except Violation as error:
        return {**facts, "fault": str(error)}, str(error)
    return {**facts, "fault": None}, None


def describe(state: ArmState, safety: SafetyLayer) -> dict[str, Any]:
    """A reading, for people: lengths in m, angles in rad, forces in N and N·m, rounded."""
    pose, joints = state.tcp_pose.tolist(), state.joints.tolist()
    metres, radians = safety.excess(pose)
    inside = safety.inside(pose)
    return {
        "position m": rounded(pose[:3]),
        "euler xyz rad": rounded(euler_from_quat(pose[3:])),
        "offset from the target": rounded(safety.offset(pose)),
        "box": "inside" if inside else f"outside by {metres:.4f} m, {radians:.4f} rad",
        "joints": [
            {"joint": i, "rad": round(q, 4) + 0.0, "margin rad": round(margin, 4)}
            for i, (q, margin) in enumerate(zip(joints, margins(joints), strict=True), 1)
        ],
        "elbow above base m": round(elbow_height(joints), 4),
        "wrench N, N·m, not tared": rounded(state.wrench),
        "gripper": state.gripper,
    }


def home_arm(arm: Arm, task: Task, operator: str | None) -> dict[str, Any]:
    """A reset to the middle of the task's start poses; what came of it.

    Args:
        operator: who has looked at an arm that was stopped: acknowledges the fault that the first attempt meets.

    Raises:
        ArmFault: the arm was stopped, on the way or before.
    """
    with closing(RobotEnv(task, arm)) as env:
        options, acknowledged = {"offset": np.array(task.reset)}, None
        try:
            env.reset(seed=0, options=options)
        except ArmFault:
            fault = env.fault
            if operator is None or fault is None:
                raise ArmFault(
                    f"the arm was stopped: {fault.reason if fault else 'for no reason'}; look at it, then give"
                    " `segue robot home --acknowledge NAME`"
                ) from None
            acknowledged = env.acknowledge(operator).reason
            env.reset(seed=0, options=options)
        state = env.arm.read()
        facts = {"position m": rounded(state.tcp_pose[:3]), "off m": off_m(env.safety, state, task)}
    return {**facts, "acknowledged": acknowledged}


def off_m(safety: SafetyLayer, state: ArmState, task: Task) -> float:
    """How far a reading is from the middle of the start poses, m."""
    there = np.subtract(safety.offset(state.tcp_pose.tolist()), task.reset)
    return round(float(np.linalg.norm(there[:3])), 5)


def rounded(values: Any) -> str:
    """Numbers in one line."""
    return " ".join(f"{round(float(value), 4) + 0.0:.4f}" for value in values)
