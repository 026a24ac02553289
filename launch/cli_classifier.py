"""`segue classifier ...`: a reward from pictures."""

from pathlib import Path
from typing import Annotated, Any

import tyro

from launch.classifier_camera import record_cameras, task_cameras
from launch.classifier_data import check_new, save_labelled
from launch.classifier_record import check_recordable, check_task_with_cameras, quotas, record
from launch.classifier_stages import check_stage, train_stage
from launch.options import Json
from launch.runs import console, progress_bar
from launch.show import show
from launch.tasks import find_task

SUMMARY = "Train a classifier that tells success from camera pictures, and say how good it is."
FOR_JSON_ONLY = ("losses",)  # of a report: too long for a table
Frames = Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
NewFolder = Annotated[Path, tyro.conf.arg(metavar="DIR")]

classifier = tyro.extras.SubcommandApp()


@classifier.command(name="record")
def record_(
    task: str,
    out: NewFolder,
    positives: int = 200,
    negatives: int = 500,
    seed: int = 0,
    camera: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SOURCE")] = (),
    labels: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None,
    json: Json = False,
) -> None:
    """Record labelled frames: from the twin, labelled by the simulator's truth, or from cameras, labelled by a person.

    Args:
        task: Such as peg_insertion_image: one with cameras.
        out: Folder of the frames; made anew.
        positives: Of the twin: frames of success.
        negatives: Of the twin: frames of anything else, most of them at the hole or half in.
        seed: Of the twin's episodes.
        camera: Instead of the twin: a source for each of the task's cameras, such as opencv:0, realsense:SERIAL or
            file:clip.mp4, see `segue camera check`. Keys label what is seen.
        labels: With --camera: a table of the columns start, end (frames), label (success or failure) and perhaps episode,
            instead of keys.
    """
    check_new(out)
    found = find_task(task)
    if camera:
        arm_task = check_task_with_cameras(found)
        data = record_cameras(arm_task, task_cameras(camera, arm_task), labels, console.print)
    elif labels is not None:
        raise ValueError(f"--labels {labels}: they are of a video; give its file with --camera")
    else:
        arm_task, wanted = check_recordable(found), quotas(positives, negatives)
        with progress_bar() as progress:
            bar = progress.add_task("record", total=sum(wanted.values()), note="")
            data = record(arm_task, positives, negatives, seed, lambda n: progress.update(bar, completed=n))
    save_labelled(data, out)
    show(json, {"data": str(out), **data.counts(), "made by": data.provenance})


@classifier.command
def train(
    data: Frames,
    out: NewFolder,
    encoder: str = "resnet10@0",
    consecutive: int = 2,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Train a classifier on labelled frames, and report on episodes held out in turn.

    Args:
        data: Folders of labelled frames.
        out: Folder of the classifier, its report and its pictures; made anew.
        encoder: The frozen image network: its file, or ARCHITECTURE@SEED for random weights.
        consecutive: As a reward, so many steps in a row have to look like success.
        seed: Of the split and of the training.
    """
    with progress_bar() as progress:
        bar = progress.add_task("train", total=None, note="")
        told = train_stage(data, encoder, out, consecutive, seed, lambda n: progress.update(bar, completed=n))
    _told(json, told)


@classifier.command
def check(
    classifier: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CLASSIFIER")],
    data: Frames,
    encoder: str = "resnet10@0",
    out: NewFolder | None = None,
    json: Json = False,
) -> None:
    """Report on a classifier with other labelled frames.

    Args:
        classifier: Its folder or file.
        data: Folders of labelled frames, none of which it was trained on.
        encoder: The frozen image network that it was trained with.
        out: Folder for the report and its pictures; made anew.
    """
    _told(json, check_stage(classifier, data, encoder, out))


def _told(json: bool, told: dict[str, Any]) -> None:
    show(json, told if json else {name: value for name, value in told.items() if name not in FOR_JSON_ONLY})
