"""What the benchmarks share: options, interleaved timing, tables and JSON."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from ooclearn.config import n_workers
from ooclearn.demo.command import size, whole

__all__ = [
    "ROOT",
    "Timings",
    "interleaved",
    "keep_memory",
    "machine",
    "markdown",
    "options",
    "report",
    "scratch",
    "size",
    "whole",
    "written",
]

ROOT = Path(__file__).resolve().parents[2]

# How the machine was when the benchmark began.
_before: dict[str, float | None] = {}


def options(description: str | None, *, rows: int, repeats: int = 5) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    if not _before:  # once a process, before it does anything
        busy = busy_cores()
        _before["busy"] = None if busy is None else round(busy, 2)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", type=whole, default=rows, metavar="N", help="rows of 20 float64 columns")
    parser.add_argument("--repeats", type=whole, default=repeats, metavar="N", help="interleaved repetitions")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "bench", metavar="FOLDER", help="where the JSON goes"
    )
    return parser


@contextmanager
def scratch(within: Path | None = None) -> Iterator[Path]:
    """Make a temporary folder for tables, removed at the end, also when the process is asked to end."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with tempfile.TemporaryDirectory(prefix="ooclearn-bench-", dir=within) as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)


# Timing.


@dataclass
class Timings:
    """Seconds of each repetition, by what was timed."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        """Keep one more repetition."""
        self.seconds.setdefault(name, []).append(seconds)

    def __getitem__(self, name: str) -> float:
        """Return the median."""
        return median(self.seconds[name])

    def __contains__(self, name: str) -> bool:
        return name in self.seconds


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int, *, settle: int = 12) -> Timings:
    """Time calls in turn, so that what else the machine does falls on all of them.

    Repetitions are not counted before all calls are steady: the last two rounds within 10 % of the fastest,
    or `settle` rounds, since the first use of fresh memory on a virtual machine takes several times as long.
    """
    best: dict[str, float] = {}
    calm = 0
    for _ in range(settle):
        rounds = {name: _seconds(call) for name, call in calls.items()}
        calm = calm + 1 if all(t <= 1.1 * best.get(name, 0.0) for name, t in rounds.items()) else 0
        best = {name: min(t, best.get(name, t)) for name, t in rounds.items()}
        if calm == 2:
            break
    timings = Timings()
    for _ in range(repeats):
        for name, call in calls.items():
            timings.add(name, _seconds(call))
    return timings


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    del result  # what it frees is not timed
    return seconds


def keep_memory() -> bool:
    """Make this process reuse freed memory instead of giving it back; return whether the C library can.

    A large array is otherwise new memory from the system each time, which the system has to find and clear:
    both sides of a comparison then mostly measure that.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    trim_threshold, mmap_max = -1, -4
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, -1))


# Reporting.


def busy_cores(seconds: float = 0.5) -> float | None:
    """Return how many cores the whole machine keeps busy while this process waits; None where nothing tells.

    The load average would not do: for minutes it remembers the benchmark before.
    """

    def counted() -> tuple[float, float]:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        ticks = [float(field) for field in first.split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # without idle time, and waiting for the disk

    try:
        before = counted()
        time.sleep(seconds)
        after = counted()
    except (OSError, IndexError, ValueError):
        return None
    passed = after[1] - before[1]
    return (os.cpu_count() or 1) * (after[0] - before[0]) / passed if passed > 0 else None


def machine() -> dict[str, Any]:
    """Return what the numbers depend on, beside the code."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    names = ("ooclearn", "numpy", "scikit-learn", "scipy", "dask", "dask-ml")
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": n_workers(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "busy_before": _before.get("busy"),
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table, aligned for reading as it is: text to the left, the rest to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(heads), *cells]) for i in range(len(heads))]
    right = [i > 0 for i in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        padded = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|"
    return "\n".join([line(list(heads)), rule, *map(line, cells)])


def report(name: str, title: str, tables: Sequence[str], numbers: Mapping[str, Any], out: Path) -> None:
    """Print the tables, and save the numbers with what they depend on."""
    system = machine()
    busy = (system["busy_before"] or 0.0) > 0.15 * system["cores"]
    notes = f"{system['processor']}, {system['cores']} cores; busy before: {system['busy_before']}"
    warning = "\n\n**The machine was busy: do not trust these numbers.**" if busy else ""
    print(f"\n## {title}\n\n{notes}{warning}\n\n" + "\n\n".join(tables) + "\n", flush=True)
    written({"name": name, "machine": system, **numbers}, out)


def written(numbers: Mapping[str, Any], out: Path) -> None:
    """Save numbers under their name."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(numbers, indent=2)
    (out / f"{numbers['name']}.json").write_text(text + "\n", encoding="utf-8")
