"""Memory for blocks that is used again instead of being asked of the system anew.

A fresh array of some megabytes costs the system as much (pages to find and to clear) as filling it does.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from ooclearn.types import Array

__all__ = ["Buffers", "local_buffers"]


class _Lease:
    """Owner of a lent buffer: NumPy keeps it alive for as long as any view of the buffer lives."""

    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, memory: Array, nbytes: int) -> None:
        interface: dict[str, Any] = dict(memory[:nbytes].__array_interface__)
        self.__array_interface__ = interface


class Buffers:
    """A pool of host buffers; a buffer comes back by itself when the last view of it is gone.

    An estimator may keep rows that it was fed: then the buffer is simply not used again.

    Parameters
    ----------
    keep : int
        How many free buffers to hold at most.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.buffers import Buffers
    >>> buffers = Buffers(keep=1)
    >>> a = buffers.empty((2, 3), np.dtype("f8"))
    >>> a.shape, a.dtype
    ((2, 3), dtype('float64'))
    """

    def __init__(self, *, keep: int = 8) -> None:
        self._keep = keep
        self._free: list[Array] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process has a pool of its own, empty at first.
        return _pool, (self._keep,)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an uninitialised C-ordered array."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if dtype.hasobject or nbytes == 0:
            return np.empty(shape, dtype=dtype)
        memory = self._take(nbytes)
        lease = _Lease(memory, nbytes)
        weakref.finalize(lease, self._give, memory).atexit = False
        out: Array = np.asarray(lease).view(dtype).reshape(shape)
        return out

    def _take(self, nbytes: int) -> Array:
        with self._lock:
            # The one given back last is the one that may still lie in the processor's cache.
            for i in reversed(range(len(self._free))):
                memory = self._free[i]
                if nbytes <= memory.nbytes <= 2 * nbytes:
                    return self._free.pop(i)
        # With room to spare: blocks differ by some rows, and a buffer that is too short for the next one is of no use.
        return np.empty(nbytes + nbytes // 16, dtype=np.uint8)

    def _give(self, memory: Array) -> None:
        # Called when the last view dies, in whatever thread that happens, even inside `_take`'s lock if the
        # garbage collector runs there: so never wait.
        if self._lock.acquire(blocking=False):
            try:
                if len(self._free) < self._keep:
                    self._free.append(memory)
            finally:
                self._lock.release()


def _pool(keep: int) -> Buffers:
    return Buffers(keep=keep)


_local = threading.local()


def local_buffers() -> Buffers:
    """Return the pool of this thread, for temporary arrays of the size of a tile; it goes with the thread."""
    pool: Buffers | None = getattr(_local, "pool", None)
    if pool is None:
        pool = _local.pool = Buffers(keep=4)
    return pool
