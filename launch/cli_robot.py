"""`segue robot ...`: an arm without learning: look at it, bring it home, stop it; and a twin that answers as one."""

import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.live import Live
from rich.text import Text

from launch.options import EXIT_FAILED, Json
from launch.rig import own_terminal
from launch.robot_check import check_arm, home_arm
from launch.robots.fci import FciTwin, serve_fci
from launch.robots.fci_server import PORT
from launch.runs import console
from launch.show import show
from launch.task_file import FIELDS, check_margin, check_out, taught_task, write_task
from launch.tasks import find_task
from launch.teach import HELP, Lesson, picture, readings, teach
from robot_env.hand_thread import ThreadedDevice
from robot_env.keyboard import Keyboard
from robot_env.make import make_arm, parse_arm
from robot_env.tasks import Task
from robot_env.watchdog import HOLD_AFTER_S, STOP_AFTER_S

SUMMARY = "Look at an arm, teach it a box, bring it home, stop it; or serve a twin as a robot."
ArmOption = Annotated[
    str,
    tyro.conf.arg(help="`twin`, or NAME:ADDRESS such as serl:http://127.0.0.1:5000.", metavar="ARM"),
]
Pace = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="Let time pass on the wall clock; otherwise it stands still between references."),
]

robot = tyro.extras.SubcommandApp()


@robot.command
def serve(
    protocol: Literal["serl", "fci"] = "serl",
    version: Literal[5, 10] = 5,
    task: str = "peg_insertion",
    host: str = "127.0.0.1",
    port: int | None = None,
    pace: Pace = False,
    hold_after_s: float = HOLD_AFTER_S,
    stop_after_s: float = STOP_AFTER_S,
    seed: int = 0,
) -> None:
    """Serve the twin of a task over a robot's own protocol, until Ctrl-C.

    Args:
        protocol: `serl`: the HTTP server of SERL. `fci`: the Franka Control Interface.
        version: Of the Franka Control Interface: 5 is a Panda (`--arm panda:HOST,simulated`), 10 an FR3 (`--arm franky:...`).
        task: What the twin stands in front of.
        host: Where to listen. Nobody is asked who they are: keep it on loopback or a network of your own.
        port: 0 takes a free one; by default 5000 for serl, and 1337 for fci, whose clients know no other.
        hold_after_s: Of serl, with --pace: without a reference for so long, the arm is held where it is.
        stop_after_s: Of serl, with --pace: and then it is stopped, until somebody clears the error.
        seed: Of the scenes that a joint reset draws (serl), or of the one scene (fci).
    """
    found = check_arm_task(task)
    if protocol == "fci":
        serve_franka(found, FciTwin(version, host, PORT if port is None else port, paced=pace, seed=seed))
    else:
        serve_serl(found, host, 5000 if port is None else port, pace, hold_after_s, stop_after_s, seed)


def serve_serl(
    task: Task, host: str, port: int, pace: bool, hold_after_s: float, stop_after_s: float, seed: int
) -> None:
    """SERL's HTTP server."""
    try:
        from launch.robots.serl_robot import SerlRobot
        from launch.robots.serving import bind, serve
    except ModuleNotFoundError as error:
        raise ValueError(f"segue robot serve needs the package {error.name!r}; install segue[serve]") from error
    served = SerlRobot(task, pace, hold_after_s, stop_after_s, seed)
    listener = bind(host, port)
    address = "http://{}:{}".format(*listener.getsockname())
    how = "time passes on the wall clock" if pace else "each reference lets one control period pass"
    console.print(
        f"the twin of {task.name} is at {address} (serl; {how}): `--arm serl:{address},simulated`", soft_wrap=True
    )
    serve(served, listener)


def serve_franka(task: Task, twin: FciTwin) -> None:
    """The Franka Control Interface."""

    def say(address: tuple[str, int]) -> None:
        how = "time passes on the wall clock" if twin.paced else "time waits for the client's commands"
        arm = "panda" if twin.version == 5 else "franky"
        console.print(
            f"the twin of {task.name} is at {address[0]}:{address[1]} (fci, version {twin.version}; {how}):"
            f" `--arm {arm}:{address[0]},simulated`",
            soft_wrap=True,
        )

    serve_fci(task, twin, threading.Event(), say)


