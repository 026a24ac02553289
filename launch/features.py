"""Features of a data set's pictures: computed once for each trunk, and kept beside its journal."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from agent.replay.dataset import Dataset
from agent.replay.frames import room
from agent.replay.journal_info import journal_folder
from encoders.files import write_arrays
from encoders.sight import Sight
from launch.runs import console

FOLDER = "features"  # beside the journal's own files; it can be deleted at any time


def encoded(dataset: Dataset, path: Path, sight: Sight) -> Dataset:
    """The data set of a folder with what is kept of its pictures, from the file where it was computed before.

    Raises:
        ValueError: it takes more memory than `sight.vision.memory_mb`.
    """
    check_memory(sight, data=len(dataset) + len(dataset.episodes), rows=0)
    if sight.frozen_trunk is None:
        return dataset.encoded(sight.cameras, sight.encode)
    folder = journal_folder(path)
    assert folder is not None
    return dataset.encoded(sight.cameras, lambda pictures: _kept(pictures, folder / FOLDER, sight))


def check_memory(sight: Sight, data: int, rows: int) -> None:
    """Raises `ValueError` where the pictures of a data set and of a replay of so many rows do not fit."""
    limit_mb, each = sight.vision.memory_mb, sight.bytes_per_frame
    need_mb = each * (data + (room(rows) if rows else 0)) / 1e6
    if need_mb > limit_mb:
        raise ValueError(
            f"--learning.vision.memory-mb {limit_mb}: {data} pictures of data and {rows} rows of replay, of {each} bytes "
            f"each, take {need_mb:,.0f} MB; allow more, or give fewer views or a smaller --online.replay-capacity"
        )


def _kept(pictures: Mapping[str, np.ndarray], folder: Path, sight: Sight) -> dict[str, np.ndarray]:
    """What is kept of pictures; read where a file has it of the same pictures, trunk and views, else computed and written."""
    name = f"{sight.trunk.name}-{sight.vision.views}-{_digest(pictures)}.safetensors"
    try:
        return load_file(folder / name)
    except (OSError, SafetensorError):
        pass  # not there, or cut off: it is computed again
    count = len(next(iter(pictures.values())))
    with console.status(f"encoding {count} pictures of {len(pictures)} cameras with {sight.trunk.name}, once"):
        found = sight.encode(pictures)
    try:
        write_arrays(found, folder / name)
    except OSError as error:
        console.print(f"[yellow]features are not kept beside the data, {folder}: {error}[/yellow]", soft_wrap=True)
    return found


def _digest(pictures: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for name, x in sorted(pictures.items()):
        digest.update(name.encode())
        digest.update(memoryview(np.ascontiguousarray(x)))  # type: ignore[arg-type]
    return digest.hexdigest()
