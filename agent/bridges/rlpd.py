"""RLPD: no pre-training; learn online from scratch with a share of every batch from the offline data."""

from dataclasses import dataclass, replace

from agent.types import Phase


@dataclass(frozen=True)
class Bridge:
    """Ball et al. 2023, Algorithm 1.

    Attributes:
        offline_share: fraction of each batch from the data set.
    """

    offline_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.offline_share < 1:
            raise ValueError(f"bridge 'rlpd': offline_share is {self.offline_share}; give a number between 0 and 1")

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(online,)`."""
        shares = {"offline": self.offline_share, "online": 1.0 - self.offline_share}
        return (replace(online, shares=shares),)
