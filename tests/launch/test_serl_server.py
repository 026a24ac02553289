"""The twin behind SERL's routes: what each does, what it refuses, and what the robot does by itself."""

import json

import numpy as np
import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from launch.robots.serl_robot import TICK_S, Refused, SerlRobot
from launch.robots.serving import bind, served
from robot_env.arm import GAINS
from robot_env.serl_state import parameters, parse_state
from robot_env.tasks import find_task

PEG = find_task("peg_insertion")
BUSY_S = 60.0
READINGS = ("getpos", "getvel", "getforce", "gettorque", "getq", "getdq", "getjacobian", "getstate", "get_gripper")
ORDERS = ("startimp", "stopimp", "clearerr", "jointreset", "activate_gripper", "reset_gripper", "close_gripper")


@pytest.fixture(scope="module")
def client():
    """A session on a server whose robot is there as `client.robot`."""
    robot, session = SerlRobot(PEG), requests.Session()
    with served(robot) as url, session:
        session.robot, session.url, session.trust_env = robot, url, False
        yield session


@pytest.fixture
def post(client):
    client.robot.clear_errors()
    client.robot.start_impedance()
    client.robot.joint_reset()

    def send(route, body=None, **options):
        return client.post(f"{client.url}/{route}", json=body, timeout=BUSY_S, **options)

    return send


def test_every_route_of_serl_is_there(post):
    for route in (*READINGS, "getpos_euler", *ORDERS, "close_gripper_slow"):
        post("startimp")
        assert post(route).status_code == 200, route
    assert post("move_gripper", {"gripper_pos": 255}).text == "Moved Gripper"
    assert post("update_param", parameters(GAINS["precise"])).text == "Updated compliance parameters"


def test_the_parts_of_the_state_are_served_singly(post):
    state = post("getstate").json()
    parse_state(state)
    names = {"getpos": "pose", "getvel": "vel", "getforce": "force", "gettorque": "torque", "getq": "q", "getdq": "dq"}
    for route, name in {**names, "getjacobian": "jacobian"}.items():
        assert post(route).json() == {name: state[name]}
    assert post("get_gripper").json() == {"gripper": 0.0}
    assert np.shape(state["jacobian"]) == (6, 7)
    euler = post("getpos_euler").json()["pose"]
    turn = Rotation.from_euler("xyz", euler[3:]) * Rotation.from_quat(state["pose"][3:]).inv()
    assert turn.magnitude() < 1e-9


def test_a_reference_lets_one_control_period_pass_and_the_arm_follows(post):
    before = post("getstate").json()
    goal = [*before["pose"][:2], before["pose"][2] - 0.02, *before["pose"][3:]]
    for _ in range(15):
        assert post("pose", {"arr": goal}).text == "Moved"
    after = post("getstate").json()
    assert after["stamp_s"] - before["stamp_s"] == pytest.approx(1.5)
    np.testing.assert_allclose(after["pose"][:3], goal[:3], atol=1e-3)
    assert post("getstate").json() == after  # time stands still


def test_gains_and_clips_really_change_what_the_arm_does(post):
    def way(**changes):
        """How far the arm gets along x in half a second, towards a reference 0.2 m away."""
        post("jointreset")
        post("update_param", {**parameters(GAINS["compliant"]), **changes})
        pose = post("getpos").json()["pose"]
        for _ in range(5):
            post("pose", {"arr": [pose[0] + 0.2, *pose[1:]]})
        return post("getpos").json()["pose"][0] - pose[0]

    usual = way()  # 16 N against a damping of 89 N·s/m: 0.18 m/s, once it has gathered speed
    assert 0.05 < usual < 0.09
    assert way(translational_stiffness=1000.0) == pytest.approx(0.5 * usual, rel=0.1)
    assert way(translational_damping=178.0) < 0.75 * usual
    assert way(translational_clip_neg_x=0.002) == pytest.approx(0.25 * usual, rel=0.1)  # the arm is behind
    assert way(translational_clip_x=0.002) == pytest.approx(usual, rel=0.01)  # it is not ahead


def test_a_load_takes_its_weight_out_of_the_wrench(post):
    assert abs(post("getforce").json()["force"][2]) == pytest.approx(8.14, abs=0.05)
    post("set_load", {"mass": 0.83, "F_x_center_load": [0.0, 0.0, 0.05], "load_inertia": [0.0] * 9})
    assert np.abs(post("getforce").json()["force"]).max() < 0.05
    post("set_load", {"mass": 0.0, "F_x_center_load": [0.0, 0.0, 0.0], "load_inertia": [0.0] * 9})


