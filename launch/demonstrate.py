"""`segue record demos`: a human, or the task's script, shows how it is done, and what they keep becomes a data set.

Every step is in the journal as soon as it was taken. An episode that is not kept stays there with a tombstone, as in a run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.policy import PolicyParams
from agent.replay.entry import Step
from agent.replay.journal import Journal
from agent.types import Normalizer
from launch.actor import Actor
from launch.attendant import attendant_of
from launch.build import journal_info
from launch.collect import ScriptedHand
from launch.journal_tools import JOURNAL
from launch.judging import make_judged_env
from launch.recipes import Learning, check_seed
from launch.recording import Recording
from launch.rig import Rig
from launch.runs import prepare
from launch.tasks import Environment, check_task
from robot_env.env import RobotEnv
from robot_env.human import Human
from robot_env.intervention import Intervention
from robot_env.operator import Verdict
from robot_env.tasks import Task
from robot_env.tasks.peg_insertion import PegScene

SCRIPT = "script"
LOOK_S = 0.05  # between two looks for a key while the arm rests
NOTHING = PolicyParams({}, Normalizer({}, {}), 0)  # no policy acts


@dataclass(frozen=True)
class Demos:
    """What is recorded.

    Attributes:
        task: name of the task.
        arm: which arm; `twin` is the simulated one.
        episodes: to keep.
        max_steps: time limit of an episode: a hand is slower than a policy. 300 is half a minute at 10 Hz.
        reward: folder of a classifier that judges success from the cameras; by default the task's geometry does, or a key.
        seed: of the start poses and of the twin's scenes.
    """

    task: str = "peg_insertion"
    arm: str = "twin"
    episodes: int = 20
    max_steps: int = 300
    reward: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("episodes", "max_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: give at least 1")


class Idle:
    """The policy of a recording: it leaves the arm where it is. `calls` is the actor's to count."""

    calls = 0

    def __init__(self, action_dim: int) -> None:
        self._still = np.zeros(action_dim, np.float32)

    def __call__(self, now: PolicyParams, obs: Mapping[str, np.ndarray], step: int) -> np.ndarray:
        return self._still


class Demonstrator:
    """Who shows it: all of an episode is theirs, so that to hold still is an action of theirs too."""

    def __init__(self, shows: Intervention, action_dim: int) -> None:
        self._shows, self._still = shows, np.zeros(action_dim)

    def action(self, obs: Mapping[str, np.ndarray], pose: Sequence[float]) -> np.ndarray | None:
        action = self._shows.action(obs, pose)
        return self._still if action is None else action


class Script:
    """The peg's script as a demonstrator; it knows where the twin's hole is."""

    def __init__(self, seed: int) -> None:
        self._seed, self._hand, self._begun = seed, ScriptedHand(1.0), False
        self.env: RobotEnv | None = None

    def begin(self) -> None:
        """The next action is the first of an episode."""
        self._begun = False

    def action(self, obs: Mapping[str, np.ndarray], pose: Sequence[float]) -> np.ndarray | None:
        if not self._begun and self.env is not None:
            drawn = int(self.env.np_random.integers(2**32))  # of the episode's own seed
            self._hand.begin(self.env, 0, np.random.default_rng([self._seed, drawn]))
            self._begun = True
        return self._hand.act(obs)


Say = Callable[[str], None]


