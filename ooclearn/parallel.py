"""What column transformers and unions of features share: planned fits of branches, one row map over any container."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from ooclearn._compat import wrap_in_frame
from ooclearn.backend import backend_of
from ooclearn.base import busy, commit_all, gives_frames, mapped
from ooclearn.beside import beside
from ooclearn.blocks import Blocks
from ooclearn.blockwise import rows_for
from ooclearn.exceptions import DataError, PerformanceWarning, warn
from ooclearn.frames import Frame
from ooclearn.layout import Layout, Unplannable
from ooclearn.methods import method_map
from ooclearn.plan import Plan
from ooclearn.planned_fit import AnyRows, PlannedFit
from ooclearn.rowmaps import Columns, RowMap, compose
from ooclearn.staged import in_memory, stand_in
from ooclearn.steps import (
    Branch,
    is_absent,
    is_composed,
    is_one_map,
    is_plannable,
    taken_over,
    takes_frames,
    unforeseen,
    weighting,
)
from ooclearn.types import Array
from ooclearn.validation import blocks_of, host_array, host_dtype, is_lazy, is_plain, split_target

__all__ = ["Parallel", "any_sparse", "density", "is_passed_through", "map_of", "passed_through", "routing"]


class Parallel:
    """What both share: a fit that is planned, a transform that is one row map over any container."""

    _sklearn: ClassVar[Any]
    transformer_weights: Any

    @abstractmethod
    def _branches(self, layout: Layout, params: dict[str, Any]) -> tuple[Any, list[Branch]]:
        """Return a working copy and what is fitted to rows of a layout."""

    @abstractmethod
    def _take_branches(self, branches: Sequence[Branch], widths: Sequence[int | None]) -> None:
        """Take what has been fitted, and how many columns come of each branch."""

    @abstractmethod
    def _transformers_to_plan(self) -> list[tuple[str, Any]]:
        """Return names and transformers, as given, that are neither dropped nor left out."""

    @abstractmethod
    def _fitted_maps(self, dtype: np.dtype[Any]) -> list[RowMap | None]:
        """Return what each of the fitted transformers does to all columns."""

    @abstractmethod
    def _fit_in_memory(self, method: str, X: Any, y: Any, params: dict[str, Any]) -> Any:
        """Fit as scikit-learn does; return what its `method` returns."""

    @abstractmethod
    def _keeps_sparse(self, maps: Sequence[RowMap | None], first_rows: Callable[[], Array]) -> bool:
        """Say whether sparse results stay sparse."""

    @abstractmethod
    def _keep_sparse(self) -> bool:
        """Say whether sparse results stay sparse, of the fitted object."""

    def _planned(self, X: Any, params: dict[str, Any]) -> PlannedFit | str:
        """Return the fit as a whole; if there is none, why."""
        if hasattr(self, "_parameter_constraints"):
            self._validate_params()  # type: ignore[attr-defined]  # scikit-learn's
        why = self._unplanned(X)
        if not why:
            try:
                return PlannedFit.of(self, params, X)
            except Unplannable as reason:
                why = str(reason)
        return why

    def _unplanned(self, X: Any = None) -> str:
        """Return why the fit, to rows `X`, cannot be planned as a whole; nothing if it can."""
        if Frame.of(X) is not None:
            return self._unplanned_frame(X)
        foreign = [
            f"{name!r} ({type(step).__name__})" for name, step in self._transformers_to_plan() if not is_plannable(step)
        ]
        if foreign:
            return unforeseen(foreign)
        if X is not None and is_plain(X) and not Layout.of(X).numbers:
            return "X is not an array of numbers"
        framed = X is not None and is_plain(X) and gives_frames(self, X)
        return "its result is a data frame" if framed else ""

    def _unplanned_frame(self, X: Any) -> str:
        """Return why the fit to a data frame in memory cannot be planned as a whole."""
        frame = Frame.of(X)
        assert frame is not None
        if getattr(self, "verbose", False):
            return "verbose is set, and scikit-learn prints as it fits data frames"
        bad = np.flatnonzero(~frame.numeric).tolist()
        if bad:
            return f"columns {frame.kinds(bad)} are not numbers"
        steps = self._transformers_to_plan()
        foreign = [f"{name!r} ({type(step).__name__})" for name, step in steps if not is_plannable(step)]
        if foreign:
            return unforeseen(foreign)
        framed = [f"{name!r} ({type(step).__name__})" for name, step in steps if not takes_frames(step, X)]
        return f"{', '.join(framed)} gets a data frame" if framed else ""

    def _is_one_map(self, *, frames: bool = False) -> bool:
        """Whether all transformers are of this library; data frames go to each of them as they are."""
        return not frames and all(is_absent(step) or is_one_map(step) for _, step in self._transformers_to_plan())

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit all transformers, over shared readings of the table; :meth:`explain` tells how many.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_outputs), optional
            The targets, for transformers that use them.
        **params : dict
            With metadata routing enabled, what the transformers have requested.

        Returns
        -------
        self : object
            Fitted. A fit that fails leaves it as it was.
        """
        X, y = split_target(X, y)
        plan = self._planned(X, params)
        if isinstance(plan, PlannedFit) and self._ran(plan, X, y):
            return self
        if is_plain(X):
            self._fit_in_memory("fit", X, y, params)
        else:
            self._fit_staged(X, y, params)
        return self

    def _ran(self, plan: PlannedFit, X: Any, y: Any) -> bool:
        """Fit as planned; say whether that could be."""
        try:
            with plan.busy(self):
                plan.run(X, y)
        except Unplannable:
            return False
        return True

    def explain(self, X: Any, y: Any = None, **params: Any) -> Plan:
        """Return, without reading any data, the passes that :meth:`fit` will make.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks, optional
            The targets.
        **params : dict
            As for :meth:`fit`.

        Returns
        -------
        Plan
            Each pass with what it reads and the memory it takes; it prints itself, and shows as HTML in a notebook.
        """
        X, y = split_target(X, y)
        plan = self._planned(X, params)
        return plan.explain(X, y) if isinstance(plan, PlannedFit) else self._explain_one_by_one(X, y, params, plan)

    def _explain_one_by_one(self, X: Any, y: Any, params: dict[str, Any], why: str) -> Plan:
        """Return the passes of a fit in which some transformers, or all, are fitted by themselves."""
        table = stand_in(X, y)
        note = f"fitted one by one, since {why}"
        if is_plain(X):
            steps = self._transformers_to_plan()
            passes = [in_memory(name, step, table) for name, step in steps if not is_absent(step)]
            return Plan(table.X.name, tuple(passes), note=note)
        working, branches = self._branches(Layout.of(table.X), params)
        foreign = [branch for branch in branches if not is_plannable(branch.estimator)]
        given = [
            replace(branch, estimator=FrozenEstimator(branch.estimator), params={}) if branch in foreign else branch
            for branch in branches
        ]
        plan = PlannedFit.of(_Given(working, given, branches), {}, X).explain(X, y)
        passes = [in_memory(branch.name, branch.estimator, table) for branch in foreign]
        return replace(plan, passes=(*passes, *plan.passes), note=note)

    def _fit_staged(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        """Fit the transformers that do not say what they read one by one, then the others over shared readings."""
        layout = Layout.of(rows_for(self, X, known=AnyRows(), reset=True))
        with busy(self):
            working, branches = self._branches(layout, params)
            alone = {
                branch.name: _fitted_alone(branch, X, y) for branch in branches if not is_plannable(branch.estimator)
            }
            given = [
                replace(branch, estimator=FrozenEstimator(alone[branch.name]), params={})
                if branch.name in alone
                else branch
                for branch in branches
            ]
            plan = PlannedFit.of(_Given(working, given, branches), {}, X)
            pairs = [pair for pair in plan.fitted(X, y) if not isinstance(pair[0], _Given)]
            others = [
                pair
                for branch in branches
                if branch.name in alone
                for pair in taken_over(branch.estimator, alone[branch.name])
            ]
            commit_all([*pairs, (self, working)], others=others)

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit all transformers, then transform the same rows.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks, optional
            The targets.
        **params : dict
            As for :meth:`fit`.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features_out)
            At once or lazily, as :meth:`transform` does it.
        """
        if not is_plain(X):
            return self.fit(X, y, **params).transform(split_target(X, y)[0])
        X, y = split_target(X, y)
        plan = self._planned(X, params)
        if not isinstance(plan, PlannedFit) or not self._ran(plan, X, y):
            return self._fit_in_memory("fit_transform", X, y, params)
        return self._stacked(X, plan.results) if plan.results else self.transform(X)

    def _stacked(self, X: Any, results: dict[str, tuple[Any, Any]]) -> Any:
        """Transform the data frame that was fitted; what comes of transformers fitted by themselves is there."""
        raise AssertionError(f"{type(self).__name__} fits none by itself: {list(results)}, {X.shape}")

    def transform(self, X: Any, **params: Any) -> Any:
        """Transform the rows by all transformers, in one map over the blocks.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        **params : dict
            With metadata routing enabled, what the transformers have requested.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features_out)
            The results side by side; at once for arrays in memory, lazily for Blocks, memory maps and Dask arrays.
        """
        framed = gives_frames(self, X)
        in_memory = is_plain(X) and (
            framed or not self._is_one_map(frames=hasattr(X, "columns")) or not Layout.of(X).numbers
        )
        if params or in_memory:
            return self._sklearn.transform(self, X, **params)
        check_is_fitted(self)
        X, order = self._rows(X)
        n_columns = len(order.positions) if order is not None else X.shape[1] if len(X.shape) > 1 else None
        row_map = self._method_map("transform", n_columns=n_columns, dtype=host_dtype(X))
        out = mapped(row_map if order is None else compose(order, row_map), X)
        # Data frames are made of host arrays.
        return wrap_in_frame("transform", backend_of(out).to_host(out), X, self) if framed else out

    def _rows(self, X: Any) -> tuple[Any, Columns | None]:
        """Return `X` as a container, and which of its columns are those that were fitted where they differ."""
        fitted = getattr(self, "feature_names_in_", None)
        frame = Frame.of_lazy(X)
        if frame is not None:
            X = frame.columns(frame.kept)  # the others are dropped, or missing
        names = None if is_plain(X) else Layout.of(X).names
        if fitted is None or names is None or list(names) == list(fitted):
            known = self if hasattr(self, "n_features_in_") else AnyRows()
            return rows_for(self, X, known=known, reset=False), None
        given, X = X, rows_for(self, X, known=AnyRows(), reset=True)
        if isinstance(X, Blocks) and not isinstance(given, Blocks):
            X = X.on(X.backend_name)  # a lazy data frame becomes an array
        where = {name: at for at, name in enumerate(names)}
        missing = {name for name in self._names_needed() if name not in where}
        if missing:
            raise DataError(f"columns are missing: {missing}")
        return X, Columns(tuple(where.get(name, 0) for name in fitted))

    def _names_needed(self) -> list[str]:
        """Return the names of the columns that are not dropped."""
        return list(self.feature_names_in_)  # type: ignore[attr-defined]  # it is fitted

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:
        if method != "transform":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {method!r}")
        maps = self._fitted_maps(dtype)
        out = beside(maps, n_columns=n_columns, sparse=self._keep_sparse())
        return compose(out)

    def _weight(self, name: str) -> float | None:
        weight: float | None = (self.transformer_weights or {}).get(name)
        return weight


class _Given:
    """A parallel step whose branches are settled; some of them have been fitted."""

    def __init__(self, working: Any, branches: list[Branch], original: list[Branch]) -> None:
        self._working, self._given, self._original = working, branches, original

    def _branches(self, layout: Layout, params: dict[str, Any]) -> tuple[Any, list[Branch]]:
        del layout, params
        return copy.copy(self), self._given

    def _unplanned(self, X: Any = None) -> str:  # noqa: ARG002  (as of what it stands for)
        return ""

    def _keeps_sparse(self, maps: Sequence[RowMap | None], first_rows: Callable[[], Array]) -> bool:
        return bool(self._working._keeps_sparse(maps, first_rows))

    def _take_branches(self, branches: Sequence[Branch], widths: Sequence[int | None]) -> None:
        del branches
        self._working._take_branches(self._original, widths)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("n_features_in_", "feature_names_in_"):
            if not isinstance(getattr(type(self._working), "n_features_in_", None), property):
                setattr(self._working, name, value)
        else:
            super().__setattr__(name, value)


def _fitted_alone(branch: Branch, X: Any, y: Any) -> Any:
    """Return a clone of the transformer of a branch, fitted by itself; what is not of this library in memory."""
    blocks = blocks_of(X, "X")
    rows = blocks if branch.positions is None else blocks.map(Columns(tuple(branch.positions)))
    estimator, params = clone(branch.estimator), branch.params
    if not is_composed(estimator):
        if is_lazy(X):
            warn(
                f"transformer {branch.name!r} ({type(estimator).__name__}) is not of this library and is fitted in "
                "memory: the columns that it gets are read into one array. If a part of the rows is enough to fit it "
                "on, do so beforehand and pass sklearn.frozen.FrozenEstimator(transformer)",
                PerformanceWarning,
            )
        rows, y = host_array(rows), None if y is None else host_array(y)
        params = {key: host_array(value) if is_lazy(value) else value for key, value in params.items()}
    return estimator.fit(rows, y, **params)


def passed_through() -> FunctionTransformer:
    """Return what scikit-learn puts in the place of 'passthrough'."""
    return FunctionTransformer(accept_sparse=True, check_inverse=False, feature_names_out="one-to-one")


def is_passed_through(step: Any, /) -> bool:
    """Say whether a transformer leaves its columns as they are."""
    return is_absent(step) or (isinstance(step, FunctionTransformer) and step.func is None)


def map_of(step: Any, positions: list[int] | None, n_columns: int | None, weight: Any, dtype: Any) -> RowMap | None:
    """Return what a fitted transformer does to all columns, of which it gets some."""
    chosen = positions is not None and positions != list(range(n_columns or 0))
    columns = Columns(tuple(positions or ())) if chosen else None
    width = n_columns if positions is None else len(positions)
    own = None if is_passed_through(step) else method_map(step, "transform", n_columns=width, dtype=dtype)
    times = weighting(weight, width if own is None else own.columns(width))
    parts = [part for part in (columns, own, times) if part is not None]
    return compose(*parts) if parts else None


def routing() -> bool:
    """Say whether metadata routing is enabled."""
    return bool(sklearn.get_config()["enable_metadata_routing"])


def any_sparse(maps: Sequence[RowMap | None]) -> bool:
    """Say whether a map is known to give sparse rows, without calling it."""
    parts = [part for one in maps for part in getattr(one, "maps", (one,))]
    return any(hasattr(getattr(getattr(part, "function", None), "empty", None), "tocsr") for part in parts)


def density(maps: Sequence[RowMap | None], rows: Array) -> float:
    """Return the share of cells that are stored of what comes of rows."""
    outs = [rows if one is None else one(rows) for one in maps]
    cells = sum(int(np.prod(out.shape)) for out in outs)
    return sum(out.nnz if hasattr(out, "nnz") else int(np.prod(out.shape)) for out in outs) / max(1, cells)