def test_impedance_that_is_off_follows_nothing(post):
    pose = post("getpos").json()["pose"]
    post("stopimp")
    answer = post("pose", {"arr": [pose[0] + 0.05, *pose[1:]]})
    assert answer.status_code == 409
    assert "/startimp first" in answer.json()["error"]
    np.testing.assert_allclose(post("getpos").json()["pose"], pose, atol=1e-3)
    post("startimp")
    assert post("pose", {"arr": pose}).status_code == 200


def test_a_new_scene_repeats_under_its_seed_and_not_while_the_peg_is_in_the_hole(post, client):
    twin, holes = client.robot.twin, []
    for seed in (1, 1, 2):
        post("new_scene", {"seed": seed})
        holes.append(twin.hole_pose)
    np.testing.assert_array_equal(holes[0], holes[1])
    assert np.abs(holes[0] - holes[2]).max() > 1e-5
    before = twin.hole_pose
    post("jointreset")
    assert np.abs(twin.hole_pose - before).max() > 1e-5
    twin.data.qpos[:7] = twin._joints_at(twin.hole_pose)
    twin.tick(0.002)
    answer = post("new_scene", {"seed": 3})
    assert answer.status_code == 409
    assert "lift it above the rim" in answer.json()["error"]


REST = [0.3, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("route", "body", "status", "words"),
    [
        ("pose", None, 422, "Field required"),
        ("pose", [], 422, "dictionary"),
        ("pose", {"arr": REST[:6]}, 422, "arr.6: Field required"),
        ("pose", {"arr": [*REST, 0.0]}, 422, "arr"),
        ("pose", {"arr": [3.0, *REST[1:]]}, 422, "less than or equal to 2"),
        ("pose", {"arr": [*REST[:3], 0, 0, 0, 0]}, 422, "quaternion has length 0"),
        ("pose", {"arr": [*REST[:3], 2, 0, 0, 0]}, 422, "quaternion has length 2"),
        ("pose", {"arr": ["x", *REST[1:]]}, 422, "valid number"),
        ("update_param", {"stiffness": 1.0}, 422, "stiffness: Extra inputs"),
        ("update_param", {"translational_stiffness": -1.0}, 422, "greater than or equal to 0"),
        ("update_param", {"rotational_clip_x": 9.0}, 422, "less than or equal to 0.5"),
        ("set_load", {"mass": 1.0}, 422, "F_x_center_load"),
        ("set_load", {"mass": 50.0, "F_x_center_load": [0, 0, 0]}, 422, "less than or equal to 5"),
        ("move_gripper", {"gripper_pos": 256}, 422, "less than or equal to 255"),
        ("move_gripper", {"gripper_pos": 0}, 409, "stays closed"),
        ("open_gripper", None, 409, "stays closed"),
        ("fly", None, 404, "no route of this server"),
    ],
)
def test_what_is_malformed_is_one_sentence_and_moves_nothing(post, route, body, status, words):
    before = post("getstate").json()
    answer = post(route, body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert post("getstate").json() == before


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"arr": [NaN, 0, 0.5, 1, 0, 0, 0]}', 422),
        (b'{"arr": [0.3, 0, Infinity, 1, 0, 0, 0]}', 422),
        (b"[" * 9000, 400),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b" " * 20_000, 413),
        (iter([b"{}"]), 411),
    ],
)
def test_bytes_that_are_no_pose_are_refused(client, post, raw, status):
    before = post("getstate").json()
    answer = client.post(f"{client.url}/pose", data=raw, headers={"Content-Type": "application/json"}, timeout=BUSY_S)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert post("getstate").json() == before


def test_get_is_no_way_to_ask(client):
    answer = client.get(f"{client.url}/getstate", timeout=BUSY_S)
    assert answer.status_code == 405
    assert "all are POST" in answer.json()["error"]


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.integers(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=64),
    values.map(lambda value: json.dumps(value).encode()),
    st.lists(st.floats(), min_size=7, max_size=7).map(lambda arr: json.dumps({"arr": arr}).encode()),
    st.tuples(st.sampled_from(sorted(parameters(GAINS["precise"]))), st.floats()).map(
        lambda pair: json.dumps(dict([pair])).encode()
    ),
)
ROUTES = ("pose", "update_param", "set_load", "move_gripper", "new_scene", "getstate")


