"""What happens during a pass, told to whoever watches: progress bars, timelines, counting sources.

The core emits, observers listen. Nobody listening costs one tuple comparison a block.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self

from ooclearn._forking import in_a_child

__all__ = ["Observer", "Span", "Work", "observe", "observers", "record", "within", "working"]


@dataclass(frozen=True, slots=True)
class Work:
    """One reading of a table, as announced to observers before its first block.

    Attributes
    ----------
    kind : str
        ``"fold"`` (statistics), ``"feed"`` (ordered training), ``"map"`` (transform, predict in memory) or ``"write"``
        (a result sent to disk).
    title : str
        What it is for, for people.
    n_rows, n_bytes, n_blocks : int or None
        Totals of the input; None where they are not known beforehand.
    """

    kind: str
    title: str
    n_rows: int | None = None
    n_bytes: int | None = None
    n_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time that one worker spent on one kind of task.

    Attributes
    ----------
    worker : str
        Name of the thread.
    kind : str
        ``"read"``, ``"transform"``, ``"fold"``, ``"fit"``, ``"merge"``, ``"write"`` or ``"wait"``.
    start, stop : float
        In ``perf_counter`` seconds.
    block : int or None
        Number of the block it worked on.
    rows : int
        Rows of the table that it finishes with for good. Only the last task on a block says so, so that the sum over
        spans is the progress.
    bytes : int
        What was read or written in it.
    """

    worker: str
    kind: str
    start: float
    stop: float
    block: int | None = None
    rows: int = 0
    bytes: int = 0


class Observer:
    """Base class of those who watch passes; its methods do nothing, and may be called from any thread."""

    def begin(self, work: Work, /) -> None:
        """Take note that a pass begins.

        Parameters
        ----------
        work : Work
            The pass.
        """

    def span(self, work: Work, span: Span, /) -> None:
        """Take note of a finished task.

        Parameters
        ----------
        work : Work
            The pass it is part of.
        span : Span
            Who did what, and when.
        """

    def end(self, work: Work, /, error: BaseException | None = None) -> None:
        """Take note that a pass has ended.

        Parameters
        ----------
        work : Work
            The pass.
        error : BaseException, optional
            What ended it, if it failed.
        """


_lock = threading.Lock()
_local = threading.local()
_observers: tuple[Observer, ...] = ()


@in_a_child
def _forget() -> None:
    """Let nobody watch: a child of ``fork`` has no thread that draws, and a lock held by one it lacks stays held."""
    global _lock, _observers
    _lock, _observers = threading.Lock(), ()


def observers() -> tuple[Observer, ...]:
    """Return those who watch now.

    Returns
    -------
    tuple of Observer
        In the order in which they began.
    """
    return _observers


@contextmanager
def observe(observer: Observer, /) -> Iterator[Observer]:
    """Let an observer watch everything this process does inside the ``with`` block.

    Parameters
    ----------
    observer : Observer
        Its methods are called from whichever thread does the work.

    Yields
    ------
    Observer
        The same.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.events import Observer, observe
    >>> from ooclearn.preprocessing import StandardScaler
    >>> class Titles(Observer):
    ...     def begin(self, work, /):
    ...         print(work.kind, work.n_rows)
    >>> with observe(Titles()):
    ...     scaler = StandardScaler().fit(np.ones((5, 2)))
    fold 5
    """
    global _observers
    with _lock:
        _observers = (*_observers, observer)
    try:
        yield observer
    finally:
        with _lock:
            _observers = tuple(o for o in _observers if o is not observer)


@contextmanager
def working(work: Work, /) -> Iterator[Work]:
    """Announce a pass for the length of the ``with`` block.

    Parameters
    ----------
    work : Work
        The pass.

    Yields
    ------
    Work
        The same.
    """
    watching = _observers
    for observer in watching:
        observer.begin(work)
    try:
        yield work
    except BaseException as error:
        for observer in watching:
            observer.end(work, error)
        raise
    for observer in watching:
        observer.end(work)


def within(kind: str, /) -> AbstractContextManager[Any]:
    """Time the ``with`` block as a task of its own inside the one that this thread is at; observers count it apart.

    Parameters
    ----------
    kind : str
        As of :class:`Span`.

    Returns
    -------
    context manager
        It does nothing when nobody watches.
    """
    work = getattr(_local, "work", None) if _observers else None
    return nullcontext() if work is None else record(work, kind)


@dataclass(slots=True)
class record:  # noqa: N801  (reads as a verb: ``with record(work, "read"):``)
    """Context manager that times its body and tells observers; does nothing when nobody watches.

    Parameters
    ----------
    work : Work
        The pass.
    kind : str
        Of the task, as of :class:`Span`.
    block : int, optional
        Number of the block.
    rows, bytes : int, default=0
        As of :class:`Span`.
    """

    work: Work
    kind: str
    block: int | None = None
    rows: int = 0
    bytes: int = 0
    _start: float = field(default=0.0, init=False)
    _outer: Work | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        if _observers:
            self._start = perf_counter()
            self._outer, _local.work = getattr(_local, "work", None), self.work
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if self._start:
            _local.work = self._outer
        if kind is None and _observers:
            stop = perf_counter()
            start = self._start or stop
            span = Span(threading.current_thread().name, self.kind, start, stop, self.block, self.rows, self.bytes)
            for observer in _observers:
                observer.span(self.work, span)
