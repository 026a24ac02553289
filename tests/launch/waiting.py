"""Processes that a test starts, and waiting for what another thread or process does."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any


def started(command: Sequence[str], **options: Any) -> subprocess.Popen:
    """A process that Ctrl-C reaches: what a shell runs in the background ignores it, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a handler is not inherited, being ignored is
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether it holds before so much time is over."""
    end_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.005)
    return True