@settings(max_examples=60)
@given(route=st.sampled_from(ROUTES), raw=bodies)
@example(route="pose", raw=b'{"arr":[0.0,0.0,0.0,0.0,0.0,0.0,1e200]}')  # whose square is no number
def test_whatever_is_sent_the_server_answers_and_lives(client, route, raw):
    answer = client.post(
        f"{client.url}/{route}", data=raw, headers={"Content-Type": "application/json"}, timeout=BUSY_S
    )
    assert answer.status_code in (200, 400, 409, 422)
    state = client.post(f"{client.url}/getstate", timeout=BUSY_S).json()
    assert np.isfinite(state["pose"]).all()


def moved(pose, *by_m):
    """A pose `(7,)` shifted along the base axes."""
    return np.concatenate([np.add(pose[:3], by_m), pose[3:]])


# What the robot does by itself. Its clock is its own time, which the test lets pass.


def test_references_that_cease_hold_the_arm_then_stop_it_until_somebody_clears_it():
    robot = SerlRobot(PEG, paced=True, hold_after_s=0.5, stop_after_s=5.0)

    def wait(seconds):
        for _ in range(round(seconds / TICK_S)):
            robot.advance()

    wait(60.0)  # nobody has sent anything yet
    far = moved(robot.twin.pose, 0.0, 0.0, -0.2)
    robot.move(far)
    wait(0.48)
    assert np.linalg.norm(robot.twin.raw().velocity[:3]) > 0.05
    wait(0.3)
    held = robot.twin.pose
    assert held[2] > far[2] + 0.05
    assert robot.fault is None
    wait(1.0)
    np.testing.assert_allclose(robot.twin.pose[:3], held[:3], atol=0.01)
    robot.move(held)  # a late reference is not too late
    wait(4.9)
    assert robot.fault is None
    wait(0.2)
    assert "no command came for 5.0" in robot.state()["fault"]
    with pytest.raises(Refused, match=r"the arm was stopped: no command came .* /clearerr and /startimp"):
        robot.move(held)
    with pytest.raises(Refused, match="look at it, then /clearerr"):
        robot.start_impedance()
    robot.clear_errors()
    assert robot.state()["fault"] is None
    with pytest.raises(Refused, match="the impedance controller is off"):
        robot.move(held)
    robot.start_impedance()
    robot.move(held)
    wait(0.2)
    robot.rest()
    wait(60.0)
    assert robot.fault is None


@pytest.mark.parametrize("paced", [False, True])
def test_a_contact_force_above_the_limit_is_a_reflex_that_stays(paced):
    robot = SerlRobot(PEG, paced=paced)
    robot.update({"translational_stiffness": 5000.0, "translational_clip_z": 0.1, "translational_clip_neg_z": 0.1})
    hole = robot.twin.hole_pose
    robot.twin.data.qpos[:7] = robot.twin._joints_at(moved(hole, 0.02, 0.02, 0.03))
    robot.twin.refer(moved(hole, 0.02, 0.02, 0.03))
    robot.twin.tick(0.02)
    for _ in range(40):
        if robot.fault is not None:
            break
        robot.move(moved(hole, 0.02, 0.02, 0.0))
        robot.advance()
    assert "reflex: a contact force of" in robot.fault
    assert "above 40 N" in robot.fault
    with pytest.raises(Refused, match="reflex"):
        robot.move(hole)
    for _ in range(50):
        robot.advance()
    assert robot.fault.startswith("reflex")
    assert robot.twin.contact_n < 40.0  # it gave way
    robot.clear_errors()
    robot.move(robot.twin.pose)


def test_a_port_that_is_taken_is_one_sentence():
    taken = pytest.raises(OSError, match=r"cannot be listened on .*; choose another --host or --port")
    with bind("127.0.0.1", 0) as listener, taken:
        bind(*listener.getsockname())


def test_a_paced_twin_lives_on_the_wall_clock():
    robot = SerlRobot(PEG, paced=True)
    with served(robot) as url:
        first = requests.post(f"{url}/getstate", timeout=BUSY_S).json()["stamp_s"]
        now = first
        for _ in range(1000):
            now = requests.post(f"{url}/getstate", timeout=BUSY_S).json()["stamp_s"]
            if now > first + 0.1:
                break
        assert now > first + 0.1
