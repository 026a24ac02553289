"""`segue deploy`."""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from launch.deploy import Deployment, Episode, deploy
from launch.options import EXIT_FAILED, Flat, Json, Realtime
from launch.rig import Rig
from launch.runs import console
from launch.show import show

DEPLOYMENT, RIG = Deployment(), Rig()


def deploy_(
    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    deployment: Annotated[Deployment, Flat] = DEPLOYMENT,
    realtime: Realtime = False,
    rig: Annotated[Rig, Flat] = RIG,
    record: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    json: Json = False,
) -> None:
    """Let a trained policy act on an arm, episode after episode; nobody learns.

    Exit code 1 where the arm was stopped.

    Args:
        checkpoint: Folder of a pretrain or finetune run.
        record: Add a JSON line for each episode to this file.
    """

    def tell(episode: Episode) -> None:
        how = f"stopped: {episode.fault}" if episode.fault else "success" if episode.success else "no success"
        hand = f", {episode.human_steps} by hand" if episode.human_steps else ""
        console.print(f"episode {episode.number}: {how}, {episode.env_steps} steps{hand}", markup=False, soft_wrap=True)

    result = deploy(checkpoint, deployment, realtime, rig, tell, record)
    show(json, result)
    if result["stopped"] is not None:
        sys.exit(EXIT_FAILED)
