"""How much memory this process takes: a sampler in a thread, and a limit that the system enforces."""

from __future__ import annotations

import errno
import operator
import sys
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from ooclearn.diagnostics._units import as_bytes

__all__ = ["MemorySampler", "Sample", "limit_memory", "peak_memory"]

_STATUS = Path("/proc/self/status")


def _status(field: bytes) -> int:
    """Return a size of ``/proc/self/status`` in bytes; OSError or ValueError where there is none."""
    text = _STATUS.read_bytes()
    at = text.index(b"\n" + field + b":")
    return int(text[at:].split(maxsplit=2)[1]) * 1024


def _rss_anon() -> int:
    return _status(b"RssAnon")


def _measure() -> tuple[str | None, Callable[[], int] | None]:
    """Return what can be measured on this platform, by name, and the function that does it."""
    try:
        _rss_anon()
    except (OSError, ValueError):
        pass
    else:
        return "anonymous memory", _rss_anon
    try:
        import psutil
    except ImportError:
        return None, None
    process = psutil.Process()
    if hasattr(process.memory_info(), "private"):
        return "private memory", lambda: int(process.memory_info().private)
    return "resident memory", lambda: int(process.memory_info().rss)


class Sample(NamedTuple):
    """What a :class:`MemorySampler` saw: until `time`, at most `memory` bytes and `cpu` cores busy.

    The first one is from when the ``with`` block was entered. ``time`` is in ``perf_counter`` seconds;
    ``memory`` is None where it cannot be measured.
    """

    time: float
    memory: int | None
    cpu: float


@dataclass(slots=True)
class _Stretch:
    stop: float
    memory: int
    cpu_seconds: float  # of the process since it began


