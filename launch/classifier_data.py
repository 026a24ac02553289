"""Labelled frames: what a reward classifier is trained and checked on. A folder with one compressed file, without loss."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from launch.formats.source import moved_when_whole

FILE, FORMAT = "frames.npz", "segue labelled frames 1"
COLUMNS: Mapping[str, str] = {"label": "b", "episode": "i", "step": "i", "kind": "U"}  # by name, the kind of its dtype


@dataclass(frozen=True)
class Labelled:
    """N frames of each of several cameras, taken at the same moments.

    Attributes:
        task: its name.
        provenance: where the frames are from, in words.
        frames: by camera, in order, `(N, H, W, 3)` uint8 RGB.
        label: `(N,)` bool, whether the task is done.
        episode: `(N,)` int64; frames of one episode are alike, so they are never divided between training and holding out.
        step: `(N,)` int64, within the episode; of a video, its frame.
        kind: `(N,)` str, what sort of moment it is, such as `rim`.
    """

    task: str
    provenance: str
    frames: Mapping[str, np.ndarray]
    label: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self.frames)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """`(H, W, 3)`, of all cameras."""
        return next(iter(self.frames.values())).shape[1:]

    def rows(self, rows: np.ndarray) -> "Labelled":
        """Some of the frames."""
        return replace(
            self,
            frames={name: frames[rows] for name, frames in self.frames.items()},
            **{name: getattr(self, name)[rows] for name in COLUMNS},
        )

    def counts(self) -> dict[str, int]:
        """For people."""
        positives = int(self.label.sum())
        return {
            "positives": positives,
            "negatives": len(self) - positives,
            "episodes": len(np.unique(self.episode)),
        }


def save_labelled(data: Labelled, folder: Path) -> None:
    """Writes a folder whole or not at all. Raises `ValueError` where it is there already, or cannot be made."""
    about = {"format": FORMAT, "task": data.task, "provenance": data.provenance, "cameras": list(data.cameras)}
    arrays = {name: getattr(data, name) for name in COLUMNS}
    arrays |= {f"camera/{name}": frames for name, frames in data.frames.items()}
    with new_folder(folder) as part, open(part / FILE, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)


def check_new(folder: Path) -> None:
    """Raises `ValueError` where something is there already."""
    if folder.exists():
        raise ValueError(f"--out {folder}: it is already there; give another folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when the block ends well, and else is gone.

    Raises:
        ValueError: it is there already, or cannot be made.
    """
    check_new(folder)
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = stack.enter_context(moved_when_whole(folder))
        except OSError as error:
            raise ValueError(f"--out {folder}: it cannot be made ({error.strerror}); give another folder") from error
        part.mkdir()
        yield part


def load_labelled(folder: Path) -> Labelled:
    """What `save_labelled` wrote. Raises `ValueError` in one sentence for anything else."""
    path = folder / FILE
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}")
        frames = {name: arrays.pop(f"camera/{name}") for name in about["cameras"]}
        data = Labelled(about["task"], about["provenance"], frames, **{name: arrays.pop(name) for name in COLUMNS})
        _check(data)
    except FileNotFoundError:
        raise ValueError(
            f"labelled frames {folder}: there is no {FILE} in it; make one with `segue classifier record`"
        ) from None
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"labelled frames {path} cannot be read ({error}); make them again with `segue classifier record`"
        ) from error
    return data


def _check(data: Labelled) -> None:
    """Raises `ValueError` where the arrays do not belong together."""
    if not data.frames or not len(data):
        raise ValueError("it holds no frame")
    for name, kind in COLUMNS.items():
        column = getattr(data, name)
        if column.shape != (len(data),) or column.dtype.kind != kind:
            raise ValueError(f"{name} is {column.dtype} {column.shape}")
    for name, frames in data.frames.items():
        if frames.dtype != np.uint8 or frames.shape != (len(data), *data.frame_shape) or frames.shape[3:] != (3,):
            raise ValueError(f"camera {name} is {frames.dtype} {frames.shape}")


def merge_labelled(parts: Sequence[Labelled], names: Sequence[str]) -> Labelled:
    """All frames, with episodes numbered anew. Raises `ValueError` where task, cameras or sizes differ."""
    first, episodes, after = parts[0], [], 0
    for part, name in zip(parts, names, strict=True):
        for what in ("task", "cameras", "frame_shape"):
            if getattr(part, what) != getattr(first, what):
                raise ValueError(
                    f"labelled frames {name}: {what.replace('_', ' ')} {getattr(part, what)}, those of {names[0]} have "
                    f"{getattr(first, what)}; give frames of one task and one set of cameras"
                )
        own, number = np.unique(part.episode, return_inverse=True)
        episodes.append(number.astype(np.int64) + after)
        after += len(own)
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return Labelled(
        first.task,
        "; ".join(part.provenance for part in parts),
        {name: np.concatenate([part.frames[name] for part in parts]) for name in first.cameras},
        **{**columns, "episode": np.concatenate(episodes)},
    )
