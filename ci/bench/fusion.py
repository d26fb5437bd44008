"""Pipelines that are fitted in one reading, side by side with the same stage by stage, and with the read alone.

Every way runs in a process of its own, and they take turns on a warm table; then this library's fit from the disk, its
pages let go before each, beside a plain read of the same kind. Below, the rate at which one core sums up a scatter
matrix, a pass of logistic regression beside an epoch of ``partial_fit``, and how many passes it takes.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import sklearn.linear_model

import ooclearn
import ooclearn.decomposition
import ooclearn.linear_model
from harness import Timings, interleaved, markdown, options, report, scratch, size
from limits import fastest_read, let_go, read_seconds, share_held
from ooclearn.config import n_workers
from ooclearn.demo.table import Recipe, stored
from ooclearn.types import Array
from processes import GIB, Rival, RivalError, available_memory
from stages import NAMES, PIPELINES, WAYS

# What a cold reading may find in memory all the same: the header that `scan` has looked at, and what came with it.
NOT_COLD = 0.02


@dataclass
class Found:
    """What was found out about one pipeline."""

    warm: Timings = field(default_factory=Timings)
    cold: Timings = field(default_factory=Timings)
    readings: int | None = None
    ways: dict[str, dict[str, Any]] = field(default_factory=dict)
    held: list[float] = field(default_factory=list)

    def numbers(self) -> dict[str, Any]:
        """Return what is saved."""
        return {
            "warm_s": self.warm.seconds,
            "cold_s": self.cold.seconds,
            "share_held_when_cold": self.held,
            "readings": self.readings,
            "ways": self.ways,
        }


def main() -> None:
    """Run the comparison."""
    parser = options(__doc__, rows=1_000_000, repeats=3)
    parser.add_argument("--memory", type=size, default=8 * GIB, help="limit of each way, in-memory excepted")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds to wait for one step")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="the ways to run")
    parser.add_argument("--pipelines", nargs="+", choices=PIPELINES, default=list(PIPELINES), help="what to fit")
    given = parser.parse_args()
    with scratch() as folder:
        table, _ = stored(folder, Recipe(given.rows))
        os.sync()  # or the system goes on writing the table while others are timed
        _fusion(table.folder, given)
        _rates(table.folder, given)


# Pipelines.


def _fusion(folder: Path, given: Any) -> None:
    X = folder / "X.npy"
    read_seconds(X, n_workers(), 2**20)  # into the page cache
    warm = {"one thread": (1, 2**20), "the fastest": fastest_read(X)}
    cold = {"one thread": (1, 2**20), "the fastest": fastest_read(X, cold=True)}
    found = {key: Found() for key in given.pipelines}
    for key, one in found.items():
        _warm(folder, key, one, warm, given)
        if "ooclearn" in given.only:
            _cold(folder, key, one, cold, given)
        print(".", end="", file=sys.stderr, flush=True)
    _report(found, warm, cold, given)


def _memory(name: str, given: Any) -> int:
    most = int(0.8 * available_memory())
    return most if WAYS[name].in_memory else min(most, int(given.memory))


def _warm(folder: Path, key: str, found: Found, readers: dict[str, tuple[int, int]], given: Any) -> None:
    """Let all ways fit one pipeline in turns."""
    with ExitStack() as stack:
        running = _started(folder, key, found, given, stack)
        if "ooclearn" in running:
            with suppress(RivalError):  # the fit will say the same
                found.readings = running["ooclearn"].ask(f"readings {key}")["value"]
        for repeat in range(given.repeats + 1):  # the first is for warming up
            timings = found.warm if repeat else Timings()
            for name, reader in readers.items():
                timings.add(name, read_seconds(folder / "X.npy", *reader))
            for name, rival in list(running.items()):
                os.sync()  # what others have left to be written to disk would be timed too
                try:
                    timings.add(name, rival.ask(f"fit {key}")["seconds"])
                    found.ways[name] |= {"peak": rival.peak, "before": rival.before}
                except RivalError as error:
                    found.ways[name]["failed"] = str(error)
                    del running[name]
                    rival.close()
        for name, rival in running.items():
            try:
                found.ways[name]["score"] = rival.ask(f"score {key}")["value"]
            except RivalError as error:
                found.ways[name]["no_score"] = str(error)


def _started(folder: Path, key: str, found: Found, given: Any, stack: ExitStack) -> dict[str, Rival]:
    """Return the ways that can fit a pipeline, ready to."""
    running: dict[str, Rival] = {}
    for name in given.only:
        if key not in WAYS[name].has:
            continue
        found.ways[name] = {}
        try:
            rival = Rival(name, folder, memory=_memory(name, given), timeout=given.timeout, script="stages.py")
            stack.enter_context(rival).ask("load")
            running[name] = rival
        except RivalError as error:
            found.ways[name]["failed"] = str(error)
    return running


def _cold(folder: Path, key: str, found: Found, readers: dict[str, tuple[int, int]], given: Any) -> None:
    """Let this library fit one pipeline from the disk. No other process has the file mapped meanwhile."""
    table = (folder / "X.npy", folder / "y.npy")
    try:
        with Rival("ooclearn", folder, timeout=given.timeout, script="stages.py") as rival:
            rival.ask(f"fit {key}")  # what is set up once
            for _ in range(given.repeats):
                for name, reader in readers.items():
                    let_go(*table)
                    found.cold.add(name, read_seconds(table[0], *reader))
                let_go(*table)
                found.held.append(share_held(table[0]))
                found.cold.add("ooclearn", rival.ask(f"fit {key}")["seconds"])
    except RivalError as error:
        found.ways["ooclearn"]["failed"] = str(error)


def _report(found: dict[str, Found], warm: dict[str, Any], cold: dict[str, Any], given: Any) -> None:
    n_bytes = given.rows * 160
    tables = [
        _ways(found, given),
        _cold_fits(found),
        _readers(found, {"warm": warm, "cold": cold}, n_bytes),
    ]
    numbers = {
        "rows": given.rows,
        "workers": n_workers(),
        "readers": {"warm": warm, "cold": cold},
        "pipelines": {key: one.numbers() for key, one in found.items()},
    }
    for key, one in found.items():
        for name, way in one.ways.items():
            if why := way.get("failed", way.get("no_score")):
                tables.append(f"{PIPELINES[key][0]}, {NAMES[name]}: {why}")
    title = f"Fewer passes: {given.rows:,} x 20 float64, {n_bytes / 1e9:.2f} GB; {n_workers()} workers"
    report("fusion", title, tables, numbers, given.out)


def _ways(found: dict[str, Found], given: Any) -> str:
    rows: list[list[object]] = []
    for key, one in found.items():
        readings = f"; {one.readings} reading{'s'[: one.readings != 1]} by ooclearn" if one.readings else ""
        rows.append([f"**{PIPELINES[key][0]}**{readings}", *[""] * 6])
        for name in given.only:
            if key not in WAYS[name].has:
                rows.append([NAMES[name], "has it not", *[""] * 5])
                continue
            way = one.ways[name]
            if "failed" in way or name not in one.warm:
                rows.append([NAMES[name], "failed", *[""] * 5])
                continue
            seconds = one.warm[name]
            of_ours = f"{seconds / one.warm['ooclearn']:.1f} x" if "ooclearn" in one.warm else ""
            of_read = f"{seconds / one.warm['the fastest']:.2f} x"
            memory = (f"{n / 1e6:,.0f}" for n in (way["peak"], way["peak"] - way["before"]))
            score = f"{way['score']:.4f}" if "score" in way else "none"
            rows.append([NAMES[name], f"{seconds:.2f}", of_ours, of_read, score, *memory])
    heads = ["warm", "fit, s", "of ooclearn", "of reading once", "R2 or accuracy", "peak memory, MB", "beside imports"]
    return markdown(heads, rows)


def _cold_fits(found: dict[str, Found]) -> str:
    rows = []
    for key, one in found.items():
        if "ooclearn" not in one.cold:
            continue
        fit, read = one.cold["ooclearn"], one.cold["the fastest"]
        held = max(one.held)
        note = "" if held <= NOT_COLD else f"not cold: {held:.0%} of the file stayed in memory"
        rows.append([PIPELINES[key][0], f"{fit:.2f}", f"{read:.2f}", f"{fit / read:.2f} x", note])
    return markdown(["cold, from the disk", "fit, s", "read alone, s", "of reading once", ""], rows)


def _readers(found: dict[str, Found], readers: dict[str, dict[str, Any]], n_bytes: int) -> str:
    rows = []
    for state, ways in readers.items():
        for name, (threads, tile) in ways.items():
            all_seconds = [s for one in found.values() for s in getattr(one, state).seconds.get(name, [])]
            if all_seconds:
                seconds = median(all_seconds)
                how = f"{threads} thread{'s'[: threads != 1]}, reads of {tile // 2**10:,} KiB"
                rows.append([f"{state}, {name}: {how}", f"{seconds:.2f}", f"{n_bytes / seconds / 1e9:.2f}"])
    return markdown(["limits of the machine: the file read once", "s", "GB/s"], rows)


# Rates of one core.


def _rates(folder: Path, given: Any) -> None:
    n = min(given.rows, 1_000_000)
    X, y = np.array(np.load(folder / "X.npy", mmap_mode="r")[:n]), np.array(np.load(folder / "y.npy")[:n])
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    logistic = ooclearn.linear_model.LogisticRegression()
    trained = sklearn.linear_model.SGDClassifier(random_state=0)
    with ooclearn.config_context(workers=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls: dict[str, Callable[[], object]] = {
            "PCA().fit, a scatter matrix": lambda: ooclearn.decomposition.PCA().fit(X),
            "LogisticRegression().fit": lambda: logistic.fit(X, y),
            "SGDClassifier.partial_fit": lambda: trained.partial_fit(X, y, classes=[0, 1]),
        }
        timings = interleaved(calls, given.repeats, settle=3)
    passes = 1 + int(np.max(logistic.n_iter_))
    gaps = losses_above_the_optimum(X, y)
    rows = [[name, f"{timings[name]:.3f}", f"{X.nbytes / timings[name] / 1e9:.2f}"] for name in calls]
    a_pass = timings["LogisticRegression().fit"] / passes
    rows.insert(2, [f"the same, a pass of {passes}", f"{a_pass:.3f}", f"{X.nbytes / a_pass / 1e9:.2f}"])
    table = markdown(["passes of LogisticRegression", "loss above the optimum, relative"], _gaps(gaps))
    numbers = {"rows": n, "seconds": timings.seconds, "passes": passes, "loss_above_the_optimum": gaps}
    title = f"Rates of one core: {n:,} x 20 float64 in memory"
    report("fusion-rates", title, [markdown(["", "s", "GB/s"], rows), table], numbers, given.out)


def losses_above_the_optimum(X: Array, y: Array, *, least: float = 1e-8, most: int = 12) -> dict[int, float]:
    """Return by how much the penalised loss is above scikit-learn's optimum, by passes, until it is so little."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged, which is the point
        sharp = {"solver": "newton-cholesky", "tol": 1e-12}
        best = loss(sklearn.linear_model.LogisticRegression(**sharp).fit(X, y), X, y)
        gaps: dict[int, float] = {}
        for steps in range(1, most):
            model = ooclearn.linear_model.LogisticRegression(max_iter=steps).fit(X, y)
            gaps[1 + int(np.max(model.n_iter_))] = gap = loss(model, X, y) / best - 1
            if gap <= least:
                break
    return gaps


def loss(model: Any, X: Array, y: Array) -> float:
    """Return what a logistic regression of two classes with ``C=1`` minimises."""
    margin = np.where(y == model.classes_[1], 1, -1) * model.decision_function(X)
    return float(np.logaddexp(0, -margin).sum() + 0.5 * (model.coef_**2).sum())


def _gaps(gaps: dict[int, float]) -> list[list[object]]:
    return [[passes, f"{gap:.1e}"] for passes, gap in gaps.items()]


if __name__ == "__main__":
    main()
