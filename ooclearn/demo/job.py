"""The job of the demo, measured: fit, predict from disk to disk, score on rows that were held out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.preprocessing import StandardScaler as SklearnScaler

from ooclearn.blocks import Blocks
from ooclearn.demo.table import StoredTable
from ooclearn.diagnostics import Timeline, peak_memory
from ooclearn.incremental import Incremental
from ooclearn.pipeline import Pipeline, make_pipeline
from ooclearn.plan import Plan
from ooclearn.preprocessing import StandardScaler
from ooclearn.storage import scan

__all__ = ["Outcome", "Step", "agreement", "container", "model", "on_sample", "out_of_core", "plan"]


@dataclass(frozen=True)
class Step:
    """What one step took.

    Attributes
    ----------
    seconds : float
        By the clock.
    rows, nbytes : int
        Of X.
    passes : int
        How often all of it was gone through, as counted.
    bytes_read : int or None
        What the process read from files; None where the system does not tell.
    peak, before : int or None
        The most memory that the process held, and what it held when the step began; None where that cannot be
        measured.
    """

    seconds: float
    rows: int
    nbytes: int
    passes: int
    bytes_read: int | None
    peak: int | None
    before: int | None

    @property
    def rate(self) -> float:
        """Bytes of X by the second, over all passes."""
        return self.passes * self.nbytes / self.seconds

    @property
    def growth(self) -> int | None:
        """How much memory the step took beyond what there was."""
        return None if self.peak is None or self.before is None else self.peak - self.before


@dataclass(frozen=True)
class Outcome:
    """What one way to do the job took, and what it gave.

    Attributes
    ----------
    name : str
        Of the way.
    fit, predict : Step
        What they took.
    accuracy : float
        On the rows held out.
    """

    name: str
    fit: Step
    predict: Step
    accuracy: float


def model() -> Pipeline:
    """Return the pipeline of the demo, not fitted."""
    return make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))


def container(rows: Path | Blocks, backend: str) -> Any:
    """Return the rows of a file, or Blocks, as the container of `backend`, without reading them."""
    blocks = scan(rows)
    return blocks if backend == "numpy" else blocks.on(backend)


def plan(X: Path | Blocks, y: Path | Blocks, backend: str) -> Plan:
    """Return the passes that the fit will make; BackendError, which says what to install, if it cannot."""
    return model().explain(container(X, backend), container(y, backend))


def out_of_core(table: StoredTable, predictions: Path, backend: str, record: Timeline) -> Outcome:
    """Fit on the table's files and predict into a file, in bounded memory.

    Parameters
    ----------
    table : StoredTable
        What to train on.
    predictions : Path
        The file to write.
    backend : str
        Name of the backend.
    record : Timeline
        Is recording; the passes are counted in it.
    """
    X, y = container(table.rows, backend), container(table.labels, backend)
    pipe = model()

    def passes(*kinds: str) -> int:
        return sum(one.work.kind in kinds for one in record.passes)

    def fit() -> int:
        pipe.fit(X, y)
        return passes("fold", "feed")

    def predict() -> int:
        # Rows that are lazy in another library are made Blocks again, to be written.
        scan(pipe.predict(X)).to_npy(predictions)
        return passes("write")

    rows, nbytes = table.recipe.rows, table.recipe.rows * table.recipe.row_bytes
    fitted = _measured(fit, rows, nbytes)
    predicted = _measured(predict, rows, nbytes)
    accuracy = pipe.score(container(table.held_out_rows, backend), container(table.held_out_labels, backend))
    return Outcome(f"ooclearn, {backend}", fitted, predicted, float(accuracy))


def on_sample(table: StoredTable, rows: int) -> Outcome:
    """Fit scikit-learn's own pipeline on the first rows, in memory, and predict them.

    The rows of the table are in mixed order, so the first are a fair sample.
    """
    rows = min(rows, table.recipe.rows)
    X = np.array(np.load(table.rows, mmap_mode="r")[:rows])
    y = np.array(np.load(table.labels, mmap_mode="r")[:rows])
    pipe = sklearn_pipeline(SklearnScaler(), SGDClassifier(random_state=0))

    def fit() -> int:
        pipe.fit(X, y)
        return 1 + int(pipe[-1].n_iter_)

    def predict() -> int:
        pipe.predict(X)
        return 1

    fitted, predicted = _measured(fit, rows, X.nbytes), _measured(predict, rows, X.nbytes)
    accuracy = pipe.score(np.load(table.held_out_rows, mmap_mode="r"), np.load(table.held_out_labels))
    return Outcome("scikit-learn, in memory", fitted, predicted, float(accuracy))


def agreement(predictions: Path, table: StoredTable) -> float:
    """Return how many of the predictions on disk are right; ValueError if they are not one for each row."""
    said, y = scan(predictions), scan(table.labels)
    if said.shape != y.shape:
        raise ValueError(f"{predictions} has shape {said.shape}, expected {y.shape}")
    y = said.align("y", y)
    right = sum(int(np.count_nonzero(a == b)) for a, b in zip(said, y, strict=True))
    return right / table.recipe.rows


def _measured(step: Callable[[], int], rows: int, nbytes: int) -> Step:
    """Run a step, which returns its passes."""
    read = _bytes_read()
    with peak_memory() as memory:
        start = time.perf_counter()
        passes = step()
        seconds = time.perf_counter() - start
    known = memory.measure is not None
    return Step(
        seconds,
        rows,
        nbytes,
        passes,
        None if read is None else (_bytes_read() or 0) - read,
        memory.peak if known else None,
        memory.before if known else None,
    )


def _bytes_read() -> int | None:
    """Return what this process has read from files so far, cached or not; mapped files do not count."""
    try:
        counters = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return None
    return int(counters.split()[1])
