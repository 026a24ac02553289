"""The arm's kinematics and dynamics in the two forms that Franka's clients ask for.

Interface version 5 wants a shared library in C: `build_library` compiles one from the numbers of `sim.panda`. Version 10 wants
a URDF: `urdf`. Frames 1 to 7 are the joints', 8 the flange, 9 the end effector.
"""

import functools
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from sim import panda
from sim.model_source import SOURCE
from sim.torque_arm import STEP_S, VELOCITY_LIMIT_RAD_S, Load, body_as_load

COMPILE_TIMEOUT_S = 60.0


def _links() -> list[Load]:
    """Links 0 to 7 as MuJoCo compiles them: it keeps principal axes, which differ from the published numbers by 1e-8."""
    model = panda.build(STEP_S).compile()
    return [body_as_load(model, model.body(f"link{i}").id) for i in range(8)]


def source() -> str:
    """The library's C source."""
    a, d, alpha = np.array(panda.MDH).T
    links = _links()[1:]
    numbers = {
        "A[7]": a,
        "D[7]": d,
        "COS_ALPHA[7]": np.cos(alpha),
        "SIN_ALPHA[7]": np.sin(alpha),
        "MASS[7]": np.array([link.mass_kg for link in links]),
        "COM[7][3]": np.array([link.com_m for link in links]),
        "INERTIA[7][9]": np.array([link.inertia.ravel() for link in links]),
    }
    tables = [f"static const double {name} = {_braces(values)};" for name, values in numbers.items()]
    scalars = [f"#define FLANGE {panda.FLANGE_M!r}", f"#define ROTOR {panda.ROTOR_INERTIA!r}"]
    return "\n".join(["#include <math.h>", *tables, *scalars, SOURCE])


def _braces(values: np.ndarray) -> str:
    if values.ndim == 0:
        return repr(float(values))
    return "{" + ", ".join(_braces(row) for row in values) + "}"


@functools.cache
def build_library() -> bytes:
    """The shared library, compiled with the system's `cc`, once per process. Raises `RuntimeError` where that fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(out), "-lm"]
        try:
            done = subprocess.run(
                command, input=source(), capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
            )
        except FileNotFoundError as error:
            raise RuntimeError("no C compiler `cc` is here to build the arm's model; install gcc or clang") from error
        if done.returncode != 0:
            raise RuntimeError(f"the arm's model did not compile ({done.stderr.strip()[:200]}); look at the compiler")
        return out.read_bytes()


def urdf() -> str:
    """The arm as a URDF, links 0 to 8, with the twin's own limits and inertias; rotors have no place in it."""
    links = [_link(i, link) for i, link in enumerate(_links())] + ['<link name="link8"/>']
    joints = [_joint(i) for i in range(7)]
    flange = (
        '<joint name="joint8" type="fixed">'
        f'<origin xyz="0 0 {panda.FLANGE_M!r}" rpy="0 0 0"/><parent link="link7"/><child link="link8"/></joint>'
    )
    return '<?xml version="1.0"?>\n<robot name="twin">\n' + "\n".join([*links, *joints, flange]) + "\n</robot>\n"


def _link(i: int, link: Load) -> str:
    axes = "xyz"
    moments = " ".join(f'i{axes[r]}{axes[c]}="{float(link.inertia[r, c])!r}"' for r in range(3) for c in range(r, 3))
    com = " ".join(repr(float(value)) for value in link.com_m)
    return (
        f'<link name="link{i}"><inertial><origin xyz="{com}" rpy="0 0 0"/>'
        f'<mass value="{link.mass_kg!r}"/><inertia {moments}/></inertial></link>'
    )


def _joint(i: int) -> str:
    a, d, alpha = panda.MDH[i]
    origin = f"{a!r} {float(-np.sin(alpha) * d)!r} {float(np.cos(alpha) * d)!r}"
    velocity = float(VELOCITY_LIMIT_RAD_S[i])
    limit = f'lower="{float(panda.LOWER_RAD[i])!r}" upper="{float(panda.UPPER_RAD[i])!r}" velocity="{velocity!r}"'
    return (
        f'<joint name="joint{i + 1}" type="revolute"><origin xyz="{origin}" rpy="{float(alpha)!r} 0 0"/>'
        f'<parent link="link{i}"/><child link="link{i + 1}"/><axis xyz="0 0 1"/>'
        f'<limit {limit} effort="{float(panda.TORQUE_LIMIT_NM[i])!r}"/>'
        # Far from its limits a joint may go at full speed; near them the client lets it brake at this rate.
        f'<position_based_velocity_limits velocity_offset="{velocity!r}" deceleration_limit="10.0"/></joint>'
    )
