"""Threads that work on numbered blocks: results in order, a bounded number early, nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from time import monotonic, sleep
from typing import Any, Generic, Self, TypeVar

import numpy as np
import sklearn
from threadpoolctl import ThreadpoolController

from ooclearn import config
from ooclearn._filters import filters_kept
from ooclearn._forking import in_a_child

__all__ = ["Threads", "blas_architectures", "blas_threads", "join_all", "keep_pages", "one_blas_thread", "ordered"]

T = TypeVar("T")


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    # Looking the libraries up takes milliseconds, so it is done once, when NumPy's and SciPy's are there. It goes through a
    # callback from C, in which a signal's exception (Ctrl-C) would be lost; signals come in the main thread alone.
    found: list[ThreadpoolController | _Failure] = []

    def look_up() -> None:
        try:
            found.append(ThreadpoolController())
        except BaseException as error:  # noqa: BLE001  (it is raised again below)
            found.append(_Failure(error))

    thread = threading.Thread(target=look_up, name="lookup", daemon=True)
    thread.start()
    join_all([thread])
    if isinstance(found[0], _Failure):
        raise found[0].error
    return found[0]


def blas_architectures() -> set[str]:
    """Return for which processors the kernels are that OpenBLAS has chosen; nothing of other BLAS libraries."""
    return {str(one.info().get("architecture")) for one in _controller().select(user_api="blas").lib_controllers}


def blas_threads() -> dict[str, int]:
    """Return how many threads each BLAS library uses, by the file it lies in."""
    libraries = (one.info() for one in _controller().select(user_api="blas").lib_controllers)
    return {str(one["filepath"]): int(one["num_threads"]) for one in libraries}


class _Hold:
    """BLAS held to one thread for as long as anyone asks for it.

    The number of threads is the process's. Fits that run at a time would each note it down and put it back, and the last
    to end may have noted down another's 1: BLAS would be left with one thread for good.
    """

    def __init__(self, limit: Any = None) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.limit = limit  # knows what to put back

    def take(self) -> None:
        controller = _controller()
        with self.lock:
            if self.limit is None:
                self.limit = controller.limit(limits=1, user_api="blas")
            self.holders += 1

    def leave(self) -> None:
        with self.lock:
            self.holders -= 1
            if not self.holders:
                self.limit.restore_original_limits()
                self.limit = None


_hold = _Hold()


@in_a_child
def _hold_anew() -> None:
    """Forget who holds BLAS in the parent, in threads that are not here; what is to be put back is, by the next to leave."""
    global _hold
    _hold = _Hold(_hold.limit)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread, process-wide, for the length of a ``with`` block: the workers are the threads.

    With a single worker too: products of tiles are too short to share, and BLAS threads that wait for one another on a
    busy machine cost ten times what they save.
    """
    hold = _hold
    hold.take()
    try:
        yield
    finally:
        if hold is _hold:  # else this is a child of fork, where nobody holds it
            hold.leave()


