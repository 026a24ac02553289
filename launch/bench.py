"""Speed, measured beside its ceiling in the same run: absolute figures drift with the machine, ratios hold."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.adopt import first_state, make_nets
from agent.heads import Networks
from agent.methods import find_method
from agent.replay.mixture import draw
from agent.types import Batch, Nets, Normalizer
from agent.update import train

OBS, ACT, ROWS = 17, 6, 100_000  # HalfCheetah's shapes, and a replay that does not fit a cache
MATMUL = 2048  # side of the square product that stands for the machine's ceiling; larger ones are slower
PUBLISHED = {"sac": 3.3, "cql": 0.04}  # steps/s of WSRL's published code, same shapes, two quiet CPU cores


def update(repeats: int = 5) -> dict[str, Any]:
    """Gradient steps per second of SAC and CQL with the paper's networks, and the GFLOP/s they amount to.

    SAC: 10 critics, 2 sampled, 256x2, layer norm, 4 minibatches of 256 and the actor on their 1024.
    CQL: the same critics, 10 sampled actions per source, batch 256.
    """
    networks = Networks()
    nets = make_nets({"state": (OBS,)}, ACT, networks)
    replay = random_replay()
    jobs = {"sac": (4, 20), "cql": (1, 3)}
    programs = {name: program(nets, name, utd, replay) for name, (utd, _) in jobs.items()}
    matrix = jax.random.normal(jax.random.key(0), (MATMUL, MATMUL))
    product = jax.jit(lambda x: x @ x)
    ceilings: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):  # in turn, so that a drift of the machine meets all alike
        ceilings.append(2e-9 * MATMUL**3 / min(seconds(lambda: product(matrix)) for _ in range(5)))
        for name, (_, steps) in jobs.items():
            rates[name].append(steps / seconds(partial(programs[name], steps)))
    ceiling = statistics.median(ceilings)
    rows = [_row(name, rates[name], flops(name, networks), ceilings) for name in jobs]
    return {"matmul_gflops": round(ceiling, 1), "device": jax.devices()[0].device_kind, "updates": rows}


def _row(name: str, rates: list[float], flop: float, ceilings: list[float]) -> dict[str, Any]:
    rate = statistics.median(rates)
    share = statistics.median(1e-9 * flop * r / c for r, c in zip(rates, ceilings, strict=True))
    return {
        "method": name,
        "steps_per_s": round(rate, 2),
        "min": round(min(rates), 2),
        "max": round(max(rates), 2),
        "published_code_steps_per_s": PUBLISHED[name],
        "gflop_per_step": round(1e-9 * flop, 2),
        "gflops": round(1e-9 * flop * rate, 1),
        "share_of_matmul": round(share, 3),
    }


def flops(method: str, networks: Networks, batch: int = 256, utd: int = 4, actions: int = 10) -> float:
    """Floating-point operations of the matrix products that a step cannot do without, 2 per multiply-add.

    A forward pass counts once; the backward pass once for the inputs of each layer and once for its weights, where they are
    needed (an actor's gradient needs none of the critic's weights). All else (layer norm, Adam, targets) counts as nothing.
    """
    hidden = networks.critic_hidden
    widths = list(zip((OBS + ACT, *hidden), (*hidden, 1), strict=True))
    obs_half, rest = OBS * hidden[0], sum(a * b for a, b in widths) - OBS * hidden[0]
    critic = 2.0 * (obs_half + rest)
    actor_widths = zip((OBS, *networks.actor_hidden), (*networks.actor_hidden, 2 * ACT), strict=True)
    actor = 2.0 * sum(a * b for a, b in actor_widths)
    e, m = networks.critics, networks.members_per_target
    follow = lambda rows: rows * (3 * actor + 2 * e * critic) + rows * actor  # noqa: E731  (actor loss, then temperature)
    if method == "sac":
        rows = utd * batch
        return rows * (3 * e * critic + m * critic + actor) + follow(rows)
    many = 3 * actions + 1
    penalty = batch * e * 3 * (2.0 * obs_half + many * 2.0 * rest)
    target = batch * m * (2.0 * obs_half + actions * 2.0 * rest)
    return penalty + target + 2 * batch * actor + follow(batch)


def seconds(run: Callable[[], Any]) -> float:
    start_s = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start_s


def program(nets: Nets, name: str, utd: int, replay: Batch) -> Callable[[int], Any]:
    """A compiled training program that has already run once."""
    method = find_method(name)
    zeros, ones = {"state": jnp.zeros(OBS)}, {"state": jnp.ones(OBS)}
    state = first_state(nets, method, Normalizer(zeros, ones), jax.random.key(0))
    sources, size = {"offline": (replay, jnp.int32(ROWS))}, 256

    @jax.jit
    def trained(state: Any, steps: int) -> Any:
        batches = lambda _, key, i: draw(sources, {"offline": 1.0}, key, i, i, utd, size)  # noqa: E731
        return train(nets, method, state, batches, lambda i: method.coef, steps)

    jax.block_until_ready(trained(state, 1))
    return lambda steps: trained(state, steps)


def random_replay(rows: int = ROWS, obs: int = OBS) -> Batch:
    """Normal rows on the device."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    columns = Batch(
        obs={"state": normal(rows, obs)},
        action=np.tanh(normal(rows, ACT)),
        reward=normal(rows),
        next_obs={"state": normal(rows, obs)},
        mask=np.ones(rows, np.float32),
        mc_return=np.zeros(rows, np.float32),
        has_return=np.ones(rows, np.float32),
        source=np.zeros(rows, np.int32),
        ended=np.zeros(rows, np.float32),
        outcome=np.ones(rows, np.float32),
    )
    return jax.tree.map(jnp.asarray, columns)
