"""RLPD: no pre-training; learn online from scratch with a share of every batch from the offline data."""

from dataclasses import dataclass, replace

from agent.bridges.parts import check_share, with_share
from agent.types import Phase


@dataclass(frozen=True)
class Bridge:
    """Ball et al. 2023, Algorithm 1.

    Attributes:
        offline_share: fraction of each batch from the data set.
    """

    offline_share: float = 0.5

    def __post_init__(self) -> None:
        check_share("rlpd", self.offline_share)

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(online,)`."""
        return (replace(online, shares=with_share(self.offline_share)),)