# Seconds after which a thread that was to be started, and has not begun to run, will not.
_PATIENCE = 1.0


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class Threads:
    """Threads that all do the same, with the settings of the thread that makes them.

    In a ``with`` block they run; at its end they are told to stop and waited for, however it comes. A subclass gives
    ``_work``, what each does, which raises nothing, and ``_stop``, which tells them to return soon and may be called
    again. Nothing here refers to itself, so that what the work holds is let go with it, and not when garbage is collected.

    Parameters
    ----------
    n : int
        How many.
    name : str
        What they are called, for timelines.
    """

    def __init__(self, n: int, name: str) -> None:
        self._begun = 0
        # Both configurations belong to the thread that set them; others act for the one that asked.
        settings = sklearn.get_config(), config.get_config()
        self._threads = [
            threading.Thread(target=self._run, args=settings, name=f"{name}-{k}", daemon=True) for k in range(n)
        ]

    def _work(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _work")  # a subclass's duty, not a path

    def _stop(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _stop")  # a subclass's duty, not a path

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                self._begun += 1
                thread.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._end()
        except KeyboardInterrupt:  # it may have come before they were told to stop
            self._end()
            raise
        finally:
            self._threads.clear()  # those that were never started hold what they were to do

    def _end(self) -> None:
        self._stop()
        join_all(self._threads[: self._begun])

    def _run(self, sklearn_settings: dict[str, Any], settings: dict[str, Any]) -> None:
        with sklearn.config_context(**sklearn_settings), config.config_context(**settings):
            self._work()


class _Crew(Threads, Generic[T]):
    """Worker threads that take numbers in order and leave results for one consumer."""

    def __init__(
        self, function: Callable[[int], T], n: int, workers: int, ahead: int, name: str, *, yielding: bool
    ) -> None:
        super().__init__(min(workers, n), name)
        self._function = function
        self._yielding = yielding
        self._at_work = 0
        self._n = n
        self._room = workers + ahead
        self._changed = threading.Condition()
        self._next = 0
        self._consumed = 0
        self._stopped = False
        self._results: dict[int, T | _Failure] = {}

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            self._results.clear()

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _work(self) -> None:
        # OpenMP counts its threads for each thread that calls it: a worker is one core.
        with _controller().limit(limits=1, user_api="openmp"):
            while True:
                with self._changed:
                    while not self._stopped and self._next < self._n and self._must_wait():
                        self._changed.wait()
                    if self._stopped or self._next >= self._n:
                        return
                    i = self._next
                    self._next += 1
                    self._at_work += 1
                try:
                    result: T | _Failure = self._function(i)
                except BaseException as error:  # noqa: BLE001  (it is raised again where the result is asked for)
                    result = _Failure(error)
                with self._changed:
                    self._at_work -= 1
                    self._results[i] = result
                    self._changed.notify_all()
                del result

    def _must_wait(self) -> bool:
        """Say whether a worker may not begin the next number yet."""
        if self._next >= self._consumed + self._room:
            return True
        # With the next two results there, nobody waits for the workers; the consumer gets a core to itself.
        enough = self._yielding and {self._consumed, self._consumed + 1} <= self._results.keys()
        return enough and self._at_work >= max(1, len(self._threads) - 1)

    def take(self, i: int) -> T:
        with self._changed:
            while i not in self._results:
                self._changed.wait()
            result = self._results.pop(i)
            self._consumed = i + 1
            self._changed.notify_all()
        if isinstance(result, _Failure):
            raise result.error
        return result


@lru_cache(maxsize=1)
def keep_pages() -> None:
    """Let the C library keep the memory of temporary arrays instead of giving it back after each.

    glibc gives back what is freed from 128 KiB on, and the system then clears fresh pages for the next temporary array,
    which costs up to ten times the arithmetic on it. It raises that bound by itself, up to 32 MiB, to the size of what
    it sees freed; so one array of that size, never written to, is made and let go. Elsewhere this does nothing.
    """
    np.empty(31 * 2**20, dtype=np.uint8)


def join_all(threads: Iterable[threading.Thread], /) -> None:
    """Wait until threads have ended, before a Ctrl-C that comes meanwhile is raised; a second one is raised at once."""
    interrupted: KeyboardInterrupt | None = None
    left = list(threads)
    while left:
        try:
            _join(left[-1])
            left.pop()
        except KeyboardInterrupt as error:
            if interrupted is not None:
                raise
            interrupted = error
    if interrupted is not None:
        raise interrupted


def _join(thread: threading.Thread) -> None:
    """Wait until a thread has ended, even one that Ctrl-C came upon in the middle of being started."""
    end = monotonic() + _PATIENCE
    while thread.ident is None and monotonic() < end:
        sleep(0.001)
    while thread.ident is not None:
        try:
            thread.join()
        except RuntimeError:  # it has begun to run, and does not say so yet
            sleep(0.001)
        else:
            return


def ordered(
    function: Callable[[int], T],
    n: int,
    /,
    *,
    workers: int,
    ahead: int = 0,
    name: str = "worker",
    yielding: bool = False,
) -> Iterator[T]:
    """Yield ``function(0)``, ..., ``function(n - 1)`` in order, computed by threads.

    At most ``workers + ahead`` results exist at a time that were not taken yet, whoever is the slower. When the
    consumer stops early (an error, Ctrl-C, closing the iterator), no further number is begun, those under way
    are waited for, and every thread has ended when control returns.

    Parameters
    ----------
    function : callable
        Takes a number. Its errors are raised in the place of its result.
    n : int
        How many numbers there are.
    workers : int
        How many threads. With one worker and nothing `ahead`, or a single number, the caller's own thread
        does the work.
    ahead : int
        How many results may wait beyond those the workers are at.
    name : str
        What the threads are called, for timelines.
    yielding : bool
        The consumer works as hard as a worker: one of them rests while the two results that it will ask for
        next are there.

    Examples
    --------
    >>> from ooclearn.workers import ordered
    >>> list(ordered(lambda i: i * i, 5, workers=2))
    [0, 1, 4, 9, 16]
    """
    keep_pages()
    if n <= 1 or (workers <= 1 and ahead <= 0):
        for i in range(n):
            yield function(i)
        return
    with filters_kept(), _Crew(function, n, workers, ahead, name, yielding=yielding) as crew:
        for i in range(n):
            yield crew.take(i)
