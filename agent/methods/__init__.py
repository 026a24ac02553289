"""Methods, one file each, found by the file's name; each file holds a `METHOD`."""

import importlib
import pkgutil

from agent.types import Method


def method_names() -> list[str]:
    """Names of all methods, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def find_method(name: str) -> Method:
    """The method of that name. Raises `ValueError` that lists the names there are."""
    if name not in method_names():
        raise ValueError(f"method {name!r} is unknown; choose one of {', '.join(method_names())}")
    return importlib.import_module(f"{__name__}.{name}").METHOD
