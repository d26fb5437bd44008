"""K-means over rows of any number: Lloyd's algorithm, one pass a step."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ooclearn._compat import Interval, StrOptions
from ooclearn._filters import quietly
from ooclearn.base import RowMapTransformer, busy, commit, mapped, unfitted_copy
from ooclearn.blocks import Blocks
from ooclearn.cluster.distances import distances, nearest_label
from ooclearn.cluster.drawing import DrawnRowsState
from ooclearn.cluster.starts import Start, check_centers
from ooclearn.cluster.sums import ClusterSums, ClusterSumsState
from ooclearn.events import Work
from ooclearn.exceptions import DataError
from ooclearn.passes import Fit, Request, Stage, run
from ooclearn.plan import Repeated
from ooclearn.rowmaps import RowMap, Rowwise, compose
from ooclearn.statistics import Join, Moments, MomentsState
from ooclearn.table import Schema
from ooclearn.types import Array
from ooclearn.validation import as_table, checked_rows, host_array, is_lazy

__all__ = ["KMeans"]


class KMeans(ClassNamePrefixFeaturesOutMixin, ClusterMixin, RowMapTransformer):
    """Cluster rows by k-means: centres from k-means||, then Lloyd's algorithm, one pass a step.

    As :class:`sklearn.cluster.KMeans`, on tables larger than memory and on every backend. Passes over the data: one for
    the means and a sample of the rows; on a table larger than that sample (1 MiB, or 5 rows a cluster if that is more)
    ``init_max_iter + 1`` for k-means||; one for each step of Lloyd's algorithm, and one for the inertia of the last
    centres. All `n_init` runs share these passes. Memory: a few tiles of a block and some numbers for each column of a
    cluster, for each worker. Of scikit-learn's parameters, ``copy_x`` and ``algorithm`` are left out: input is never
    written to, and there is one algorithm. ``transform`` gives the distance of each row to each centre.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    init : {'k-means||', 'k-means++', 'random'}, array-like of shape (n_clusters, n_features) or callable, \
