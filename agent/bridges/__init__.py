"""Bridges, one file each, found by the file's name; each file holds a frozen dataclass `Bridge`, called with two phases."""

import dataclasses
import importlib
import math
import pkgutil
from collections.abc import Mapping
from typing import Any


def bridge_names() -> list[str]:
    """Names of all bridges, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "parts")


def bridge_class(name: str) -> type:
    """The bridge's dataclass. Raises `ValueError` that lists the names there are."""
    if name not in bridge_names():
        raise ValueError(f"bridge {name!r} is unknown; choose one of {', '.join(bridge_names())}")
    return importlib.import_module(f"{__name__}.{name}").Bridge


def find_bridge(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """The bridge of that name with its settings. Raises `ValueError` for an unknown name or setting."""
    kind = bridge_class(name)
    fields = {f.name: f.type for f in dataclasses.fields(kind)}
    known, given = list(fields), dict(settings or {})
    for setting, value in given.items():
        if setting not in known:
            raise ValueError(
                f"bridge {name!r} has no setting {setting!r}; "
                + (f"it has {', '.join(known)}" if known else "it has none")
            )
        if fields[setting] is int:  # a command line's number is a float
            if not math.isfinite(value) or value != int(value):
                raise ValueError(f"bridge {name!r}: {setting} is {value}; give a whole number")
            given[setting] = int(value)
    return kind(**given)
