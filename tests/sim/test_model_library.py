"""The models that Franka's clients load, against MuJoCo."""

import ctypes
import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_env.tasks import find_task
from sim import panda
from sim.model_library import build_library, urdf
from sim.torque_arm import TorqueArm, flange_to_tcp, joined

SYMBOLS = [f"{kind}_J{n}" for kind in ("O_T", "O_J", "Ji_J") for n in range(1, 10)] + ["M_NE", "c_NE", "g_NE"]
TIGHT = 1e-9


class Library:
    """The compiled model, called with arrays."""

    def __init__(self, path) -> None:
        path.write_bytes(build_library())
        self._library = ctypes.CDLL(str(path))

    def call(self, symbol: str, size: int, *values) -> np.ndarray:
        """What a function writes, `(size,)`; matrices go in column by column."""
        kept = [value if isinstance(value, float) else np.ascontiguousarray(value, float) for value in values]
        double = ctypes.POINTER(ctypes.c_double)
        out = np.full(size, np.nan)
        given = [ctypes.c_double(v) if isinstance(v, float) else v.ctypes.data_as(double) for v in kept]
        getattr(self._library, symbol)(*given, out.ctypes.data_as(double))
        return out


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return Library(tmp_path_factory.mktemp("model") / "model.so")


@pytest.fixture(scope="module")
def arm():
    return TorqueArm(find_task("peg_insertion"))


def place(arm, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random configuration and velocity, also in MuJoCo."""
    rng = np.random.default_rng(seed)
    q, dq = rng.uniform(panda.LOWER_RAD, panda.UPPER_RAD), rng.normal(size=7)
    arm.data.qpos[:7], arm.data.qvel[:7] = q, dq
    mujoco.mj_forward(arm.model, arm.data)
    return q, dq


def test_it_has_every_symbol_that_the_client_looks_up(library):
    assert len(SYMBOLS) == 30
    for symbol in SYMBOLS:
        assert getattr(library._library, symbol)


@pytest.mark.parametrize("seed", range(5))
def test_the_end_effector_is_mujocos(library, arm, seed):
    q, _ = place(arm, seed)
    tool = flange_to_tcp().ravel(order="F")
    pose = library.call("O_T_J9", 16, q, tool).reshape(4, 4, order="F")
    np.testing.assert_allclose(pose, arm.tcp, atol=TIGHT)
    expected = np.zeros((6, 7))
    mujoco.mj_jacSite(arm.model, arm.data, expected[:3], expected[3:], arm.model.site("tcp").id)
    np.testing.assert_allclose(library.call("O_J_J9", 42, q, tool).reshape(6, 7, order="F"), expected, atol=TIGHT)
    turned = np.kron(np.eye(2), arm.tcp[:3, :3].T) @ expected
    np.testing.assert_allclose(library.call("Ji_J_J9", 42, q, tool).reshape(6, 7, order="F"), turned, atol=TIGHT)


@pytest.mark.parametrize("frame", range(1, 9))
def test_each_joint_s_frame_is_mujocos(library, arm, frame):
    q, _ = place(arm, 7)
    body = arm.data.body(f"link{min(frame, 7)}")
    turn = body.xmat.reshape(3, 3)
    point = body.xpos + (turn @ [0.0, 0.0, panda.FLANGE_M] if frame == 8 else 0.0)
    pose = library.call(f"O_T_J{frame}", 16, q).reshape(4, 4, order="F")
    np.testing.assert_allclose(pose[:3, 3], point, atol=TIGHT)
    np.testing.assert_allclose(pose[:3, :3], turn, atol=TIGHT)
    expected = np.zeros((6, 7))
    mujoco.mj_jac(arm.model, arm.data, expected[:3], expected[3:], point, body.id)
    given = () if frame == 1 else (q,)  # constant: the client hands over no joints
    in_base = library.call(f"O_J_J{frame}", 42, *given).reshape(6, 7, order="F")
    np.testing.assert_allclose(in_base, expected, atol=TIGHT)
    in_body = library.call(f"Ji_J_J{frame}", 42, *given).reshape(6, 7, order="F")
    np.testing.assert_allclose(in_body, np.kron(np.eye(2), turn.T) @ expected, atol=TIGHT)


@pytest.mark.parametrize("seed", range(5))
def test_mass_coriolis_and_gravity_are_mujocos(library, arm, seed):
    q, dq = place(arm, seed)
    load = joined(list(arm.loads()))
    inertia, gravity = load.inertia.ravel(order="F"), [0.0, 0.0, -9.81]
    mass = np.zeros((7, 7))
    mujoco.mj_fullM(arm.model, arm.data, mass)
    ours = library.call("M_NE", 49, q, inertia, load.mass_kg, load.com_m).reshape(7, 7, order="F")
    np.testing.assert_allclose(ours, mass, atol=TIGHT)
    ours = library.call("g_NE", 7, q, gravity, load.mass_kg, load.com_m)
    np.testing.assert_allclose(ours, arm.gravity, atol=TIGHT)
    coriolis = library.call("c_NE", 7, q, dq, inertia, load.mass_kg, load.com_m)
    np.testing.assert_allclose(coriolis, arm.data.qfrc_bias[:7] - arm.gravity, atol=TIGHT)
    assert np.abs(coriolis).max() > 0.1


def numbers(element, attribute: str) -> np.ndarray:
    return np.array(element.get(attribute).split(), float)


def test_the_urdf_leads_to_the_same_flange_and_names_the_twin_s_limits(library):
    robot = ElementTree.fromstring(urdf())
    q = np.random.default_rng(3).uniform(panda.LOWER_RAD, panda.UPPER_RAD)
    turn, point = np.eye(3), np.zeros(3)
    for i in range(8):
        joint = robot.find(f"joint[@name='joint{i + 1}']")
        point = point + turn @ numbers(joint.find("origin"), "xyz")
        turn = turn @ Rotation.from_euler("xyz", numbers(joint.find("origin"), "rpy")).as_matrix()
        if i < 7:
            turn = turn @ Rotation.from_euler("z", q[i]).as_matrix()
            limit = joint.find("limit")
            assert (float(limit.get("lower")), float(limit.get("upper"))) == (panda.LOWER_RAD[i], panda.UPPER_RAD[i])
    pose = library.call("O_T_J8", 16, q).reshape(4, 4, order="F")
    np.testing.assert_allclose(point, pose[:3, 3], atol=TIGHT)
    np.testing.assert_allclose(turn, pose[:3, :3], atol=TIGHT)
    masses = [float(mass.get("value")) for mass in robot.iter("mass")]
    np.testing.assert_allclose(masses, [mass for mass, _, _ in panda.LINKS])


def test_a_machine_without_a_compiler_is_told_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="no C compiler"):
        build_library.__wrapped__()
