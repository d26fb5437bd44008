"""``python -m ooclearn demo``: options, folders, limits, and what is printed."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import numpy as np

import ooclearn
from ooclearn.config import n_workers
from ooclearn.demo import job, report
from ooclearn.demo.table import NoRoomError, Recipe, stored
from ooclearn.diagnostics import MemorySampler, Progress, limit_memory, progress, timeline
from ooclearn.exceptions import BackendError, BlockMemoryError

__all__ = ["add_options", "run", "size", "whole"]

# Stacks of threads, and what Python itself asks for meanwhile.
_OVERHEAD = 64 * 2**20
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def whole(text: str, /) -> int:
    """Return the whole number above 0 that `text` says.

    Examples
    --------
    >>> whole("1e8"), whole("250_000")
    (100000000, 250000)
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf") or value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, such as 1000000 or 1e8")
    return int(value)


def size(text: str, /) -> int:
    """Return the bytes that `text` says.

    Examples
    --------
    >>> size("2GiB"), size("512 MB"), size("1e9")
    (2147483648, 512000000, 1000000000)
    """
    number = text.strip().lower().removesuffix("b").rstrip()
    unit = next(u for u in ("ki", "mi", "gi", "k", "m", "g", "") if number.endswith(u))
    try:
        value = int(float(number.removesuffix(unit)) * _UNITS[unit])
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 2GiB, 512MB or a number of bytes")
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo."""
    add = parser.add_argument
    add(
        "--rows",
        type=whole,
        default=10**7,
        metavar="N",
        help="rows to train on, 1e8 for the full size (default 1e7)",
    )
    add(
        "--memory",
        type=size,
        default=2 * 2**30,
        metavar="SIZE",
        help="memory that the job may take beyond the program itself, enforced by the system (default 2GiB)",
    )
    add("--backend", choices=["numpy", "dask", "cupy"], default="numpy", help="what works on the rows")
    add(
        "--dir",
        type=Path,
        metavar="FOLDER",
        help="where the table goes, to stay; one of the same size and seed that is there is used again "
        "(default: a temporary folder, removed at the end)",
    )
    add("--keep", action="store_true", help="keep the temporary folder")
    add("--timeline", type=Path, default=Path("timeline.html"), metavar="FILE", help="(default timeline.html)")
    add(
        "--sample",
        type=whole,
        default=10**6,
        metavar="N",
        help="rows for scikit-learn in memory (default 1e6)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the table (default 0)")


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Run the demo; return 0, or 1 if it did not do what it claims, or 2 if it could not begin."""
    try:
        recipe = Recipe(options.rows, options.seed)
        _refuse_early(options, recipe)
        with _folder(options) as folder, _terminable():
            return _in_folder(options, recipe, folder, out)
    except (BackendError, NoRoomError, BlockMemoryError) as error:
        print(f"ooclearn demo: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"ooclearn demo: the job did not keep to {options.memory:,} bytes: {error!r}", file=sys.stderr)
        return 1


def _refuse_early(options: argparse.Namespace, recipe: Recipe) -> None:
    """Raise what would stop the job, before a large table is written for it."""
    if not options.timeline.absolute().parent.is_dir():
        raise NotADirectoryError(f"there is no folder {options.timeline.parent} for --timeline")
    (X, y), _ = recipe.generated()
    needed = job.plan(X, y, options.backend).memory + _OVERHEAD
    if needed > options.memory:
        raise BlockMemoryError(
            f"the plan needs up to {needed / 2**20:,.0f} MiB for blocks and threads, and --memory is "
            f"{options.memory / 2**20:,.0f} MiB; allow more, or fewer workers (taskset -c 0)"
        )


def _in_folder(options: argparse.Namespace, recipe: Recipe, folder: Path, out: TextIO) -> int:
    def say(text: str = "") -> None:
        print(text, file=out, flush=True)

    # The labels that are predicted are integers of 8 bytes.
    with _bars():
        table, fresh = stored(folder, recipe, more_bytes=8 * recipe.rows)
    size = f"{recipe.rows:,} x {recipe.columns} float64, {recipe.rows * recipe.row_bytes / 1e9:.2f} GB"
    done = "wrote" if fresh else "found"
    say(f"{done} {table.rows}: {size}; {recipe.held_out:,} held-out rows are in a file of their own")
    enforced = "enforced by the system" if sys.platform == "linux" else "measured only: not Linux"
    say(f"memory that the job may take: {options.memory / 2**20:,.0f} MiB, {enforced}\n")
    plan = job.plan(table.rows, table.labels, options.backend)
    say(f"{plan}\n")
    predictions = table.folder / "predictions.npy"
    _settle()
    record = timeline(memory_budget=_held() + options.memory)
    with _limit(options.memory), _bars(), record:
        ours = job.out_of_core(table, predictions, options.backend, record)
    right = job.agreement(predictions, table)
    sample = job.on_sample(table, options.sample)
    say(f"{report.table([ours, sample], recipe.held_out, record.memory.measure or 'memory')}\n")
    found = report.claims(ours, sample, plan, recipe.rows * (recipe.row_bytes + 8), right, options.memory)
    for claim in found:
        say(str(claim))
    record.to_html(options.timeline, title=f"ooclearn demo, {options.rows:,} rows, {options.backend}")
    say(f"\n{record.diagnosis()}\nwhat each worker did when: {options.timeline}")
    if options.keep or options.dir is not None:
        say(f"the table and {predictions.name} are in {table.folder}")
    return 0 if all(claim.kept for claim in found) else 1


def _settle() -> None:
    """Let BLAS take the buffers that it keeps for each thread: they are the program's, not the job's."""
    together = threading.Barrier(n_workers())
    square = np.ones((512, 512))

    def multiply() -> None:
        together.wait()
        square @ square

    threads = [threading.Thread(target=multiply) for _ in range(n_workers())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _held() -> int:
    with MemorySampler() as memory:
        pass
    return memory.before if memory.measure is not None else 0


@contextmanager
def _limit(n_bytes: int) -> Iterator[None]:
    """Hold the process to that much more memory, where the system can; the library always."""
    system: AbstractContextManager[object] = limit_memory(n_bytes) if sys.platform == "linux" else nullcontext()
    with ooclearn.config_context(memory_limit=n_bytes), system:
        yield


@contextmanager
def _folder(options: argparse.Namespace) -> Iterator[Path]:
    if options.dir is not None:
        options.dir.mkdir(parents=True, exist_ok=True)
        yield options.dir
    elif options.keep:
        yield Path(tempfile.mkdtemp(prefix="ooclearn-"))
    else:
        with tempfile.TemporaryDirectory(prefix="ooclearn-") as folder:
            yield Path(folder)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let the temporary folder be removed when the process is asked to end."""

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (the signature of a handler)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Lines:
    """The error stream, to write plain lines to: a terminal could show bars, but `rich` is missing."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return False


def _bars() -> Progress:
    lines: Any = None if find_spec("rich") is not None else _Lines()
    return progress(force=True, file=lines)
