"""Whether a journal is whole: every record, every number, every index. Reads everything and writes nothing."""

from dataclasses import dataclass, field
from pathlib import Path

from agent.replay.entry import Entry, Gap, Layout, Step, decode
from agent.replay.episodes import Tombstones
from agent.replay.journal_index import Chain, SegmentIndex, index_path, read_index
from agent.replay.journal_info import JournalInfo, session_folders, session_name
from agent.replay.record import RecordError
from agent.replay.segment import Piece, header, pieces, segment_path, segments


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        file, offset: where, in bytes.
        number: of the record that should stand there; None where it is about none.
        what: in a few words.
    """

    file: Path
    offset: int
    number: int | None
    what: str

    def __str__(self) -> str:
        record = "" if self.number is None else f", record {self.number}"
        return f"{self.file}, byte {self.offset}{record}: {self.what}"


@dataclass
class SessionFacts:
    """What stands in a session: counts of records, transitions, episodes that ended and others, bytes, gap records, and
    transitions that are lost, by their sequence numbers."""

    session: int
    records: int = 0
    transitions: int = 0
    complete: int = 0
    open: int = 0
    nbytes: int = 0
    gaps: int = 0
    lost: int = 0


@dataclass
class Report:
    """What `verify` found, and what `repair` did before that, a sentence each."""

    sessions: list[SessionFacts] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or missing but what a gap explains."""
        return not self.findings


def verify(folder: Path) -> Report:
    """Looks at everything in the journal in `folder`; damage of any kind becomes a finding.

    Raises:
        ValueError: there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"journal {folder}: there is no such folder; give the folder of a journal")
    report, layout, wanted = Report(), None, None
    try:
        info = JournalInfo.read(folder)
        layout, wanted = info.layout, info.transitions
    except ValueError as error:
        report.findings.append(Finding(folder / "journal.json", 0, None, str(error)))
    for session, path in session_folders(folder).items():
        check = _SessionCheck(path, session, layout)
        check.run()
        report.sessions.append(check.facts)
        report.findings += check.findings
    there = sum(facts.transitions for facts in report.sessions)
    if wanted is not None and there != wanted:
        what = f"{there} of the {wanted} transitions that it was written with are there; copy it again"
        report.findings.append(Finding(folder / "journal.json", 0, None, what))
    try:
        Tombstones.read(folder)
    except RecordError:
        pass  # a damaged segment, found already
    except ValueError as error:
        report.findings.append(Finding(folder / "tombstones.jsonl", 0, None, str(error)))
    return report


def entry_of_piece(piece: Piece, session: int, layout: Layout | None) -> Entry:
    """The entry that stands in a piece of a segment; a transition without its `obs` where it does not carry it.

    Args:
        piece: of the segment.
        session: to which it must belong.
        layout: of the journal; where it is not known, only kind and numbers are looked at.

    Raises:
        RecordError: none of this session does.
    """
    if piece.record is None:
        raise RecordError(f"record: {piece.size} bytes are no intact record")
    entry = decode(piece.record, layout or own_layout(piece))
    if entry.session != session:
        raise RecordError(f"record: it is of session {session_name(entry.session)}")
    return entry


def own_layout(piece: Piece) -> Layout:
    """A layout that fits the transition of a piece."""
    assert piece.record is not None
    listed = header(piece.record).get("arrays")
    try:
        specs = {name: (dtype, tuple(shape)) for name, dtype, shape in listed or []}
        obs = {name.removeprefix("next_obs/"): spec for name, spec in specs.items() if name.startswith("next_obs/")}
        return Layout(obs, specs.get("action", ("", (0,)))[1][0])
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise RecordError("record: its list of arrays is malformed") from error


class _SessionCheck:
    """Goes through a session's stream."""

    def __init__(self, folder: Path, session: int, layout: Layout | None) -> None:
        self._folder, self._session, self._layout = folder, session, layout
        self.facts, self.findings = SessionFacts(session), list[Finding]()
        self._next = self._sequence = self._announced = 0
        self._damaged = False  # since the last intact record
        self._hole = False  # since the last transition something is known to be missing

    def run(self) -> None:
        firsts = segments(self._folder)
        for first in firsts:
            path = segment_path(self._folder, first)
            if first < self._next or (first > self._next and not self._damaged):
                self._find(path, 0, f"the segment begins at record {first}")
                self._hole = True
            self._next = max(self._next, first)
            self._segment(path, first, last=first == firsts[-1])
        self.facts.lost += self._announced

    def _find(self, path: Path, offset: int, what: str) -> None:
        self.findings.append(Finding(path, offset, self._next, what))

    def _segment(self, path: Path, first: int, last: bool) -> None:
        index, end, before = SegmentIndex(first, first), path.stat().st_size, len(self.findings)
        self.facts.nbytes += end
        for piece in pieces(path):
            try:
                entry = entry_of_piece(piece, self._session, self._layout)
            except RecordError as error:
                torn = last and piece.record is None and piece.offset + piece.size >= end
                what = f"a torn tail of {piece.size} bytes" if torn else str(error).removeprefix("record: ")
                self._find(path, piece.offset, what)
                self._damaged = self._hole = True
                index.chain = Chain()
                continue
            self._entry(path, piece.offset, entry)
            assert piece.record is not None
            index.add(header(piece.record), piece.size, entry.next)
        complete = sum(span.terminated or span.truncated for span in index.episodes)
        self.facts.complete += complete
        self.facts.open += len(index.episodes) - complete
        if not last and len(self.findings) == before:
            self._index(first, index)

    def _entry(self, path: Path, offset: int, entry: Entry) -> None:
        self.facts.records += 1
        if entry.number < self._next:
            self._find(path, offset, f"record {entry.number} stands there, out of order or twice")
            return
        if entry.number > self._next and not self._damaged:
            self._find(path, offset, f"record {entry.number} stands there")
            self._hole = True
        self._next, self._damaged = entry.next, False
        match entry.event:
            case Gap(_, transitions):
                self.facts.gaps, self._hole = self.facts.gaps + 1, True
                self._announced += max(transitions, 0)
            case Step(transition):
                self._transition(path, offset, transition.sequence, entry.number)

    def _transition(self, path: Path, offset: int, sequence: int, number: int) -> None:
        missing = sequence - self._sequence
        if missing < 0 or (missing and not self._hole):
            what = f"the transition says it is number {sequence} where {self._sequence} is due"
            self.findings.append(Finding(path, offset, number, what))
        self.facts.transitions += 1
        self.facts.lost += max(missing, 0)
        self._sequence, self._hole, self._announced = sequence + 1, False, 0

    def _index(self, first: int, built: SegmentIndex) -> None:
        found, path = read_index(self._folder, first), index_path(self._folder, first)
        if found is None:
            self.findings.append(Finding(path, 0, first, "the index is missing or not of this segment"))
        elif found != built:
            self.findings.append(Finding(path, 0, first, "the index does not tell what stands in the segment"))
