"""Where data lies that nobody here wrote: human demonstrations and expert policies. Not part of the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def demonstration_data() -> Path:
    """The folder `$SEGUE_DATA`, or `../shared/data` beside the project. Skips the test where there is none."""
    folder = Path(os.environ.get("SEGUE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("demonstration data is absent")
    return folder
