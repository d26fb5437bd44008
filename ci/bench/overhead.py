"""What a block costs beside its rows, what a Dask task costs, and what importing the library costs.

The cost of a block is the slope of the time over the number of blocks, with blocks of a few rows.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier

import ooclearn
from harness import Timings, interleaved, markdown, options, report, scratch
from ooclearn import Incremental, make_pipeline
from ooclearn.exceptions import PerformanceWarning
from ooclearn.preprocessing import StandardScaler
from ooclearn.types import Array

ROWS = 64  # of a block
SKLEARN = "import sklearn.linear_model, sklearn.pipeline, sklearn.preprocessing"
# What a script that uses scikit-learn has imported anyway, and then this library.
IMPORTS = {
    "python alone": "pass",
    "import sklearn": "import sklearn",
    "scikit-learn's parts that a pipeline uses": SKLEARN,
    "import ooclearn": "import ooclearn",
    "those parts, and ooclearn": f"{SKLEARN}; import ooclearn",
    "those parts, and what the README's example asks for": f"{SKLEARN}; from ooclearn import Incremental, scan; "
    "from ooclearn.pipeline import make_pipeline; from ooclearn.preprocessing import StandardScaler",
    "those parts, ooclearn and backends": f"{SKLEARN}; from ooclearn import backend; backend.backends()",
}
OPTIONAL = ("cupy", "dask", "distributed", "pandas", "polars", "pyarrow", "rich", "torch")


def jobs(folder: Path, n_blocks: int) -> dict[str, Callable[[], object]]:
    """Return what is done with so many blocks."""
    import dask.array as da

    X = np.random.default_rng(0).standard_normal((n_blocks * ROWS, 20))
    y = (X[:, 0] > 0).astype(np.int64)
    file = folder / f"{n_blocks}.npy"
    np.save(file, X)
    memory = ooclearn.scan(X, block_rows=ROWS)
    disk = ooclearn.scan(file, block_rows=ROWS)
    chunks = da.from_array(X, chunks=(ROWS, 20))
    labels = da.from_array(y, chunks=ROWS)
    scaler = StandardScaler().fit(X)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier())).fit(X, y)

    def training(rows: Array, targets: Array) -> Callable[[], object]:
        model = Incremental(SGDClassifier(shuffle=False), classes=[0, 1], block_rows=ROWS)
        return lambda: model.fit(rows, targets)

    def same(block: Array) -> Array:
        return block

    def uncoalesced(call: Callable[[], object]) -> Callable[[], object]:
        def done() -> object:
            with ooclearn.config_context(block_bytes=ROWS * 160):
                return call()

        return done

    return {
        "statistic, array in memory": lambda: StandardScaler().fit(memory),
        "statistic, file": lambda: StandardScaler().fit(disk),
        "training, file": training(disk, y),
        "predict from file to file": lambda: pipe.predict(disk).to_npy(folder / "out.npy"),
        "statistic, Dask array, small chunks joined": lambda: StandardScaler().fit(chunks),
        "statistic, Dask array, each chunk a block": uncoalesced(lambda: StandardScaler().fit(chunks)),
        "training, Dask array, small chunks joined": training(chunks, labels),
        "training, Dask array, each chunk a block": uncoalesced(training(chunks, labels)),
        "transform, Dask array": lambda: scaler.transform(chunks).compute(),
        "Dask alone: a function of each chunk": lambda: chunks.map_blocks(same).compute(),
        "Dask alone: a sum over the chunks": lambda: chunks.sum(axis=0).compute(),
        "partial_fit alone": lambda: _alone(X, y),
    }


def _alone(X: Array, y: Array) -> None:
    model = SGDClassifier(shuffle=False)
    for start in range(0, len(X), ROWS):
        model.partial_fit(X[start : start + ROWS], y[start : start + ROWS], classes=[0, 1])


def per_block(folder: Path, n_blocks: int, repeats: int) -> dict[str, Timings]:
    """Return the seconds of all jobs with few blocks and with many."""
    few, many = jobs(folder, n_blocks // 8), jobs(folder, n_blocks)
    both = {f"few: {name}": call for name, call in few.items()}
    both |= {f"many: {name}": call for name, call in many.items()}
    timings = interleaved(both, repeats, settle=4)
    found = {kind: Timings() for kind in ("few", "many")}
    for name, seconds in timings.seconds.items():
        kind, _, job = name.partition(": ")
        found[kind].seconds[job] = seconds
    return found


def imports(repeats: int) -> tuple[Timings, dict[str, list[str]]]:
    """Return the seconds of a process that imports, and which optional libraries were imported."""

    def start(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    timings = interleaved({name: start(code) for name, code in IMPORTS.items()}, repeats, settle=3)
    loaded = {}
    for name, code in IMPORTS.items():
        ask = f"{code}\nimport sys; print(*[name for name in {OPTIONAL} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
        loaded[name] = done.stdout.split()
    return timings, loaded


def main() -> None:
    """Run the measurements."""
    parser = options(__doc__, rows=64 * 2_000, repeats=7)
    parser.add_argument("--parts", nargs="+", choices=["blocks", "imports"], default=["blocks", "imports"])
    given = parser.parse_args()
    tables: list[str] = []
    numbers: dict[str, Any] = {}
    if "blocks" in given.parts:
        n_blocks = max(16, given.rows // ROWS)
        warnings.simplefilter("ignore", PerformanceWarning)  # small blocks are what is measured
        with scratch() as folder:
            found = per_block(folder, n_blocks, given.repeats)
        numbers |= {"blocks": n_blocks, **{kind: timings.seconds for kind, timings in found.items()}}
        costs = [
            [job, f"{1e6 * (found['many'][job] - found['few'][job]) / (n_blocks - n_blocks // 8):.1f}"]
            for job in found["many"].seconds
        ]
        tables.append(markdown([f"{n_blocks:,} blocks of {ROWS} x 20", "microseconds a block"], costs))
    if "imports" in given.parts:
        started, loaded = imports(2 * given.repeats)
        numbers |= {"imports": started.seconds, "loaded": loaded}
        base = started["scikit-learn's parts that a pipeline uses"]
        lines = [
            [
                name,
                f"{1e3 * started[name]:.0f}",
                f"{1e3 * (started[name] - base):+.0f}",
                ", ".join(loaded[name]) or "-",
            ]
            for name in IMPORTS
        ]
        heads = ["a process", "ms", "against scikit-learn's", "optional libraries loaded"]
        tables.append(markdown(heads, lines))
    report("overhead", "Fixed costs", tables, numbers, given.out)


if __name__ == "__main__":
    main()
