"""Pipelines that are fitted in one reading, side by side with scikit-learn stage by stage, and with the read alone.

The table lies on disk, warm in the page cache, for this library; scikit-learn has it in memory. Below, the rate at
which one core sums up a scatter matrix, and a pass of logistic regression beside an epoch of ``partial_fit``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.decomposition
import sklearn.discriminant_analysis
import sklearn.linear_model
import sklearn.naive_bayes
import sklearn.pipeline
import sklearn.preprocessing

import ooclearn
import ooclearn.decomposition
import ooclearn.discriminant_analysis
import ooclearn.linear_model
import ooclearn.naive_bayes
import ooclearn.pipeline
import ooclearn.preprocessing
from harness import interleaved, markdown, options, report, scratch
from limits import fastest_read, read_seconds
from ooclearn.config import n_workers
from ooclearn.demo.table import Recipe, stored

PIPELINES: dict[str, Callable[[Any], list[Any]]] = {
    "StandardScaler -> PCA(5) -> Ridge": lambda of: [
        of.preprocessing.StandardScaler(),
        of.decomposition.PCA(5),
        of.linear_model.Ridge(),
    ],
    "MinMaxScaler -> LinearRegression": lambda of: [
        of.preprocessing.MinMaxScaler(),
        of.linear_model.LinearRegression(),
    ],
    "StandardScaler -> LinearDiscriminantAnalysis": lambda of: [
        of.preprocessing.StandardScaler(),
        of.discriminant_analysis.LinearDiscriminantAnalysis(),
    ],
    "StandardScaler -> GaussianNB": lambda of: [of.preprocessing.StandardScaler(), of.naive_bayes.GaussianNB()],
}


def main() -> None:
    """Run the comparison."""
    given = options(__doc__, rows=1_000_000, repeats=3).parse_args()
    with scratch() as folder:
        table, _ = stored(folder, Recipe(given.rows))
        os.sync()  # or the system goes on writing the table while others are timed
        _fusion(table.folder, given)
        _rates(table.folder, given)


def _fusion(folder: Path, given: Any) -> None:
    source, target = ooclearn.scan(folder / "X.npy"), ooclearn.scan(folder / "y.npy")
    X, y = source.to_numpy(), target.to_numpy()
    calls: dict[str, Callable[[], object]] = {}
    passes = {}
    for name, steps in PIPELINES.items():
        ours = ooclearn.pipeline.make_pipeline(*steps(ooclearn))
        theirs = sklearn.pipeline.make_pipeline(*steps(sklearn))
        passes[name] = ours.explain(source, target).n_passes
        calls[f"{name}, ooclearn"] = partial(ours.fit, source, target)
        calls[f"{name}, scikit-learn"] = partial(theirs.fit, X, y)
    way = fastest_read(folder / "X.npy")
    calls["read"] = lambda: read_seconds(folder / "X.npy", *way)
    timings = interleaved(calls, given.repeats, settle=3)
    rows = []
    for name in PIPELINES:
        one, other = timings[f"{name}, ooclearn"], timings[f"{name}, scikit-learn"]
        cells = [f"{one:.2f}", f"{other:.2f}", f"{other / one:.1f} x", f"{one / timings['read']:.2f} x"]
        rows.append([name, passes[name], *cells])
    heads = ["", "readings", "ooclearn, s", "scikit-learn, s", "faster by", "time, of reading once"]
    title = f"Fewer passes: {given.rows:,} x 20 float64, {X.nbytes / 1e9:.2f} GB, warm; {n_workers()} workers"
    report("fusion", title, [markdown(heads, rows)], {"rows": given.rows, "seconds": timings.seconds}, given.out)


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
        iterations = int(np.max(logistic.n_iter_))
    rows = [[name, f"{timings[name]:.3f}", f"{X.nbytes / timings[name] / 1e9:.2f}"] for name in calls]
    a_pass = timings["LogisticRegression().fit"] / (iterations + 1)
    rows.insert(2, [f"the same, a pass of {iterations + 1}", f"{a_pass:.3f}", f"{X.nbytes / a_pass / 1e9:.2f}"])
    numbers = {"rows": n, "seconds": timings.seconds, "iterations": iterations}
    title = f"Rates of one core: {n:,} x 20 float64 in memory"
    report("fusion-rates", title, [markdown(["", "s", "GB/s"], rows)], numbers, given.out)


if __name__ == "__main__":
    main()
