"""`segue doctor`: what a machine, its arm, its cameras and a human's device are fit for, and what to do where they are not."""

import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Literal

import jax
from packaging.requirements import Requirement

from launch.camera_check import check_cameras
from launch.hand_check import AXES, check_hand
from launch.rig import Rig, own_terminal
from launch.robot_check import check_arm
from launch.robots.fci_version import CLIENTS, spoken_version
from robot_env.arm import Arm
from robot_env.franka import HOST
from robot_env.human import parse_device
from robot_env.make import ArmName, make_arm, parse_arm
from robot_env.tasks import Task

State = Literal["well", "note", "wrong"]
CAMERA_S = 2.0  # that cameras are looked at
HAND_S = 3.0  # that a device is looked at
RATE_S = 1.0  # that an arm is read
LATE_MS = 20.0  # a reading that takes longer leaves too little of a control period of 100 ms
ROOM_GB = 5.0  # of journals: pictures of two cameras for an hour are about 2 GB
PRIORITY = 80  # of a real-time thread, which libfranka asks for


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: `note` where something cannot be used, but nothing that was asked for needs it.
        found: how it is.
        do: what to do about it; empty where nothing is to be done.
    """

    what: str
    state: State
    found: str
    do: str = ""


def examine(task: Task, arm: str, rig: Rig) -> Iterator[Finding]:
    """Everything, one after the other, as it is found. Raises `ValueError` where a name is written wrongly."""
    written = parse_arm(arm)
    rig.check(task)
    yield python()
    yield from libraries()
    yield accelerator()
    yield rendering(task)
    yield room(Path.cwd())
    yield real_time(written)
    if written.name in CLIENTS:
        yield from guarded("firmware", "cable, address, and Desk's FCI switch", lambda: firmware(written))
    yield from guarded("arm", "cable, address, and whether another program holds it", lambda: arm_of(task, arm))
    if rig.camera:
        yield from guarded("cameras", "their cables and names", lambda: cameras(rig.cameras))
    if rig.by_hand:
        yield from guarded("hand", "its cable, and leave to read it", lambda: hand(rig))


def guarded(what: str, look_at: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What is found, and as the last thing why no more could be."""
    try:
        yield from look()
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        yield Finding(what, "wrong", str(error), f"look at {look_at}")


def python() -> Finding:
    """The interpreter."""
    return Finding("python", "well", f"{platform.python_version()}, {sys.platform}, {platform.machine()}")


def libraries() -> Iterator[Finding]:
    """What the project depends on, and what optional parts still want."""
    wanted = [Requirement(text) for text in requires("segue") or []]
    always = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    other = [fault for each in always if (fault := misfit(each)) is not None]
    if other:
        yield Finding("libraries", "wrong", "; ".join(other), "pip install the project again")
    else:
        yield Finding(
            "libraries", "well", f"{len(always)}, as pinned; mujoco {version('mujoco')}, jax {version('jax')}"
        )
    for extra in metadata("segue").get_all("Provides-Extra", []):
        if extra == "dev":  # for who works on the project itself
            continue
        its = [each for each in wanted if each not in always and each.marker is not None]
        faults = [misfit(each) for each in its if each.marker and each.marker.evaluate({"extra": extra})]
        missing = [fault for fault in faults if fault is not None]
        if missing:
            yield Finding(
                f"extra {extra}", "note", "; ".join(missing), f"pip install 'segue[{extra}]' where it is wanted"
            )


def misfit(wanted: Requirement) -> str | None:
    """Why a library is not as wanted; None where it is."""
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed"
    if wanted.specifier.contains(found, prereleases=True):
        return None
    return f"{wanted.name} is {found}, wanted {wanted.specifier}"


def accelerator() -> Finding:
    """What JAX computes on."""
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    if jax.default_backend() != "cpu":
        return Finding("accelerator", "well", devices)
    return Finding(
        "accelerator", "note", f"none: {devices}", "presets called quick are for this; else install jax[cuda12]"
    )


def rendering(task: Task) -> Finding:
    """Whether the twin's cameras draw."""
    try:
        with closing(make_arm(task, "twin")) as twin:
            camera = twin.cameras["wrist_1"]
            camera.read()
            begun_s = time.perf_counter()
            camera.read()
            took_ms = 1000.0 * (time.perf_counter() - begun_s)
    except RuntimeError as error:
        state: State = "wrong" if task.cameras else "note"
        return Finding("rendering", state, str(error), "tasks with cameras and videos need it")
    return Finding("rendering", "well", f"a picture of 128x128 in {took_ms:.1f} ms")


