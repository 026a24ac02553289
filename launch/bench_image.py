"""What pictures cost: updates from kept features and through the trunk, frames on arrival, from a frame to an action."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.adopt import first_state, make_nets
from agent.heads import Networks
from agent.methods import sac
from agent.policy import MODE, Policy, policy_params
from agent.program import program
from agent.replay.frames import FRAME, room
from agent.types import Batch, Method, Nets, Normalizer, Phase, State
from agent.vision import with_encoder
from encoders.sight import Sight
from encoders.spatial import Vision
from encoders.trunk import random_trunk
from launch.bench import ACT, random_replay, seconds
from robot_env.make import make_env
from robot_env.pace import quantiles_ms

TASK, STATE = "peg_insertion_image", 19
ARCHITECTURE = "resnet10"
CAMERAS = {"wrist_1": (128, 128, 3), "wrist_2": (128, 128, 3)}
BATCH, ROWS, MEMORY_ROWS = 256, 1_000, 10_000
SLOW_BATCH = 8  # through the trunk on a CPU, where one minibatch of 256 takes minutes
FRAMES = 64


def image(repeats: int = 5, steps: int = 200) -> dict[str, Any]:
    """Critic updates per second from kept features and through the trunk, memory, frames encoded, a frame to an action.

    10 critics of 256x2, batch 256, two cameras of 128x128, ResNet-10. The ratio is that of both ways at one batch: on a CPU
    `SLOW_BATCH`, which favours the trunk.

    Args:
        steps: control steps of the twin, each from new frames to an action, as fast as they go.
    """
    trunk = random_trunk(ARCHITECTURE)
    kept, through = Sight(Vision(), CAMERAS, trunk), Sight(Vision(train_trunk=True), CAMERAS, trunk)
    small = SLOW_BATCH if jax.default_backend() == "cpu" else BATCH
    runs = [(kept, BATCH, 10), (kept, small, 100), (through, small, 1)]
    programs = [partial(_updates(sight, batch), updates) for sight, batch, updates in runs]
    rates = [[run[2] / seconds(do) for run, do in zip(runs, programs, strict=True)] for _ in range(repeats)]
    medians = np.median(rates, axis=0)  # measured in turn, so that a drift of the machine meets all
    names = ("cached features", "cached features", "through the trunk")
    rows = [
        {"critic updates": name, "batch": batch, "per_s": round(float(rate), 3)}
        for name, (_, batch, _), rate in zip(names, runs, medians, strict=True)
    ]
    return {
        "device": jax.devices()[0].device_kind,
        "critic_updates": rows,
        "ratio": round(float(medians[1] / medians[2]), 1),
        "memory_per_10000_transitions": [_memory(name, sight) for name, sight in _kept(trunk).items()],
        "frames_encoded_per_s": _encoding(kept, repeats),
        "frame_to_action_ms": _acting(kept, steps),
    }


def _kept(trunk: Any) -> Mapping[str, Sight]:
    shifted = {f"features and {v} shifted views": Sight(Vision(views=v), CAMERAS, trunk) for v in (0, 2, 8)}
    return {**shifted, "pictures, for a trunk that is trained": Sight(Vision(train_trunk=True), CAMERAS, trunk)}


def _memory(name: str, sight: Sight) -> dict[str, Any]:
    return {"kept": name, "megabytes": round(sight.bytes_per_frame * room(MEMORY_ROWS) / 1e6, 1)}


def _encoding(sight: Sight, repeats: int) -> dict[str, Any]:
    """Frames per second, a step's two at a time, as they arrive, and many together, as of a data set."""
    rng = np.random.default_rng(0)
    one = {name: rng.integers(0, 256, (1, *shape), np.uint8) for name, shape in CAMERAS.items()}
    many = rng.integers(0, 256, (FRAMES, *CAMERAS["wrist_1"]), np.uint8)
    jobs: dict[str, tuple[int, Callable[[], Any]]] = {
        "two at a time": (2, lambda: sight.encode(one)),
        f"{FRAMES} at a time": (FRAMES, lambda: sight.trunk.encode(many)),
    }
    found = {}
    for name, (count, run) in jobs.items():
        run()
        found[name] = round(count / statistics.median(seconds(run) for _ in range(max(repeats, 3))), 1)
    return found


def _acting(sight: Sight, steps: int) -> dict[str, float]:
    """Milliseconds from the cameras' frames, as they are rendered, to the policy's action."""
    policy = sighted_policy(sight)
    env, taken = make_env(TASK), []
    try:
        obs, _ = env.reset(seed=0)
        policy(obs)
        for _ in range(steps):
            start_s = time.perf_counter()
            action = policy(obs)
            taken.append(time.perf_counter() - start_s)
            obs, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                obs, _ = env.reset()
    finally:
        env.close()
    return {**quantiles_ms(taken), "steps": steps}


def sighted_policy(sight: Sight | None = None) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Untrained, as a run has it: both frames through the frozen ResNet-10, the encoder, and the actor of 256x2."""
    sight = sight or Sight(Vision(), CAMERAS, random_trunk(ARCHITECTURE))
    nets = _nets(sight)
    state = _state(nets, with_encoder(nets, sac.METHOD), sight)
    policy, now = Policy(nets, MODE, jax.random.key(0)), policy_params(state, MODE)
    return lambda obs: policy(now, obs, 0)


def _updates(sight: Sight, batch: int) -> Callable[[int], Any]:
    """A compiled program of critic updates that has run once."""
    nets = _nets(sight)
    method = with_encoder(nets, sac.METHOD)
    state = _state(nets, method, sight)
    # The critic alone, with the encoder that shares its loss: what is compared is what goes through the trunk.
    losses = {groups: loss for groups, loss in method.losses.items() if "critic" in groups}
    critic = Method(
        losses=losses, targets=method.targets, frozen=("actor", "temperature"), optimizer=dict(method.optimizer)
    )
    phase = Phase("bench", critic, updates=1, batch_size=batch, shares={"offline": 1.0})
    columns, size = _columns(sight), jnp.int32(ROWS)
    run = jax.jit(program(nets, phase, critic))
    jax.block_until_ready(run(state, {"offline": (columns, size)}, jnp.int32(0), 1))
    return lambda steps: run(state, {"offline": (columns, size)}, jnp.int32(0), steps)


def _nets(sight: Sight) -> Nets:
    return make_nets({"state": (STATE,)}, ACT, Networks(), sight=sight)


def _state(nets: Nets, method: Method, sight: Sight) -> State:
    shapes = {"state": (STATE,), **sight.statistics}
    zeros, ones = ({name: make(shape) for name, shape in shapes.items()} for make in (jnp.zeros, jnp.ones))
    return first_state(nets, method, Normalizer(zeros, ones), jax.random.key(0))


def _columns(sight: Sight) -> Batch:
    """Random rows with their pictures, on the device."""
    rng, at = np.random.default_rng(0), jnp.arange(ROWS)

    def store(shape: tuple[int, ...]) -> np.ndarray:
        if sight.dtype == "uint8":
            return rng.integers(0, 256, (ROWS + 1, *shape), np.uint8)
        return rng.standard_normal((ROWS + 1, *shape), np.float32).astype(sight.dtype)

    plain = random_replay(ROWS, STATE)
    return plain.replace(
        obs={**plain.obs, FRAME: at},
        next_obs={**plain.next_obs, FRAME: at + 1},
        frames={name: jnp.asarray(store(shape)) for name, shape in sight.shapes.items()},
    )
