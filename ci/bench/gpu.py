"""A device against its limits and against the CPU: rates of statistics, fits, where the one overtakes the other.

Nothing but a device can tell its numbers: run it by ci/gpu on a machine that has one. ``--backend device`` is the
suite's fake one, which shows that all of this runs and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import ooclearn
import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.pipeline
import ooclearn.preprocessing
from devices import Limits, Machine, machine_of
from gpu_report import into_page, measured_page, summary, tables_of
from harness import ROOT, Timings, interleaved, machine, scratch, size, whole, written
from limits import fastest_read, in_threads, read_seconds
from ooclearn.backend import backend_of, get_backend
from ooclearn.config import get_config, n_workers
from ooclearn.events import Work
from ooclearn.exceptions import BackendError
from ooclearn.statistics import Moments, Scatter
from ooclearn.table import Table
from ooclearn.types import Array
from processes import available_memory

COLUMNS = (20, 100, 300, 1000)
STATISTICS: dict[str, Any] = {"Moments": Moments(), "Scatter": Scatter()}
# Directions that the columns of the table have in common; so many components are asked for.
COMMON = 5
NO_DEVICE = 2


class Sample:
    """A table of so many bytes, on disk and so in the page cache.

    Its columns have `COMMON` directions in common, of different weight, so that its components are well told apart.
    """

    def __init__(self, folder: Path, columns: int, nbytes: int) -> None:
        self.columns, self.rows = columns, max(nbytes // (8 * columns), 2 * columns)
        self.X, self.y = folder / "X.npy", folder / "y.npy"
        X = np.lib.format.open_memmap(self.X, "w+", np.float64, (self.rows, columns))
        y = np.lib.format.open_memmap(self.y, "w+", np.float64, (self.rows,))
        random = np.random.default_rng(0)
        directions = random.standard_normal((COMMON, columns)) * 2.0 ** -np.arange(COMMON)[:, None]
        means, slope = random.normal(5.0, 3.0, columns), random.standard_normal(COMMON)
        tile = max(2**22 // (8 * columns), 1)

        def fill(i: int) -> None:
            at = slice(i * tile, min((i + 1) * tile, self.rows))
            own = np.random.default_rng([1, i])
            factors = own.standard_normal((at.stop - at.start, COMMON))
            noise = own.random((at.stop - at.start, columns), dtype=np.float32)
            np.add(factors @ directions + means, 0.3 * noise, out=X[at])
            y[at] = factors @ slope + own.standard_normal(at.stop - at.start)

        in_threads(fill, -(-self.rows // tile), n_workers())
        os.sync()  # or the system goes on writing while others are timed

    @property
    def nbytes(self) -> int:
        """Bytes of X."""
        return self.rows * self.columns * 8

    def scanned(self) -> tuple[Any, Any]:
        """Return X and y as Blocks of the host."""
        return ooclearn.scan(self.X), ooclearn.scan(self.y)


def main() -> int:
    """Run the measurements; return the exit code."""
    given = _options().parse_args()
    if given.summary is not None:
        print(summary(given.summary))
        return 0
    if given.page is not None:
        into_page(given.page, measured_page(given.out / "gpu.json"))
        return 0
    try:
        device = machine_of(given.backend)
    except BackendError as error:
        print(f"ci/bench/gpu.py: {error}", file=sys.stderr)
        return NO_DEVICE
    if given.about:
        print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in device.about().items()))
        return 0
    numbers = _measured(device, given)
    wrong = [name for name, one in numbers["agreement"].items() if not one["agrees"]]
    if wrong:
        print(f"ci/bench/gpu.py: does not agree: {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--backend", default="cupy", help="the name of the device's backend")
    add("--bytes", type=size, default=4 * 10**9, help="of each table, whatever its columns")
    add("--columns", nargs="+", type=whole, default=list(COLUMNS), metavar="N", help="of the tables")
    add("--block-bytes", type=size, help="of the blocks (default: the library's)")
    add("--repeats", type=whole, default=3, metavar="N", help="interleaved repetitions")
    add("--settle", type=whole, default=3, metavar="N", help="rounds for warming up, at most")
    add("--out", type=Path, default=ROOT / "build" / "bench", metavar="FOLDER", help="where the JSON goes")
    add("--about", action="store_true", help="print what the device and its software are, and end")
    add("--summary", type=Path, metavar="FOLDER", help="print one table of what ci/gpu has left there, and end")
    add("--page", type=Path, metavar="FILE", help="put what was measured into this page of docs/, and end")
    return parser


def _measured(device: Machine, given: argparse.Namespace) -> dict[str, Any]:
    """Measure all, saving after each step what there is: whoever runs this may have little time."""
    most = available_memory() // 6  # the file, the array, page-locked copies of it
    if given.bytes > most:
        print(f"ci/bench/gpu.py: tables of {most:,} bytes, for want of memory", file=sys.stderr)
        given.bytes = most
    within = _folder(given.bytes)
    numbers: dict[str, Any] = {"name": "gpu", "machine": machine(), "about": device.about(), "bytes": given.bytes}
    numbers["files_in"] = str(within)
    limits = device.limits(given.bytes)
    numbers |= {
        "limits": asdict(limits),
        "statistics": [],
        "fits": [],
        "results": [],
        "agreement": {},
        "finished": False,
    }
    settings = {} if given.block_bytes is None else {"block_bytes": given.block_bytes}
    with ooclearn.config_context(**settings):
        numbers["block_bytes"] = get_config()["block_bytes"]
        for columns in given.columns:
            with scratch(within) as folder:
                sample = Sample(folder, columns, given.bytes)
                numbers["statistics"] += _statistics(sample, device, limits, given)
                written(numbers, given.out)
                numbers["fits"] += _fits(sample, device, given)
                written(numbers, given.out)
                numbers["results"] += _results(sample, device, given)
                written(numbers, given.out)
                if columns == min(given.columns, key=lambda n: abs(n - 100)):
                    numbers["agreement"] = _agreement(sample, device)
            print(".", end="", file=sys.stderr, flush=True)
    numbers["finished"] = True
    written(numbers, given.out)
    print("\n\n".join(tables_of(numbers)), flush=True)
    return numbers


def _folder(nbytes: int) -> Path:
    """Return where the files are put: where nothing is written to a disk, if there is room and nobody says otherwise.

    Either way they are read from the system's page cache.
    """
    memory = Path("/dev/shm")  # noqa: S108  (a folder with a random name is made in it)
    if "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > 2 * nbytes:
        return memory
    return Path(tempfile.gettempdir())


# Statistics.


def folded(container: Any, statistic: Any) -> Any:
    """Return the state of a statistic of a container: one pass."""
    backend = backend_of(container)
    return backend.fold(Table(backend.blocks(container)), statistic, work=Work("fold", "the benchmark"))


def _statistics(sample: Sample, device: Machine, limits: Limits, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure passes over a file, over pinned memory and over an array of the device, beside their limits."""
    host = np.load(sample.X)
    containers = {
        "file": sample.scanned()[0].on(device.backend),
        "pinned": ooclearn.scan(device.pinned(host)).on(device.backend),
        "resident": get_backend(device.backend).from_host(host),
    }
    del host
    calls: dict[str, Callable[[], object]] = {
        f"{name}, {source}": lambda x=x, one=one: folded(x, one)  # type: ignore[misc]  # of defaults
        for name, one in STATISTICS.items()
        for source, x in containers.items()
    }
    reader = fastest_read(sample.X)
    calls["read"] = lambda: read_seconds(sample.X, *reader)
    timings = interleaved(calls, given.repeats, settle=given.settle)
    found = []
    for name, statistic in STATISTICS.items():
        least = _least(name, sample, limits, timings)
        for source, container in containers.items():
            before = _ledger(device)
            folded(container, statistic)
            found.append(
                {
                    "statistic": name,
                    "source": source,
                    "columns": sample.columns,
                    "rows": sample.rows,
                    "nbytes": sample.nbytes,
                    "seconds": timings.seconds[f"{name}, {source}"],
                    "limits_s": least[source],
                    "over_the_bus": _difference(before, _ledger(device)),
                }
            )
    container = None  # or its memory could not be given back
    containers.clear()
    calls.clear()
    device.tidy()
    return found


