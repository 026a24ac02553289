"""A Franka Panda for MuJoCo: published kinematics and inertias, drawn with capsules, under Cartesian impedance control.

The tool centre point (TCP) is the frame that `panda_py.fk` reports: between the finger tips, 0.210 m from link 7,
turned by -45 degrees against the flange, z pointing out of the hand.

The controller is a set of native actuators, so a whole control step is one call into MuJoCo. Per Cartesian axis there
is one spring and one damper, from the site `tcp` to a mocap body that carries the reference. Clipping the spring's
*force* to `± stiffness x clip` is clipping the *error* to `± clip` before the spring. The axes are the base axes for
positions and the reference's axes for orientations. `sim.control_law` is the same law, written out.
"""

from math import pi

import mujoco
import numpy as np

from robot_env import joints
from robot_env.arm import Gains

# Modified Denavit-Hartenberg parameters (a m, d m, alpha rad) of joints 1-7, from Franka's documentation.
MDH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -pi / 2),
    (0.0, 0.316, pi / 2),
    (0.0825, 0.0, pi / 2),
    (-0.0825, 0.384, -pi / 2),
    (0.0, 0.0, pi / 2),
    (0.088, 0.0, pi / 2),
)
FLANGE_M = 0.107  # from link 7 along its z
HAND_YAW_RAD = -pi / 4  # the hand is mounted turned on the flange
UNSEEN = 3  # a group that no picture draws: a robot's camera sees no site, least of all where the arm was told to go
TCP_M = 0.103  # from the flange along its z; panda_py's value (Franka prints 0.1034)

LOWER_RAD = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER_RAD = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
TORQUE_LIMIT_NM = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
HOME_RAD = np.array(joints.HOME_RAD)

