"""How far passes are: counted by workers, read by whoever draws."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from time import perf_counter

from ooclearn.diagnostics._units import as_clock, as_count, as_seconds
from ooclearn.events import Observer, Span, Work

__all__ = ["Meter", "Meters"]

# Rates are those of the last seconds: what is true now, and no jumps from block to block.
_WINDOW = 10.0


@dataclass(slots=True, eq=False, weakref_slot=True)
class Meter:
    """How far one pass is."""

    work: Work
    start: float
    rows: int = 0
    blocks: int = 0
    bytes: int = 0
    stop: float | None = None
    error: str | None = None  # the name only: an exception holds on to the frames it came through
    marks: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=256))

    def __post_init__(self) -> None:
        self.marks.append((self.start, 0.0, 0.0))

    @property
    def title(self) -> str:
        """What the pass is called."""
        return self.work.title or self.work.kind

    @property
    def fraction(self) -> float | None:
        """How much is done, from 0 to 1; None where the total is not known."""
        if self.stop is not None and self.error is None:
            return 1.0
        if self.work.n_rows:
            return min(1.0, self.rows / self.work.n_rows)
        if self.work.n_blocks:
            return min(1.0, self.blocks / self.work.n_blocks)
        return None

    @property
    def n_bytes(self) -> float:
        """Bytes of input that are done with."""
        if self.work.n_bytes is not None and self.fraction is not None:
            return self.work.n_bytes * self.fraction
        return self.bytes

    def rates(self, now: float) -> tuple[float, float]:
        """Return rows/s and bytes/s: of the last seconds, or of the whole pass when it has ended."""
        if self.stop is not None:
            past, rows, n_bytes, now = self.start, 0.0, 0.0, self.stop
        else:
            if now - self.marks[-1][0] >= _WINDOW / 200:
                self.marks.append((now, self.rows, self.n_bytes))
            while len(self.marks) > 2 and now - self.marks[1][0] > _WINDOW:
                self.marks.popleft()
            past, rows, n_bytes = self.marks[0]
        seconds = max(now - past, 1e-9)
        return (self.rows - rows) / seconds, (self.n_bytes - n_bytes) / seconds

    def left(self, now: float) -> float | None:
        """Return the seconds that are left; None where they cannot be told."""
        rows_per_s, bytes_per_s = self.rates(now)
        work, fraction = self.work, self.fraction
        if work.n_rows and rows_per_s > 0:
            return max(0, work.n_rows - self.rows) / rows_per_s
        if fraction:
            return (now - self.start) * (1 - fraction) / fraction
        if work.n_bytes and bytes_per_s > 0:
            return max(0.0, work.n_bytes - self.n_bytes) / bytes_per_s
        return None

    def parts(self, now: float) -> dict[str, str]:
        """Return what is told about the pass, by column."""
        rows_per_s, bytes_per_s = self.rates(now)
        total = self.work.n_rows
        fraction = self.fraction
        if self.rows or total:
            done = as_count(self.rows) + (f" of {as_count(total)}" if total else "") + " rows"
        elif self.work.n_blocks:
            done = f"{as_count(self.blocks)} of {as_count(self.work.n_blocks)} blocks"
        else:
            done = ""
        if self.error is not None:
            time = f"{self.error}, {as_seconds((self.stop or now) - self.start)}"
        elif self.stop is not None:
            time = f"in {as_seconds(self.stop - self.start)}"
        else:
            left = self.left(now)
            time = f"{as_clock(left)} left" if left is not None else f"{as_clock(now - self.start)} so far"
        return {
            "percent": f"{100 * fraction:.0f} %" if fraction is not None else "",
            "rows": done,
            "rate": f"{as_count(rows_per_s)} rows/s" if self.rows else "",
            "bytes": f"{bytes_per_s / 1e9:.2f} GB/s" if self.n_bytes else "",
            "time": time,
        }


class Meters(Observer):
    """Counts the rows, blocks and bytes of passes; takes constant time a task, whatever is drawn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, Meter] = {}
        self._ended: list[Meter] = []

    def begin(self, work: Work, /) -> None:
        """Take note that a pass begins."""
        with self._lock:
            self._live[id(work)] = Meter(work, perf_counter())

    def span(self, work: Work, span: Span, /) -> None:
        """Count the rows and bytes of a finished task."""
        meter = self._live.get(id(work))
        if meter is None:
            # Told by another process, where the work was another object; or of a pass that began unwatched.
            meter = next((one for one in tuple(self._live.values()) if one.work == work), None)
            if meter is None:
                return
        with self._lock:
            meter.rows += span.rows
            meter.blocks += span.rows > 0
            if span.kind in {"read", "write"}:
                meter.bytes += span.bytes

    def end(self, work: Work, /, error: BaseException | None = None) -> None:
        """Take note that a pass ended."""
        with self._lock:
            meter = self._live.pop(id(work), None)
            if meter is not None:
                meter.stop = perf_counter()
                meter.error = type(error).__name__ if error is not None else None
                self._ended.append(meter)

    def take(self) -> tuple[list[Meter], list[Meter]]:
        """Return the passes that ended since the last call, and those under way.

        Returns
        -------
        ended : list of Meter
            Each is given once.
        under_way : list of Meter
            They count on.
        """
        with self._lock:
            ended, self._ended = self._ended, []
            return ended, list(self._live.values())
