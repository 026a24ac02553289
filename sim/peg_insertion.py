"""The scene of peg insertion: a table, a box with a square hole, a peg in the gripper, three cameras, a lamp.

`task.target` is the TCP's pose when the peg stands on the bottom of the hole. The body `hole` has exactly this frame,
with z pointing down into the box, so wherever the body is moved, its pose is the TCP's pose at full insertion: the
bottom lies `PEG_REACH_M` along z, the rim `hole_depth_m` above it. The table's top is z = 0, the plane of the base.
"""

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.tasks import Task
from robot_env.tasks.peg_insertion import PegScene
from sim import panda

PEG_REACH_M = 0.05  # from the TCP to the peg's tip
PEG_GRIPPED_M = 0.02  # from the TCP up to the peg's other end
PEG_MASS_KG = 0.1
BOX_HALF_M = 0.09  # the box is wide enough that a peg that stays in the task's box is always above it
# A contact's time constant and damping ratio; the shortest that is stable at 2 ms.
CONTACT_SOLREF = [0.004, 1.0]
# Fingers and palm meet the box and the table; the peg does too, with its own friction, which takes precedence.
_TOOL, _WORLD = 1, 2

_BOX, _WOOD, _PEG, _RIM = (0.30, 0.33, 0.38, 1), (0.72, 0.62, 0.50, 1), (0.92, 0.45, 0.10, 1), (0.55, 0.60, 0.68, 1)
_MARK = (0.95, 0.78, 0.15, 1)


def build(task: Task, timestep_s: float) -> mujoco.MjSpec:
    """The whole model. Raises `ValueError` when the target leaves no room for the hole above the table."""
    scene = task.scene
    if task.target[2] < PEG_REACH_M:
        raise ValueError(
            f"task {task.name!r}: target z {task.target[2]} m puts the bottom of the hole below the table;"
            f" raise it to at least {PEG_REACH_M} m"
        )
    spec = panda.build(timestep_s)
    for name in ("palm", "finger_left", "finger_right"):
        geom = spec.geom(name)
        geom.contype, geom.conaffinity, geom.solref = _TOOL, _WORLD, CONTACT_SOLREF
    _add_peg(spec.body("hand"), scene)
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.5, 0.6, 0.02],
        pos=[0.35, 0, -0.02],
        rgba=_WOOD,
        contype=_WORLD,
        conaffinity=_TOOL,
        solref=CONTACT_SOLREF,
    )
    position, quat = np.array(task.target[:3]), Rotation.from_euler("xyz", task.target[3:]).as_quat(scalar_first=True)
    hole = spec.worldbody.add_body(name="hole", mocap=True, pos=position, quat=quat)
    _add_box(hole, scene, depth_m=task.target[2] - PEG_REACH_M)
    _add_cameras(spec, position)
    return spec


def _add_peg(hand: mujoco.MjsBody, scene: PegScene) -> None:
    half_length = (PEG_REACH_M + PEG_GRIPPED_M) / 2
    peg = hand.add_body(name="peg", pos=[0, 0, panda.TCP_M + PEG_REACH_M - half_length], gravcomp=1.0)
    half = scene.peg_width_m / 2
    peg.add_geom(
        name="peg",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[half, half, half_length],
        rgba=_PEG,
        mass=PEG_MASS_KG,
        contype=_TOOL,
        conaffinity=_WORLD,
        priority=1,
        condim=3,
        friction=[scene.friction, 0.005, 0.0001],
        solref=CONTACT_SOLREF,
    )