class Session:
    """Shows episode after episode.

    Args:
        env: where.
        recording: takes what is shown.
        demos: what is wanted.
        script: shows it, where no human does: what succeeds is kept.
        human: shows it and says what to keep.
        say: tells them something.
        sleep: lets seconds pass.
    """

    def __init__(
        self,
        env: Environment,
        recording: Recording,
        demos: Demos,
        script: Script | None,
        human: Human | None,
        say: Say,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._env, self._recording, self._wanted = env, recording, demos.episodes
        self._script, self._human, self._say, self._sleep = script, human, say, sleep
        operator = None if human is None else human.operator
        attendant = attendant_of(demos.arm, operator, say, sleep)
        idle = {0: Idle(env.task.action_dim)}
        self._actor = Actor(env, idle, demos.seed, attendant, session=recording.session)  # type: ignore[arg-type]
        self._actor.episodes = recording.episodes_before

    def run(self, progress: Callable[[int, str], None]) -> None:
        """Until enough episodes are kept, or the human stops between two; an episode that is cut short is not kept."""
        recording = self._recording
        progress(recording.kept, "")
        if self._human is not None:
            self._say(self._human.help)
        try:
            while recording.kept < self._wanted and self._ask("Enter begins, Space ends the recording") != "stop":
                last = self._episode()
                note = self._judge(last)
                progress(recording.kept, note)
        finally:
            if recording.is_open:
                recording.drop("cut short")

    def _episode(self) -> Step:
        """One episode; its last step."""
        if self._script is not None:
            self._script.begin()
        while True:
            step = self._actor.step(NOTHING)
            self._recording.take(step)
            if step.ends_episode:
                return step

    def _judge(self, last: Step) -> str:
        """Keeps the episode or not; how it went, in words."""
        how = "success" if last.success else last.fault or ("failure" if last.transition.terminated else "no success")
        if last.discarded:
            self._recording.drop("discarded while it ran")
            return "discarded"
        question = f"{how} after {self._recording.steps} steps: Enter keeps it, Backspace or x does not"
        kept = last.success if self._human is None else self._ask(question) == "success"
        if kept:
            self._recording.keep()
        else:
            self._recording.drop(how if self._human is None else f"{how}; not kept")
        return how if kept else f"{how}, not kept"

    def _ask(self, question: str) -> Verdict | None:
        """What the human says to a question, once they do; None where there is no human."""
        if self._human is None or self._human.operator is None:
            return None
        self._say(question)
        while (verdict := self._human.operator.verdict()) in (None, "pause"):
            self._sleep(LOOK_S)
        return verdict


def demos_stage(
    demos: Demos,
    task: Task,
    rig: Rig,
    folder: Path,
    resume: bool,
    say: Say = lambda text: None,
    progress: Callable[[int, str], None] = lambda kept, note: None,
) -> Path:
    """Records into `folder` until so many episodes are kept; returns the folder, which `load_dataset` takes.

    Args:
        rig: what stands beside the arm; its `intervene` may be `script`, the task's own in the twin.
        say: tells the human something.
        progress: called with the number of episodes kept, and how the last one went.

    Raises:
        ValueError: something does not fit, or the folder is taken.
        ConnectionError: a device or the arm cannot be reached.
        ArmFault: a fault waits for a human, and there is none with keys.
    """
    check_task(task, demos.arm)
    scripted = check_rig(demos, task, rig)
    longer = replace(task, max_steps=demos.max_steps)
    by = "the task's script" if scripted else f"hand ({rig.intervene})"
    info = journal_info(longer, f"demonstrations by {by} on {demos.arm}, seed {demos.seed}")
    plain = {name: x for name, x in vars(demos).items() if name != "episodes"}  # more may be added
    script = Script(demos.seed) if scripted else None
    human = Human(script, None) if script is not None else rig.human(longer)
    assert human is not None
    assert human.intervention is not None
    try:
        prepare(folder, {"command": "record demos", **plain, "by": by}, resume)
        shown = replace(human, intervention=Demonstrator(human.intervention, longer.action_dim))
        by_hand = script is None and rig.by_hand  # which takes time
        vision = Learning().vision
        with closing(make_judged_env(longer, demos.arm, demos.reward, vision, by_hand, rig.cameras, shown)) as env:
            if script is not None:
                script.env = env  # type: ignore[assignment]
            with closing(Journal.open(folder / JOURNAL, info)) as journal:
                recording = Recording(journal, demos.arm)
                Session(env, recording, demos, script, shown if by_hand else None, say).run(progress)
    finally:
        human.close()
    return folder


def check_rig(demos: Demos, task: Task, rig: Rig) -> bool:
    """Whether the task's script shows it. Raises `ValueError` where nobody does, or it cannot."""
    if rig.intervene is None:
        raise ValueError(f"--intervene: it is not said who shows it; give {SCRIPT}, spacemouse, gamepad or keyboard")
    rig.check(task, also=SCRIPT)
    if rig.intervene != SCRIPT:
        return False
    if demos.arm != "twin" or not isinstance(task.scene, PegScene):
        raise ValueError(
            f"--intervene {SCRIPT}: only the peg's script in the twin knows where the hole is; give a device for "
            f"task {task.name!r} on arm {demos.arm!r}"
        )
    return True
