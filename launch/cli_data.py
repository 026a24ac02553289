"""`segue data ...`: data sets brought in, looked at, checked and edited."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from encoders.spatial import Vision
from launch.build import sight_of
from launch.data_check import check
from launch.data_edit import Keep, filtered, merged, relabelled, split, write_all
from launch.data_facts import facts
from launch.data_plot import draw
from launch.data_scan import Finding
from launch.data_tools import Source, bring_in, export, open_journal, open_source, require_finite
from launch.features import encoded
from launch.judging import judged
from launch.options import EXIT_FAILED, Flat, Json
from launch.recipes import check_seed
from launch.show import show
from launch.tasks import find_task

SUMMARY = "Bring data sets in, look at them, check them and edit them."
Format = Literal["d4rl", "minari", "dapg", "serl"]
WriteFormat = Literal["d4rl", "minari"]
Journal = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="JOURNAL")]
Data = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
NewFolder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
KEEP = Keep()
On = tyro.conf.FlagCreatePairsOff[bool]

data = tyro.extras.SubcommandApp()


@data.command(name="import")
def import_(
    path: Data,
    format: Format,
    task: str,
    out: NewFolder,
    discount: float | None = None,
    finite: On = False,
    json: Json = False,
) -> None:
    """Make a journal of a file in a public format, and say what is strange about it.

    The exit code is 1 where `segue data validate` would find errors; the journal is written all the same. Data that is not of
    the task's sizes, or is damaged, is refused.

    Args:
        path: The file, or the folder of files.
        format: `d4rl`: HDF5 or npz. `minari`: folder of a data set. `dapg`: pickled demonstrations. `serl`: pickled
            transitions, a file or a folder of them.
        task: What it is data of, see `segue tasks`; any other name needs --discount, and nothing is checked against it.
        out: Folder of the journal; made anew.
        discount: Per step, of a task that is not listed.
        finite: Leave out episodes with numbers that are not finite, which are refused otherwise.
    """
    source = bring_in(path, format, task, out, discount, finite)
    found = check(source)
    _finish(json, {"data": str(out), **_counts(source)}, found)


@data.command(name="export")
def export_(journal: Journal, format: WriteFormat, out: Path, json: Json = False) -> None:
    """Write a journal in a public format, with raw rewards.

    Args:
        journal: Folder of the journal, or of its run.
        format: `d4rl`: one HDF5 file. `minari`: the folder of a data set.
        out: The file or folder; made anew.
    """
    source = open_journal(journal)
    export(source, format, out)
    show(json, {"file": str(out), **_counts(source)})


@data.command
def validate(
    path: Data,
    format: Format | None = None,
    task: str | None = None,
    discount: float | None = None,
    json: Json = False,
) -> None:
    """Look for what is wrong or strange with data. The exit code is 1 where there is an error, 0 for warnings and notes.

    Args:
        path: A journal or its run; or with --format a file that may be imported.
        format: Of a file.
        task: What a file is data of; without it, less can be checked.
        discount: Of a file's task that is not listed.
    """
    source = open_source(path, format, task, discount)
    _finish(json, {"data": str(path), **_counts(source)}, check(source))


@data.command
def info(
    path: Data,
    format: Format | None = None,
    task: str | None = None,
    discount: float | None = None,
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None,
    json: Json = False,
) -> None:
    """Say what data holds: sizes, returns, lengths, actions, rewards, and where it came from.

    Args:
        path: A journal or its run; or with --format a file that may be imported.
        format: Of a file.
        task: What a file is data of; without it there are no normalised scores.
        discount: Of a file's task that is not listed.
        plot: Draw returns, lengths, actions and coverage into this file.
    """
    source = open_source(path, format, task, discount)
    require_finite(source.dataset, path, "see where with `segue data validate`")
    told = facts(source)
    if plot is not None:
        draw(source, plot)
        told["plot"] = str(plot)
    show(json, told)


@data.command(name="filter")
def filter_(
    journal: Journal,
    out: NewFolder,
    keep: tyro.conf.FlagCreatePairsOff[Annotated[Keep, Flat]] = KEEP,
    json: Json = False,
) -> None:
    """Keep whole episodes of which all that is given holds.

    Args:
        journal: Folder of the journal, or of its run; it is not changed.
        out: Folder of the new journal; made anew.
    """
    source = open_journal(journal)
    _written(json, {out: filtered(source.dataset, keep)}, [source])


@data.command
def merge(
    journals: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="JOURNAL")],
    out: NewFolder,
    json: Json = False,
) -> None:
    """Put journals of one task, with the same observations and rewards, one after another.

    Args:
        journals: Folders of journals, or of their runs; they are not changed.
        out: Folder of the new journal; made anew.
    """
    sources = [open_journal(journal) for journal in journals]
    names = [str(journal) for journal in journals]
    _written(json, {out: merged([source.dataset for source in sources], names)}, sources)


@data.command(name="split")
def split_(
    journal: Journal, out: NewFolder, out_rest: NewFolder, share: float = 0.9, seed: int = 0, json: Json = False
) -> None:
    """Divide a journal in two, by whole episodes drawn at random.

    Args:
        journal: Folder of the journal, or of its run; it is not changed.
        out: Folder of the first part; made anew.
        out_rest: Folder of the rest; made anew.
        share: Of the episodes that go to the first part.
        seed: Of the draw.
    """
    check_seed(seed)
    source = open_journal(journal)
    first, rest = split(source.dataset, share, seed)
    if out == out_rest:
        raise ValueError(f"--out-rest {out_rest}: it is the same as --out; give each part its own folder")
    _written(json, {out: first, out_rest: rest}, [source])


@data.command
def relabel(
    journal: Journal,
    task: str,
    out: NewFolder,
    only_successes: On = False,
    classifier: Path | None = None,
    encoder: str | None = None,
    views: int = 0,
    json: Json = False,
) -> None:
    """Give data the reward of a sparse task: failing until the first success, which is terminal; the rest is cut off.

    Pictures are in the journal as they came, so what is made of them can be made again: rewards, where a classifier was trained
    anew, and features, where the encoder is another one.

    Args:
        journal: Folder of the journal, or of its run; it is not changed.
        task: Such as door-binary: one whose observations tell of success; or one with cameras, with --classifier.
        out: Folder of the new journal; made anew.
        only_successes: Drop episodes that never succeed, as Cal-QL and WSRL do with Adroit's.
        classifier: Who judges success from the pictures: folder of `segue classifier train`.
        encoder: Also compute the features of this trunk, ARCHITECTURE@SEED or a file, and keep them in the new journal; with
            --classifier, the one that it was trained with, by default resnet10@0.
        views: Of features: randomly shifted copies beside each picture.
    """
    source = open_journal(journal)
    vision = Vision(trunk=encoder or Vision().trunk, views=views)
    # A trunk that cannot be had is refused before anything is written.
    sight = None if encoder is None else sight_of(find_task(task), vision)
    if encoder is not None and sight is None:
        raise ValueError(f"--encoder {encoder}: task {task!r} has no cameras; leave it out")
    judge = None if classifier is None else partial(judged, task=find_task(task), reward=str(classifier), vision=vision)
    dataset = relabelled(source.dataset, task, only_successes, judge) if judge or encoder is None else source.dataset
    _written(json, {out: dataset}, [source])
    if sight is not None:
        encoded(dataset, out, sight)


def _written(json: bool, datasets: dict[Path, Any], sources: list[Source]) -> None:
    """Writes what an edit made, all or none, and tells of it."""
    write_all(list(datasets.values()), list(datasets))
    rows = [{"data": str(out), **_counts(Source(dataset, None))} for out, dataset in datasets.items()]
    remarks = [remark for source in sources for remark in source.remarks]
    show(json, (rows[0] if len(rows) == 1 else {"parts": rows}) | ({"remarks": remarks} if remarks else {}))


def _counts(source: Source) -> dict[str, Any]:
    dataset, told = source.dataset, {"remarks": source.remarks} if source.remarks else {}
    counts = {"task": dataset.info.task, "transitions": len(dataset), "made by": dataset.info.provenance}
    return {**counts, **told}


def _finish(json: bool, head: dict[str, Any], found: list[Finding]) -> None:
    """Shows findings, and leaves with an exit code of failure where there is an error."""
    show(json, {**head, "findings": [vars(f) if json else f.plain() for f in found]})
    if any(finding.severity == "error" for finding in found):
        sys.exit(EXIT_FAILED)