@robot.command
def check(arm: ArmOption = "twin", task: str = "peg_insertion", json: Json = False) -> None:
    """Connect, read, and say how the arm stands: pose, joints and their margins, wrench, box, latency. Nothing moves.

    Args:
        task: Whose box and limits hold.
    """
    found = check_arm_task(task)
    with closing(make_arm(found, arm)) as opened:
        facts, fault = check_arm(opened, found)
    show(json, facts)
    if fault is not None:
        console.print(f"segue robot check: {fault}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_FAILED)


@robot.command
def home(
    arm: ArmOption = "twin", task: str = "peg_insertion", acknowledge: str | None = None, json: Json = False
) -> None:
    """Bring the arm to the middle of the task's start poses, by the path of a reset, every pose of it checked.

    Args:
        task: Whose box, limits and start pose hold.
        acknowledge: Your name, once you have looked at an arm that was stopped: clears the fault that is met, and goes on.
    """
    found = check_arm_task(task)
    show(json, home_arm(make_arm(found, arm), found, acknowledge))


@robot.command
def stop(arm: ArmOption = "twin", task: str = "peg_insertion", json: Json = False) -> None:
    """Stop the arm now: it holds where it is, and follows nothing until somebody has acknowledged it."""
    found = check_arm_task(task)
    with closing(make_arm(found, arm)) as opened:
        doubt = opened.stop("an operator gave `segue robot stop`")
    show(json, {"arm": arm, "stopped": doubt is None})
    if doubt is not None:
        console.print(f"segue robot stop: {doubt}; press the robot's own stop", markup=False, soft_wrap=True)
        sys.exit(EXIT_FAILED)


@robot.command(name="teach-box")
def teach_box(
    arm: ArmOption,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.py")],
    like: str = "peg_insertion_franka",
    margin_m: float = 0.002,
    margin_rad: float = 0.01,
    terminal: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None,
    json: Json = False,
) -> None:
    """Find a task's target and box by guiding the arm by hand, and write the task's file. Nothing moves by itself.

    Start it, then hold the guiding buttons, or with SERL's server let impedance control off. Every pose that is read belongs to
    the box, but for those near a joint's limit. t or Enter: here is the target; n: the box begins anew; q: write the file.

    Args:
        out: The file of the task; its name is the task's, and `--task FILE.py` takes it.
        like: What the new task is like in all else: a task, or its FILE.py.
        margin_m: How much further than shown the tool may go, m.
        margin_rad: How much further than shown the tool may turn, rad.
        terminal: Whose keys are read; by default the one that the command was given in.
    """
    name, found, margin = check_out(out), check_arm_task(like), (margin_m, margin_rad)
    check_margin(margin)
    if parse_arm(arm).name == "twin":
        raise ValueError("--arm twin: nobody can guide it; see `segue robot serve`, whose twin other programs may move")
    keys, lesson = ThreadedDevice("keyboard", Keyboard(terminal or own_terminal() or "/dev/tty")), Lesson(found, margin)

    def finish() -> None:
        task = taught_task(lesson, found, name, margin)
        write_task(out, task, like, margin, len(lesson.poses))

    keys.open()
    try:
        with closing(make_arm(found, arm)) as opened:
            opened.connect()
            console.print(f"guide the arm. {HELP}", markup=False, highlight=False, soft_wrap=True)
            with Live(console=console, transient=True) as live:
                states = readings(opened, lambda text: live.update(Text(text, "bold red")))
                teach(states, keys.presses, lesson, lambda state: live.update(picture(lesson, state)), finish)
    finally:
        keys.close()
    task = check_arm_task(str(out))
    show(
        json, {"task": str(out), "poses": len(lesson.poses), **{field: list(getattr(task, field)) for field in FIELDS}}
    )


def check_arm_task(name: str) -> Task:
    """The task of an arm. Raises `ValueError` for one that is only simulated."""
    task = find_task(name)
    if not isinstance(task, Task):
        raise ValueError(f"--task {name}: it has no arm; choose one such as peg_insertion")
    return task
