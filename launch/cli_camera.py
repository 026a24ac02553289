"""`segue camera ...` and `segue hand ...`: cameras and a human's device, looked at before a run."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.live import Live

from launch.camera_check import check_cameras
from launch.hand_check import check_hand
from launch.options import EXIT_FAILED, Json
from launch.rig import own_terminal
from launch.runs import console
from launch.show import columns, show
from robot_env.camera_sources import parse_cameras
from robot_env.human import parse_device

SUMMARY = "Look at cameras before a run."
HAND_SUMMARY = "Look at a human's device before a run."

camera = tyro.extras.SubcommandApp()


@camera.command(name="check")
def check_(
    camera: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SOURCE")],
    seconds: float = 10.0,
    pictures: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    json: Json = False,
) -> None:
    """Show how often cameras give pictures, how old these are, how bright, and whether one is frozen. Exit code 1 where one is.

    Args:
        camera: Such as wrist_1=opencv:0, wrist_1=opencv:/dev/video2, wrist_1=file:clip.mp4, wrist_1=realsense:SERIAL; with
            @X,Y,WIDTH,HEIGHT behind it for a part of the picture.
        seconds: How long to look.
        pictures: Folder for one picture of each camera, as a policy sees it.
    """
    sources = parse_cameras(camera)
    if not sources:
        raise ValueError("--camera: names no camera; give such as wrist_1=opencv:0")
    with Live(console=console, transient=True) as live:
        rows = check_cameras(sources, seconds, pictures, lambda rows: live.update(columns(rows)))
    found = [{"camera": name, **row} for name, row in rows.items()]
    show(json, {"cameras": found})
    if any(row["state"] != "well" for row in rows.values()):
        sys.exit(EXIT_FAILED)


hand = tyro.extras.SubcommandApp()


@hand.command(name="check")
def check_hand_(
    device: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DEVICE")],
    seconds: float = 20.0,
    terminal: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None,
    json: Json = False,
) -> None:
    """Show what a SpaceMouse, a gamepad or the keyboard asks for, live: no arm moves.

    Args:
        device: spacemouse, gamepad or keyboard; NAME:PATH for one of several, NAME@180 where you face the arm.
        seconds: How long to look.
        terminal: Whose keys are read; by default the one that the command was given in.
    """
    choice, terminal = parse_device(device), terminal or own_terminal()
    with Live(console=console, transient=True) as live:

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False)

        told = check_hand(choice, terminal, seconds, lambda row: live.update(columns({device: row})), say)
    show(json, told)