class MemorySampler:
    """Context manager that samples the memory of this process, and how many cores it keeps busy, in a thread.

    What counts is anonymous memory (``RssAnon``): what the process holds and the system cannot take back.
    Pages of mapped files, which `np.memmap` fills, are not in it. Where ``/proc`` does not exist, `psutil`
    is asked, if it is installed, for private memory (Windows) or resident memory (macOS, mapped files
    included).

    The thread ends with the ``with`` block, and by itself when the sampler is forgotten. A sample takes
    about 20 microseconds. The system counts to within some hundred kilobytes. At most `max_samples` samples are kept: when there are more, neighbours become
    one, of which the greater memory is kept, so that no peak is lost.

    Parameters
    ----------
    interval : float
        Seconds between two samples. Memory that is asked for and freed between two of them is not seen.
    max_samples : int
        How many samples to keep.

    Attributes
    ----------
    measure : str or None
        What is measured: ``"anonymous memory"``, ``"private memory"``, ``"resident memory"``, or None where
        the platform offers none of them.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.diagnostics import MemorySampler
    >>> with MemorySampler() as memory:
    ...     ones = np.ones(6_000_000)
    >>> memory.peak > ones.nbytes
    True
    """

    def __init__(self, *, interval: float = 0.01, max_samples: int = 4096) -> None:
        self._stopped = threading.Event()  # first, for __del__
        if not interval > 0:
            raise ValueError(f"interval must be seconds above 0, got {interval!r}")
        if max_samples < 3:
            raise ValueError(f"max_samples must be at least 3, got {max_samples!r}")
        self.interval = interval
        self.max_samples = max_samples
        self.measure, self._read = _measure()
        self._lock = threading.Lock()
        self._stretches: list[_Stretch] = []
        self._resolution = 0.0
        self._before: int | None = None
        self._peak = 0
        self._start = (0.0, 0.0)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("this MemorySampler is at work already; make another one")
        self._resolution = 0.0
        self._before = self._read() if self._read is not None else None
        self._peak = self._before or 0
        self._start = time.perf_counter(), time.process_time()
        self._stretches = [_Stretch(self._start[0], self._peak, self._start[1])]
        self._stopped = stopped = threading.Event()
        # The thread must not keep the sampler alive, or a forgotten one would be sampled for ever.
        self._thread = threading.Thread(
            target=_watch,
            args=(weakref.ref(self), stopped, self.interval),
            name="memory-sampler",
            daemon=True,
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.sample()

    def __del__(self) -> None:
        self._stopped.set()

    def sample(self) -> None:
        """Take one sample now, beside those that the thread takes."""
        with self._lock:
            memory = self._read() if self._read is not None else 0
            self._peak = max(self._peak, memory)
            now = _Stretch(time.perf_counter(), memory, time.process_time())
            if len(self._stretches) > 1 and now.stop - self._stretches[-2].stop < self._resolution:
                now.memory = max(now.memory, self._stretches[-1].memory)
                self._stretches[-1] = now
            else:
                self._stretches.append(now)
            if len(self._stretches) > self.max_samples:
                self._halve()

    def _halve(self) -> None:
        # All but the first, which is that of the start.
        first, *rest = self._stretches
        kept = rest[1::2]
        for earlier, later in zip(rest[::2], kept, strict=False):
            later.memory = max(later.memory, earlier.memory)
        if len(rest) % 2:
            kept.append(rest[-1])
        self._stretches = [first, *kept]
        self._resolution = 2 * max(self._resolution, self.interval)

    @property
    def samples(self) -> list[Sample]:
        """The samples so far, in order of time."""
        with self._lock:
            stretches = [(s.stop, s.memory, s.cpu_seconds) for s in self._stretches]
        found: list[Sample] = []
        before, spent = self._start
        for stop, memory, cpu_seconds in stretches:
            cores = (cpu_seconds - spent) / (stop - before) if stop > before else 0.0
            found.append(Sample(stop, memory if self._read is not None else None, cores))
            before, spent = stop, cpu_seconds
        return found

    @property
    def before(self) -> int:
        """Bytes when the ``with`` block was entered; OSError where memory cannot be measured."""
        self._measured()
        if self._before is None:
            raise RuntimeError("nothing was measured yet: use `with MemorySampler() as memory:`")
        return self._before

    @property
    def peak(self) -> int:
        """The most bytes seen so far; OSError where memory cannot be measured."""
        self._measured()
        return self._peak

    @property
    def growth(self) -> int:
        """How far `peak` is above `before`, in bytes."""
        return self.peak - self.before

    @property
    def cores(self) -> float:
        """How many cores the process kept busy on average, up to the last sample."""
        with self._lock:
            last = self._stretches[-1].stop if self._stretches else 0.0
        return self.cores_between(self._start[0], last)

    def cores_between(self, start: float, stop: float) -> float:
        """Return how many cores were busy on average between two times, as exactly as the samples are close.

        Parameters
        ----------
        start, stop : float
            The times, in ``perf_counter`` seconds.

        Returns
        -------
        float
            CPU seconds of this process for each second.
        """
        with self._lock:
            times = [s.stop for s in self._stretches]
            spent = [s.cpu_seconds for s in self._stretches]
        if not times or stop <= start:
            return 0.0

        def at(time: float) -> float:
            i = bisect_left(times, time)
            if i in {0, len(times)}:
                return spent[min(i, len(times) - 1)]
            part = (time - times[i - 1]) / (times[i] - times[i - 1])
            return spent[i - 1] + part * (spent[i] - spent[i - 1])

        return (at(stop) - at(start)) / (stop - start)

    def _measured(self) -> None:
        if self._read is None:
            raise OSError(
                errno.ENOTSUP,
                "the memory of this process cannot be measured: there is no /proc/self/status here; pip install psutil",
            )

    def __repr__(self) -> str:
        if self._read is None:
            return "MemorySampler(memory is not measured: no /proc/self/status, and psutil is not installed)"
        if self._before is None:
            return f"MemorySampler(interval={self.interval!r}, max_samples={self.max_samples!r})"
        growth = as_bytes(self.growth)
        return f"MemorySampler(peak {as_bytes(self.peak)} of {self.measure}, {growth} above the start)"


def _watch(reference: weakref.ref[MemorySampler], stopped: threading.Event, interval: float) -> None:
    while not stopped.wait(interval):
        sampler = reference()
        if sampler is None:
            return
        sampler.sample()
        del sampler


def peak_memory(*, interval: float = 0.01) -> MemorySampler:
    """Return a context manager that tells the peak memory of its ``with`` block.

    Parameters
    ----------
    interval : float
        Seconds between two samples.

    Returns
    -------
    MemorySampler
        With ``peak``, ``before`` and ``growth`` in bytes, during the block and after it.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.diagnostics import peak_memory
    >>> with peak_memory() as memory:
    ...     block = np.ones(6_000_000)
    >>> memory.peak > block.nbytes
    True
    """
    return MemorySampler(interval=interval)


@contextmanager
def limit_memory(n_bytes: int, /) -> Iterator[int]:
    """Let this process take at most `n_bytes` more memory inside the ``with`` block; beyond it, MemoryError.

    The system enforces it (``RLIMIT_DATA``) at what the process uses now plus `n_bytes`. Arrays count from
    when they are asked for, touched or not, and so do the stacks of threads (8 MiB each, as a rule) and the
    buffers that a BLAS takes when it is loaded; mapped files do not. Import what you use before: a library
    that cannot get memory while it is loaded may end the process. A lower limit in force already stays in
    force.

    Parameters
    ----------
    n_bytes : int
        How much more.

    Yields
    ------
    int
        The limit in force, in bytes, as ``RLIMIT_DATA`` counts.

    Raises
    ------
    OSError
        The platform cannot limit the memory of a process: it is not Linux.

    Examples
    --------
    >>> import sys
    >>> import numpy as np
    >>> from ooclearn.diagnostics import limit_memory
    >>> if sys.platform == "linux":
    ...     with limit_memory(100_000_000):
    ...         try:
    ...             np.ones(50_000_000)
    ...         except MemoryError:
    ...             print("refused")
    ... else:
    ...     print("refused")
    refused
    """
    n_bytes = operator.index(n_bytes)
    if n_bytes < 1:
        raise ValueError(f"n_bytes must be above 0, got {n_bytes}")
    if sys.platform != "linux":
        raise OSError(
            errno.ENOTSUP,
            f"memory cannot be limited on {sys.platform}: only Linux enforces RLIMIT_DATA for arrays; "
            "run in a container with a memory limit, or watch peak_memory() instead",
        )
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    unlimited = resource.RLIM_INFINITY
    limit = min([_status(b"VmData") + n_bytes, *(known for known in (soft, hard) if known != unlimited)])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
