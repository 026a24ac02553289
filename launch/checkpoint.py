"""Checkpoints: everything a run needs to go on, saved as one unit or not at all (orbax writes aside and renames)."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from robot_env.tasks import name_of

FORMAT = 3
NEEDED = ("task", "learning", "method", "version", "finished")  # what a checkpoint must say of itself
KEPT = 2  # an interrupted write leaves the one before


class Checkpoints:
    """The checkpoints of one run folder, numbered in the order they were saved.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True, enable_async_checkpointing=False)
        standard = ocp.StandardCheckpointHandler
        handlers = {"arrays": standard(), "policy": standard(), "meta": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=handlers)

    def save(self, arrays: Any, policy: Any, meta: Mapping[str, Any]) -> None:
        """Writes `arrays` (all that learning needs), `policy` (all that acting needs) and `meta` (plain JSON) together."""
        saved = ocp.args.Composite(
            arrays=ocp.args.StandardSave(_raw(arrays)),
            policy=ocp.args.StandardSave(policy),
            meta=ocp.args.JsonSave({"format": FORMAT, **meta}),
        )
        self._manager.save((self.newest or 0) + 1, args=saved, force=True)

    @property
    def newest(self) -> int | None:
        """The number of the newest whole checkpoint."""
        return self._manager.latest_step()

    def meta(self) -> dict[str, Any]:
        """What the newest checkpoint says of itself. Raises `ValueError` where there is none, or it is of another version."""
        meta = self._item("meta", ocp.args.JsonRestore())
        if not isinstance(meta, dict) or not {"format", *NEEDED} <= set(meta):
            raise self._damaged("meta", self._number())
        if meta["format"] != FORMAT:
            raise ValueError(
                f"checkpoint {self.folder}: format {meta['format']}, this program reads {FORMAT}; train again"
            )
        return meta

    def policy(self) -> Any:
        """The newest checkpoint's policy."""
        return self._item("policy", ocp.args.StandardRestore())

    def arrays(self, like: Any) -> Any:
        """The newest checkpoint's arrays, shaped as `like`. Raises `ValueError` that names a leaf that does not fit."""
        raw = _raw(like)
        shapes = self._manager.item_metadata(self._number()).arrays
        if shapes is None:
            raise self._damaged("arrays", self._number())
        _check_shapes(self.folder, raw, shapes)
        found = self._item("arrays", ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, raw)))
        return jax.tree.map(lambda x, y: jax.random.wrap_key_data(y) if _is_key(x) else y, like, found)

    def _number(self) -> int:
        number = self.newest
        if number is None:
            raise ValueError(
                f"checkpoint {self.folder}: there is none; make one with `segue pretrain` or `segue finetune`"
            )
        return number

    def _item(self, name: str, how: ocp.args.CheckpointArgs) -> Any:
        number = self._number()
        try:
            restored: Any = self._manager.restore(number, args=ocp.args.Composite(**{name: how}))
            return restored[name]
        except (KeyError, ValueError, OSError) as error:
            raise self._damaged(name, number) from error

    def _damaged(self, name: str, number: int) -> ValueError:
        return ValueError(
            f"checkpoint {self.folder}: {name} of {number} is missing or damaged; "
            f"remove the folder {number} to use the one before, or train again"
        )

    def close(self) -> None:
        """Gives back its threads."""
        self._manager.close()


def open_checkpoint(folder: Path) -> Checkpoints:
    """An existing run's checkpoints. Raises `ValueError` in one sentence where there are none."""
    inner = folder / "checkpoint"
    seeds = sorted(path.name for path in folder.glob("seed_*"))
    if seeds:
        raise ValueError(
            f"checkpoint {folder}: it holds several seeds; give the folder of one, such as {folder / seeds[0]}"
        )
    if not inner.is_dir():
        raise ValueError(
            f"checkpoint {folder}: holds no folder 'checkpoint'; give the folder of a pretrain or finetune run"
        )
    return Checkpoints(inner)


def about_checkpoint(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint of a run says of itself. Raises `ValueError` where there is none."""
    with closing(open_checkpoint(folder)) as checkpoints:
        return checkpoints.meta()


def check_fits(meta: Mapping[str, Any], folder: Path, task: str, networks: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a checkpoint is of another task or other networks, or its run was interrupted."""
    if name_of(meta["task"]) != task:
        raise ValueError(
            f"checkpoint {folder}: it is of task {meta['task']!r}, not {task!r}; give one trained on {task!r}"
        )
    if not meta["finished"]:
        raise ValueError(f"checkpoint {folder}: its run was interrupted; finish it first with --resume")
    for name, value in meta["learning"]["networks"].items():
        if networks[name] != value:
            raise ValueError(
                f"checkpoint {folder}: it has networks.{name} {value}, this run {networks[name]}; "
                f"give --learning.networks.{name.replace('_', '-')} {_as_flag(value)}"
            )


def _as_flag(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _raw(tree: Any) -> Any:
    """The tree with random keys as plain numbers."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _check_shapes(folder: Path, like: Any, found: Any) -> None:
    def shapes(tree: Any) -> dict[str, tuple]:
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {_name(path): tuple(leaf.shape) for path, leaf in leaves}

    wanted, there = shapes(like), shapes(found)
    for name, shape in wanted.items():
        if there.get(name) != shape:
            has = f"shape {there[name]}" if name in there else "no such array"
            raise ValueError(
                f"checkpoint {folder}: {name} has {has}, this run needs shape {shape}; "
                "use the networks and method it was trained with"
            )


def _name(path: tuple) -> str:
    """A leaf's path without the container types, which differ between the program's and the file's trees."""
    return "/".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path)
