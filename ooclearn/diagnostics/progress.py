"""A progress bar for every pass: rows, rows/s, GB/s, time left."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from contextlib import ExitStack
from importlib.util import find_spec
from time import perf_counter
from typing import Any, Self, TextIO

from ooclearn.diagnostics._meters import Meter, Meters
from ooclearn.diagnostics._units import as_seconds
from ooclearn.events import observe, observers

__all__ = ["Progress", "progress"]

# Finished passes that stay on the screen; a loop of many short passes must not fill it.
_SHOWN = 6
_AT_ONCE = 4
# From which width of the terminal on a column is there, and how narrow it may get.
_FROM_WIDTH = {"percent": 0, "rows": 104, "rate": 76, "bytes": 90, "time": 0}
_NEEDED = {"percent": 5, "rows": 8, "rate": 12, "bytes": 9, "time": 9}


class Progress(Meters):
    """The context manager that :func:`progress` returns, which see.

    Parameters
    ----------
    force : bool, default=False
        Write plain lines where there is no terminal.
    file : file, optional
        Where to write; the standard error stream if not given.
    refresh : float, default=0.1
        Seconds between two drawings of the bars.
    every : float, default=10.0
        Seconds between two plain lines when less than 10 % was done.
    """

    def __init__(
        self,
        *,
        force: bool = False,
        file: TextIO | None = None,
        refresh: float = 0.1,
        every: float = 10.0,
    ) -> None:
        for name, seconds in (("refresh", refresh), ("every", every)):
            if not seconds > 0:
                raise ValueError(f"{name} must be seconds above 0, got {seconds!r}")
        super().__init__()
        self.force = force
        self.file = file
        self.refresh = refresh
        self.every = every
        self._stack: ExitStack | None = None

    def __enter__(self) -> Self:
        if self._stack is not None:
            raise RuntimeError("this progress bar is shown already; call progress() for another one")
        stack = ExitStack()
        if not any(isinstance(one, Progress) for one in observers()):
            file = self.file if self.file is not None else sys.stderr
            if _animates(file):
                stack.enter_context(_bars(self, file))
                stack.enter_context(observe(self))
            elif self.force or _terminal(file):
                stack.enter_context(_Lines(self, file))
                stack.enter_context(observe(self))
        self._stack = stack
        return self

    def __exit__(self, *_: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()


def _bars(meters: Progress, file: TextIO) -> Any:
    """Return rich's live display of the passes that ended lately and those under way."""
    rich = _rich()
    shown: deque[Meter] = deque()
    earlier = [0, 0.0]  # passes no longer shown, their seconds

    def draw() -> Any:
        ended, live = meters.take()
        shown.extend(ended)
        while len(shown) > _SHOWN:
            gone = shown.popleft()
            earlier[0] += 1
            earlier[1] += (gone.stop or gone.start) - gone.start
        return _table(rich, console.width, (int(earlier[0]), earlier[1]), [*shown, *live])

    console = rich.console.Console(file=file)
    return rich.live.Live(
        get_renderable=draw,
        console=console,
        refresh_per_second=1 / meters.refresh,
        # What the fit itself prints goes above the bars.
        redirect_stdout=file is sys.stderr,
        redirect_stderr=file is sys.stderr,
    )


