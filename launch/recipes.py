"""Recipes: everything that decides a run, as frozen dataclasses that are saved with it and can be run again."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.heads import Networks
from encoders.spatial import Vision
from robot_env.tasks import task_reference


@dataclass(frozen=True)
class Learning:
    """Networks and optimisers, the same in every phase of a run.

    Attributes:
        networks: sizes and kinds.
        actor_lr, critic_lr, temperature_lr: Adam's learning rates.
        tau: step of the moving targets.
        temperature: its initial value.
        target_entropy: nats; None is minus the number of action dimensions.
        vision: of a task with cameras: how pictures are seen.
    """

    networks: Networks = field(default_factory=Networks)
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    temperature_lr: float = 3e-4
    tau: float = 0.005
    temperature: float = 1.0
    target_entropy: float | None = None
    vision: Vision = field(default_factory=Vision)

    def __post_init__(self) -> None:
        for name in ("actor_lr", "critic_lr", "temperature_lr", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"learning: {name} is {getattr(self, name)}; give a positive number")
        if not 0 < self.tau <= 1:
            raise ValueError(f"learning: tau is {self.tau}; give a number above 0, at most 1")
        if self.target_entropy is not None and not math.isfinite(self.target_entropy):
            raise ValueError(f"learning: target_entropy is {self.target_entropy}; give a finite number of nats")


@dataclass(frozen=True)
class Collect:
    """Offline data. An arm's is of mixed quality from scripts, in a wider box than the task's, as in WSRL's appendix J.

    Attributes:
        transitions: how many at least; the last episode is finished.
        behavior: what acts: the arm's script, uniform random actions, a DAPG expert, or the policy of a run.
        source: the expert's .npz file, or the folder of the run.
        noise: whether an expert or a policy acts with its noise, or takes its most likely action.
        only_successes: keep the successful episodes only.
        give_up_after: episodes on end without a success, where only successes are kept.
        good_share: of scripted episodes, the share by a mildly noisy script; the rest by a bad one.
        widen: factor on the box and on the range of starts of an arm's task.
        max_steps: time limit of an arm's episodes: a slow hand may finish what the task's own limit would cut.
    """

    transitions: int = 8000
    behavior: Literal["scripted", "random", "expert", "policy"] = "scripted"
    source: str | None = None
    noise: bool = False
    only_successes: bool = False
    give_up_after: int = 500
    good_share: float = 0.25
    widen: float = 1.2
    max_steps: int = 60

    def __post_init__(self) -> None:
        for name in ("transitions", "max_steps", "give_up_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"collect: {name} is {getattr(self, name)}; give at least 1")
        if not 0 <= self.good_share <= 1:
            raise ValueError(f"collect: good_share is {self.good_share}; give a share from 0 to 1")
        if not self.widen >= 1:
            raise ValueError(f"collect: widen is {self.widen}; give 1 or more")


@dataclass(frozen=True)
class Offline:
    """Pre-training.

    Attributes:
        method: its name.
        coef: overrides of the method's coefficients.
        updates: minibatches.
        batch_size: transitions in each.
        before_updates: minibatches of what a method learns about the data first (`smac`, `spot`); 0: as many as `updates`.
        rate: factor on the learning rates that a method brings along (`smac`): runs far shorter than its paper's want more.
    """

    method: str = "calql"
    coef: dict[str, float] = field(default_factory=dict)
    updates: int = 40_000
    batch_size: int = 256
    before_updates: int = 0
    rate: float = 1.0


@dataclass(frozen=True)
class Online:
    """Fine-tuning.

    Attributes:
        method: its name.
        coef: overrides of the method's coefficients.
        bridge: how offline meets online.
        bridge_settings: the bridge's own numbers, such as `steps` of `warm_up`.
        env_steps: in all, warm-up included.
        utd: minibatches per environment step; of an on-policy method, passes over each rollout.
        batch_size: transitions in each minibatch.
        replay_capacity: transitions kept.
        replay: where the replay lives: `device` is faster, `host` holds more.
        block: environment steps between two rounds of updates, at most; an episode's end makes a round shorter. Of an on-policy
            method, the length of a rollout, whatever ends in it.
        pace: `lockstep` is exact and reproducible, with one actor; `free` lets learner and actors run beside each other.
        tolerance: minibatches by which learning may be ahead of acting, or behind it, while running free.
        stop_score: end the run at the first evaluation whose mean normalised score, acting as the headline does, is as high.
        after: the offline method; the checkpoint's, where there is one.
        before_updates: minibatches of what the method learns about the data first (`spot`), where the offline one has not.
        human_share: of each batch, from the steps in which a human acted; from the whole replay while there are none.
        policy: of the bridge `clone`: FILE.py:NAME or package.module:NAME, a function from observations to actions.
    """

    method: str = "sac"
    coef: dict[str, float] = field(default_factory=dict)
    bridge: str = "warm_up"
    bridge_settings: dict[str, float] = field(default_factory=dict)
    env_steps: int = 20_000
    utd: int = 4
    batch_size: int = 256
    replay_capacity: int = 200_000
    replay: Literal["device", "host"] = "device"
    block: int = 10
    pace: Literal["lockstep", "free"] = "lockstep"
    tolerance: int = 400
    stop_score: float | None = None
    after: str = "calql"
    before_updates: int = 10_000
    human_share: float = 0.0
    policy: str | None = None

    def __post_init__(self) -> None:
        for name in ("env_steps", "utd", "batch_size", "replay_capacity", "block", "before_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"online: {name} is {getattr(self, name)}; give at least 1")
        if self.stop_score is not None and not math.isfinite(self.stop_score):
            raise ValueError(f"online: stop_score is {self.stop_score}; give a finite score")
        if not 0 <= self.human_share < 1:
            raise ValueError(f"online: human_share is {self.human_share}; give a share from 0, below 1")
        if self.tolerance < self.utd:
            raise ValueError(
                f"online: tolerance is {self.tolerance}; give at least utd, {self.utd}, or nothing could be learned"
            )


@dataclass(frozen=True)
class Evaluation:
    """When and how often to test on the task's fixed trials.

    Attributes:
        trials: fixed initial poses.
        every_env_steps: between two evaluations while fine-tuning; the first is before any step, the last at the end.
        headline: which way of acting the headline figures use; both are always reported.
    """

    trials: int = 20
    every_env_steps: int = 500
    headline: Literal["mode", "sample"] = "sample"

    def __post_init__(self) -> None:
        if self.trials < 1 or self.every_env_steps < 1:
            raise ValueError(
                f"evaluation: trials {self.trials}, every_env_steps {self.every_env_steps}; give at least 1 of each"
            )


def check_seed(seed: int, seeds: int = 1) -> None:
    """Raises `ValueError` for seeds, `seeds` from `seed` on, that a generator would refuse, or none."""
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: give at least 1")
    if not 0 <= seed <= 2**32 - seeds:
        raise ValueError(f"--seed {seed}: give a whole number from 0 to {2**32 - seeds}")


def _settle(recipe: Any) -> None:
    """Checks a recipe's seeds, and names a task's file so that it is found from anywhere."""
    check_seed(recipe.seed, getattr(recipe, "seeds", 1))
    object.__setattr__(recipe, "task", task_reference(recipe.task))


@dataclass(frozen=True)
class CollectRecipe:
    """What `segue collect` does.

    Attributes:
        task: name of the task, or FILE.py that defines it.
        seed: of everything random.
        collect: what is collected.
    """

    task: str = "peg_insertion"
    seed: int = 0
    collect: Collect = field(default_factory=Collect)

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class PretrainRecipe:
    """What `segue pretrain` does.

    Attributes:
        data: the data set file.
        task: name of the task, or FILE.py that defines it.
        seed: of initialisation and all draws.
        seeds: how many seeds, from `seed` on, to train as one program; each gets a folder of its own.
        learning: networks and optimisers.
        offline: method and budget.
    """

    data: str
    task: str = "peg_insertion"
    seed: int = 0
    learning: Learning = field(default_factory=Learning)
    offline: Offline = field(default_factory=Offline)
    seeds: int = 1

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class FinetuneRecipe:
    """What `segue finetune` does.

    Attributes:
        checkpoint: folder of the pre-trained run; bridges that start from nothing (`rlpd`) take none.
        data: the data set file, for bridges that keep a share of it, and for observation statistics without a checkpoint.
        task: name of the task, or FILE.py that defines it.
        arm: which arm: `twin`, the simulated one, or NAME:ADDRESS such as serl:http://127.0.0.1:5000, and `,simulated` after
            it where a twin is behind the address: then the program acknowledges faults, as it does for `twin`.
        reward: folder of a classifier that judges success from the cameras; by default the task's geometry does.
        seed: of resets, actions and all draws.
        seeds: how many seeds, from `seed` on, to train as one program; each gets a folder of its own.
        learning: networks and optimisers; the checkpoint's networks, where there is one.
        online: method, bridge and budget.
        evaluation: when and how often to test.
    """

    checkpoint: str | None = None
    data: str | None = None
    task: str = "peg_insertion"
    arm: str = "twin"
    reward: str | None = None
    seed: int = 0
    learning: Learning = field(default_factory=Learning)
    online: Online = field(default_factory=Online)
    evaluation: Evaluation = field(default_factory=Evaluation)
    seeds: int = 1

    def __post_init__(self) -> None:
        _settle(self)
        if self.seeds > 1 and self.online.human_share:
            raise ValueError("--online.human-share: no human acts in the twins of several seeds; leave it out")


@dataclass(frozen=True)
class RehearseRecipe:
    """What `segue rehearse` does: collect, pre-train, fine-tune, and the baseline from the same data.

    Attributes:
        preset: which preset the numbers are from.
        task: name of the task, or FILE.py that defines it.
        seed: of everything.
        learning: networks and optimisers.
        collect: the data.
        offline: pre-training.
        online: fine-tuning; the baseline RLPD takes the same budget.
        evaluation: when and how often to test.
        reward: who judges success online: the task's `geometry`, or a `classifier` that is trained first.
        labels: frames that the classifier is trained on: so many of success, and of anything else.
    """

    preset: str
    task: str = "peg_insertion"
    seed: int = 0
    reward: Literal["geometry", "classifier"] = "geometry"
    labels: tuple[int, int] = (200, 500)
    learning: Learning = field(default_factory=Learning)
    collect: Collect = field(default_factory=Collect)
    offline: Offline = field(default_factory=Offline)
    online: Online = field(default_factory=Online)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True)
class CompareRecipe:
    """What `segue compare` does.

    Attributes:
        task: name of the task, or FILE.py that defines it.
        data: the data set's folder.
        preset: the numbers; by default ours for the task.
        offline: names of offline methods; by default the preset's.
        bridge: names of bridges.
        online: names of online methods, by default the preset's; every combination that means something is run.
        seeds: how many, trained as one program.
        seed: the first of them.
        updates: minibatches of pre-training, in place of the preset's.
        env_steps: environment steps of fine-tuning, in place of the preset's.
        trials: of each evaluation, in place of the preset's.
    """

    task: str
    data: str
    preset: str | None = None
    offline: tuple[str, ...] = ()
    bridge: tuple[str, ...] = ("direct", "warm_up", "retain", "anneal", "rlpd")
    online: tuple[str, ...] = ()
    seeds: int = 5
    seed: int = 0
    updates: int | None = None
    env_steps: int | None = None
    trials: int | None = None

    def __post_init__(self) -> None:
        _settle(self)
        for name in ("offline", "bridge", "online"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"--{name} {' '.join(getattr(self, name))}: name each once")
        if not self.bridge:
            raise ValueError("--bridge: name at least one")
        for name in ("updates", "env_steps", "trials"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} {value}: give at least 1")
