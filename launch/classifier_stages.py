"""Training and checking of a reward classifier, with their files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from encoders.classifier import FILE, About, Classifier, check_fits, encode, read_classifier, save_classifier
from encoders.classifier_scores import Counts
from encoders.classifier_training import COPIES, Fit, changed, deal_folds, train
from encoders.trunk import Trunk, trunk_from
from launch.classifier_data import Labelled, check_new, load_labelled, merge_labelled, new_folder
from launch.classifier_report import report, write_pictures
from launch.recipes import check_seed
from launch.runs import write_json

REPORT = "report.json"
FIT = Fit()


def load_all(paths: Sequence[Path]) -> Labelled:
    """The labelled frames of all folders. Raises `ValueError` where they do not belong together."""
    if not paths:
        raise ValueError("classifier: no labelled frames are named; give the folders of one or several recordings")
    return merge_labelled([load_labelled(path) for path in paths], [str(path) for path in paths])


def train_stage(
    paths: Sequence[Path],
    encoder: str,
    out: Path,
    consecutive: int,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Trains a classifier into the new folder `out`; returns its report, of held-out episodes.

    Args:
        paths: folders of labelled frames.
        encoder: see `trunk_from`.
        consecutive: steps in a row above the threshold that make a success.
        progress: called with the number of updates so far.
    """
    check_seed(seed)
    if consecutive < 1:
        raise ValueError(f"--consecutive {consecutive}: give at least 1")
    check_new(out)
    trunk, data = trunk_from(encoder), load_all(paths)
    fold = deal_folds(data.label, data.episode, seed)
    trained = train(views(data, trunk, seed), data.label, fold, seed, FIT, progress=progress)
    raw, score, threshold = expit(trained.held_out_logits), trained.held_out_scores, trained.threshold
    told = {**report(data, raw, score, threshold), "temperature": trained.temperature, "losses": trained.losses}
    about = About(
        task=data.task,
        cameras=data.cameras,
        frame_shape=data.frame_shape,
        trunk=trunk.name,
        fingerprint=trunk.fingerprint,
        threshold=threshold,
        temperature=trained.temperature,
        consecutive=consecutive,
        provenance=f"{data.provenance}; encoder {trunk.source}; training seed {seed}",
        held_out=Counts(**told["confusion"]),
    )
    with new_folder(out) as folder:
        save_classifier(Classifier(about, trained.params), folder / FILE)
        pictures = write_pictures(data, raw, score, threshold, folder)
        write_json(folder / REPORT, told)
    return {"classifier": str(out), **told, "pictures": [str(out / name) for name in pictures]}


def views(data: Labelled, trunk: Trunk, seed: int) -> np.ndarray:
    """Features `(1 + COPIES, N, cameras, h, w, C)`: of the frames, and of changed copies of them."""
    rng = np.random.default_rng([seed, 2])
    kinds = [data.frames]
    kinds += [{name: changed(x, rng) for name, x in data.frames.items()} for _ in range(COPIES)]
    return np.stack([encode(trunk, frames, data.cameras) for frames in kinds])


def check_stage(path: Path, paths: Sequence[Path], encoder: str, out: Path | None) -> dict[str, Any]:
    """The same report of a classifier on other labelled frames, all of them; written into the new folder `out`, if any."""
    if out is not None:
        check_new(out)
    classifier, trunk, data = read_classifier(path), trunk_from(encoder), load_all(paths)
    about = classifier.about
    if data.task != about.task:
        raise ValueError(
            f"classifier {path}: it is of task {about.task!r}, the frames are of {data.task!r}; give its own"
        )
    check_fits(classifier, path, trunk, {name: x.shape[1:] for name, x in data.frames.items()})
    logits = classifier.logits(encode(trunk, data.frames, about.cameras))
    raw, score = expit(logits), expit(logits / about.temperature)
    told: dict[str, Any] = {"classifier": str(path), **report(data, raw, score, about.threshold)}
    if out is not None:
        with new_folder(out) as folder:
            pictures = write_pictures(data, raw, score, about.threshold, folder)
            write_json(folder / REPORT, told)
        told["pictures"] = [str(out / name) for name in pictures]
    return told
