"""What stands in a segment of the journal: where its episodes are and how they went. It can always be derived again."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from agent.replay.record import RecordError
from agent.replay.segment import following, header, pieces, segment_path, segments, write_whole


class Chain(NamedTuple):
    """Which transitions have a known observation, and where episodes begin: the same for every reader.

    A transition that does not carry its `obs` takes the `next_obs` of the record before, if that is a transition that did not
    end its episode; otherwise it is an orphan and belongs to no episode. An episode begins at a transition that carries its
    `obs`, and at one that follows an orphan. It ends with its last transition, or before a record that is no transition.

    Attributes:
        known: a transition that follows needs no `obs` of its own.
        open: an episode is under way.
    """

    known: bool = False
    open: bool = False

    def usable(self, first: bool) -> bool:
        """Whether a transition that follows is no orphan."""
        return first or self.known

    def begins(self, first: bool) -> bool:
        """Whether a transition that follows begins an episode."""
        return first or (self.known and not self.open)

    def after(self, first: bool, ends: bool) -> "Chain":
        """After a transition; after any other record it is `Chain()`."""
        return Chain(not ends, self.usable(first) and not ends)


@dataclass
class Span:
    """An episode in its segment.

    Attributes:
        offset: byte at which it begins.
        first, next: numbers of its first record and of the one after its last.
        steps: transitions.
        reward_sum: of them all, undiscounted.
        success: as the task said.
        terminated, truncated: how its last transition ended it; neither while it is open, or where it was cut off.
    """

    offset: int
    first: int
    next: int
    steps: int = 0
    reward_sum: float = 0.0
    success: bool = False
    terminated: bool = False
    truncated: bool = False


@dataclass
class SegmentIndex:
    """A segment's records `[first, next)`, their bytes and their episodes. Segments begin outside of episodes."""

    first: int
    next: int
    nbytes: int = 0
    episodes: list[Span] = field(default_factory=list)
    chain: Chain = field(default_factory=Chain, compare=False)

    def after(self, head: dict[str, Any]) -> Chain:
        """The chain after a record of this header. Raises `RecordError` for a malformed one."""
        try:
            if head["kind"] != "transition":
                return Chain()
            return self.chain.after(head["first"], head["terminated"] or head["truncated"])
        except KeyError as error:
            raise RecordError(f"record: its header lacks {error}") from error

    def add(self, head: dict[str, Any], size: int, next_number: int) -> None:
        """Takes in the record that follows: its header, its size in bytes, and the number after it."""
        after = self.after(head)
        if head["kind"] == "transition":
            if self.chain.begins(head["first"]):
                self.episodes.append(Span(self.nbytes, self.next, next_number))
            if self.chain.usable(head["first"]):
                span = self.episodes[-1]
                span.next, span.steps, span.reward_sum = next_number, span.steps + 1, span.reward_sum + head["reward"]
                span.success = head["success"]
                span.terminated, span.truncated = head["terminated"], head["truncated"]
        self.nbytes, self.next, self.chain = self.nbytes + size, next_number, after

    def write(self, folder: Path) -> None:
        """Puts it beside its segment."""
        plain = {name: x for name, x in asdict(self).items() if name != "chain"}
        write_whole(index_path(folder, self.first), json.dumps(plain, separators=(",", ":")).encode())


def index_path(folder: Path, first: int) -> Path:
    """The file beside a segment that holds its index."""
    return segment_path(folder, first).with_suffix(".idx")


def build_index(folder: Path, first: int) -> SegmentIndex:
    """Derives a segment's index, up to its last whole record. Raises `RecordError` where it is damaged before."""
    index, path, torn = SegmentIndex(first, first), segment_path(folder, first), False
    for piece in pieces(path):
        if torn:
            raise RecordError(f"journal {path}: damaged at byte {index.nbytes}; run `segue journal repair`")
        if piece.record is None:
            torn = True
        else:
            index.add(header(piece.record), piece.size, following(piece.record, index.next))
    return index


def read_index(folder: Path, first: int) -> SegmentIndex | None:
    """The index that stands beside a segment; None where it is missing, unreadable or of another length."""
    try:
        plain = json.loads(index_path(folder, first).read_bytes())
        plain["episodes"] = [Span(**span) for span in plain["episodes"]]
        index = SegmentIndex(**plain)
        same = index.first == first and index.nbytes == segment_path(folder, first).stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if same else None


def spans(folder: Path) -> list[Span]:
    """All episodes of a session in order, from its folder; the place in the list is the episode's number.

    Raises:
        RecordError: a segment without an index is damaged.
    """
    indexes = (read_index(folder, first) or build_index(folder, first) for first in segments(folder))
    return [span for index in indexes for span in index.episodes]
