"""What a preset is: all numbers of an experiment, from which recipes are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from launch.build import learning_with
from launch.recipes import Evaluation, Learning, Offline, Online

# Schulman et al. 2017, Table 3, where a preset says nothing else: a rollout of 2,048 steps, 10 passes, minibatches of 64.
PPO: Mapping[str, Any] = {"block": 2_048, "utd": 10, "batch_size": 64}


@dataclass(frozen=True)
class Preset:
    """The numbers of a paper, or of ours, for one domain.

    Attributes:
        name: `paper/domain`.
        source: where the numbers are from.
        tasks: names of the tasks that it is for.
        learning: networks and optimisers.
        offline, online: budgets, batch sizes, and the paper's own methods.
        evaluation: when and how often to test.
        coef: coefficients by method, where they are not the method's own.
        bridges: settings by bridge, where they are not the bridge's own.
        networks: fields of the networks by offline method, where they are not `learning`'s.
        offline_of: numbers of pre-training by offline method, where they are not `offline`'s.
        online_of: fields of `online` by online method, where they are not the same for all.
    """

    name: str
    source: str
    tasks: tuple[str, ...]
    learning: Learning = field(default_factory=Learning)
    offline: Offline = field(default_factory=Offline)
    online: Online = field(default_factory=Online)
    evaluation: Evaluation = field(default_factory=Evaluation)
    coef: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    bridges: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    offline_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    online_of: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"ppo": PPO})

    def offline_with(self, method: str) -> Offline:
        """Pre-training with a method, of the preset's size."""
        own = self.offline_of.get(method, {})
        return replace(self.offline, method=method, coef=dict(self.coef.get(method, {})), **own)

    def learning_with(self, method: str) -> Learning:
        """Networks and rates with an offline method. Raises `ValueError` where its networks do not go with the preset's."""
        own = replace(self.learning.networks, **self.networks.get(method, {}))
        return learning_with(method, replace(self.learning, networks=own))

    def online_with(self, method: str, bridge: str) -> Online:
        """Fine-tuning with a method behind a bridge, of the preset's size."""
        settings = dict(self.bridges.get(bridge, {}))
        coef, numbers = dict(self.coef.get(method, {})), self.online_of.get(method, {})
        return replace(self.online, method=method, coef=coef, bridge=bridge, bridge_settings=settings, **numbers)
