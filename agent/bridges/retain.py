"""The offline data stay: a fixed share of every online batch is drawn from them."""

from dataclasses import dataclass, replace

from agent.bridges.parts import check_share, with_share
from agent.types import Phase


@dataclass(frozen=True)
class Bridge:
    """What Cal-QL does (Nakamoto et al. 2023), and the papers' control for the effect of the data (SOAR, section 5).

    Attributes:
        offline_share: fraction of each batch from the data set.
    """

    offline_share: float = 0.5

    def __post_init__(self) -> None:
        check_share("retain", self.offline_share)

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, online with the share)`."""
        return offline, replace(online, shares=with_share(self.offline_share))
