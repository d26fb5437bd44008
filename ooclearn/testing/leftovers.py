"""Nothing half done: no thread, no open file and no temporary file may be left behind, and BLAS has its threads."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from ooclearn.workers import blas_threads

__all__ = ["nothing_left"]

_PATIENCE = 5.0
_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def nothing_left(folder: str | os.PathLike[str] | None = None, /, *, pools: Sequence[str] = ()) -> Iterator[None]:
    """Raise AssertionError if the ``with`` block leaves a thread, an open file, a temporary file, or BLAS held back.

    Whether it ends well or by an error, which is then the cause of the assertion's.

    Parameters
    ----------
    folder : path, optional
        Where no file named ``*.tmp`` may be left.
    pools : sequence of str
        Threads whose names begin so may stay: pools that a library keeps for the life of the process.

    Yields
    ------
    None
        What is there on entering may stay.

    Examples
    --------
    >>> from ooclearn.testing import nothing_left
    >>> from ooclearn.workers import ordered
    >>> with nothing_left():
    ...     results = ordered(lambda i: i, 1000, workers=2)
    ...     first = next(results)
    ...     results.close()
    """
    threads = set(threading.enumerate())
    files = _open_files()
    before = blas_threads()
    try:
        yield
    finally:
        problems = _problems(threads, files, tuple(pools))
        now = blas_threads()
        problems += [f"{now[path]} threads for {path}, and not {n}" for path, n in before.items() if now[path] != n]
        if folder is not None:
            problems += [f"the temporary file {path.name}" for path in Path(folder).rglob("*.tmp")]
            problems += [f"the temporary file {path.name}" for path in Path(folder).rglob(".*.tmp")]
        assert not problems, f"left behind: {', '.join(dict.fromkeys(problems))}"


def _problems(threads: set[threading.Thread], files: dict[str, str], pools: tuple[str, ...]) -> list[str]:
    # What was let go a moment ago may still be on its way out.
    end = monotonic() + _PATIENCE
    while True:
        left = [
            f"thread {t.name!r}"
            for t in set(threading.enumerate()) - threads
            if not t.name.startswith(pools or ("\0",))
        ]
        left += [f"open file {path}" for fd, path in _open_files().items() if files.get(fd) != path]
        if not left or monotonic() > end:
            return left
        gc.collect()  # slow where many modules are loaded, so only when there is reason to
        sleep(0.01)


def _open_files() -> dict[str, str]:
    """Return the paths of the open regular files by descriptor, where the system tells."""
    found = {}
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return {}
    for fd in descriptors:
        try:
            path = str(fd.readlink())
        except OSError:  # closed since, such as the one that listed them
            continue
        if path.startswith("/") and not path.startswith(("/dev/", "/proc/")):
            found[fd.name] = path
    return found
