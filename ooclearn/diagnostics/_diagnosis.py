"""What limits a pass, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ooclearn.diagnostics._recording import BUSY, Pass
from ooclearn.diagnostics._units import of_passes

__all__ = ["CpuSeconds", "Diagnosis", "diagnose", "diagnose_passes"]

# Shares of the length of a pass, or of the time that workers were busy.
_SATURATED = 0.7  # a serial stage that busy is the limit
_STARVED = 0.25  # a fit that waits that much has too little to eat
_DOMINANT = 0.6  # one kind of task with that much of the work is what the pass is about
_USED = 0.5  # workers that were busy less than that had nothing to do
_AWAKE = 0.5  # workers that used less of the cores than that while they were busy waited for something
_DOING = {
    "read": "reading",
    "transform": "transforming",
    "fold": "folding",
    "fit": "fitting",
    "merge": "merging",
    "write": "writing",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What limits a pass.

    ``kind`` is ``read-bound``, ``transform-bound``, ``fit-bound``, ``write-bound``, ``balanced``,
    ``waiting``, ``underused`` or ``nothing``.
    """

    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class _Figures:
    """Passes of one kind taken together."""

    kind: str
    n: int
    wall: float
    lanes: dict[str, dict[str, float]]  # seconds by worker and kind
    read: int
    written: int
    cpu: float | None  # cores that were busy; None where that is not known
    cores: int

    def seconds(self, kind: str) -> float:
        return sum(lane.get(kind, 0.0) for lane in self.lanes.values())

    @property
    def where(self) -> str:
        return of_passes(self.n, self.kind)


# Tells how many seconds of CPU a pass took, or None where it is too short to know.
CpuSeconds = Callable[[Pass], float | None]


def _unknown(_: Pass, /) -> None:
    return None


def diagnose(passes: Sequence[Pass], cpu: CpuSeconds = _unknown, cores: int = 1) -> Diagnosis:
    """Say what limits the kind of pass that took the most time, on a machine of so many cores.

    Examples
    --------
    >>> diagnose([]).sentence
    'nothing was recorded: no pass ran'
    """
    kinds: dict[str, list[Pass]] = {}
    for one in passes:
        kinds.setdefault(one.work.kind, []).append(one)
    if not kinds:
        return Diagnosis("nothing", "nothing was recorded: no pass ran")
    longest = max(kinds.values(), key=lambda group: sum(one.seconds for one in group))
    return diagnose_passes(longest, cpu, cores)


def diagnose_passes(passes: Sequence[Pass], cpu: CpuSeconds = _unknown, cores: int = 1) -> Diagnosis:
    """Say what limits passes of one kind."""
    lanes: dict[str, dict[str, float]] = {}
    for one in passes:
        for name, kinds in one.busy.items():
            lane = lanes.setdefault(name, {})
            for kind, seconds in kinds.items():
                lane[kind] = lane.get(kind, 0.0) + seconds
    totals = [one.totals for one in passes]
    wall = sum(one.seconds for one in passes)
    known = [(one.seconds, spent) for one in passes if (spent := cpu(one)) is not None]
    measured = sum(seconds for seconds, _ in known)
    figures = _Figures(
        passes[0].work.kind,
        len(passes),
        wall,
        lanes,
        sum(total["read"].bytes for total in totals if "read" in total),
        sum(total["write"].bytes for total in totals if "write" in total),
        sum(spent for _, spent in known) / measured if measured > wall / 2 else None,
        cores,
    )
    if wall <= 0 or not any(_busy(lane) for lane in lanes.values()):
        return Diagnosis("nothing", f"nothing was recorded in {figures.where}: no task was told")
    return _fed(figures) if figures.seconds("fit") > 0 else _parallel(figures)


def _busy(lane: dict[str, float]) -> float:
    return sum(seconds for kind, seconds in lane.items() if kind != "wait")


