"""Workers as lanes: short names, and their order."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["lane_names", "lane_order"]

_LONGEST = 14
# What threads are called by those who start them, and what to call them here.
_KNOWN = (
    (re.compile(r"MainThread"), "main"),
    (re.compile(r"ThreadPoolExecutor-0_(\d+)"), r"pool \1"),
    (re.compile(r"ThreadPoolExecutor-(\d+)_(\d+)"), r"pool \1.\2"),
    (re.compile(r"Dask-[\w-]*?Threads'?-(?:\d+-)?(\d+)"), r"dask \1"),
    (re.compile(r"Thread-(\d+)(?: \(.*\))?"), r"thread \1"),
    (re.compile(r"\w+://.*:(\d+)"), r"port \1"),
    (re.compile(r"(.*?)[-_](\d+)"), r"\1 \2"),
)


def lane_names(workers: Iterable[str], /) -> dict[str, str]:
    """Return a short name for each worker, no name twice.

    Examples
    --------
    >>> lane_names(["MainThread", "reader-0", "ThreadPoolExecutor-0_3"])
    {'MainThread': 'main', 'reader-0': 'reader 0', 'ThreadPoolExecutor-0_3': 'pool 3'}
    >>> lane_names(["a-very-long-name-of-a-thread-7"]).popitem()[1]
    'a-very…hread 7'
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for worker in workers:
        base, mark, copy = worker.partition(" #")
        name = next((form.sub(short, base) for form, short in _KNOWN if form.fullmatch(base)), base)
        name = _shortened(name or "worker") + mark + copy
        number = 2
        plain = name
        while name in taken:
            name = f"{plain} ({number})"
            number += 1
        taken.add(name)
        names[worker] = name
    return names


def _shortened(name: str) -> str:
    if len(name) <= _LONGEST:
        return name
    head = (_LONGEST - 1) // 2
    return f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[head + 1 - _LONGEST :]}"


def lane_order(workers: Iterable[str], /) -> list[str]:
    """Return the workers as they are drawn: the main thread, then by name, numbers in order of size.

    Examples
    --------
    >>> lane_order(["reader-10", "reader-9", "MainThread"])
    ['MainThread', 'reader-9', 'reader-10']
    """

    def key(worker: str) -> tuple[bool, list[tuple[int, str]]]:
        parts = re.findall(r"\d+|\D+", worker)
        return worker != "MainThread", [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    return sorted(workers, key=key)
