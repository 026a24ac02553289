"""Memory and descriptors of learner and actor while small transitions come at full speed: neither may grow."""

import os
from pathlib import Path
from typing import Any

from launch.bench_wire import STATE, throughput

PARTS = 10  # of the run, with a look at the end of each


def held(pid: int) -> tuple[float, int]:
    """Resident megabytes and open descriptors of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd"))


def memory(repeats: int = 1, count: int = 200_000) -> dict[str, Any]:
    """What both processes hold after a tenth of `count` transitions, after five tenths, and after nine. Linux only."""
    looks: list[dict[str, Any]] = []
    for _ in range(repeats):
        seen: dict[int, dict[str, Any]] = {}

        def look(got: int, actor: int | None, seen: dict[int, dict[str, Any]] = seen) -> None:
            part = PARTS * got // count
            if part in (1, 5, 9) and part not in seen and actor is not None:
                both = {"learner": held(os.getpid()), "actor": held(actor)}
                seen[part] = {"transitions": got} | {
                    f"{who}_{what}": round(n, 1)
                    for who, two in both.items()
                    for what, n in zip(("MB", "descriptors"), two, strict=True)
                }

        rate = throughput(STATE, count, journaled=True, look=look)
        looks += [{**row, "per_s": round(rate["per_s"])} for row in seen.values()]
    return {"memory": looks}