def _fed(figures: _Figures) -> Diagnosis:
    """Say what limits a pass with a serial stage that blocks are fed to."""
    wall, where = figures.wall, figures.where
    eaters = {name: lane for name, lane in figures.lanes.items() if lane.get("fit", 0.0) > 0}
    # Several feeds may be fed side by side: what counts is one of them.
    lane = max(eaters.values(), key=lambda lane: lane["fit"])
    fit = lane["fit"] / wall
    if fit >= _SATURATED:
        return Diagnosis(
            "fit-bound",
            f"fit-bound: the serial partial_fit was busy {_percent(fit)} of {where}; more workers cannot help",
        )
    waited = lane["wait"] / wall if "wait" in lane else max(0.0, 1.0 - _busy(lane) / wall)
    read, transform = figures.seconds("read"), figures.seconds("transform") + figures.seconds("fold")
    alone = not any(
        name not in eaters and any(kind in other for kind in ("read", "transform", "fold"))
        for name, other in figures.lanes.items()
    )
    if alone and max(read, transform) > 0:
        # One thread reads, transforms and fits in turn: the largest part is the limit.
        kind, seconds = max((("read", read), ("transform", transform), ("fit", lane["fit"])), key=lambda part: part[1])
        share = seconds / wall
        if share >= _USED:
            doing = _DOING[kind]
            return Diagnosis(
                f"{kind}-bound",
                f"{kind}-bound: {doing} took {_percent(share)} of {where}, "
                f"in turn with {'reading' if kind == 'fit' else 'fit'} on one worker{_rate(figures, kind)}",
            )
    elif waited >= _STARVED and max(read, transform) > 0:
        if read >= transform:
            rate = _rate(figures, "read")
            return Diagnosis("read-bound", f"read-bound: fit waited {_percent(waited)} of {where} for blocks{rate}")
        return Diagnosis(
            "transform-bound",
            f"transform-bound: fit waited {_percent(waited)} of {where} while blocks were transformed",
        )
    return _parallel(figures, f"fit was busy {_percent(fit)} of it")


def _parallel(figures: _Figures, more: str = "") -> Diagnosis:
    """Say what limits a pass whose blocks are independent."""
    wall, where = figures.wall, figures.where
    busy = {name: seconds for name, lane in figures.lanes.items() if (seconds := _busy(lane)) > 0}
    most = max(busy.values())
    # The thread that only merges or hands out blocks is no worker.
    workers = [seconds for seconds in busy.values() if seconds >= most / 10]
    n, used = len(workers), sum(workers) / len(workers) / wall
    who = "1 worker was" if n == 1 else f"{n} workers were"
    work = sum(busy.values())
    kind = max(BUSY, key=figures.seconds)
    share = figures.seconds(kind) / work
    expected = {"map": "transform", "fold": "fold"}.get(figures.kind)
    bound = kind in {"read", "transform", "write"} and kind != expected
    if bound and share >= _DOMINANT and most >= _USED * wall:
        rate = _rate(figures, kind)
        return Diagnosis(
            f"{kind}-bound",
            f"{kind}-bound: {_DOING[kind]} took {_percent(share)} of the workers' time in {where}{rate}",
        )
    tail = f"; {more}" if more else ""
    expected_cores = min(sum(workers) / wall, figures.cores)
    if used >= _USED and figures.cpu is not None and figures.cpu < _AWAKE * expected_cores:
        return Diagnosis(
            "waiting",
            f"waiting: {who} at it {_percent(used)} of {where}, but used {100 * figures.cpu:.0f} % CPU: "
            f"the rest was spent on storage, or outside this process{tail}",
        )
    if used >= _USED:
        kind = "balanced"
        words = "balanced on one worker" if n == 1 else "parallel and balanced"
        return Diagnosis(kind, f"{words}: {who} busy {_percent(used)} of {where}{tail}")
    return Diagnosis("underused", f"underused: {who} busy only {_percent(used)} of {where}{tail}")


def _rate(figures: _Figures, kind: str) -> str:
    n_bytes = {"read": figures.read, "write": figures.written}.get(kind, 0)
    return f" ({_DOING[kind]} gave {n_bytes / figures.wall / 1e9:.2f} GB/s)" if n_bytes else ""


def _percent(share: float) -> str:
    return f"{100 * min(share, 1.0):.0f} %"