# Mass kg, centre of mass m, inertia kg·m² (xx, yy, zz, xy, xz, yz) of links 0-7: Gaz et al., "Dynamic identification
# of the Franka Emika Panda robot", RA-L 2019.
LINKS = (
    (0.629769, (-0.041018, -0.00014, 0.049974), (0.00315, 0.00388, 0.004285, 8.2904e-7, 0.00015, 8.2299e-6)),
    (4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    (0.646926, (-0.003141, -0.02872, 0.003495), (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    (3.228604, (0.027518, 0.039252, -0.066502), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    (3.587895, (-0.05317, 0.104419, 0.027454), (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    (1.225946, (-0.011953, 0.041065, -0.038437), (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    (1.666555, (0.060149, -0.014117, -0.010517), (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    (0.735522, (0.010517, -0.004252, 0.061597), (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
)
HAND = (0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017, 0.0, 0.0, 0.0))  # Franka's data sheet of the hand

ROTOR_INERTIA = 0.1  # kg·m² as seen at a joint, the usual value for this arm; it also keeps 2 ms stable
# A posture spring that is not projected into the null space, so it must be weak: with these it moves the TCP by less
# than 0.7 mm against the projected law on a path that saturates every axis. 0.2 N·m/rad is SERL's; its damping, 0.9
# N·m·s/rad, would drag the TCP by 4 mm there.
NULLSPACE_STIFFNESS = 0.2
NULLSPACE_DAMPING = 0.1

_WHITE, _GREY, _BLUE = (0.93, 0.94, 0.95, 1.0), (0.22, 0.23, 0.25, 1.0), (0.16, 0.47, 0.76, 1.0)
# What is drawn of links 0-7, in the link's frame: (from m, to m, radius m, colour).
_LOOKS = (
    (((-0.06, 0, 0.05), (0, 0, 0.06), 0.075, _WHITE), ((0, 0, 0.06), (0, 0, 0.19), 0.062, _WHITE)),
    (((0, 0, -0.13), (0, 0, 0.0), 0.06, _WHITE), ((0, -0.055, 0), (0, 0.055, 0), 0.061, _GREY)),
    (((0, 0, -0.05), (0, 0, 0.05), 0.06, _WHITE), ((0, -0.01, 0), (0, -0.17, 0), 0.058, _WHITE)),
    (((0, 0, -0.14), (0, 0, -0.02), 0.057, _WHITE), ((0.0825, -0.045, 0), (0.0825, 0.045, 0), 0.056, _GREY)),
    (((0, 0, -0.04), (0, 0, 0.04), 0.056, _WHITE), ((-0.07, 0.02, 0), (-0.0825, 0.12, 0), 0.055, _WHITE)),
    (((0, 0, -0.24), (0, 0.04, -0.14), 0.055, _WHITE), ((0, 0.06, -0.11), (0, 0.03, -0.02), 0.048, _WHITE)),
    (((0, 0, -0.05), (0, 0, 0.04), 0.05, _WHITE), ((0.02, 0, 0), (0.088, 0, 0), 0.048, _WHITE)),
    (((0, 0, -0.01), (0, 0, 0.06), 0.045, _BLUE), ((0, 0, 0.07), (0, 0, 0.095), 0.043, _WHITE)),
)


def build(timestep_s: float = 0.002) -> mujoco.MjSpec:
    """The arm on the origin with its hand, the site `tcp`, the wrench sensors and the impedance controller.

    `timestep_s`: physics step, s; 0.001 as on the robot, 0.002 is twice as fast and agrees within 0.1 mm.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    body = spec.worldbody.add_body(name="link0")
    _give_mass(body, *LINKS[0])
    _draw(body, _LOOKS[0])
    for i, (a, d, alpha) in enumerate(MDH):
        body = body.add_body(
            name=f"link{i + 1}",
            pos=[a, -np.sin(alpha) * d, np.cos(alpha) * d],
            quat=[np.cos(alpha / 2), np.sin(alpha / 2), 0, 0],
        )
        _give_mass(body, *LINKS[i + 1])
        _draw(body, _LOOKS[i + 1])
        body.add_joint(
            name=f"joint{i + 1}",
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 0, 1],
            limited=True,
            range=[LOWER_RAD[i], UPPER_RAD[i]],
            armature=ROTOR_INERTIA,
            stiffness=[NULLSPACE_STIFFNESS, 0, 0],
            damping=[NULLSPACE_DAMPING, 0, 0],
            actfrclimited=True,
            actfrcrange=[-TORQUE_LIMIT_NM[i], TORQUE_LIMIT_NM[i]],
        )
    _add_hand(body)
    _add_controller(spec)
    return spec


def set_gains(model: mujoco.MjModel, gains: Gains) -> None:
    """Write one set of gains into the controller's actuators."""
    k = np.repeat([gains.translational_stiffness, gains.rotational_stiffness], 3)
    d = np.repeat([gains.translational_damping, gains.rotational_damping], 3)
    clip = np.array([*gains.translational_clip_m, *[gains.rotational_clip_rad] * 3])
    model.actuator_biasprm[0:6, 1] = -k
    model.actuator_forcerange[0:6, 0] = -k * clip
    model.actuator_forcerange[0:6, 1] = k * clip
    model.actuator_biasprm[6:12, 2] = -d


def _add_hand(link7: mujoco.MjsBody) -> None:
    half = HAND_YAW_RAD / 2
    hand = link7.add_body(name="hand", pos=[0, 0, FLANGE_M], quat=[np.cos(half), 0, 0, np.sin(half)])
    _give_mass(hand, *HAND)
    box = mujoco.mjtGeom.mjGEOM_BOX
    hand.add_geom(name="palm", type=box, size=[0.022, 0.1, 0.032], pos=[0, 0, 0.034], rgba=_WHITE)
    for side, name in ((1, "left"), (-1, "right")):  # closed on a peg 20 mm wide
        hand.add_geom(
            name=f"finger_{name}", type=box, size=[0.010, 0.006, 0.024], pos=[0, side * 0.016, 0.090], rgba=_GREY
        )
    hand.add_site(name="wrist", group=UNSEEN)
    hand.add_site(name="tcp", pos=[0, 0, TCP_M], group=UNSEEN)


def _add_controller(spec: mujoco.MjSpec) -> None:
    """Twelve actuators, springs x y z rx ry rz and then dampers, and the wrench sensors at the wrist."""
    for what in ("position", "orientation"):
        spec.worldbody.add_body(name=f"reference_{what}", mocap=True).add_site(name=f"reference_{what}", group=UNSEEN)
    for kind in ("spring", "damper"):
        for axis in range(6):
            spec.add_actuator(
                name=f"{kind}_{'xyz'[axis % 3] if axis < 3 else 'r' + 'xyz'[axis % 3]}",
                trntype=mujoco.mjtTrn.mjTRN_SITE,
                target="tcp",
                refsite="reference_position" if axis < 3 else "reference_orientation",
                gear=np.eye(6)[axis],
                gaintype=mujoco.mjtGain.mjGAIN_FIXED,
                gainprm=[0.0] * 10,
                biastype=mujoco.mjtBias.mjBIAS_AFFINE,
                biasprm=[0.0] * 10,
                forcelimited=kind == "spring",
                forcerange=[-1.0, 1.0] if kind == "spring" else [0.0, 0.0],
            )
    for name, kind in (("force", mujoco.mjtSensor.mjSENS_FORCE), ("torque", mujoco.mjtSensor.mjSENS_TORQUE)):
        spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="wrist")


def _give_mass(body: mujoco.MjsBody, mass_kg: float, com_m: tuple, inertia: tuple) -> None:
    body.mass, body.ipos, body.fullinertia, body.explicitinertial = mass_kg, com_m, inertia, True
    body.gravcomp = 1.0  # the controller compensates gravity, as Franka's does


def _draw(body: mujoco.MjsBody, capsules: tuple) -> None:
    for start, end, radius_m, colour in capsules:
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=[*start, *end],
            size=[radius_m, 0, 0],
            rgba=colour,
            contype=0,
            conaffinity=0,
        )


__all__ = ["HOME_RAD", "LOWER_RAD", "UPPER_RAD", "build", "set_gains"]
