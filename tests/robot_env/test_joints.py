"""Joint margins and the elbow, which the box around the tool does not see."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_env.faults import Violation
from robot_env.joints import ELBOW_M, HOME_RAD, LOWER_RAD, MARGIN_RAD, UPPER_RAD, complaint, elbow_height, margins
from robot_env.safety import SafetyLayer
from sim import panda
from tests.robot_env.scripted_arm import TOY, ScriptedArm

GOOD = ScriptedArm(TOY).read()
MODEL = panda.build().compile()
DATA = mujoco.MjData(MODEL)
configuration = st.tuples(*[st.floats(low, high) for low, high in zip(LOWER_RAD, UPPER_RAD, strict=True)])


@given(joints=configuration)
def test_the_elbow_is_where_the_kinematics_put_it(joints):
    DATA.qpos[:7] = joints
    mujoco.mj_kinematics(MODEL, DATA)
    assert elbow_height(joints) == pytest.approx(DATA.body("link4").xpos[2], abs=1e-9)


def test_the_home_pose_has_margin_and_the_limits_are_no_wider_than_the_twins():
    assert complaint(HOME_RAD) is None
    np.testing.assert_allclose(HOME_RAD, panda.HOME_RAD)
    assert (np.array(LOWER_RAD) >= panda.LOWER_RAD).all()
    assert (np.array(UPPER_RAD) <= panda.UPPER_RAD).all()


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize("limit", [LOWER_RAD, UPPER_RAD])
def test_a_joint_near_its_limit_is_named_and_stops_the_arm(joint, limit):
    inward = 1.0 if limit is LOWER_RAD else -1.0
    for beyond in (0.9 * MARGIN_RAD, 0.0, -0.01):
        joints = np.array(HOME_RAD)
        joints[joint] = limit[joint] + inward * beyond
        with pytest.raises(Violation, match=rf"^joint {joint + 1} at .* guide the arm"):
            SafetyLayer(TOY).check_state(replace(GOOD, joints=joints), "compliant")
    joints[joint] = limit[joint] + inward * 1.1 * MARGIN_RAD
    assert "joint" not in (complaint(joints.tolist()) or "")


def test_an_elbow_that_hangs_low_stops_the_arm():
    joints = np.array(HOME_RAD)
    joints[1] = 1.6  # the upper arm lies flat
    with pytest.raises(Violation, match=r"the elbow is 0\.24\d m above the base plane, lower than 0\.25 m"):
        SafetyLayer(TOY).check_state(replace(GOOD, joints=joints), "precise")


@given(joints=configuration)
def test_a_configuration_that_passes_has_both_margins(joints):
    if complaint(joints) is None:
        assert min(margins(joints)) >= MARGIN_RAD
        assert elbow_height(joints) >= ELBOW_M
