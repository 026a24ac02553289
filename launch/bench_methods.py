"""How fast each method updates, and what more seeds in the same program cost."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from agent.adopt import first_state, make_nets
from agent.heads import Networks
from agent.methods import find_method
from agent.types import Batch, Nets, Normalizer, Phase, View
from agent.update import update
from launch.bench import ACT, OBS, ROWS, random_replay, seconds
from launch.population import seeds_program, stack

BATCH = 256


def methods(names: Sequence[str], seeds: Sequence[int], repeats: int, updates: int = 10) -> dict[str, Any]:
    """Updates per second of each method with the paper's networks, one minibatch of 256 each, for so many seeds in one program.

    A row tells the seconds of a call with `updates` updates beside those of a call with none: the share that launching takes.
    GFLOP are what XLA counts for one update of one seed.
    """
    for count in seeds:
        if count < 1:
            raise ValueError(f"--seeds {count}: give at least 1")
    nets = make_nets({"state": (OBS,)}, ACT, Networks())
    replay = random_replay()
    rows = [_row(nets, name, count, replay, repeats, updates) for name in names for count in seeds]
    for row in rows:
        first = next(r for r in rows if r["method"] == row["method"])
        row["times_the_first"] = round(row["ms_per_update"] / first["ms_per_update"], 2)
    return {"device": jax.devices()[0].device_kind, "updates_per_dispatch": updates, "updates": rows}


def _row(nets: Nets, name: str, count: int, replay: Batch, repeats: int, updates: int) -> dict[str, Any]:
    run = _program(nets, name, count, replay)
    full = statistics.median(seconds(partial(run, updates)) for _ in range(repeats))
    empty = statistics.median(seconds(partial(run, 0)) for _ in range(repeats))
    gflop = 1e-9 * _flops(nets, name, replay)
    return {
        "method": name,
        "seeds": count,
        "ms_per_update": round(1e3 * full / updates, 3),
        "updates_per_s": round(updates / full, 2),
        "gflop_per_update_and_seed": round(gflop, 3),
        "gflops": round(gflop * count * updates / full, 1),
        "launch_share": round(min(empty / full, 1.0), 4),
    }


def _start(nets: Nets, name: str, seed: int) -> Any:
    normalizer = Normalizer({"state": jnp.zeros(OBS)}, {"state": jnp.ones(OBS)})
    return first_state(nets, find_method(name), normalizer, jax.random.key(seed))


def _prepared(nets: Nets, name: str, replay: Batch) -> Batch:
    """The replay as the method learns from it: an on-policy one prepares its rollouts once, for many updates."""
    method = find_method(name)
    return replay if method.rollout is None else method.rollout(View(nets, _start(nets, name, 0), method.coef), replay)


def _program(nets: Nets, name: str, count: int, replay: Batch) -> Callable[[int], Any]:
    """A compiled program of all seeds that has run once."""
    phase = Phase("bench", find_method(name), updates=1, batch_size=BATCH, shares={"offline": 1.0})
    assert phase.method is not None
    states = stack([_start(nets, name, seed) for seed in range(count)])
    filled, sizes = {"offline": _prepared(nets, name, replay)}, {"offline": jnp.int32(ROWS)}
    compiled = jax.jit(seeds_program(nets, phase, phase.method, count))
    jax.block_until_ready(compiled(states, filled, sizes, jnp.int32(0), 1))
    return lambda steps: compiled(states, filled, sizes, jnp.int32(0), steps)


def _flops(nets: Nets, name: str, replay: Batch) -> float:
    """Of one update of one minibatch, as the compiler counts them."""
    method = find_method(name)
    batch = jax.tree.map(lambda x: x[None, :BATCH], _prepared(nets, name, replay))
    lowered = jax.jit(lambda state: update(nets, method, state, batch, method.coef)).lower(_start(nets, name, 0))
    cost: Any = lowered.compile().cost_analysis()
    return float(cost["flops"])