def _table(rich: Any, width: int, earlier: tuple[int, float], meters: list[Meter]) -> Any:
    now = perf_counter()
    # What matters least goes first where the terminal is narrow.
    columns = [name for name, least in _FROM_WIDTH.items() if width >= least]
    table = rich.table.Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(12, width // 3))
    table.add_column(width=max(8, min(30, width // 5)))
    for name in columns:
        justify = "left" if name == "time" else "right"
        # The rest may give way to a long last column.
        table.add_column(no_wrap=True, justify=justify, min_width=_NEEDED[name])
    if earlier[0]:
        cells = ["" if name != "time" else f"in {as_seconds(earlier[1])}" for name in columns]
        passes = "pass" if earlier[0] == 1 else "passes"
        table.add_row(f"{earlier[0]} earlier {passes}", "", *cells, style="dim")
    for meter in meters:
        fraction = meter.fraction
        bar = rich.progress_bar.ProgressBar(
            total=1.0 if fraction is not None else None,
            completed=fraction or 0.0,
            pulse=fraction is None,
            animation_time=now,
        )
        parts = meter.parts(now)
        style = "red" if meter.error is not None else "dim" if meter.stop is not None else ""
        table.add_row(rich.text.Text(meter.title), bar, *(parts[name] for name in columns), style=style)
    return table


class _Lines:
    """Plain lines for a log: every 10 % or so many seconds, at most one a second, and one at the end."""

    def __init__(self, meters: Progress, file: TextIO) -> None:
        self._meters = meters
        self._file = file
        self._every = meters.every
        self._told: weakref.WeakKeyDictionary[Meter, tuple[float, float]] = weakref.WeakKeyDictionary()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress-lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.write(perf_counter())

    def _run(self) -> None:
        while not self._stopped.wait(min(0.25, self._every)):
            self.write(perf_counter())

    def write(self, now: float) -> None:
        """Write the lines that are due at that time."""
        ended, live = self._meters.take()
        # Of many that ended since the last look, only the last one and those that failed.
        shown = ended if len(ended) <= _AT_ONCE else [one for one in ended[:-1] if one.error] + ended[-1:]
        if len(shown) < len(ended):
            self._write(f"... {len(ended) - len(shown)} short passes")
        for meter in shown:
            self._line(meter, meter.stop or now)
        for meter in live:
            fraction = meter.fraction or 0.0
            then, told = self._told.get(meter, (meter.start, 0.0))
            further = int(10 * fraction + 1e-9) > int(10 * told + 1e-9)
            if now - then >= self._every or (further and now - then >= 1.0):
                self._told[meter] = now, fraction
                self._line(meter, now)

    def _line(self, meter: Meter, now: float) -> None:
        parts = [part for part in meter.parts(now).values() if part]
        self._write(f"{meter.title}: {', '.join(parts)}")

    def _write(self, line: str) -> None:
        # Names of steps and files may have characters that the file's encoding lacks.
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        print(line, file=self._file, flush=True)


def _terminal(file: TextIO) -> bool:
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):
        # No such method, or a closed file.
        return False


def _animates(file: TextIO) -> bool:
    """Say whether lines of `file` can be drawn again: a terminal that is not dumb, or a notebook."""
    if _terminal(file):
        return not _rich().console.Console(file=file).is_dumb_terminal
    if file is sys.stderr and "ipykernel" in sys.modules and find_spec("ipywidgets") is not None:
        return bool(_rich().console.Console().is_jupyter)
    return False


def _rich() -> Any:
    try:
        import rich.console
        import rich.live
        import rich.progress_bar
        import rich.table
        import rich.text
    except ImportError as error:
        raise ImportError(
            'a progress bar needs rich, which is not installed: pip install "ooclearn[progress]"'
        ) from error
    return rich


def progress(
    *,
    force: bool = False,
    file: TextIO | None = None,
    refresh: float = 0.1,
    every: float = 10.0,
) -> Progress:
    """Show a progress bar for every pass of the ``with`` block: rows, rows/s, GB/s and time left.

    In a terminal, or a notebook with `ipywidgets`, the bars are drawn by `rich` (extra ``progress``).
    Anywhere else it is silent, or with `force` writes plain lines that a log can keep: every 10 % or `every`
    seconds, at most one a second a pass, and one at its end. Inside the block of another `progress` it does
    nothing. Workers only count: drawing is done by a thread of its own, so that thousands of blocks a second
    cost nothing to speak of.

    Rates and the time left are those of the last 10 seconds, GB/s is of the input as it lies in memory.

    Parameters
    ----------
    force : bool
        Write plain lines where there is no terminal.
    file : file, optional
        Where to write; the standard error stream if not given.
    refresh : float
        Seconds between two drawings of the bars.
    every : float
        Seconds between two plain lines when less than 10 % was done.

    Returns
    -------
    Progress
        A context manager.

    Raises
    ------
    ImportError
        There is a terminal, but `rich` is not installed. Raised on entering the block.

    Examples
    --------
    >>> import io
    >>> from ooclearn.diagnostics import progress
    >>> from ooclearn.events import Work, record, working
    >>> log = io.StringIO()
    >>> with progress(force=True, file=log):
    ...     with working(Work("fold", "moments of X", n_rows=100)) as work:
    ...         for block in range(4):
    ...             with record(work, "fold", block, rows=25):
    ...                 pass
    >>> print(log.getvalue())
    moments of X: 100 %, 100 of 100 rows, ... rows/s, in ...
    <BLANKLINE>
    """
    return Progress(force=force, file=file, refresh=refresh, every=every)
