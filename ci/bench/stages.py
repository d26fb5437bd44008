"""The ways to fit pipelines of several stages, one a process: ``python ci/bench/stages.py WAY FOLDER``.

Commands, as in rivals.py: ``load`` (what is not timed), ``fit PIPELINE``, ``score PIPELINE`` (on rows held out),
``readings PIPELINE`` (those that are promised before the fit).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ooclearn.types import Array
from rivals import BLOCK, lazy, serve

__all__ = ["NAMES", "PIPELINES", "WAYS", "Staged"]

# The title of each, and its steps by a package that has scikit-learn's modules.
PIPELINES: dict[str, tuple[str, Callable[[Any], list[Any]]]] = {
    "ridge": (
        "StandardScaler -> PCA(5) -> Ridge",
        lambda of: [of.preprocessing.StandardScaler(), of.decomposition.PCA(5), of.linear_model.Ridge()],
    ),
    "linear": (
        "MinMaxScaler -> LinearRegression",
        lambda of: [of.preprocessing.MinMaxScaler(), of.linear_model.LinearRegression()],
    ),
    "lda": (
        "StandardScaler -> LinearDiscriminantAnalysis",
        lambda of: [of.preprocessing.StandardScaler(), of.discriminant_analysis.LinearDiscriminantAnalysis()],
    ),
    "bayes": (
        "StandardScaler -> GaussianNB",
        lambda of: [of.preprocessing.StandardScaler(), of.naive_bayes.GaussianNB()],
    ),
}


class Staged(ABC):
    """One way to fit the pipelines that it `has`."""

    has: ClassVar[tuple[str, ...]] = tuple(PIPELINES)
    in_memory = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.X, self.y = folder / "X.npy", folder / "y.npy"

    @abstractmethod
    def prepare(self) -> None:
        """Import what is used."""

    def load(self) -> None:  # noqa: B027  (most ways have nothing to load)
        """Read the rows into memory, where the way needs them there."""

    @abstractmethod
    def fit(self, pipeline: str) -> None:
        """Fit all stages."""

    @abstractmethod
    def predicted(self, X: Array) -> Array:
        """Predict rows in memory by what was fitted last."""

    def score(self, pipeline: str) -> float:
        """Return R2 or the accuracy on the rows held out."""
        X, y = (np.load(self.folder / f"{part}_held_out.npy") for part in "Xy")
        found = np.asarray(self.predicted(X))
        if pipeline in {"lda", "bayes"}:
            return float(np.mean(found == y))
        return float(1 - np.mean((found - y) ** 2) / np.var(y))


class Ooclearn(Staged):
    """ooclearn, from the file."""

    def prepare(self) -> None:
        import ooclearn.decomposition
        import ooclearn.discriminant_analysis
        import ooclearn.linear_model
        import ooclearn.naive_bayes
        import ooclearn.pipeline
        import ooclearn.preprocessing

        self.package = ooclearn

    def made(self, pipeline: str) -> Any:
        """Return the pipeline, not fitted."""
        return self.package.pipeline.make_pipeline(*PIPELINES[pipeline][1](self.package))

    def fit(self, pipeline: str) -> None:
        self.pipe = self.made(pipeline).fit(self.package.scan(self.X), self.package.scan(self.y))

    def readings(self, pipeline: str) -> int:
        """Return how many times the table will be read."""
        return int(self.made(pipeline).explain(self.package.scan(self.X), self.package.scan(self.y)).n_passes)

    def predicted(self, X: Array) -> Array:
        return self.pipe.predict(X)


class InMemory(Staged):
    """scikit-learn stage by stage, with all rows in memory; reading them is not timed."""

    in_memory = True

    def prepare(self) -> None:
        import sklearn.decomposition
        import sklearn.discriminant_analysis
        import sklearn.linear_model
        import sklearn.naive_bayes
        import sklearn.pipeline
        import sklearn.preprocessing

        self.package = sklearn

    def load(self) -> None:
        """Read all rows."""
        self.rows, self.targets = np.load(self.X), np.load(self.y)

    def fit(self, pipeline: str) -> None:
        self.pipe = self.package.pipeline.make_pipeline(*PIPELINES[pipeline][1](self.package))
        self.pipe.fit(self.rows, self.targets)

    def predicted(self, X: Array) -> Array:
        return self.pipe.predict(X)


class Loop(Staged):
    """A loop by hand over a memory map for each stage, with ``partial_fit`` where scikit-learn has it.

    Ridge has none: its five components of all rows are kept in memory.
    """

    has = ("ridge", "bayes")

    def prepare(self) -> None:
        from sklearn import decomposition, linear_model, naive_bayes, preprocessing

        self.scaler = preprocessing.StandardScaler
        self.pca, self.ridge, self.bayes = decomposition.IncrementalPCA, linear_model.Ridge, naive_bayes.GaussianNB

    def fit(self, pipeline: str) -> None:
        X, y = np.load(self.X, mmap_mode="r"), np.load(self.y, mmap_mode="r")
        blocks = [slice(start, start + BLOCK) for start in range(0, len(X), BLOCK)]
        scaler = self.scaler()
        for block in blocks:
            scaler.partial_fit(X[block])
        self.stages = [scaler.transform]
        if pipeline == "bayes":
            model = self.bayes()
            for block in blocks:
                model.partial_fit(scaler.transform(X[block]), y[block], classes=[0, 1])
        else:
            pca = self.pca(5)
            for block in blocks:
                pca.partial_fit(scaler.transform(X[block]))
            self.stages.append(pca.transform)
            model = self.ridge().fit(np.concatenate([pca.transform(scaler.transform(X[b])) for b in blocks]), y)
        self.stages.append(model.predict)

    def predicted(self, X: Array) -> Array:
        for stage in self.stages:
            X = stage(X)
        return X


class DaskMl(Staged):
    """dask-ml stage by stage, as fast as it can be had, with chunks that are read when their tasks run.

    Each stage is fitted on what the stages before make of the table, lazily: in scikit-learn's ``make_pipeline``,
    which calls ``fit_transform``, its PCA is computed again for every step of the model's solver. The solvers are the
    fastest of those that reach scikit-learn's coefficients.
    """

    has = ("ridge", "linear", "bayes")

    def prepare(self) -> None:
        from dask_ml import decomposition, linear_model, naive_bayes, preprocessing

        least_squares = linear_model.LinearRegression
        self.steps: dict[str, Callable[[], list[Any]]] = {
            "ridge": lambda: [
                preprocessing.StandardScaler(),
                decomposition.PCA(5, svd_solver="full"),
                least_squares(penalty="l2", C=1.0, solver="lbfgs"),
            ],
            "linear": lambda: [preprocessing.MinMaxScaler(), least_squares(solver="newton")],
            "bayes": lambda: [preprocessing.StandardScaler(), naive_bayes.GaussianNB(classes=np.array([0, 1]))],
        }

    def fit(self, pipeline: str) -> None:
        X, y = lazy(self.X), lazy(self.y)
        self.stages = self.steps[pipeline]()
        *transformers, model = self.stages
        for transformer in transformers:
            X = transformer.fit(X).transform(X)
        model.fit(X, y)
        if pipeline == "bayes":  # its fit computes nothing
            import dask

            model.theta_, model.sigma_, model.class_prior_ = dask.compute(
                model.theta_, model.sigma_, model.class_prior_
            )

    def predicted(self, X: Array) -> Array:
        import dask.array as da

        rows = da.from_array(X, chunks=(BLOCK, X.shape[1]))
        *transformers, model = self.stages
        for transformer in transformers:
            rows = transformer.transform(rows)
        found = model.predict(rows)
        return found.compute()


WAYS: dict[str, type[Staged]] = {"ooclearn": Ooclearn, "in-memory": InMemory, "loop": Loop, "dask-ml": DaskMl}

NAMES = {
    "ooclearn": "ooclearn",
    "in-memory": "scikit-learn in memory",
    "loop": "loops by hand, partial_fit",
    "dask-ml": "dask-ml, lazy chunks",
}


if __name__ == "__main__":
    serve(WAYS, __doc__)
