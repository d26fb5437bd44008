"""What a timeline keeps of the spans that it is told: pieces of time by worker, totals by pass; bounded."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from ooclearn.events import Span, Work

__all__ = ["BUSY", "KINDS", "Pass", "Piece", "Recorded", "Recording", "Total", "coarse", "rows_of_intervals"]

KINDS = ("read", "transform", "fold", "fit", "merge", "write", "wait")
BUSY = KINDS[:-1]

# Spans are put in their places this many at a time, so that telling one is an append.
_RAW = 4096
_MAX_PASSES = 1000
_MAX_LANES = 256
_NUMBER = re.compile(r"^pass \d+: (?=\S)")
# Two megabytes of bits; nothing is cut into as many.
_MAX_BLOCKS = 2**24
# Shorter gaps and overlaps are the cost of telling and rounding, not work.
_GAP = 1e-7


@dataclass(slots=True)
class Piece:
    """A stretch of one worker's time spent on one kind of task; of several tasks where it was made coarser.

    Times are seconds since the recording began.
    """

    start: float
    stop: float
    kind: str
    number: int  # of the pass
    block: int | None
    tasks: int
    rows: int
    bytes: int

    def copy(self) -> Piece:
        """Return one that may be changed."""
        return Piece(self.start, self.stop, self.kind, self.number, self.block, self.tasks, self.rows, self.bytes)


@dataclass(slots=True)
class Total:
    """All tasks of one kind in one pass; the time of tasks inside tasks counts once, for the inner one."""

    tasks: int = 0
    seconds: float = 0.0
    rows: int = 0
    bytes: int = 0
    unnumbered: int = 0
    seen: bytearray = field(default_factory=bytearray)  # one bit a block

    def add(self, span: Span) -> None:
        """Count a task; its seconds are added when its place is known."""
        self.tasks += 1
        self.rows += span.rows
        self.bytes += span.bytes
        if span.block is None or not 0 <= span.block < _MAX_BLOCKS:
            self.unnumbered += 1
            return
        byte, bit = divmod(span.block, 8)
        if byte >= len(self.seen):
            self.seen.extend(bytes(max(byte + 1, 2 * len(self.seen)) - len(self.seen)))
        self.seen[byte] |= 1 << bit

    @property
    def blocks(self) -> int:
        """How many different blocks; tasks without a number count each."""
        return int.from_bytes(self.seen, "little").bit_count() + self.unnumbered


@dataclass(slots=True)
class Pass:
    """One reading of the table. Times are seconds since the recording began."""

    number: int
    work: Work
    start: float
    stop: float | None = None
    error: str | None = None
    under_way: int = 1
    totals: dict[str, Total] = field(default_factory=dict)
    # Seconds by worker and kind.
    busy: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the pass is called; without the number, which stands beside it."""
        return _NUMBER.sub("", self.work.title) or self.work.kind

    @property
    def seconds(self) -> float:
        """Length of the pass."""
        return (self.stop if self.stop is not None else self.start) - self.start

    @property
    def rows(self) -> int:
        """Rows that were finished with."""
        return sum(total.rows for total in self.totals.values())

    @property
    def n_bytes(self) -> int:
        """Bytes of the table that were finished with; what was read or written where that is not known."""
        work = self.work
        if work.n_bytes is not None and work.n_rows:
            return round(work.n_bytes * min(1.0, self.rows / work.n_rows))
        read = self.totals.get("read", Total()).bytes
        return read or sum(total.bytes for total in self.totals.values())


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording as it is at one moment, for those who tell about it."""

    stop: float
    passes: list[Pass]
    lanes: dict[str, list[Piece]]
    resolution: float  # below which pieces were put together; 0 where none were
    not_placed: int  # tasks of workers beyond the greatest number of them: in the totals only


class Recording:
    """Takes note of passes and spans, from any thread.

    At most `max_pieces` pieces are kept: when there are more, those that are short are put together within
    bins of time, by kind, until half as many are left. The sums stay exact. At most 1000 passes are kept
    apart.
    """

    def __init__(self, start: float, max_pieces: int) -> None:
        self.start = start
        self.max_pieces = max_pieces
        self._lock = threading.Lock()
        self._passes: list[Pass] = []
        self._live: dict[int, tuple[Work, Pass]] = {}
        self._raw: list[tuple[Pass, Span]] = []
        self._lanes: dict[str, list[Piece]] = {}
        self._n_pieces = 0
        self._resolution = 0.0
        self._not_placed = 0

    def begin(self, work: Work, at: float) -> None:
        """Take note that a pass begins."""
        with self._lock:
            self._begin(work, at)

    def _begin(self, work: Work, at: float) -> Pass:
        if len(self._passes) <= _MAX_PASSES:
            if len(self._passes) == _MAX_PASSES:
                work = Work("further", "further passes")
            one = Pass(len(self._passes) + 1, work, at - self.start)
            self._passes.append(one)
        else:
            one = self._passes[-1]
            one.under_way += 1
            one.stop = None
        self._live[id(work)] = work, one
        return one

    def end(self, work: Work, at: float, error: BaseException | None) -> None:
        """Take note that a pass ends."""
        with self._lock:
            _, one = self._live.pop(id(work), (work, None))
            if one is not None:
                one.under_way -= 1
                # The name only: an exception holds on to the frames that it came through.
                one.error = type(error).__name__ if error is not None else one.error
                if one.under_way == 0:
                    one.stop = at - self.start

    def span(self, work: Work, span: Span) -> None:
        """Take note of a task."""
        with self._lock:
            found = self._live.get(id(work))
            one = found[1] if found is not None else self._equal(work, span)
            self._raw.append((one, span))
            if len(self._raw) >= _RAW:
                self._settle()

    def _equal(self, work: Work, span: Span) -> Pass:
        # Told by another process, where the work was another object; or of a pass that began unwatched.
        for known, one in self._live.values():
            if known == work:
                return one
        for one in reversed(self._passes):
            if one.work == work:
                return one
        return self._begin(work, max(span.start, self.start))

    def recorded(self, now: float) -> Recorded:
        """Return what was recorded so far."""
        with self._lock:
            self._settle()
            passes = copy.deepcopy(self._passes)
            lanes = {name: list(pieces) for name, pieces in self._lanes.items()}
        stop = now - self.start
        for one in passes:
            if one.stop is None:
                one.stop = max(stop, one.start)
        return Recorded(stop, passes, lanes, self._resolution, self._not_placed)

    def _settle(self) -> None:
        for one, span in self._raw:
            total = one.totals.setdefault(span.kind, Total())
            total.add(span)
            lane = self._lane(span)
            if lane is None:
                self._not_placed += 1
                total.seconds += span.stop - span.start
                continue
            seconds = self._place(self._lanes[lane], span, one.number)
            total.seconds += seconds
            busy = one.busy.setdefault(lane, {})
            busy[span.kind] = busy.get(span.kind, 0.0) + seconds
        self._raw.clear()
        if self._n_pieces > self.max_pieces:
            self._coarsen()

    def _lane(self, span: Span) -> str | None:
        """Return the lane of this worker where the span is beside or around the pieces, not across them.

        Two threads may have one name; what they do at the same time takes two lanes.
        """
        start, stop = span.start - self.start, span.stop - self.start
        for number in count(1):
            name = span.worker if number == 1 else f"{span.worker} #{number}"
            lane = self._lanes.get(name)
            if lane is None:
                if len(self._lanes) >= _MAX_LANES:
                    return None
                self._lanes[name] = []
                return name
            if not lane or lane[-1].stop <= start + _GAP:
                return name
            low, high = _overlapped(lane, start, stop)
            slack = self._resolution + _GAP
            if low == high or (lane[low].start >= start - slack and lane[high - 1].stop <= stop + slack):
                return name
        return None

    def _place(self, lane: list[Piece], span: Span, number: int) -> float:
        """Put the span in its lane, around the tasks that ran inside it; return the seconds of its own."""
        start, stop = span.start - self.start, span.stop - self.start
        if stop <= start:
            return 0.0
        low, high = _overlapped(lane, start, stop)
        inner = lane[low:high]
        placed: list[Piece] = []
        seconds = 0.0
        tasks, rows, n_bytes = 1, span.rows, span.bytes
        at = start
        for piece in [*inner, None]:
            until = min(piece.start, stop) if piece is not None else stop
            if until - at > (_GAP if inner else 0.0):
                placed.append(Piece(at, until, span.kind, number, span.block, tasks, rows, n_bytes))
                seconds += until - at
                tasks = rows = n_bytes = 0  # told once
            if piece is not None:
                placed.append(piece)
                at = max(at, piece.stop)
        lane[low:high] = placed
        self._n_pieces += len(placed) - len(inner)
        return seconds

    def _coarsen(self) -> None:
        last = max((lane[-1].stop for lane in self._lanes.values() if lane), default=0.0)
        width = max(self._resolution, 2 * last * len(self._lanes) / self.max_pieces)
        while True:
            self._lanes = {name: list(coarse(pieces, width)) for name, pieces in self._lanes.items()}
            self._n_pieces = sum(map(len, self._lanes.values()))
            self._resolution = width
            if self._n_pieces <= self.max_pieces // 2 or width > 2 * last:
                return
            width *= 2


def _overlapped(lane: list[Piece], start: float, stop: float) -> tuple[int, int]:
    """Return the range of pieces that have time in common with ``start`` to ``stop``, more than rounding."""
    high = len(lane)
    while high and lane[high - 1].start >= stop - _GAP:
        high -= 1
    low = high
    while low and lane[low - 1].stop > start + _GAP:
        low -= 1
    return low, high


def coarse(pieces: Iterable[Piece], width: float) -> Iterator[Piece]:
    """Yield the pieces of one worker, those shorter than `width` put together within bins of that width.

    Within a bin the time of each kind becomes one piece, one kind after the other, so that sums of time, rows
    and bytes stay as they are.
    """
    at = None
    together: dict[str, Piece] = {}

    def flush() -> Iterator[Piece]:
        if together:
            start = min(piece.start for piece in together.values())
            for piece in together.values():
                length = piece.stop - piece.start
                piece.start, piece.stop = start, start + length
                start += length
                yield piece
            together.clear()

    for piece in pieces:
        if piece.stop - piece.start >= width:
            yield from flush()
            yield piece
            continue
        where = int(piece.start / width)
        if where != at:
            yield from flush()
            at = where
        known = together.get(piece.kind)
        if known is None:
            together[piece.kind] = piece.copy()
        else:
            known.stop += piece.stop - piece.start
            known.block = known.block if known.block == piece.block else None
            known.tasks += piece.tasks
            known.rows += piece.rows
            known.bytes += piece.bytes
    yield from flush()


def rows_of_intervals(intervals: Iterable[tuple[float, float]]) -> list[int]:
    """Return a row for each interval, in order of start, so that no two of one row overlap.

    Examples
    --------
    >>> rows_of_intervals([(0, 4), (1, 2), (4, 5)])
    [0, 1, 0]
    """
    ends: list[float] = []
    rows = []
    for start, stop in intervals:
        row = next((i for i, end in enumerate(ends) if end <= start), len(ends))
        ends[row : row + 1] = [stop]
        rows.append(row)
    return rows