def _least(name: str, sample: Sample, limits: Limits, timings: Timings) -> dict[str, dict[str, float]]:
    """Return the seconds that each part of a pass takes at least, by source; the greatest of them is the limit."""
    n, d = sample.rows, sample.columns
    there: dict[str, float] = {}
    if limits.memory:
        there["memory"] = sample.nbytes / limits.memory
    if limits.float64 and name == "Scatter":
        there["arithmetic"] = 2 * n * d * d / limits.float64
    over: dict[str, float] = {"copy": sample.nbytes / limits.pinned} if limits.pinned else {}
    over["compute"] = timings[f"{name}, resident"]
    return {"resident": there, "pinned": over, "file": {**over, "read": timings["read"]}}


def _ledger(device: Machine) -> dict[str, int]:
    ledger = get_backend(device.backend).device().ledger  # type: ignore[attr-defined]  # of a device's backend
    return {"up": ledger.up, "down": ledger.down, "waits": ledger.waits}


def _difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in before}


# Fits.


def scaler() -> Any:
    """Return a scaler, not fitted."""
    return ooclearn.preprocessing.StandardScaler()


def pipeline() -> Any:
    """Return a pipeline of three stages, not fitted."""
    return ooclearn.pipeline.make_pipeline(scaler(), ooclearn.decomposition.PCA(COMMON), ooclearn.linear_model.Ridge())


JOBS: dict[str, Callable[[], Any]] = {"StandardScaler": scaler, "StandardScaler -> PCA -> Ridge": pipeline}


