"""The pose maths against scipy's, and its round trips."""

from math import pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from robot_env.pose import (
    angle_between,
    displace,
    displacement,
    euler_from_quat,
    normalize,
    offset_from_pose,
    pose_from_offset,
    pose_from_vector,
    quat_from_euler,
    quat_multiply,
    relative_pose,
    rotate,
    slerp,
)

angle = st.floats(-3.1, 3.1)
pitch = st.floats(-1.5, 1.5)
euler = st.tuples(angle, pitch, angle)
metres = st.tuples(*[st.floats(-2.0, 2.0)] * 3)
unit = st.floats(-1.0, 1.0)
action = st.tuples(*[unit] * 6)


def as_pose(position, angles):
    return np.array([*position, *Rotation.from_euler("xyz", angles).as_quat()])


@given(euler, euler, metres)
def test_rotations_agree_with_scipy(a, b, v):
    first, second = Rotation.from_euler("xyz", a), Rotation.from_euler("xyz", b)
    p, q = quat_from_euler(a), quat_from_euler(b)
    assert (Rotation.from_quat(p) * first.inv()).magnitude() < 1e-12
    assert (Rotation.from_quat(quat_multiply(p, q)) * (first * second).inv()).magnitude() < 1e-12
    np.testing.assert_allclose(rotate(p, v), first.apply(v), atol=1e-12)
    assert angle_between(p, q) == pytest.approx((first * second.inv()).magnitude(), abs=1e-9)
    assert angle_between(p, [-value for value in p]) < 1e-9


@given(euler)
def test_one_euler_convention_there_and_back(angles):
    np.testing.assert_allclose(euler_from_quat(quat_from_euler(angles)), angles, atol=1e-12)
    np.testing.assert_allclose(euler_from_quat(Rotation.from_euler("xyz", angles).as_quat()), angles, atol=1e-9)


def test_a_pitch_of_five_degrees_keeps_its_sign_for_a_tool_that_points_down():
    down = quat_from_euler((3.13, 0.09, 1.5887))
    np.testing.assert_allclose(euler_from_quat(down), (3.13, 0.09, 1.5887), atol=1e-12)


@given(metres, euler, metres, euler)
def test_offsets_there_and_back(position, angles, target_position, target_angles):
    target = pose_from_vector((*target_position, *target_angles))
    back = offset_from_pose(pose_from_offset((*position, *angles), target), target)
    np.testing.assert_allclose(back, (*position, *angles), atol=1e-9)


@given(metres, euler, metres, euler)
def test_an_offset_is_metres_along_base_axes_and_the_angles_of_r_r_target_inverse(position, angles, where, turned):
    pose, target = as_pose(position, angles), pose_from_vector((*where, *turned))
    offset = offset_from_pose(pose, target)
    np.testing.assert_allclose(offset[:3], np.subtract(position, where), atol=1e-12)
    expected = Rotation.from_euler("xyz", angles) * Rotation.from_euler("xyz", turned).inv()
    assert (Rotation.from_euler("xyz", offset[3:]) * expected.inv()).magnitude() < 1e-9


@given(metres, euler, metres, euler)
def test_a_relative_pose_is_t_origin_inverse_t(position, angles, where, turned):
    relative = relative_pose(as_pose(position, angles), as_pose(where, turned))
    origin = Rotation.from_euler("xyz", turned)
    np.testing.assert_allclose(relative[:3], origin.inv().apply(np.subtract(position, where)), atol=1e-9)
    expected = origin.inv() * Rotation.from_euler("xyz", angles)
    assert (Rotation.from_euler("xyz", relative[3:]) * expected.inv()).magnitude() < 1e-9


@given(metres, euler, action)
def test_an_action_moves_the_pose_in_the_end_effector_frame(position, angles, a):
    moved = displace(as_pose(position, angles), a, (0.02, 0.1))
    now = Rotation.from_euler("xyz", angles)
    np.testing.assert_allclose(moved[:3], position + now.apply(np.array(a[:3]) * 0.02), atol=1e-12)
    expected = Rotation.from_euler("xyz", now.apply(np.array(a[3:]) * 0.1)) * now
    assert (Rotation.from_quat(moved[3:]) * expected.inv()).magnitude() < 1e-9


@given(metres, euler, action)
def test_what_was_commanded_amounts_to_the_action(position, angles, a):
    pose = as_pose(position, angles)
    np.testing.assert_allclose(displacement(pose, displace(pose, a, (0.02, 0.1)), (0.02, 0.1)), a, atol=1e-9)


@given(euler, euler, st.floats(0.0, 1.0), st.booleans())
def test_slerp_agrees_with_scipy_whatever_the_signs(a, b, fraction, flip):
    p, q = quat_from_euler(a), quat_from_euler(b)
    if angle_between(p, q) > pi - 1e-3:
        return  # both ways round are equally short
    way = Slerp([0.0, 1.0], Rotation.from_quat([p, q]))(fraction)
    ours = slerp(p, [-value for value in q] if flip else q, fraction)
    assert (Rotation.from_quat(ours) * way.inv()).magnitude() < 1e-6
    assert np.linalg.norm(ours) == pytest.approx(1.0, abs=1e-12)


def test_slerp_across_the_wrap_of_roll_goes_the_short_way():
    start, end = quat_from_euler((3.13, 0.0, 0.0)), quat_from_euler((-3.13, 0.0, 0.0))
    middle = slerp(start, end, 0.5)
    assert angle_between(start, middle) < 0.012
    assert angle_between(middle, quat_from_euler((pi, 0.0, 0.0))) < 1e-9


@pytest.mark.parametrize("bad", [(0.0, 0.0, 0.0, 0.0), (np.inf, 0.0, 0.0, 1.0), (np.nan, 0.0, 0.0, 1.0)])
def test_a_quaternion_without_direction_is_refused(bad):
    with pytest.raises(ValueError, match="cannot be normalized"):
        normalize(bad)