def room(folder: Path) -> Finding:
    """Space for journals."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < ROOM_GB:
        return Finding("disk", "wrong", f"{free_gb:.1f} GB are free in {folder}", "make room: a full disk ends a run")
    return Finding("disk", "well", f"{free_gb:.0f} GB are free in {folder}")


def real_time(arm: ArmName, kernel: Path = Path("/sys/kernel/realtime"), limit: int | None = None) -> Finding:
    """Whether a thread that answers a robot at 1 kHz may have priority; `franky` insists on it.

    Args:
        kernel: holds 1 where the kernel is a real-time one.
        limit: the highest priority that this user may ask for; by default the system's word.
    """
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    preempts = kernel.is_file() and kernel.read_text().strip() == "1"
    allowed = limit == resource.RLIM_INFINITY or limit >= PRIORITY
    if preempts and allowed:
        return Finding("real time", "well", "a kernel with PREEMPT_RT, and leave to use it")
    found = "the kernel has PREEMPT_RT, but priority is refused" if preempts else "the kernel has no PREEMPT_RT"
    needed = arm.name in ("franky", "panda") and not arm.simulated
    do = (
        f"set rtprio {PRIORITY} or more in /etc/security/limits.conf"
        if preempts
        else "install one, for franky and panda"
    )
    return Finding("real time", "wrong" if needed and arm.name == "franky" else "note", found, do)


def firmware(arm: ArmName) -> Iterator[Finding]:
    """Whether the robot speaks what the arm's client library does."""
    ours, its = CLIENTS[arm.name], spoken_version(arm.address or HOST, CLIENTS[arm.name])
    found = f"the robot speaks version {its} of its control interface, the client library of {arm.name} version {ours}"
    if its == ours:
        yield Finding("firmware", "well", found)
        return
    other = next((name for name, version in CLIENTS.items() if version == its), None)
    do = "install the robot's system that speaks it" if other is None else f"this is an arm for --arm {other}"
    yield Finding("firmware", "wrong", found, do)


def arm_of(task: Task, arm: str) -> Iterator[Finding]:
    """Whether the arm answers, how it stands, and how fast it is read. Nothing moves."""
    with closing(make_arm(task, arm)) as opened:
        facts, fault = check_arm(opened, task)
        if fault is None:
            yield Finding(f"arm {arm}", "well", f"the box: {facts['box']}; joints and wrench within their limits")
        else:
            yield Finding(
                f"arm {arm}", "wrong", fault, "segue robot check shows the rest; segue robot home brings it back"
            )
        if "read p99 ms" in facts:
            slow, found = (
                facts["read p99 ms"] > LATE_MS,
                f"a reading takes {facts['read p99 ms']} ms at the 99th percentile",
            )
            state: State = "wrong" if slow else "well"
            yield Finding("latency", state, found, "a cable of its own, and no other programs" if slow else "")
            yield Finding(
                "readings", "well", f"{rate_hz(opened):.0f} a second; a task at {task.hz:g} Hz needs {task.hz:g}"
            )


def rate_hz(arm: Arm, clock: Callable[[], float] = time.monotonic) -> float:
    """Readings a second."""
    begun_s, count = clock(), 0
    while (now_s := clock()) - begun_s < RATE_S:
        arm.read()
        count += 1
    return count / (now_s - begun_s)


def cameras(sources: Mapping[str, str]) -> Iterator[Finding]:
    """Each camera, for a while."""
    for name, row in check_cameras(sources, CAMERA_S).items():
        well = row["state"] == "well"
        found = f"{row['rate_hz']} frames a second, brightness {row['brightness']}"
        yield Finding(f"camera {name}", "well" if well else "wrong", found if well else f"{row['state']}; {found}")


def hand(rig: Rig) -> Iterator[Finding]:
    """The human's device, for a while; `segue hand check` shows its axes live."""
    told = check_hand(parse_device(rig.intervene or ""), rig.terminal or own_terminal(), HAND_S)
    ranges = {name: told[name] for name in AXES}
    moved = ", ".join(f"{name} {low:+.1f} to {high:+.1f}" for name, (low, high) in ranges.items() if low != high)
    if moved:
        yield Finding("hand", "well", f"{rig.intervene} was moved: {moved}")
    else:
        yield Finding(
            "hand", "note", f"{rig.intervene} is open, and was not moved", "move it: segue hand check shows it live"
        )
