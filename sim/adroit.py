"""The Adroit tasks: D4RL's with a dense reward, and the binary ones that Cal-QL and WSRL fine-tune on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sim.adroit_hand import AdroitEnv
from sim.adroit_scenes import (
    BALL_NEAR_M,
    DOOR_OPEN_RAD,
    NAIL_IN_M,
    PEN_ALIGNED,
    PEN_NEAR_M,
    DoorEnv,
    HammerEnv,
    PenEnv,
    RelocateEnv,
)
from sim.d4rl import D4RLTask
from sim.scores import REFERENCES

# Of the hammer's board, which only its height changes: where it stands, the nail's way out of it seen from above (it lies level
# to 0.02°), and how far the nail's head is from the board's middle once it is home, m. From the model file.
BOARD_XY, NAIL_OUT_XY, NAIL_HOME_M = (0.05, 0.0), (-0.93203902, -0.36235782), 0.01


def pen_aligned(observations: np.ndarray) -> np.ndarray:
    """Whether observations `(N, 45)` are of success, `(N,)` bool."""
    cosine = np.sum(observations[:, 33:36] * observations[:, 36:39], axis=1)
    return (np.linalg.norm(observations[:, 39:42], axis=1) < PEN_NEAR_M) & (cosine > PEN_ALIGNED)


def door_open(observations: np.ndarray) -> np.ndarray:
    """Whether observations `(N, 39)` are of success, `(N,)` bool."""
    return observations[:, 28] >= DOOR_OPEN_RAD


def ball_there(observations: np.ndarray) -> np.ndarray:
    """Whether observations `(N, 39)` are of success, `(N,)` bool."""
    return np.linalg.norm(observations[:, 36:39], axis=1) < BALL_NEAR_M


def nail_in(observations: np.ndarray) -> np.ndarray:
    """Whether observations `(N, 46)` are of success, `(N,)` bool.

    From the nail's head, not from the nail's joint, which is one physics step ahead of what success is judged by.
    """
    out_m = (observations[:, 42:44] - np.array(BOARD_XY)[None, :]) @ np.array(NAIL_OUT_XY)
    return np.abs(out_m - NAIL_HOME_M) < NAIL_IN_M


def _tasks(
    name: str,
    env: type[AdroitEnv],
    sizes: tuple[int, int, int],
    sentences: tuple[str, str, str],
    success_in: Callable[[np.ndarray], np.ndarray],
) -> tuple[D4RLTask, D4RLTask]:
    """The dense and the binary task of a scene.

    `sizes`: observation, action, limit in steps. `sentences`: what, success, reward.

    A binary episode goes on after a dropped pen, and success ends it: so in the environments and the sampler that Cal-QL and
    WSRL run (`nakamotoo/mj_envs` registers `pen-binary-v0` without early termination).
    """
    obs_dim, action_dim, max_steps = sizes
    what, success, reward = sentences
    dense = D4RLTask(
        name=name,
        what=what,
        env=env,
        obs_dim=obs_dim,
        action_dim=action_dim,
        max_steps=max_steps,
        hz=100.0,  # five physics steps of 2 ms
        success=success,
        reward=reward,
        reference=REFERENCES[name],
        success_in=success_in,
    )
    binary = replace(
        dense,
        name=f"{name}-binary",
        reward="-1 for each step, and 0 for the first success, which ends the episode",
        reference=(0.0, 1.0),
        scored="success",
        reward_scale=10.0,
        reward_shift=5.0,
        failure_reward=-1.0,
    )
    return dense, binary


_PAIRS = (
    _tasks(
        "pen",
        PenEnv,
        (45, 24, 100),
        (
            "Turn a pen in the hand until it points as a second one beside the hand.",
            "pen within 0.075 m of its place, and the cosine of the two directions above 0.95",
            "less the distance, plus the cosine; 10 for a cosine above 0.9 in place, 50 more for success; -5 for a drop,"
            " below 0.075 m, which ends the episode",
        ),
        pen_aligned,
    ),
    _tasks(
        "door",
        DoorEnv,
        (39, 28, 200),
        (
            "Turn a latch and pull a door open.",
            "door open by 1.35 rad or more",
            "-0.1 x distance of palm and handle, -0.1 x squared angle still missing to 1.57 rad, -1e-5 x squared speed;"
            " 2, 8 and 10 from 0.2, 1.0 and 1.35 rad on",
        ),
        door_open,
    ),
    _tasks(
        "relocate",
        RelocateEnv,
        (39, 30, 200),
        (
            "Take a ball from the table to a place in the air.",
            "ball within 0.1 m of the target",
            "-0.1 x distance of palm and ball; once it is lifted 1, less half the distances of palm and of ball to the"
            " target; 10 within 0.1 m of it, 20 more within 0.05 m",
        ),
        ball_there,
    ),
    _tasks(
        "hammer",
        HammerEnv,
        (46, 26, 200),
        (
            "Take a hammer and drive a nail into a board.",
            "nail within 0.01 m of its end",
            "-0.1 x distance of palm and hammer, less the distance of its head and the nail, -10 x what the nail is out,"
            " -0.01 x speed; 2 for the hammer lifted, 25 for a nail within 0.02 m, 75 more for success",
        ),
        nail_in,
    ),
)
TASKS = tuple(dense for dense, _ in _PAIRS) + tuple(binary for _, binary in _PAIRS)
