"""Whole experiments as one command, `segue run NAME`: one file each, found by its name with dashes.

A file holds `Recipe`, a frozen dataclass; `PRESETS`, recipes by name, the first for two cores; and `run(recipe, out, progress,
resume, in_process)`, which returns what `result.json` holds. A recipe has `seed`, `preset`, and `data`: the file that it starts
from, or None.
"""

import importlib
import pkgutil
from types import ModuleType


def experiment_names() -> list[str]:
    """Names of all experiments, sorted."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__))


def find_experiment(name: str) -> ModuleType:
    """The experiment's module. Raises `ValueError` that lists the names there are."""
    if name not in experiment_names():
        raise ValueError(f"experiment {name!r} is unknown; choose one of {', '.join(experiment_names())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
