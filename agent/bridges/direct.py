"""The offline result goes straight into online learning, without the offline data."""

from dataclasses import dataclass

from agent.types import Phase


@dataclass(frozen=True)
class Bridge:
    """No bridge at all: the baseline that shows the drop."""

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, online)`."""
        return offline, online
