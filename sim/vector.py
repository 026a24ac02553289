"""Many copies of a D4RL task at once, each in its own process.

Each environment costs some 0.3 ms a step to send and collect: this is for tasks whose own step takes longer, as the kitchen's.
"""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from sim.d4rl import D4RLTask

SILENCE_S = 60.0  # no task needs a second for a step or a reset: a worker silent for so long hangs


def make_vector(task: D4RLTask, count: int) -> "Workers":
    """`count` new environments of a task in as many processes.

    The processes are spawned: a fork would copy a parent whose JAX threads hold locks. A script that calls this needs
    `if __name__ == "__main__":`, as each process imports it anew.

    Raises:
        ValueError: there would be none.
        RuntimeError: a process did not start.
    """
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 environment")
    try:
        return Workers(task, count)
    except (EOFError, ConnectionError) as error:
        raise RuntimeError(
            f"a worker of {task.name} did not start; see its own message above, and call this under"
            ' `if __name__ == "__main__":`'
        ) from error


class Workers(AsyncVectorEnv):
    """What `make_vector` gives: gymnasium's `AsyncVectorEnv`, in which a worker that dies is an error and never a wait.

    An episode that ends begins anew in the same step: the observation is the new episode's first. The last one is
    `infos["final_obs"][i]`, where `infos["_final_obs"][i]`. What the last step said is in `infos["final_info"]`, laid out as
    `infos` is; `infos["success"][i]` is then already the new episode's. `reset(seed=s)` gives environment i the seed s + i; a
    list gives each its own.
    """

    def __init__(self, task: D4RLTask, count: int) -> None:
        self.task = task
        super().__init__([partial(task.make)] * count, context="spawn", autoreset_mode=AutoresetMode.SAME_STEP)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        """New episodes everywhere. Observations are `(N, D)`. Raises `RuntimeError` where a worker died."""
        with self._watched():
            self.reset_async(seed, options)
            return self.reset_wait(SILENCE_S)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """A step everywhere; actions are `(N, A)`. Raises `RuntimeError` where a worker died."""
        with self._watched():
            self.step_async(actions)
            return self.step_wait(SILENCE_S)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """What a method, or an attribute, of each gives. Raises `RuntimeError` where a worker died."""
        with self._watched():
            self.call_async(name, *args, **kwargs)
            return self.call_wait(SILENCE_S)

    def close_extras(self, **_: Any) -> None:
        """Ends the processes at once: they own nothing that outlives them, and one that hangs would not answer a request."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        for pipe in self.parent_pipes:
            if pipe is not None:  # gymnasium has closed the pipe of one that raised
                pipe.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError, multiprocessing.TimeoutError) as error:
            # A pipe breaks a moment before its process ends, and its sentinel before there is an exit code.
            ending = wait([process.sentinel for process in self.processes], timeout=1.0)
            dead = []
            for index, process in enumerate(self.processes):
                if process.sentinel in ending:
                    process.join()
                    dead.append(f"{index} (exit code {process.exitcode})")
            self.close()
            what = f"worker {', '.join(dead)} died" if dead else f"a worker said nothing for {SILENCE_S:.0f} s"
            raise RuntimeError(f"{self.task.name}: {what}; all are ended, make new ones") from error
