"""What the diagnostics say of a run of several seeds, from snapshots of its policies and critics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from agent import diagnostics
from agent.replay.rings import Rings
from agent.types import Batch, Nets, State, View

STATES = 256  # on which everything is measured
ACTIONS = 16  # of the softmax of Q, half of them each policy's
EARLY_STEPS = 30_000  # SOAR measures SQOR up to here
KEPT = ("actor", "critic", "temperature")


class Diagnosis:
    """Keeps snapshots of the actor and the critics, and compares them with the first and the last.

    Args:
        nets: of the run.
        folder: of the snapshots, `STEPS.npz` each, arrays `(S, ...)`.
        stochastic: whether the policy's std is trained: without, actions are its modes, and no divergence or TD error is told.
    """

    def __init__(self, nets: Nets, folder: Path, stochastic: bool) -> None:
        self._nets, self._folder, self._stochastic = nets, folder, stochastic

    def keep(self, env_steps: int, state: State) -> None:
        """Writes a snapshot; of a method without critics none."""
        if "critic" not in state.params:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        trees = {
            "params": {name: state.params[name] for name in KEPT if name in state.params},
            "target": {"critic": state.target["critic"]} if "critic" in state.target else {},
        }
        arrays = {name: np.asarray(x) for name, x in flatten_dict(trees, sep="/").items()}
        part = self._folder / "part.npz"
        np.savez(part, **arrays)  # type: ignore[arg-type]
        part.replace(self._folder / f"{env_steps:09d}.npz")

    def curves(self, final: State, rings: Rings, offline: Batch | None) -> dict[str, Any]:
        """By name, rows `(T, S)`, and `env_steps` of the T snapshots.

        On online states: SOAR's `sqor`, `sqog` and `o_sqor`, the divergence of policy and of softmax Q from the first snapshot,
        Q and TD error, the bias of Q where the return is known, and the volatility of Q from one snapshot to the next. On
        offline states, where there are: Q and TD error.
        """
        if not len(rings):
            return {}
        drawn_online = np.random.default_rng(0).integers(0, len(rings), STATES)
        online = jax.tree.map(lambda x: x[:, drawn_online], rings.columns)
        if offline is not None:
            drawn = np.random.default_rng(1).integers(0, len(offline.reward), STATES)
            offline = jax.tree.map(lambda x: x[drawn], offline)
        found: dict[str, list[Any]] = {}
        paths = sorted(self._folder.glob("0*.npz"))
        if not paths:
            return {}
        first, last = _read(paths[0]), _read(paths[-1])
        measure = jax.jit(jax.vmap(self._measure, in_axes=(0, 0, 0, 0, 0, 0, None)))
        before = first
        for path in paths:
            now = _read(path)  # one at a time: they are large
            for name, value in measure(first, before, now, last, final.normalizer, online, offline).items():
                found.setdefault(name, []).append(np.asarray(value))
            before = now
        found["volatility"] = list(np.asarray(jax.vmap(diagnostics.volatility, 1, 1)(jnp.stack(found.pop("change")))))
        rows = {name: [np.asarray(row).tolist() for row in values] for name, values in found.items()}
        return {"env_steps": [int(path.stem) for path in paths], **rows}

    def summary(self, final: State, rings: Rings, offline: Batch | None) -> dict[str, list[float]]:
        """One number `(S,)` for each diagnostic: its mean over the early snapshots, the first excepted."""
        curves = self.curves(final, rings, offline)
        if not curves:
            return {}
        steps = curves.pop("env_steps")
        horizon = max(min(EARLY_STEPS, steps[-1] / 4), steps[min(1, len(steps) - 1)])
        early = [i for i, n in enumerate(steps) if 0 < n <= horizon] or [0]
        means = {name: np.mean([rows[i] for i in early], axis=0) for name, rows in curves.items()}
        return {name: mean.tolist() for name, mean in means.items() if np.isfinite(mean).all()}

    def _measure(
        self, first: Any, previous: Any, now: Any, last: Any, normalizer: Any, online: Batch, offline: Batch | None
    ) -> dict[str, jax.Array]:
        key = jax.random.key(0)

        def view(snapshot: Mapping[str, Any]) -> View:
            state = State(snapshot["params"], snapshot["target"], {}, normalizer, jnp.int32(0), key)
            return View(self._nets, state, {})

        before, current, end = view(first), view(now), view(last)
        current_key, offline_key, q_key, td_key = jax.random.split(key, 4)
        here, there = current.pi(online.obs), before.pi(online.obs)
        acted = here.sample(current_key)[0] if self._stochastic else here.mode()
        prior = there.sample(offline_key)[0] if self._stochastic else there.mode()
        delta = diagnostics.preference(current, online.obs, acted, prior)
        delta_final = diagnostics.preference(end, online.obs, acted, prior)
        known = jnp.maximum(jnp.sum(online.has_return), 1.0)
        q = jnp.mean(current.q(online.obs, online.action), axis=0)
        found = {
            "sqor": diagnostics.sqor(delta, delta_final),
            "sqog": diagnostics.sqog(delta, delta_final),
            "o_sqor": diagnostics.o_sqor(delta, delta_final),
            "change": diagnostics.squared_change(view(previous), current, online.obs, online.action),
            "value_bias": jnp.sum((q - online.mc_return) * online.has_return) / known,
        }
        if self._stochastic:
            found["policy_kl"] = diagnostics.policy_kl(before, current, online.obs)
            found["softmax_q_kl"] = diagnostics.softmax_q_kl(before, current, online.obs, q_key, ACTIONS)
        for where, batch in (("online", online), ("offline", offline)):
            if self._stochastic and batch is not None and now["target"]:
                found |= {f"{k}_{where}": x for k, x in diagnostics.q_and_td(current, batch, td_key).items()}
        return found


def _read(path: Path) -> dict[str, Any]:
    with np.load(path) as file:  # pickles are not allowed, by default
        tree = unflatten_dict({name: jnp.asarray(file[name]) for name in file.files}, sep="/")
    return {"params": tree["params"], "target": tree.get("target", {})}
