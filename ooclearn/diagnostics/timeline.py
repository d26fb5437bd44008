"""What each worker did when: the record of a fit, as a picture, a trace, a table and a sentence."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import datetime
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Self

import joblib

from ooclearn.diagnostics._diagnosis import diagnose
from ooclearn.diagnostics._recording import Pass, Recorded, Recording
from ooclearn.diagnostics._summary import Summary, summarise
from ooclearn.diagnostics._units import as_bytes, as_seconds
from ooclearn.diagnostics.memory import MemorySampler
from ooclearn.events import Observer, Span, Work, observe

__all__ = ["Timeline", "timeline"]

# A curve is drawn on about a thousand pixels.
_MAX_SAMPLES = 4096


class Timeline(Observer):
    """The context manager that :func:`timeline` returns, which see; it can be asked during the block and after it.

    Parameters
    ----------
    memory_budget : int, optional
        Bytes to draw as a line over the memory curve.
    interval : float, default=0.05
        Seconds between two samples of memory and CPU.
    max_spans : int, default=100000
        How many stretches of time to keep, 100 or more.

    Attributes
    ----------
    memory : MemorySampler
        Memory and busy cores of this process during the ``with`` block.
    """

    def __init__(
        self,
        *,
        memory_budget: int | None = None,
        interval: float = 0.05,
        max_spans: int = 100_000,
    ) -> None:
        if memory_budget is not None and not memory_budget > 0:
            raise ValueError(f"memory_budget must be bytes above 0 or None, got {memory_budget!r}")
        if max_spans < 100:
            raise ValueError(f"max_spans must be at least 100, got {max_spans!r}")
        self.memory_budget = memory_budget
        self.max_spans = max_spans
        self.memory = MemorySampler(interval=interval, max_samples=_MAX_SAMPLES)
        self.started: datetime | None = None
        self._recording = Recording(perf_counter(), max_spans)
        self._stop: float | None = None
        self._stack: ExitStack | None = None

    def __enter__(self) -> Self:
        if self._stack is not None:
            raise RuntimeError("this timeline is being recorded already; call timeline() for another one")
        with ExitStack() as stack:
            self.started = datetime.now().astimezone()
            self._recording = Recording(perf_counter(), self.max_spans)
            self._stop = None
            stack.enter_context(self.memory)
            stack.enter_context(observe(self))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()
            self._stop = perf_counter()

    # What the core tells.

    def begin(self, work: Work, /) -> None:
        """Take note that a pass begins."""
        self._recording.begin(work, perf_counter())

    def span(self, work: Work, span: Span, /) -> None:
        """Take note of a finished task."""
        self._recording.span(work, span)

    def end(self, work: Work, /, error: BaseException | None = None) -> None:
        """Take note that a pass ended, and of the name of the error that ended it."""
        self._recording.end(work, perf_counter(), error)

    # What can be asked, at any time.

    def recorded(self) -> Recorded:
        """Return what was recorded so far.

        Returns
        -------
        Recorded
            The passes, the workers, and what each worker did when.
        """
        return self._recording.recorded(self._stop if self._stop is not None else perf_counter())

    @property
    def start(self) -> float:
        """When the recording began, in ``perf_counter`` seconds."""
        return self._recording.start

    @property
    def passes(self) -> list[Pass]:
        """The passes so far, with their totals by kind of task."""
        return self.recorded().passes

    def summary(self) -> Summary:
        """Return a table of what each pass spent its time on.

        Returns
        -------
        Summary
            Prints itself, and has the table as plain tuples in ``rows``: for each pass a row for each kind
            of task (blocks, seconds summed over the workers, rows, GB/s of a worker at it, share of the
            length of the pass) and one of kind ``"total"``. Time of a task that ran inside another counts
            for the inner.
        """
        return summarise(self.passes)

    def diagnosis(self) -> str:
        """Return one sentence that says what limits the kind of pass that took the most time.

        Returns
        -------
        str
            It begins with ``read-bound``, ``transform-bound``, ``fit-bound`` or ``write-bound`` where one stage
            holds up the rest; ``parallel and balanced`` where the workers had their hands full; ``waiting`` where
            they had, but the CPU did not; ``underused`` where they had not.
        """
        return diagnose(self.passes, self.cpu_seconds, int(joblib.cpu_count())).sentence

    def cpu_seconds(self, one: Pass, /) -> float | None:
        """Return the CPU seconds that this process took during a pass.

        Parameters
        ----------
        one : Pass
            Of :attr:`passes`.

        Returns
        -------
        float or None
            None where the pass was too short to tell.
        """
        start = self.start + one.start
        if self.started is None or one.seconds < 10 * self.memory.interval:
            return None
        return self.memory.cores_between(start, start + one.seconds) * one.seconds

    def to_html(self, path: str | os.PathLike[str], /, *, title: str = "Timeline") -> Path:
        """Write the picture, with the diagnosis and the summary, as one file that any browser shows.

        The file refers to nothing outside it. Tasks that are too short to be seen are put together, so that
        it stays small (at most about one megabyte) however many blocks there were.

        Parameters
        ----------
        path : path
            The file to write.
        title : str
            What stands above it.

        Returns
        -------
        Path
            The file.
        """
        from ooclearn.diagnostics._page import page

        target = Path(path)
        target.write_text(page(self, title), encoding="utf-8")
        return target

    def to_chrome_trace(self, path: str | os.PathLike[str], /) -> Path:
        """Write every task as a trace that Perfetto (ui.perfetto.dev) and ``chrome://tracing`` open.

        Parameters
        ----------
        path : path
            The JSON file to write.

        Returns
        -------
        Path
            The file.
        """
        from ooclearn.diagnostics._trace import write_trace

        target = Path(path)
        with target.open("w", encoding="utf-8") as file:
            write_trace(self, file)
        return target

    def _repr_html_(self) -> str:
        """Show the picture in a notebook."""
        from ooclearn.diagnostics._page import page

        return (
            f'<iframe srcdoc="{escape(page(self, "Timeline"))}" sandbox="allow-scripts" '
            'style="width:100%;height:720px;border:0"></iframe>'
        )

    def __repr__(self) -> str:
        recorded = self.recorded()
        known = self.memory.measure is not None and self.started is not None
        peak = f", peak {as_bytes(self.memory.peak)} of {self.memory.measure}" if known else ""
        n = len(recorded.passes)
        return f"Timeline({n} pass{'es' * (n != 1)} in {as_seconds(recorded.stop)}{peak})"


def timeline(
    *,
    memory_budget: int | None = None,
    interval: float = 0.05,
    max_spans: int = 100_000,
) -> Timeline:
    """Record what each worker does when, and the memory and CPU of this process, for a ``with`` block.

    Memory stays bounded: at most `max_spans` stretches of time are kept (about 30 MB for the default). When
    there are more, short ones are put together by worker and kind within bins of time, which the picture
    shows coarser; the sums of the summary and of the diagnosis stay exact. At most 1000 passes, 256 workers
    and 4096 samples of memory are kept apart.

    Parameters
    ----------
    memory_budget : int, optional
        Bytes to draw as a line over the memory curve.
    interval : float
        Seconds between two samples of memory and CPU.
    max_spans : int
        How many stretches of time to keep.

    Returns
    -------
    Timeline
        A context manager with ``summary()``, ``diagnosis()``, ``to_html(path)`` and
        ``to_chrome_trace(path)``.

    Examples
    --------
    >>> import time
    >>> from ooclearn.diagnostics import timeline
    >>> from ooclearn.events import Work, record, working
    >>> with timeline() as t:
    ...     with working(Work("feed", "SGDClassifier, epoch 1", n_rows=200)) as work:
    ...         for block in range(2):
    ...             with record(work, "read", block, bytes=800):
    ...                 time.sleep(0.02)
    ...             with record(work, "fit", block, rows=100):
    ...                 time.sleep(0.002)
    >>> t.diagnosis()
    'read-bound: reading took ... % of the feed pass, in turn with fit on one worker (reading gave ... GB/s)'
    >>> [(row.kind, row.blocks, row.rows) for row in t.summary().rows]
    [('read', 2, 0), ('fit', 2, 200), ('total', 2, 200)]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = t.to_html(f"{folder}/fit.html", title="Fit")
    ...     trace = t.to_chrome_trace(f"{folder}/fit.json")
    ...     page.stat().st_size < 100_000
    True
    """
    return Timeline(memory_budget=memory_budget, interval=interval, max_spans=max_spans)
