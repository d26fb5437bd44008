"""Scalers on an array in memory, against scikit-learn's: fit and transform, on all cores and on one.

``transform`` returns a new array. Where the C library gives freed memory back, that array is new memory from
the system each time, which the system has to find and clear; so both are measured: new memory, and memory
that is used again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import preprocessing as theirs
from threadpoolctl import threadpool_limits

import ooclearn
from harness import Timings, interleaved, keep_memory, markdown, options, report
from limits import in_threads, memory_rate
from ooclearn import preprocessing as ours
from ooclearn.config import n_workers
from ooclearn.types import Array

NAMES = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler")


def calls(X: Array, workers: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, on so many cores."""
    found: dict[str, Callable[[], object]] = {}
    for name in NAMES:
        for side, module in (("ooclearn", ours), ("scikit-learn", theirs)):
            scaler = getattr(module, name)()
            fitted = getattr(module, name)().fit(X[:1000])
            found[f"{name}.fit, {side}"] = _on(workers, partial(scaler.fit, X))
            found[f"{name}.transform, {side}"] = _on(workers, partial(fitted.transform, X))
    out = np.ones_like(X)
    found["fit, limit"] = lambda: memory_rate(X, threads=workers)
    found["transform, limit"] = lambda: copy(X, out, workers)
    return found


def _on(workers: int, call: Callable[[], object]) -> Callable[[], object]:
    def limited() -> object:
        with ooclearn.config_context(workers=workers), threadpool_limits(workers):
            return call()

    return limited


def copy(X: Array, out: Array, threads: int) -> None:
    """Copy an array to another one that is used again: reading and writing alone."""
    tile = 2**15

    def part(i: int) -> None:
        np.copyto(out[i * tile : (i + 1) * tile], X[i * tile : (i + 1) * tile])

    in_threads(part, -(-len(X) // tile), threads)


def measure(rows: int, repeats: int, *, reuse: bool) -> dict[str, Any]:
    """Return the seconds of everything, by cores."""
    reused = keep_memory() if reuse else False
    X = np.random.default_rng(0).normal(5.0, 3.0, (rows, 20))
    seconds = {workers: interleaved(calls(X, workers), repeats).seconds for workers in sorted({1, n_workers()})}
    return {"reused": reused, "seconds": seconds}


def main() -> None:
    """Run the comparison."""
    parser = options(__doc__, rows=1_000_000)
    parser.add_argument("--child", choices=["new", "reused"], help="measure one kind of memory; print JSON")
    given = parser.parse_args()
    if given.child:
        found = measure(given.rows, given.repeats, reuse=given.child == "reused")
        print(json.dumps(found))
        return
    kinds = {kind: _child(kind, given) for kind in ("new", "reused")}
    if not kinds["reused"]["reused"]:
        print(
            "scalers: this C library cannot be told to keep memory: both kinds are new memory",
            file=sys.stderr,
        )
    n_bytes = given.rows * 160
    tables = []
    for kind, found in kinds.items():
        for workers, seconds in found["seconds"].items():
            tables.append(_table(Timings(seconds), n_bytes, f"{kind} memory, {_cores(int(workers))}"))
    title = f"Scalers in memory: {given.rows:,} x 20 float64, {n_bytes / 1e9:.2f} GB"
    report("scalers", title, tables, {"rows": given.rows, **kinds}, given.out)


def _child(kind: str, given: Any) -> dict[str, Any]:
    # What is told to the C library holds for a whole process.
    command = [sys.executable, str(Path(__file__)), "--child", kind]
    command += ["--rows", str(given.rows), "--repeats", str(given.repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _cores(n: int) -> str:
    return "1 core" if n == 1 else f"{n} cores"


def _table(timings: Timings, n_bytes: int, where: str) -> str:
    rows = []
    for name in NAMES:
        for step in ("fit", "transform"):
            mine, other = (timings[f"{name}.{step}, {side}"] for side in ("ooclearn", "scikit-learn"))
            limit = timings[f"{step}, limit"]
            rates = (f"{n_bytes / seconds / 1e9:.2f}" for seconds in (mine, other, limit))
            ratio, of_limit = f"{other / mine:.1f} x", f"{mine / limit:.2f} x"
            rows.append([f"{name}.{step}", *rates, ratio, of_limit])
    heads = [where, "ooclearn, GB/s", "scikit-learn, GB/s", "limit, GB/s", "faster by", "time, of the limit"]
    return markdown(heads, rows)


if __name__ == "__main__":
    main()
