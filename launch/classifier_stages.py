"""Training and checking of a reward classifier, with their files."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from encoders.classifier import FILE, About, Classifier, check_fits, encode, read_classifier, save_classifier
from encoders.classifier_scores import Counts
from encoders.classifier_training import COPIES, changed, split_episodes, train
from encoders.trunk import Trunk, trunk_from
from launch.classifier_data import Labelled, check_new, load_labelled, merge_labelled, new_folder
from launch.classifier_report import report, write_pictures
from launch.recipes import check_seed
from launch.runs import write_json

REPORT = "report.json"


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
    """Trains a classifier into the new folder `out`; returns its report, of episodes that nothing else has seen.

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
    split = split_episodes(data.label, data.episode, seed)
    features = encode(trunk, data.frames, data.cameras)
    copies = encoded_copies(data.rows(split.train), trunk, seed)
    trained = train(features, copies, data.label, split, seed, progress=progress)
    about = About(
        task=data.task,
        cameras=data.cameras,
        frame_shape=data.frame_shape,
        trunk=trunk.name,
        fingerprint=trunk.fingerprint,
        threshold=trained.threshold,
        temperature=trained.temperature,
        consecutive=consecutive,
        provenance=f"{data.provenance}; encoder {trunk.source}; training seed {seed}",
    )
    held = data.rows(split.held_out)
    logits = Classifier(about, trained.params).logits(features[split.held_out])
    told = report(held, logits, about.temperature, about.threshold)
    parts = {"train": split.train, "choose": split.choose, "held_out": split.held_out}
    told["split"] = {name: data.rows(rows).counts() for name, rows in parts.items()}
    told["training"] = {"updates": trained.updates, "losses": trained.losses}
    with new_folder(out) as folder:
        save_classifier(Classifier(replace(about, held_out=Counts(**told["confusion"])), trained.params), folder / FILE)
        pictures = write_pictures(held, logits, about.temperature, about.threshold, folder)
        write_json(folder / REPORT, told)
    return {"classifier": str(out), **told, "pictures": [str(out / name) for name in pictures]}


def encoded_copies(data: Labelled, trunk: Trunk, seed: int) -> np.ndarray:
    """Features `(COPIES, N, cameras, h, w, C)` of changed copies of the frames."""
    rng = np.random.default_rng([seed, 2])
    return np.stack(
        [encode(trunk, {name: changed(x, rng) for name, x in data.frames.items()}, data.cameras) for _ in range(COPIES)]
    )


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
    told: dict[str, Any] = {"classifier": str(path), **report(data, logits, about.temperature, about.threshold)}
    if out is not None:
        with new_folder(out) as folder:
            pictures = write_pictures(data, logits, about.temperature, about.threshold, folder)
            write_json(folder / REPORT, told)
        told["pictures"] = [str(out / name) for name in pictures]
    return told
