"""What a journal says of itself: what its numbers mean, which sessions it holds, and who may write."""

import fcntl
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.replay.entry import Layout
from agent.replay.record import LIMIT
from agent.replay.segment import write_whole

FORMAT = 2
SESSION_FOLDER = re.compile(r"(\d{4,})-([0-9a-f]{16})")


def session_name(session: int) -> str:
    """How people and files write a session's number: 16 hexadecimal digits."""
    return f"{session:016x}"


def session_number(name: str) -> int:
    """The inverse of `session_name`. Raises `ValueError`."""
    number = int(name, 16) if re.fullmatch("[0-9a-f]{16}", name) else 0
    if not 0 < number < LIMIT:
        raise ValueError(f"session {name!r}: it is not 16 hexadecimal digits of a session; copy one from the journal")
    return number


def session_folders(folder: Path) -> dict[int, Path]:
    """The folders of a journal's sessions, by session, in order."""
    found = [match for name in os.listdir(folder) if (match := SESSION_FOLDER.fullmatch(name))]
    return {int(match[2], 16): folder / match[0] for match in sorted(found, key=lambda match: int(match[1]))}


def journal_folder(path: Path) -> Path | None:
    """The journal at `path`, which is its folder or that of its run; None where there is none."""
    return next((folder for folder in (path, path / "journal") if (folder / "journal.json").is_file()), None)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What numbers mean.

    Attributes:
        task: name of the task.
        discount: per step.
        reward_scale, reward_shift: reward = scale x raw + shift; imported data holds raw rewards, with 1 and 0.
        truncation_value: what the return of an episode that was cut short ends in, in the same scale: what failing on for ever
            is worth where the reward is sparse, 0 where it is dense.
        reward: what a step earns, raw, in words.
        provenance: how the data came about, in a sentence or several.
    """

    task: str
    discount: float
    reward_scale: float
    reward_shift: float
    truncation_value: float
    reward: str = ""
    provenance: str = ""


@dataclass(frozen=True, kw_only=True)
class JournalInfo(DatasetInfo):
    """What the numbers of a journal mean.

    Attributes:
        layout: what its transitions hold.
        transitions: how many it was written with, where it was written whole; None of a run's, which grows.
    """

    layout: Layout
    transitions: int | None = None

    @classmethod
    def read(cls, folder: Path) -> "JournalInfo":
        """Of the journal in `folder`. Raises `ValueError` in one sentence where there is none that can be read."""
        path = folder / "journal.json"
        try:
            plain = json.loads(path.read_bytes())
            found = plain.pop("format")
            info = cls._of(plain) if found == FORMAT else None
        except FileNotFoundError as error:
            raise ValueError(f"journal {folder}: there is none; give the folder of a run that has one") from error
        except NotADirectoryError as error:
            raise ValueError(f"journal {folder}: it is a file; give the folder of a run that has a journal") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"journal {path}: it cannot be read ({what}); copy it from a run of the same task"
            ) from error
        if info is None:
            raise ValueError(
                f"journal {path}: its format is {found!r}, this program reads {FORMAT}; use the other version"
            )
        return info

    @classmethod
    def _of(cls, plain: dict[str, Any]) -> "JournalInfo":
        layout = plain.pop("layout")
        obs = {str(name): (str(dtype), tuple(map(int, shape))) for name, (dtype, shape) in layout["obs"].items()}
        return cls(**plain, layout=Layout(obs, int(layout["action_dim"]), str(layout["action_dtype"])))

    def write(self, folder: Path) -> None:
        """Makes `folder` a journal of these numbers."""
        write_whole(folder / "journal.json", json.dumps({"format": FORMAT, **asdict(self)}, indent=2).encode())

    def check(self, other: "JournalInfo", folder: Path) -> None:
        """Raises `ValueError` naming what differs in the other one; how it came about may."""
        mine, its = self._meaning(), other._meaning()
        for name in mine | its:
            if mine.get(name) != its.get(name):
                raise ValueError(
                    f"journal {folder}: its {name} is {its.get(name)}, this run's is {mine.get(name)}; use a new folder"
                )

    def _meaning(self) -> dict[str, Any]:
        plain = asdict(self) | {f"layout.{name}": getattr(self.layout, name) for name in ("action_dim", "action_dtype")}
        plain |= {f"layout.obs.{name}": (dtype, tuple(shape)) for name, (dtype, shape) in self.layout.obs.items()}
        return {name: x for name, x in plain.items() if name not in ("layout", "reward", "provenance", "transitions")}


def lock_journal(folder: Path) -> int:
    """Takes a journal for this process; close the file that it returns to give it back. Raises `ValueError` if it is taken."""
    file = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise ValueError(f"journal {folder}: another process uses it; stop that one first") from error
    return file