def _fits(sample: Sample, device: Machine, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure fits on the CPU with all cores, on the device from the file, and from its own memory.

    And of some rows alone: what a fit takes after its pass, on the host in every case.
    """
    X, y = sample.scanned()
    few = 2 * sample.columns
    to_device = get_backend(device.backend).from_host
    tables: dict[str, tuple[Any, Any]] = {
        "few": (np.load(sample.X, mmap_mode="r")[:few].copy(), np.load(sample.y)[:few]),
        "cpu": (X, y),
        "streamed": (X.on(device.backend), y),
        "resident": (to_device(np.load(sample.X)), to_device(np.load(sample.y))),
    }
    calls: dict[str, Callable[[], object]] = {
        f"{job}, {place}": lambda make=make, table=table: make().fit(*table)  # type: ignore[misc]  # of defaults
        for job, make in JOBS.items()
        for place, table in tables.items()
    }
    timings = interleaved(calls, given.repeats, settle=given.settle)
    found = [
        {
            "job": job,
            "columns": sample.columns,
            "rows": sample.rows,
            "nbytes": sample.nbytes,
            "seconds": {place: timings.seconds[f"{job}, {place}"] for place in tables},
        }
        for job in JOBS
    ]
    tables.clear()
    calls.clear()
    device.tidy()
    return found


# Results to disk.


def _results(sample: Sample, device: Machine, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure what writing a result takes, on the CPU with all cores and through the device: one number a row, and all."""
    X, y = sample.scanned()
    models = {"predict": pipeline().fit(X, y), "transform": scaler().fit(X)}
    tables = {"cpu": X, "streamed": X.on(device.backend)}
    target = sample.X.with_name("result.npy")
    calls: dict[str, Callable[[], object]] = {
        f"{method}, {place}": lambda method=method, model=model, rows=rows: getattr(model, method)(rows).to_npy(target)  # type: ignore[misc]  # of defaults
        for method, model in models.items()
        for place, rows in tables.items()
    }
    timings = interleaved(calls, given.repeats, settle=given.settle)
    found = []
    for method in models:
        before = _ledger(device)
        calls[f"{method}, streamed"]()
        found.append(
            {
                "method": method,
                "columns": sample.columns,
                "rows": sample.rows,
                "nbytes": sample.nbytes,
                "seconds": {place: timings.seconds[f"{method}, {place}"] for place in tables},
                "over_the_bus": _difference(before, _ledger(device)),
            }
        )
    target.unlink()
    tables.clear()
    calls.clear()
    device.tidy()
    return found


# Agreement.


def attributes(pipe: Any) -> dict[str, Array]:
    """Return what a fitted pipeline has found out."""
    first, second, third = (step for _, step in pipe.steps)
    return {
        "mean_": first.mean_,
        "var_": first.var_,
        "components_": second.components_,
        "explained_variance_": second.explained_variance_,
        "coef_": third.coef_,
        "intercept_": third.intercept_,
    }


def apart(one: Any, other: Any) -> float:
    """Return the greatest difference, of the greatest number."""
    one, other = np.asarray(one), np.asarray(other)
    return float(np.max(np.abs(one - other)) / np.max(np.abs(other)))


def _agreement(sample: Sample, device: Machine) -> dict[str, Any]:
    """Compare fits and predictions of the device with the CPU's, and of a device with little memory with its own."""
    X, y = sample.scanned()
    sent = X.on(device.backend)
    on_cpu, on_device = pipeline().fit(X, y), pipeline().fit(sent, y)
    found = {"fit, device and CPU": _compared(attributes(on_device), attributes(on_cpu), 1e-9)}
    memory = max(sample.nbytes // 4, 2**20)
    settings: dict[str, Any] = {"block_bytes": min(get_config()["block_bytes"], max(memory // 64, 2**14))}
    with device.limited(memory), ooclearn.config_context(**settings):
        cut = ooclearn.scan(sample.X)
        limited = pipeline().fit(cut.on(device.backend), y)
        held = device.held()
    found["fit, a quarter of the table's memory"] = {
        **_compared(attributes(limited), attributes(on_device), 1e-12),
        "limit": memory,
        "held": held,
        "table": sample.nbytes,
    }
    rows = np.load(sample.X, mmap_mode="r")[:10_000]
    backend = get_backend(device.backend)
    expected = on_cpu.predict(np.array(rows))
    on_host = on_device.predict(np.array(rows))
    there = backend.to_host(on_device.predict(backend.from_host(rows)))
    back = backend.to_host(on_cpu.predict(backend.from_host(rows)))
    found["predictions, fitted on the device, made on the CPU"] = _compared({"": on_host}, {"": expected}, 1e-9)
    found["predictions, fitted on the device, made there"] = _compared({"": there}, {"": expected}, 1e-9)
    found["predictions, fitted on the CPU, made on the device"] = _compared({"": back}, {"": expected}, 1e-9)
    written_there, written_here = sample.X.with_name("there.npy"), sample.X.with_name("here.npy")
    on_device.predict(sent).to_npy(written_there)
    on_device.predict(X).to_npy(written_here)
    found["predictions, written from the device and from the CPU"] = _compared(
        {"": np.load(written_there)}, {"": np.load(written_here)}, 1e-9
    )
    return found


def _compared(one: dict[str, Any], other: dict[str, Any], most: float) -> dict[str, Any]:
    differences = {name: apart(one[name], other[name]) for name in one}
    worst = max(differences.values())
    return {"differences": differences, "worst": worst, "most": most, "agrees": worst <= most}


if __name__ == "__main__":
    sys.exit(main())