def _add_box(hole: mujoco.MjsBody, scene: PegScene, depth_m: float) -> None:
    """Four walls around the hole and a floor under it, in the frame of the body `hole` (z down).

    `depth_m` is the floor's thickness. With a chamfer the walls' upper part steps back and a 45 degree wedge fills
    the step.
    """
    half = (scene.peg_width_m + scene.clearance_m) / 2
    rim, bottom, bevel = PEG_REACH_M - scene.hole_depth_m, PEG_REACH_M, scene.chamfer_m

    def block(low, high, colour) -> None:
        low, high = np.array(low), np.array(high)
        _solid(hole, pos=(low + high) / 2, size=(high - low) / 2, rgba=colour)

    def ring(inner: float, top: float, under: float, colour) -> None:
        for side in (1, -1):
            near, far = sorted((side * inner, side * BOX_HALF_M))
            block((near, -BOX_HALF_M, top), (far, BOX_HALF_M, under), colour)
            block((-inner, near, top), (inner, far, under), colour)

    ring(half, rim + bevel, bottom, _RIM)
    block((-BOX_HALF_M, -BOX_HALF_M, bottom), (BOX_HALF_M, BOX_HALF_M, bottom + depth_m), _BOX)
    _paint_hole(hole, half, bevel, rim)
    if bevel == 0:
        return
    ring(half + bevel, rim, rim + bevel, _RIM)
    thickness = bevel / 2
    for k in range(4):  # a wedge's outer face runs from (half, rim + bevel) to (half + bevel, rim)
        turn = Rotation.from_euler("z", k * np.pi / 2)
        normal_in = np.array([1.0, 0.0, 1.0]) / np.sqrt(2)
        centre = np.array([half + bevel / 2, 0.0, rim + bevel / 2]) + normal_in * thickness / 2
        _solid(
            hole,
            pos=turn.apply(centre),
            quat=(turn * Rotation.from_euler("y", np.pi / 4)).as_quat(scalar_first=True),
            size=[bevel / np.sqrt(2), half + bevel, thickness / 2],
            rgba=_RIM,
        )


def _paint_hole(hole: mujoco.MjsBody, half: float, bevel: float, rim: float) -> None:
    """A dark floor and a yellow frame around the hole, so that it shows in small pictures without shadows."""
    look = {"type": mujoco.mjtGeom.mjGEOM_BOX, "contype": 0, "conaffinity": 0}
    hole.add_geom(size=[half, half, 1e-4], pos=[0, 0, PEG_REACH_M], rgba=(0.03, 0.03, 0.04, 1), **look)
    inner, width = half + bevel, 0.004
    middle, reach = inner + width / 2, inner + width
    for side in (1, -1):
        hole.add_geom(size=[width / 2, reach, 1e-4], pos=[side * middle, 0, rim], rgba=_MARK, **look)
        hole.add_geom(size=[inner, width / 2, 1e-4], pos=[0, side * middle, rim], rgba=_MARK, **look)


def _solid(body: mujoco.MjsBody, **shape) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, contype=_WORLD, conaffinity=_TOOL, condim=3, solref=CONTACT_SOLREF, **shape
    )


def _add_cameras(spec: mujoco.MjSpec, target_m: np.ndarray) -> None:
    """Two cameras on the hand that look at the peg's tip, between the fingers, and one that sees the whole scene."""
    hand, tip = spec.body("hand"), np.array([0.0, 0.0, panda.TCP_M + PEG_REACH_M])
    for name, side in (("wrist_1", 1), ("wrist_2", -1)):
        eye = np.array([side * 0.075, 0.0, 0.045])
        hand.add_camera(name=name, pos=eye, quat=_look(eye, tip, up=np.array([side, 0.0, 0.0])), fovy=48)
        hand.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.010, 0.022, 0.010],
            pos=eye - np.array([side * 0.012, 0.0, 0.012]),
            rgba=(0.1, 0.1, 0.1, 1),
            contype=0,
            conaffinity=0,
        )
    eye, at = target_m + np.array([0.50, -0.66, 0.58]), target_m + np.array([-0.15, 0.0, 0.12])
    spec.worldbody.add_camera(name="scene", pos=eye, quat=_look(eye, at, up=np.array([0.0, 0.0, 1.0])), fovy=46)
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.93, 0.95, 0.97], rgb2=[0.66, 0.72, 0.79], width=32, height=192,
    )  # fmt: skip
    spec.worldbody.add_light(
        name="lamp", pos=[0.9, -0.9, 2.0], dir=[-0.6, 0.9, -1.0], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        diffuse=[0.6, 0.6, 0.6], specular=[0.15, 0.15, 0.15], castshadow=True,
    )  # fmt: skip
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.35, 0.35, 0.35], [0.3, 0.3, 0.3]


def _look(eye: np.ndarray, at: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Quaternion wxyz `(4,)` of a camera at `eye (3,)` that looks at `at (3,)`: it sees along -z, with +y up."""
    back = (eye - at) / np.linalg.norm(eye - at)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    return Rotation.from_matrix(np.stack([right, np.cross(back, right), back], axis=1)).as_quat(scalar_first=True)
