"""The files that weights are kept in."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all, into a folder that is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    try:
        save_file(dict(arrays), aside, metadata=None if about is None else dict(about))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
