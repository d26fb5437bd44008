"""Sources that count how often they are read, and sources that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ooclearn.sources import SourceBlocks
from ooclearn.types import Array

__all__ = ["CountingBlocks", "CountingSource", "FaultySource"]


class CountingSource:
    """Rows of a host array that are copied out when they are read, and counted.

    Parameters
    ----------
    values : ndarray
        The rows.
    name : str
        For messages.

    Attributes
    ----------
    reads : list of (int, int)
        First row of each read and the one after its last, in the order in which they were asked for.
    """

    in_memory = False

    def __init__(self, values: Array, *, name: str = "counted") -> None:
        self.values = np.asarray(values)
        self.name = name
        self.shape: tuple[int, ...] = self.values.shape
        self.dtype = self.values.dtype
        self.reads: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`."""
        self._count(start, stop)
        return self._copied(start, stop, out)

    def _count(self, start: int, stop: int) -> int:
        """Take note of a read; return how many there were before it."""
        with self._lock:
            self.reads.append((start, stop))
            return len(self.reads) - 1

    def _copied(self, start: int, stop: int, out: Array | None) -> Array:
        rows = self.values[start:stop]
        if out is None:
            return rows.copy()
        out[...] = rows
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class CountingBlocks(SourceBlocks):
    """Blocks that count how often they are read, however they are cut again.

    Parameters
    ----------
    values : ndarray
        The rows.
    lengths : sequence of int, optional
        Rows of each block; even blocks of ``block_bytes`` by default.
    name : str
        For messages.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import StandardScaler
    >>> from ooclearn.testing import CountingBlocks
    >>> X = CountingBlocks(np.ones((10, 2)), [4, 0, 6])
    >>> plan = StandardScaler().explain(X)
    >>> X.passes
    0
    >>> StandardScaler().fit(X)
    StandardScaler()
    >>> X.passes == plan.n_passes == 1
    True
    """

    source: CountingSource

    def __init__(self, values: Array, lengths: Sequence[int] | None = None, *, name: str = "counted") -> None:
        super().__init__(CountingSource(values, name=name), lengths)

    def recut(self, lengths: Sequence[int], /) -> CountingBlocks:
        """Return the same rows in blocks of these lengths; reads are counted together."""
        cut = object.__new__(CountingBlocks)
        SourceBlocks.__init__(cut, self.source, lengths, names=self.names)
        return cut

    @property
    def reads(self) -> list[tuple[int, int]]:
        """First row of each read and the one after its last."""
        return self.source.reads

    @property
    def passes(self) -> int:
        """How often the rows were read.

        Raises
        ------
        AssertionError
            Some rows were read more often than others.
        """
        times = np.zeros(self.source.shape[0], dtype=np.int64)
        for start, stop in self.reads:
            times[start:stop] += 1
        if not times.size:
            return 0
        assert times.min() == times.max(), (
            f"rows of {self.name} were read between {times.min()} and {times.max()} times: {self.reads}"
        )
        return int(times[0])


class FaultySource(CountingSource):
    """Rows of a host array whose n-th read goes wrong.

    Parameters
    ----------
    values : ndarray
        The rows.
    fail : int or None
        Which read fails, counted from 0; None for none.
    fault : exception, "short", "narrow" or callable
        What goes wrong: the exception is raised; a row is missing; a column is missing; or what the callable
        makes of the rows is returned in their place.
    times : int or None
        How many reads fail in a row; None for all from there on.
    name : str
        For messages.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import StandardScaler
    >>> from ooclearn.testing import FaultySource
    >>> X = FaultySource(np.ones((6, 2)), fail=1, fault="narrow").blocks([3, 3])
    >>> StandardScaler().fit(X)
    Traceback (most recent call last):
        ...
    ooclearn.exceptions.DataError: got rows of shape (3, 1) ...
    """

    def __init__(
        self,
        values: Array,
        fail: int | None,
        fault: BaseException | str | Callable[[Array], Array],
        *,
        times: int | None = None,
        name: str = "faulty",
    ) -> None:
        super().__init__(values, name=name)
        self.fail = fail
        self.fault = fault
        self.times = times

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`, unless this is the read that fails."""
        number = self._count(start, stop)
        rows = self._copied(start, stop, out)
        if self.fail is None or number < self.fail:
            return rows
        if self.times is not None and number >= self.fail + self.times:
            return rows
        if isinstance(self.fault, BaseException):
            raise self.fault
        if self.fault == "short":
            return rows[:-1]
        if self.fault == "narrow":
            return rows[:, :-1]
        assert callable(self.fault)
        return self.fault(rows)

    def blocks(self, lengths: Sequence[int] | None = None) -> SourceBlocks:
        """Return these rows as Blocks.

        Parameters
        ----------
        lengths : sequence of int, optional
            Rows of each block; even blocks of ``block_bytes`` by default.

        Returns
        -------
        SourceBlocks
            One of whose reads goes wrong.
        """
        return SourceBlocks(self, lengths)
