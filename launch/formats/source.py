"""The files that data comes from and goes to: what went in, what was left out, and nothing half written."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agent.replay.dataset import Dataset, DatasetInfo


def existing_file(path: Path, kind: str) -> Path:
    """The path of a file that may be read. Raises `ValueError` that says what is there in its place."""
    try:
        if path.is_dir():
            raise ValueError(f"{kind} file {path}: it is a folder; give the file itself")
        if not path.exists():
            raise ValueError(f"{kind} file {path}: there is none; check its name")
        if not path.is_file():
            raise ValueError(f"{kind} file {path}: it is no ordinary file; give one")
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{kind} file {path}: it cannot be opened ({error.strerror}); give one that can") from error
    return path


def told(info: DatasetInfo, kind: str, paths: Sequence[Path], root: Path, notes: Sequence[str]) -> DatasetInfo:
    """`info` with a provenance that names the files, and says what became of what they hold.

    Args:
        kind: the format.
        paths: the files whose bytes were read, in order; SHA-256 is of all of them, one after another.
        root: the file, or the folder that holds them, as it was given.
        notes: sentences.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    name = root.resolve().name + (f" ({len(paths)} files)" if root.is_dir() else "")
    whence = f"Read from {name}, format {kind}, SHA-256 {digest.hexdigest()}."
    before = [info.provenance] if info.provenance else []
    return replace(info, provenance=" ".join([*before, whence, *notes]))


def raw(dataset: Dataset) -> Dataset:
    """The same data with raw rewards, as public formats hold them."""
    info = dataset.info
    value = info.truncation_value  # 0 stays 0: a dense task's
    if value:
        failure = (value * (1.0 - info.discount) - info.reward_shift) / info.reward_scale
        value = failure / (1.0 - info.discount)
    return dataset.under(replace(info, reward_scale=1.0, reward_shift=0.0, truncation_value=value))


@contextmanager
def written_whole(path: Path, kind: str) -> Iterator[Path]:
    """A path to write a new file or folder to, which then takes the place of `path`, or goes where something fails.

    Raises:
        ValueError: there is something already, or no folder to put it in, or it cannot be written.
    """
    try:
        if os.path.lexists(path):
            raise ValueError(f"{kind} {path}: it is already there; give another name")
        if not path.parent.is_dir():
            raise ValueError(f"{kind} {path}: the folder {path.parent} is not there; make it first")
        with moved_when_whole(path) as part:
            yield part
    except OSError as error:
        raise ValueError(
            f"{kind} {path}: it cannot be written ({error.strerror or error}); give another place"
        ) from error


@contextmanager
def moved_when_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or folder to, which takes its place when the block ends well, and else is gone."""
    private = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    part = private / path.name
    try:
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(private, ignore_errors=True)