default='k-means||'
        The first centres. ``'k-means||'`` draws rows from all over the table that are far from those drawn before, in a
        few passes, and clusters them in memory by their weights. ``'k-means++'`` and ``'random'`` take rows of the
        sample. A callable is given the sample, `n_clusters` and a random state, and returns centres. Where the sample
        is the whole table, ``'k-means||'`` is ``'k-means++'``, and draws the same numbers as scikit-learn.
    n_init : int or 'auto', default='auto'
        Number of runs from different starts; the one with the least inertia is kept. ``'auto'`` is 10 for ``'random'``
        and callables, else 1.
    max_iter : int, default=300
        The most steps of Lloyd's algorithm in a run, one pass each.
    tol : float, default=1e-4
        Stop when the sum of the squared shifts of the centres is at most this part of the mean variance of the columns.
    random_state : int, RandomState or None, default=None
        Seeds the start. For one cut of the table, an int gives the same result with any number of workers.
    verbose : bool or int, default=False
        Print the inertia at each step.
    oversampling_factor : float, default=2
        Rows that k-means|| draws in a round, in multiples of `n_clusters`.
    init_max_iter : int, default=2
        Rounds of k-means||, one pass each. Rounds start from centres of the sample, not from a single row, so
        that fewer are needed than the 5 that the authors use.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The centres: float32 for float32 rows, else float64.
    labels_ : ndarray or lazy container of shape (n_samples,)
        The cluster of each row that was fitted, int32. For rows in memory an array; for Blocks, memory maps and Dask
        arrays what ``predict`` gives, which is lazy: it reads the rows again when used, and a pickle leaves it out.
    inertia_ : float
        The weighted sum of the squared distances of the rows to their centres.
    n_iter_ : int
        Steps of the run that was kept.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    A run stops as in scikit-learn: when a step leaves the centres where they are, when they shift less than `tol`, or
    after `max_iter` steps. Clusters that lose their rows are relocated to the rows farthest from their centres, as
    there. Rows of weight 0 are left out: they become no centres, and the variances behind `tol` are weighted.

    References
    ----------
    B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii, "Scalable k-means++", Proceedings of the VLDB
    Endowment 5 (2012). Here each round draws a fixed number of rows, so that the sum of the distances need not be known
    beforehand, and a candidate is clustered at the mean of its rows.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.cluster import KMeans
    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> k_means = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> k_means.labels_, k_means.cluster_centers_[0]
    (array([1, 1, 1, 0, 0, 0], dtype=int32), array([10.,  2.]))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"k-means||", "k-means++", "random"}), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "oversampling_factor": [Interval(Real, 0, None, closed="neither")],
        "init_max_iter": [Interval(Integral, 1, None, closed="left")],
    }
    # `score` is a sum over rows.
    _score_of_blocks: ClassVar[str] = "sum"

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means||",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        verbose: bool | int = False,
        oversampling_factor: float = 2.0,
        init_max_iter: int = 2,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose
        self.oversampling_factor = oversampling_factor
        self.init_max_iter = init_max_iter

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Find the cluster centres; the class says in how many passes.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        self : object
            This estimator, fitted.
        """
        with busy(self):
            self._validate_params()
            working = unfitted_copy(self)
            X = checked_rows(working, X, reset=True)
            table = as_table(X, None, sample_weight, names=getattr(working, "feature_names_in_", None))
            run([Stage(type(self).__name__, working._passes(table.schema))], table)
            labels = mapped(working._method_map("predict", n_columns=None, dtype=table.X.dtype), X)
            working.labels_ = labels if is_lazy(X) else host_array(labels)
            commit(self, working)
        return self

    def _take_rows(self, X: Blocks, row_map: RowMap | None) -> None:
        """Set the labels of the rows that a pipeline was fitted to, which came through `row_map`."""
        labels = X.map(compose(row_map, self._method_map("predict", n_columns=None, dtype=X.dtype)))
        if getattr(getattr(X, "source", None), "in_memory", False):
            self.labels_: Any = labels.to_numpy()
        else:
            self.labels_ = labels if X.backend_name == "numpy" else labels.on(X.backend_name)

    def _start(self, schema: Schema, random: Any) -> Start:
        """Return how to start; refuse what can be told before reading."""
        if schema.n_rows is not None:
            self._check_rows(schema.n_rows)
        init, auto = self.init, 10
        if isinstance(init, str) or not callable(init):
            auto = 10 if isinstance(init, str) and init == "random" else 1
        n_init = auto if isinstance(self.n_init, str) else self.n_init
        if not isinstance(init, str) and not callable(init):
            init = np.array(init, dtype=np.float64)
            check_centers(init, self.n_clusters, schema.n_columns)
            if n_init != 1:
                warnings.warn(
                    "Explicit initial center position passed: performing only one init in "
                    f"{type(self).__name__} instead of n_init={n_init}.",
                    RuntimeWarning,
                    stacklevel=2,
                )
                n_init = 1
        return Start(init, self.n_clusters, n_init, self.oversampling_factor, self.init_max_iter, random)

    def _check_rows(self, n_rows: int) -> None:
        if n_rows < self.n_clusters:
            raise DataError(
                f"n_samples={n_rows} should be >= n_clusters={self.n_clusters}; ask for fewer clusters, or pass more rows"
            )

    def _requests(self, schema: Schema) -> Sequence[Request]:
        with quietly(RuntimeWarning):  # the fit gives it
            start = self._start(schema, np.random.RandomState(0))
        none = np.zeros((0, schema.n_columns or 0))
        before, steps = start.requests(schema.n_rows, schema.n_columns), self.max_iter + 1
        if schema.n_rows is None or schema.weighted:
            # Only reading tells whether more rows can be drawn than the sample holds.
            before, steps = [], steps + len(before)
        lloyd: Any = Repeated(ClusterSums(none, none), steps)
        return [_first(start, 0), *before, lloyd]

    def _passes(self, schema: Schema) -> Fit:
        random = check_random_state(self.random_state)
        # Not drawn from `random` itself, whose numbers are then those of scikit-learn.
        seed = int(copy.deepcopy(random).randint(2**31 - 1))
        start = self._start(schema, random)
        first = yield _first(start, seed)
        moments, sample = first["moments"], first.get("sample")
        self._check_rows(moments.rows)
        if not moments.weight:
            raise DataError(
                f"all of the {moments.rows:,} sample weights are zero; expected at least one above 0, leave sample_weight "
                "out to count each row once"
            )
        center = moments.mean
        if isinstance(start.init, np.ndarray):
            check_centers(start.init, self.n_clusters, len(center))
        if _is_doubtful(moments, sample):
            # It refuses what is not finite, and says where.
            yield ClusterSums(np.zeros((1, len(center))), np.zeros(len(center)))
        starts = yield from start.passes(center, sample, seed)
        best = yield from self._best(starts, center, self.tol * float(np.mean(moments.variance())))
        # float32 stays float32, as in scikit-learn.
        dtype = np.float32 if schema.dtype == np.float32 else np.float64
        self.cluster_centers_ = (best.centers + center).astype(dtype)
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        if best.n_distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({best.n_distinct}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _best(self, starts: list[Array], center: Array, tol: float) -> Generator[Request, Any, _Run]:
        """Make the steps of all runs in the same passes; return the run of the least inertia."""
        going = everyone = [_Run(centers, tol, self.max_iter) for centers in starts]
        while going:
            asked = {
                f"run_{k}": ClusterSums(one.centers, center, one.n_far, for_empty=True) for k, one in enumerate(going)
            }
            states = yield (Join(**asked) if len(asked) > 1 else asked["run_0"])
            states = states if len(asked) > 1 else {"run_0": states}
            for k, one in enumerate(going):
                one.take(states[f"run_{k}"])
                if self.verbose:
                    which = f", run {everyone.index(one)}" if len(everyone) > 1 else ""
                    print(f"Iteration {one.n_iter - 1}{which}, inertia {one.inertia}.")  # noqa: T201  (asked for)
            going = [one for one in going if not one.done]
        return min(everyone, key=lambda one: one.inertia)

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:  # noqa: ARG002  (the protocol's)
        centers = self.cluster_centers_
        if method == "predict":
            return Rowwise(partial(nearest_label, centers=centers), n_columns=None, out_dtype=np.dtype(np.int32))
        return Rowwise(partial(distances, centers=centers), n_columns=len(centers), out_dtype="float")

    def _row_map(self) -> RowMap | None:
        return self._method_map("transform", n_columns=None, dtype=np.dtype(np.float64))

    def predict(self, X: Any) -> Any:
        """Return the index of the nearest centre of each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,)
            Computed at once for arrays in memory; lazily for Blocks, memory maps and Dask arrays. The dtype is int32.
        """
        check_is_fitted(self)
        X = checked_rows(self, X, reset=False)
        return mapped(self._method_map("predict", n_columns=None, dtype=np.dtype(np.float64)), X)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Find the cluster centres and return the index of the nearest one for each row.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        Same container as `X`, of shape (n_samples,)
            As :meth:`predict`.
        """
        return self.fit(X, y, sample_weight).predict(X)

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Find the cluster centres and return the distance of each row to each of them.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_clusters)
            As :meth:`transform`.
        """
        return self.fit(X, y, sample_weight).transform(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:  # noqa: ARG002  (scikit-learn's signature)
        """Return minus the inertia of `X`, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        float
            At best 0.
        """
        check_is_fitted(self)
        table = as_table(checked_rows(self, X, reset=False), None, sample_weight)
        centers = self.cluster_centers_.astype(np.float64)
        center = centers.mean(axis=0)
        work = Work("fold", "score", table.n_rows, table.nbytes, table.n_blocks)
        state: ClusterSumsState = table.backend.fold(table, ClusterSums(centers - center, center), work=work)
        return -state.inertia

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64"]  # the mixin of clusterers has said none
        return tags

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        # Lazy labels hold what they are read from: a whole table, or a path that is not there elsewhere.
        if isinstance(state, dict) and is_lazy(state.get("labels_")):
            state = {name: value for name, value in state.items() if name != "labels_"}
        return state


@dataclass(eq=False)
class _Run:
    """One run of Lloyd's algorithm: its centres, about the common centre, and how far it has come."""

    centers: Array
    tol: float
    max_iter: int
    n_iter: int = 0
    inertia: float = field(default=np.inf, init=False)
    n_distinct: int = field(default=0, init=False)
    settled: bool = field(default=False, init=False)
    done: bool = field(default=False, init=False)

    @property
    def n_far(self) -> int:
        """How many of the farthest rows the next step needs, so that every cluster but one may be empty."""
        return 0 if self.settled else len(self.centers) - 1

    def take(self, state: ClusterSumsState) -> None:
        """Take the sums of the rows nearest to each of the centres; make a step, or end with them."""
        self.inertia = state.inertia
        self.n_distinct = int(np.count_nonzero(state.weights))
        if self.settled:
            self.done = True
            return
        moved = state.moved()
        self.n_iter += 1
        if np.array_equal(moved, self.centers):
            # The same labels as in the step before: the inertia is that of these centres.
            self.settled = self.done = True
            return
        shift = float(np.sum((moved - self.centers) ** 2))
        self.centers = moved
        # The inertia and the empty clusters of the last centres take one more pass.
        self.settled = shift <= self.tol or self.n_iter >= self.max_iter


def _first(start: Start, seed: int) -> Request:
    sample = start.sample(seed)
    return Join(moments=Moments()) if sample is None else Join(moments=Moments(), sample=sample)


def _is_doubtful(moments: MomentsState, sample: DrawnRowsState | None) -> bool:
    """Say whether there are missing values, or values whose squares overflow."""
    there = sample is None or bool(np.isfinite(sample.rows).all())
    return not there or bool((moments.n < moments.weight).any()) or not np.isfinite(moments.m2).all()
