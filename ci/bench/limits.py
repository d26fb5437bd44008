"""What no program could beat on a machine: the rates of reading, of memory, and of serial training alone."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier
from threadpoolctl import threadpool_limits

from ooclearn.config import n_workers
from ooclearn.types import Array

__all__ = [
    "Limits",
    "bare_training",
    "fastest_read",
    "in_threads",
    "let_go",
    "memory_rate",
    "read_seconds",
    "share_held",
]

_READY_ROWS = 2_000_000
_BLOCK = 100_000


def in_threads(task: Callable[[int], None], tasks: int, threads: int) -> float:
    """Run ``task(0)``, ``task(1)``, ... in threads, whoever is free next; return the seconds."""
    numbers = count()

    def work() -> None:
        for number in iter(lambda: next(numbers), None):
            if number >= tasks:
                return
            task(number)

    crew = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return time.perf_counter() - start


def read_seconds(path: Path, threads: int, tile: int) -> float:
    """Return the seconds to read the file with plain reads of so many bytes, each thread into one buffer."""
    buffers = threading.local()
    fd = os.open(path, os.O_RDONLY)

    def read(i: int) -> None:
        if not hasattr(buffers, "view"):
            buffers.view = memoryview(bytearray(tile))
        os.preadv(fd, [buffers.view], i * tile)

    try:
        return in_threads(read, -(-path.stat().st_size // tile), threads)
    finally:
        os.close(fd)


def fastest_read(path: Path, *, cold: bool = False) -> tuple[int, int]:
    """Return how many threads, and reads of how many bytes, read the file fastest."""
    cores = n_workers()
    ways = [(threads, tile) for threads in sorted({1, cores, 2 * cores, 4 * cores}) for tile in (2**18, 2**20, 2**22)]

    def seconds(way: tuple[int, int]) -> float:
        if cold:
            let_go(path)
        return read_seconds(path, *way)

    return min(ways, key=seconds)


def let_go(*paths: Path) -> None:
    """Ask the system to forget the pages of files, so that the next reading comes from the disk."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)  # what is not written yet is not let go
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def share_held(path: Path) -> float:
    """Return the share of a file's pages that the system holds in memory: what tells whether a reading is cold."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    held = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, dtype=np.uint8)
        address = ctypes.c_void_p(view.ctypes.data)
        del view  # or the mapping could not be closed
        if ctypes.CDLL(None, use_errno=True).mincore(address, ctypes.c_size_t(size), held):
            raise OSError(ctypes.get_errno(), "mincore", str(path))
    return float(np.mean(np.frombuffer(bytes(held), dtype=np.uint8) & 1))


def memory_rate(rows: Array, *, threads: int | None = None, tile: int = 2**17) -> float:
    """Return the bytes a second at which ``ones @ rows`` goes through rows in memory, all cores together."""
    ones = np.ones(tile)

    def total(i: int) -> None:
        part = rows[i * tile : (i + 1) * tile]
        ones[: len(part)] @ part

    with threadpool_limits(1):
        seconds = in_threads(total, -(-len(rows) // tile), threads or n_workers())
    return float(rows.nbytes / seconds)


def bare_training(blocks: list[tuple[Array, Array]], rows: int) -> float:
    """Return the seconds of ``partial_fit`` alone over so many rows, of blocks that are ready, in turn.

    The rows were mixed beforehand and are in the order in which they lie in memory: nothing is faster.
    """
    model = SGDClassifier(shuffle=False, random_state=0)
    model.partial_fit(*blocks[0], classes=[0, 1])  # what is set up once
    seconds = 0.0
    for X, y in _rows_of(blocks, rows):
        start = time.perf_counter()
        model.partial_fit(X, y)
        seconds += time.perf_counter() - start
    return seconds


def _rows_of(blocks: list[tuple[Array, Array]], rows: int) -> Iterator[tuple[Array, Array]]:
    while rows > 0:
        for X, y in blocks:
            taken = min(rows, len(X))
            if taken == 0:
                return
            yield X[:taken], y[:taken]
            rows -= taken


class Limits:
    """The limits of the job on one table, asked for beside the ways to do it; see rivals.py."""

    def __init__(self, folder: Path) -> None:
        self.X, self.y = folder / "X.npy", folder / "y.npy"

    def prepare(self) -> None:
        """Do nothing: all there is to prepare reads the table, and so belongs to `load`."""

    def load(self) -> None:
        """Find the fastest reader, and make blocks ready: scaled, in memory, in the file's mixed order."""
        read_seconds(self.X, n_workers(), 2**20)  # into the page cache
        self.reader = fastest_read(self.X)
        X = np.load(self.X, mmap_mode="r")
        self.rows = len(X)
        self.ready = np.array(X[:_READY_ROWS])
        self.ready -= self.ready.mean(axis=0)
        self.ready /= self.ready.std(axis=0)
        labels = np.load(self.y, mmap_mode="r")[:_READY_ROWS]
        self.blocks = [
            (self.ready[start : start + _BLOCK], np.array(labels[start : start + _BLOCK]))
            for start in range(0, len(self.ready), _BLOCK)
        ]

    def read(self) -> float:
        """Return the seconds to read the file once, as fast as it can be done."""
        return read_seconds(self.X, *self.reader)

    def memory(self) -> float:
        """Return bytes a second through memory."""
        return memory_rate(self.ready)

    def training(self) -> float:
        """Return the seconds of the serial training alone, on all rows of the table."""
        return bare_training(self.blocks, self.rows)
