"""Public formats of data sets. A format is one file and one line here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from agent.replay.dataset import Dataset, DatasetInfo
from launch.formats import d4rl, dapg, minari_format, serl

Reader = Callable[[Path, DatasetInfo, int | None], Dataset]
"""`(file or folder, what its numbers mean, the task's time limit in steps) -> data set`; raises `ValueError`, one sentence."""
Writer = Callable[[Dataset, Path], None]
"""Writes a new file or folder, whole or not at all; raises `ValueError`, one sentence."""

READERS: Mapping[str, Reader] = {"d4rl": d4rl.read, "minari": minari_format.read, "dapg": dapg.read, "serl": serl.read}
WRITERS: Mapping[str, Writer] = {"d4rl": d4rl.write, "minari": minari_format.write}
