"""Minari's data sets, read and written through its own library (0.5). Younis et al. 2024.

An episode of T steps holds T + 1 observations, so nothing is lost. Nested observations are called `a/b` here, a single one
`state`.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.replay.dataset import Dataset, DatasetInfo
from launch.formats import rows
from launch.formats.source import raw, told, written_whole

if TYPE_CHECKING:
    from gymnasium.spaces import Space
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

DATASET_ID = re.compile(r"[-\w]+-v\d+")
Arrays = dict[str, np.ndarray]


def read(path: Path, info: DatasetInfo, max_steps: int | None = None) -> Dataset:
    """The data of a data set's folder, or of one in the local store, named as Minari names it. Nothing is downloaded.

    An episode whose end is not marked counts as cut at its last step.

    Args:
        info: what the numbers mean; its provenance grows by where they come from, and what was left out.
        max_steps: of no use: the format tells time limits.

    Raises:
        ValueError: in one sentence, where it cannot be read, or holds other spaces than Box and Dict.
    """
    folder = _folder(path)
    where = f"minari data set {folder}"
    try:
        parts, infos = [], set()
        for episode in _episodes(_storage(folder, where)):
            parts.append(_columns(episode, f"{where}, episode {episode['id']}"))
            infos |= set(episode["infos"] or {}) - {"success"}
        if not parts:
            raise ValueError(f"{where}: it holds no step; give one with at least one episode")
        columns = _joined(parts, where)
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        root = folder.parent if folder.name == "data" else folder
        notes = [f"Left out: infos {', '.join(sorted(infos))}."] if infos else []
        whence = told(info, "minari", files, root, notes)
    except OSError as error:
        raise ValueError(f"{where}: it cannot be read ({error.strerror or error}); copy it again") from error
    obs, next_obs = (
        {n.removeprefix(kind): x for n, x in columns.items() if n.startswith(kind)} for kind in ("obs/", "next_obs/")
    )
    action, reward, terminated, truncated, success = (
        columns[name] for name in ("action", "reward", "terminated", "truncated", "success")
    )
    return Dataset.of(whence, obs, next_obs, action, reward, terminated, truncated, success)


def write(dataset: Dataset, path: Path) -> None:
    """Writes a new folder that Minari loads, with raw rewards; whole or not at all.

    It is what Minari's store holds for a data set: put it there, or give its `data` folder to `MinariDataset`. Pictures are
    kept as they are, not as JPEG. It holds neither what was executed nor who acted; success goes in `infos`.

    Raises:
        ValueError: there is a folder already, or the format cannot hold what observations are called.
    """
    import minari
    from gymnasium import spaces
    from minari.dataset.minari_storage import MinariStorage

    dataset = raw(dataset)
    where, (obs, _) = f"minari data set {path}", rows.named_observations(dataset)
    tree = rows.nested({name: _box(x) for name, x in obs.items()}, where)
    action = dataset.columns["action"]
    unit = bool((np.abs(action) <= 1).all())
    name = path.name if DATASET_ID.fullmatch(path.name) else re.sub(r"[^-\w]", "-", path.name) + "-v0"
    with written_whole(path, "minari data set") as part:
        part.mkdir()
        storage = MinariStorage.new(
            (part / "data").absolute(),  # it joins a relative one to itself
            observation_space=_space(tree),
            action_space=spaces.Box(-1.0, 1.0, action.shape[1:], action.dtype.type) if unit else _box(action),
            jpeg_encoding=False,
        )
        told = {"dataset_id": name, "minari_version": minari.__version__, "description": dataset.info.provenance}
        storage.update_metadata({**told, "segue": asdict(dataset.info)})
        storage.update_episodes(_buffers(dataset, where))


def _folder(path: Path) -> Path:
    """Where the files are: the folder, its `data`, or that of the local store. Raises `ValueError`."""
    store = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    places = [path, path / "data", store / path / "data"]
    for place in places:
        if os.path.isfile(place / "metadata.json"):
            return place
    if os.path.isfile(path):
        raise ValueError(f"minari data set {path}: it is a file; give the folder that holds its metadata.json")
    raise ValueError(
        f"minari data set {path}: there is no metadata.json in it or in its data folder; give one that has"
    )


def _storage(folder: Path, where: str) -> "MinariStorage":
    """The open data set. Raises `ValueError` where that would take an environment, which would run what the file names."""
    import minari
    from minari.dataset.minari_storage import MinariStorage

    try:
        plain = json.loads((folder / "metadata.json").read_text())
        version, spaces = plain["minari_version"], [plain.get(f"{kind}_space") for kind in ("observation", "action")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: its metadata.json is damaged ({error}); copy it again") from error
    if not all(isinstance(space, str) for space in spaces):
        raise ValueError(f"{where}: its metadata.json names no spaces; save it again with Minari {minari.__version__}")
    if version not in minari.supported_dataset_versions:
        raise ValueError(f"{where}: it is of Minari {version}, which {minari.__version__} cannot read; convert it")
    try:
        return MinariStorage.read(folder)
    except Exception as error:  # a damaged data set makes the library raise nearly anything
        raise ValueError(f"{where}: it cannot be opened ({error!r:.200}); copy it again, or save it as hdf5") from error


def _episodes(storage: "MinariStorage") -> Iterator[dict[str, Any]]:
    try:
        yield from storage.get_episodes(range(storage.total_episodes))
    except Exception as error:  # as above
        raise ValueError(
            f"minari data set {storage.data_path}: it is not whole ({error!r:.200}); copy it again"
        ) from error


def _columns(episode: dict[str, Any], where: str) -> Arrays:
    """The rows of one episode."""
    leaves = {
        name: rows.observations(x, f"observation {name}", where)
        for name, x in rows.flattened(episode["observations"], where).items()
    }
    columns = {"action": rows.actions(episode["actions"], where)}
    columns["reward"] = rows.per_step(episode["rewards"], "rewards", where)
    for name in ("terminated", "truncated"):
        told = f"{name.removesuffix('ed')}ions"
        columns[name] = rows.marks(episode[told], told, where)
    steps = rows.same_rows(columns, where)
    for name, x in leaves.items():
        if len(x) != steps + 1:
            raise ValueError(
                f"{where}: observation {name} has {len(x)} rows for {steps} actions; one more than actions is needed"
            )
        columns |= {f"obs/{name}": x[:-1], f"next_obs/{name}": x[1:]}
    columns["truncated"][-1] |= not columns["terminated"][-1]
    success = (episode["infos"] or {}).get("success", np.zeros(steps, bool))
    success = rows.marks(success, "infos/success", where)
    if len(success) not in (steps, steps + 1):
        raise ValueError(f"{where}: infos/success has {len(success)} rows for {steps} actions; store one for each")
    end = columns["terminated"] | columns["truncated"]
    return columns | {"success": rows.succeeded_by_then(success[-steps:], end)}


def _joined(parts: list[Arrays], where: str) -> Arrays:
    """All episodes, one after another, which must be alike."""
    first = {name: (x.dtype, x.shape[1:]) for name, x in parts[0].items()}
    for i, part in enumerate(parts):
        found = {name: (x.dtype, x.shape[1:]) for name, x in part.items()}
        if found != first:
            name = next(n for n in (*first, *found) if found.get(n) != first.get(n))
            its, firsts = (
                f"{kind[name][1]} of {kind[name][0]}" if name in kind else "absent" for kind in (found, first)
            )
            raise ValueError(
                f"{where}: {name} is {its} in episode {i}, {firsts} in the first; give episodes of one task"
            )
    return {name: np.concatenate([part[name] for part in parts]) for name in first}


def _buffers(dataset: Dataset, where: str) -> Iterator["EpisodeBuffer"]:
    """Every episode, one that was left open too."""
    from minari.data_collector import EpisodeBuffer

    c, truncated = dataset.columns, rows.episode_ends(dataset)
    obs, next_obs = rows.named_observations(dataset)
    last = np.flatnonzero(c["terminated"] | truncated)
    for begin, end in zip([0, *last[:-1] + 1], last + 1, strict=True):
        steps = slice(begin, end)
        seen = {name: np.concatenate([x[steps], next_obs[name][end - 1 : end]]) for name, x in obs.items()}
        held: dict[str, Any] = {"observations": rows.nested(seen, where), "actions": c["action"][steps]}
        held |= {"rewards": c["reward"][steps], "terminations": c["terminated"][steps], "truncations": truncated[steps]}
        yield EpisodeBuffer(**held, infos={"success": np.concatenate([[False], c["success"][steps]])})


def _box(x: np.ndarray) -> "Space":
    """A space that holds any such row."""
    from gymnasium import spaces

    low, high = (-np.inf, np.inf) if x.dtype.kind == "f" else (0, 1)
    if x.dtype.kind in "iu":
        low, high = int(np.iinfo(x.dtype).min), int(np.iinfo(x.dtype).max)
    return spaces.Box(low, high, x.shape[1:], x.dtype.type)


def _space(tree: Any) -> "Space":
    from gymnasium import spaces

    return spaces.Dict({name: _space(x) for name, x in tree.items()}) if isinstance(tree, dict) else tree
