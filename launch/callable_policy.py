"""A policy of one's own, named on the command line: a Python function from observations to actions."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CallablePolicy:
    """`FILE.py:NAME` or `package.module:NAME`, imported at the first call: an actor that only acts need not have it.

    The function takes observations, arrays `(B, ...)` by name, and returns actions `(B, A)` in -1..1.
    """

    where: str

    def __call__(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Actions `(B, A)`, float32, for observations `(B, ...)`."""
        return np.asarray(self.function({name: np.asarray(x) for name, x in obs.items()}), np.float32)

    @cached_property
    def function(self) -> Callable[[Mapping[str, np.ndarray]], Any]:
        """The function itself. Raises `ValueError` in one sentence where it cannot be had."""
        module, colon, name = self.where.rpartition(":")
        if not colon or not module or not name:
            raise ValueError(f"policy {self.where!r}: give FILE.py:NAME or package.module:NAME")
        try:
            found = getattr(_module(module), name, None)
        except Exception as error:  # whatever the user's own file does when it is imported
            raise ValueError(f"policy {self.where!r}: importing {module} failed: {error}; correct it") from error
        if not callable(found):
            raise ValueError(f"policy {self.where!r}: {module} has no function {name!r}; correct the name")
        return found

    def check(self, obs_shapes: Mapping[str, tuple[int, ...]], action_dim: int) -> None:
        """Calls it once with zeros. Raises `ValueError` where what it returns is no action."""
        zeros = {name: np.zeros((2, *shape), np.float32) for name, shape in obs_shapes.items()}
        function = self.function
        try:
            found = np.asarray(function(zeros), np.float32)
        except Exception as error:
            raise ValueError(
                f"policy {self.where!r}: two observations of zeros made it fail: {type(error).__name__}: {error}; correct it"
            ) from error
        if found.shape != (2, action_dim) or not np.isfinite(found).all() or np.abs(found).max() > 1.0:
            raise ValueError(
                f"policy {self.where!r}: of two observations it makes {found.shape} numbers up to {np.abs(found).max():g}; "
                f"the task wants actions (2, {action_dim}) in -1..1"
            )


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    if not path.is_file():
        raise ValueError("there is no such file")
    spec = importlib.util.spec_from_file_location(f"segue_policy_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
