"""The ways to do the job that are compared, one a process: ``python ci/bench/rivals.py NAME FOLDER``.

Reads commands, a line each, from the standard input: ``load`` (what is not timed), ``fit``, ``predict`` (from
the table's file into a file), ``score`` (on rows held out); answers each with a line of JSON. What stands in a line
after the command is given to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier

from limits import Limits
from ooclearn.types import Array

__all__ = ["BLOCK", "NAMES", "WAYS", "Way", "lazy", "serve"]

# What a careful user would take: long enough that calls cost nothing, short enough for a processor's cache.
BLOCK = 100_000


class Way(ABC):
    """One way to fit, predict and score."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.X, self.y = folder / "X.npy", folder / "y.npy"
        self.predictions = folder / f"predictions-{type(self).__name__}.npy"

    @abstractmethod
    def prepare(self) -> None:
        """Import what is used, and make the models."""

    def load(self) -> None:  # noqa: B027  (most ways have nothing to load)
        """Do what is not timed: read the rows into memory, where the way needs them there."""

    @abstractmethod
    def fit(self) -> None:
        """Fit the scaler and the classifier, one epoch."""

    @abstractmethod
    def predict(self) -> None:
        """Predict all rows into the file of predictions."""

    @abstractmethod
    def labels(self, X: Array) -> Array:
        """Predict rows in memory."""

    def score(self) -> float:
        """Return the accuracy on the rows held out."""
        X, y = (np.load(self.folder / f"{part}_held_out.npy") for part in "Xy")
        return float(np.mean(np.asarray(self.labels(X)) == y))


class Ooclearn(Way):
    """ooclearn."""

    def prepare(self) -> None:
        import ooclearn
        from ooclearn.preprocessing import StandardScaler

        self.scan = ooclearn.scan
        self.pipe = ooclearn.make_pipeline(StandardScaler(), ooclearn.Incremental(SGDClassifier(random_state=0)))

    def fit(self) -> None:
        self.pipe.fit(self.scan(self.X), self.scan(self.y))

    def predict(self) -> None:
        self.pipe.predict(self.scan(self.X)).to_npy(self.predictions)

    def labels(self, X: Array) -> Array:
        return self.pipe.predict(X)


class Loop(Way):
    """A careful loop by hand: two passes over a memory map by slices, scikit-learn's own ``partial_fit``."""

    def prepare(self) -> None:
        from sklearn.preprocessing import StandardScaler

        self.scaler, self.classifier = StandardScaler(), SGDClassifier(random_state=0)

    def fit(self) -> None:
        self.prepare()
        X, y = np.load(self.X, mmap_mode="r"), np.load(self.y, mmap_mode="r")
        for start in range(0, len(X), BLOCK):
            self.scaler.partial_fit(X[start : start + BLOCK])
        for start in range(0, len(X), BLOCK):
            scaled = self.scaler.transform(X[start : start + BLOCK])
            self.classifier.partial_fit(scaled, y[start : start + BLOCK], classes=[0, 1])

    def predict(self) -> None:
        X = np.load(self.X, mmap_mode="r")
        header = {"descr": "<i8", "fortran_order": False, "shape": (len(X),)}
        with self.predictions.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(X), BLOCK):
                self.labels(X[start : start + BLOCK]).astype(np.int64, copy=False).tofile(file)

    def labels(self, X: Array) -> Array:
        return self.classifier.predict(self.scaler.transform(X))


def lazy(path: Path) -> Array:
    """Return the file as a Dask array whose chunks are read when their tasks run."""
    import dask
    import dask.array as da

    whole = np.load(path, mmap_mode="r")

    def rows(start: int, stop: int) -> Array:
        return np.array(np.load(path, mmap_mode="r")[start:stop])

    cuts = [*range(0, len(whole), BLOCK), len(whole)]
    return da.concatenate(
        [da.from_delayed(dask.delayed(rows)(a, b), (b - a, *whole.shape[1:]), whole.dtype) for a, b in pairwise(cuts)]
    )


class DaskMl(Way):
    """dask-ml, with chunks that are read when their tasks run."""

    def prepare(self) -> None:
        from dask_ml.preprocessing import StandardScaler
        from dask_ml.wrappers import Incremental
        from sklearn.pipeline import make_pipeline

        self.pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))

    def array(self, path: Path) -> Array:
        """Return the file as a Dask array."""
        return lazy(path)

    def fit(self) -> None:
        self.pipe.fit(self.array(self.X), self.array(self.y), incremental__classes=[0, 1])

    def predict(self) -> None:
        import dask.array as da

        lazy = self.pipe.predict(self.array(self.X))
        out = np.lib.format.open_memmap(self.predictions, "w+", lazy.dtype, lazy.shape)
        da.store(lazy, out)

    def labels(self, X: Array) -> Array:
        return self.pipe.predict(X)


class DaskMlFromArray(DaskMl):
    """dask-ml, with ``dask.array.from_array`` of a memory map."""

    def array(self, path: Path) -> Array:
        """Return the file as a Dask array."""
        import dask.array as da

        whole = np.load(path, mmap_mode="r")
        return da.from_array(whole, chunks=(BLOCK, *whole.shape[1:]))


class InMemory(Way):
    """scikit-learn with all rows in memory; reading them is not timed."""

    def prepare(self) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.pipe = make_pipeline(StandardScaler(), SGDClassifier(max_iter=1, tol=None, random_state=0))

    def load(self) -> None:
        """Read all rows."""
        self.rows, self.targets = np.load(self.X), np.load(self.y)

    def fit(self) -> None:
        self.pipe.fit(self.rows, self.targets)

    def predict(self) -> None:
        np.save(self.predictions, self.pipe.predict(self.rows))

    def labels(self, X: Array) -> Array:
        return self.pipe.predict(X)


WAYS: dict[str, type[Way | Limits]] = {
    "ooclearn": Ooclearn,
    "loop": Loop,
    "dask-ml": DaskMl,
    "dask-ml-from-array": DaskMlFromArray,
    "in-memory": InMemory,
    "limits": Limits,
}


NAMES = {
    "ooclearn": "ooclearn",
    "loop": "loop by hand, partial_fit",
    "dask-ml": "dask-ml, lazy chunks",
    "dask-ml-from-array": "dask-ml, from_array(memmap)",
    "in-memory": "scikit-learn in memory",
}


def serve(ways: Mapping[str, Callable[[Path], Any]], description: str | None) -> None:
    """Do what the lines say, until there are no more."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("name", choices=ways)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # what libraries print is no answer
        way = ways[options.name](options.folder)
        way.prepare()
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            name, *arguments = line.split()
            command = getattr(way, name)
            answer: dict[str, object]
            start = time.perf_counter()
            try:
                value = command(*arguments)
            except MemoryError:
                answer = {"error": "out of memory"}
            except Exception as error:  # noqa: BLE001  (whatever it is, the other ways go on)
                answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]}
            else:
                answer = {"seconds": time.perf_counter() - start, "value": value}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(WAYS, __doc__)
