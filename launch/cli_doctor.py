"""`segue doctor`."""

import sys
from dataclasses import asdict
from typing import Annotated

from rich.text import Text

from launch.cli_robot import ArmOption, check_arm_task
from launch.doctor import examine
from launch.options import EXIT_FAILED, Flat, Json
from launch.rig import Rig
from launch.runs import results
from launch.show import show

COLOURS = {"well": "green", "note": "yellow", "wrong": "bold red"}
RIG = Rig()


def doctor(
    arm: ArmOption = "twin", task: str = "peg_insertion", rig: Annotated[Rig, Flat] = RIG, json: Json = False
) -> None:
    """Look at this machine, and at an arm, cameras and a human's device, and say what to do for each that is not well.

    Nothing moves. Exit code 1 where something is wrong.

    Args:
        task: Whose box, limits, cameras and rate hold.
    """
    findings = []
    for finding in examine(check_arm_task(task), arm, rig):
        findings.append(asdict(finding))
        if not json:
            line = Text.assemble((f"{finding.state:>5}", COLOURS[finding.state]), f"  {finding.what}: {finding.found}")
            results.print(line, soft_wrap=True)
            if finding.do:
                results.print(Text(f"       {finding.do}", "dim"), soft_wrap=True)
    wrong = [each["what"] for each in findings if each["state"] == "wrong"]
    if json:
        show(json, {"findings": findings, "wrong": wrong})
    if wrong:
        sys.exit(EXIT_FAILED)
