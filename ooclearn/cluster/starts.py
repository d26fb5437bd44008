"""Where k-means starts: k-means|| over the table, k-means++ or a random choice on a sample of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from ooclearn.cluster.drawing import DrawnRows, DrawnRowsState
from ooclearn.cluster.sums import ClusterSums
from ooclearn.exceptions import DataError
from ooclearn.passes import Request
from ooclearn.types import Array

__all__ = ["Start"]

# The sample that a start is made from, in the first pass: at least so many rows a cluster, and so many bytes.
_ROWS_A_CLUSTER = 5
_SAMPLE_BYTES = 2**20
# The weighted candidates are few, so the best of several clusterings of them costs little beside one pass.
_TRIES = 5


@dataclass(frozen=True, eq=False)
class Start:
    """Starting centres for one or several runs, from the same passes.

    Parameters
    ----------
    init : str, ndarray or callable
        How.
    n_clusters, n_init : int
        Centres of a run, and runs.
    oversampling_factor, init_max_iter : float, int
        Of k-means||: rows drawn in a round, in multiples of `n_clusters`, and rounds.
    random : RandomState
        Draws in memory.
    """

    init: str | Array | Callable[..., Any]
    n_clusters: int
    n_init: int
    oversampling_factor: float
    init_max_iter: int
    random: np.random.RandomState

    @property
    def _drawn_a_round(self) -> int:
        return max(1, ceil(self.oversampling_factor * self.n_clusters))

    def sample(self, seed: int, /) -> DrawnRows | None:
        """Return the question for the sample that the start is made from; None if it needs none."""
        if isinstance(self.init, np.ndarray):
            return None
        return DrawnRows(seed, _ROWS_A_CLUSTER * self.n_clusters, _SAMPLE_BYTES)

    def requests(self, n_rows: int | None, n_columns: int | None, /) -> list[Request]:
        """Return what is asked after the sample, at most."""
        sample = self.sample(0)
        if sample is None or not isinstance(self.init, str) or self.init != "k-means||":
            return []
        if n_rows is not None and n_columns is not None and n_rows <= sample.at_most(n_columns):
            return []
        rows = np.zeros((0, n_columns or 0))
        rounds = [DrawnRows(k, self._drawn_a_round, centers=rows) for k in range(self.init_max_iter)]
        return [*rounds, ClusterSums(rows, np.zeros(n_columns or 0))]

    def passes(self, center: Array, sample: DrawnRowsState | None, seed: int) -> Generator[Request, Any, list[Array]]:
        """Ask for what the start needs; return the centres of each run, about `center`."""
        if sample is None:
            assert isinstance(self.init, np.ndarray)
            return [self.init - center]
        if callable(self.init):
            return [self._called(sample.rows) - center for _ in range(self.n_init)]
        rows = sample.rows - center
        # Rows are drawn by their weights; where all are there, they are to be drawn by these yet.
        weights = sample.weights if sample.complete else np.ones(len(rows))
        if self.init == "k-means||" and not sample.complete:
            rows, weights = yield from self._candidates(center, rows, seed)
            return [self._clustered(rows, weights) for _ in range(self.n_init)]
        draw = self._random_rows if self.init == "random" else self._plus_plus
        return [draw(rows, weights) for _ in range(self.n_init)]

    def _candidates(self, center: Array, rows: Array, seed: int) -> Generator[Request, Any, tuple[Array, Array]]:
        """Draw candidates in rounds, each row by its squared distance to those before; return them weighted.

        Each stands for the rows nearest to it, by their mean and their weight: what the table would say of any
        clustering that keeps these rows together, up to a constant.
        """
        found = self._plus_plus(rows, np.ones(len(rows)))
        for k in range(self.init_max_iter):
            # Seeds of rounds must differ; those of tiles are made of them by hashing.
            drawn = yield DrawnRows(seed + 1 + k, self._drawn_a_round, centers=found, center=center)
            if not len(drawn.keys):
                break
            found = np.concatenate([found, drawn.rows - center])
        sums = yield ClusterSums(found, center)
        there = sums.weights > 0
        return sums.means(found)[there], sums.weights[there]

    def _clustered(self, rows: Array, weights: Array) -> Array:
        from sklearn.cluster import KMeans  # 0.1 s to import, and only a fit needs it

        if len(rows) <= self.n_clusters:
            return self._filled(rows)
        k_means = KMeans(self.n_clusters, n_init=_TRIES, random_state=self.random)
        centers: Array = k_means.fit(rows, sample_weight=weights).cluster_centers_
        return centers

    def _plus_plus(self, rows: Array, weights: Array) -> Array:
        from sklearn.cluster import kmeans_plusplus

        if len(rows) < self.n_clusters:
            return self._filled(rows)
        centers: Array = kmeans_plusplus(rows, self.n_clusters, sample_weight=weights, random_state=self.random)[0]
        return centers

    def _random_rows(self, rows: Array, weights: Array) -> Array:
        if len(rows) < self.n_clusters:
            return self._filled(rows)
        at = self.random.choice(len(rows), size=self.n_clusters, replace=False, p=weights / weights.sum())
        return np.asarray(rows[at])

    def _filled(self, rows: Array) -> Array:
        """Return `rows`, repeated up to one a cluster; of equal centres the first gets the rows."""
        return np.asarray(rows[np.arange(self.n_clusters) % len(rows)])

    def _called(self, rows: Array) -> Array:
        assert callable(self.init)
        centers = np.asarray(self.init(rows, self.n_clusters, random_state=self.random), dtype=np.float64)
        check_centers(centers, self.n_clusters, rows.shape[1])
        return centers


def check_centers(centers: Array, n_clusters: int, n_columns: int | None, /) -> None:
    """Raise if starting centres are not finite, or not one a cluster with a number for each column."""
    if centers.ndim != 2:
        raise DataError(f"the initial centers have shape {centers.shape}; expected (n_clusters, n_features)")
    if centers.shape[0] != n_clusters:
        raise DataError(
            f"The shape of the initial centers {centers.shape} does not match the number of clusters {n_clusters}."
        )
    if n_columns is not None and centers.shape[1] != n_columns:
        raise DataError(
            f"The shape of the initial centers {centers.shape} does not match the number of features of the data "
            f"{n_columns}."
        )
    if not np.isfinite(centers).all():
        raise DataError("the initial centers contain NaN or infinity; expected finite numbers")
