"""The actor: acts on an arm and turns what happens into transitions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agent.policy import Policy, PolicyParams
from agent.types import SOURCES, Transition
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault


@dataclass(frozen=True)
class Episode:
    """How an episode of training went: its length in env_steps, whether it succeeded, and the fault that cut it, if any."""

    env_steps: int
    success: bool
    fault: str | None


class Actor:
    """Steps an environment with a policy. An episode's reset seed is a function of the run's seed and the episode's number,
    so a run that is taken up again between two episodes goes on exactly as it would have.

    Args:
        env: the environment.
        policy: what acts.
        seed: of the resets.
        operator: in whose name a fault is acknowledged (a twin's), or None where a human has to.
        actor_id: its name in every transition.
    """

    def __init__(self, env: RobotEnv, policy: Policy, seed: int, operator: str | None, actor_id: int = 0) -> None:
        self.env, self.policy, self._seed, self._operator, self.actor_id = env, policy, seed, operator, actor_id
        self.episodes = self.env_steps = 0
        self._obs: Mapping[str, np.ndarray] | None = None
        self._step = 0

    def resume(self, episodes: int, env_steps: int) -> None:
        """Goes on counting, and drawing, where an earlier run left off."""
        self.episodes, self.env_steps, self.policy.calls = episodes, env_steps, env_steps

    @property
    def between_episodes(self) -> bool:
        """Whether no episode is under way."""
        return self._obs is None

    def abandon(self) -> None:
        """Leaves the episode under way, if any, where it is; the next step begins a new one."""
        if self._obs is not None:
            self._obs, self.episodes = None, self.episodes + 1

    def run(self, now: PolicyParams, steps: int) -> tuple[list[Transition], Episode | None]:
        """Up to `steps` control steps; stops early at the end of an episode, and then returns it too."""
        transitions: list[Transition] = []
        if self._obs is None:
            self._obs, self._step = self._reset(), 0
        for _ in range(steps):
            action = self.policy(now, self._obs, self._step)
            next_obs, reward, terminated, truncated, info = self.env.step(action)
            human = info.get("intervene_action")
            asked = action if human is None else human
            transitions.append(
                Transition(
                    obs=self._obs,
                    # What is not finite was never sent: the arm held still, and that is what the replay may learn from.
                    action=asked if np.isfinite(asked).all() else info["executed_action"],
                    executed=info["executed_action"],
                    reward=float(reward),
                    next_obs=next_obs,
                    terminated=terminated,
                    truncated=truncated,
                    source=SOURCES.index("policy" if human is None else "human"),
                    policy_version=now.version,
                    actor_id=self.actor_id,
                    sequence=self.env_steps,
                )
            )
            self._obs, self._step, self.env_steps = next_obs, self._step + 1, self.env_steps + 1
            if terminated or truncated:
                return transitions, self._end(info)
        return transitions, None

    def _reset(self) -> Mapping[str, np.ndarray]:
        """Begins an episode; a fault on the way is acknowledged where the operator is the program, and tried once more."""
        seed = episode_seed(self._seed, self.episodes)
        try:
            return self.env.reset(seed=seed)[0]
        except ArmFault:
            if self._operator is None or self.env.fault is None:
                raise
            self.env.acknowledge(self._operator)
            return self.env.reset(seed=seed)[0]

    def _end(self, info: Mapping) -> Episode:
        self._obs, self.episodes = None, self.episodes + 1
        fault = info.get("fault")
        if fault is not None and self._operator is not None:
            self.env.acknowledge(self._operator)
        return Episode(self._step, bool(info["succeed"]), fault)


def episode_seed(seed: int, episode: int) -> int:
    """The reset seed of one episode of a run."""
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])
