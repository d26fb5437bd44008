"""Column transformers: transformers for columns of a table, fitted over shared readings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sklearn
from sklearn import compose as _compose
from sklearn.base import clone
from sklearn.utils.metadata_routing import process_routing

from ooclearn.base import busy, commit_all, unfitted_copy
from ooclearn.exceptions import DataError
from ooclearn.frames import Alone, Frame
from ooclearn.layout import Layout, Unplannable, positions_of
from ooclearn.parallel import Parallel, any_sparse, density, map_of, passed_through, routing
from ooclearn.rowmaps import RowMap
from ooclearn.steps import Branch, is_absent, is_plannable, takes_frames
from ooclearn.types import Array

__all__ = ["ColumnTransformer", "make_column_transformer"]


class ColumnTransformer(Parallel, _compose.ColumnTransformer):
    """Transformers for columns of a table, whose results come side by side; fitted over shared readings.

    A subclass of :class:`sklearn.compose.ColumnTransformer`, with the same parameters, attributes and methods, for
    any container. The transformers of this library ask at once what they need and are answered from the same passes;
    in a :class:`~ooclearn.Pipeline` they are part of its plan, and if each column is mapped by itself, statistics of
    later steps are seen through it: two scalers on halves of the columns in front of a ridge regression take one
    reading. A transformer of another library that has to be fitted gets its own columns in one array in memory, with
    a ``PerformanceWarning`` where they are lazy. Memory: that of the transformers' statistics, and a few tiles of a block
    for each worker.

    Of a data frame in memory, the columns of numbers that transformers of this library get become one array, and are
    planned like any other. Transformers of another library, and of columns of text or categories, are fitted before, by
    themselves and to their own columns, as scikit-learn does; what comes of them stands beside the numbers in the table
    that is read, so that a step below still shares that reading. ``explain`` names them. Where the result is sparse, or
    holds text, steps below are fitted on their own. Memory: a copy of these columns, as in scikit-learn. Of a lazy data
    frame, columns that no transformer gets may be anything.

    Parameters
    ----------
    transformers : list of (str, transformer, columns)
        Columns by position, by name (data frames, and Blocks that have names), as a slice, a mask, a list of these, or
        a function such as :func:`sklearn.compose.make_column_selector`. A transformer may be "drop" or "passthrough".
    remainder : {"drop", "passthrough"} or transformer, default="drop"
        What becomes of columns that no transformer gets.
    sparse_threshold : float, default=0.3
        If a result is sparse, the whole is kept sparse below this density; for lazy containers that of the first block.
    n_jobs : int, default=None
        Of ``transform``, for data frames in memory, as in scikit-learn. Otherwise blocks are worked on by ``workers`` of
        the configuration.
    transformer_weights : dict, default=None
        What the results of transformers are multiplied by.
    verbose : bool, default=False
        If set, data frames in memory are fitted as by scikit-learn, which prints.
    verbose_feature_names_out : bool, str or callable, default=True
        As in scikit-learn.

    Attributes
    ----------
    transformers_ : list of (str, transformer, columns)
        The fitted transformers; clones of those given.
    output_indices_ : dict of str to slice
        The columns of the result that come of each transformer.
    sparse_output_ : bool
        Whether the result is sparse.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.compose import ColumnTransformer
    >>> from ooclearn.preprocessing import MaxAbsScaler, StandardScaler
    >>> halves = ColumnTransformer([("std", StandardScaler(), [0]), ("max", MaxAbsScaler(), [1])])
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> halves.explain(X).n_passes
    1
    >>> halves.fit_transform(X)
    array([[-1. ,  0.5],
           [ 1. ,  1. ]])
    """

    _sklearn = _compose.ColumnTransformer
    _also_learned = ("_columns", "_transformer_to_input_indices", "_remainder", "_transformers_feature_names_out")

    def _transformers_to_plan(self) -> list[tuple[str, Any]]:
        given = [(name, step) for name, step, _ in self.transformers]
        return [(name, step) for name, step in [*given, ("remainder", self.remainder)] if step != "drop"]

    def _branches(self, layout: Layout, params: dict[str, Any]) -> tuple[Any, list[Branch]]:
        if layout.n_columns is None:
            raise Unplannable("columns are selected from rows whose number of columns is known only after a step above")
        if not layout.numbers and layout.frame is None:
            raise Unplannable("X is not an array of numbers")
        if layout.frame is not None and not layout.frame.lazy and self.verbose:
            raise Unplannable("verbose is set, and scikit-learn prints as it fits data frames")
        if params and not routing():
            raise ValueError(
                f"ColumnTransformer.fit does not accept {', '.join(params)}: parameters of the transformers' fit are only "
                "supported if enable_metadata_routing=True, which you can set using `sklearn.set_config`"
            )
        self._validate_params()
        self._validate_transformers()
        working = unfitted_copy(self)
        working._resolve(layout)
        routed = process_routing(self, "fit_transform", **params) if routing() else {}
        branches = []
        for name, step, columns, weight in working._iter(
            fitted=False, column_as_labels=False, skip_drop=True, skip_empty_columns=True
        ):
            positions = working._transformer_to_input_indices[name]
            given = {**routed[name].get("fit_transform", {}), **routed[name].get("fit", {})} if routed else {}
            scalar = isinstance(columns, str) or (np.ndim(columns) == 0 and not isinstance(columns, slice))
            branch = Branch(name, clone(step) if step != "passthrough" else step, positions, weight, given)
            if layout.frame is not None:
                branch = _alone_or_not(branch, layout.frame, scalar=scalar)
            if scalar and branch.alone is None:
                raise ValueError(
                    "1D data passed to a transformer that expects 2D data. Try to specify the column selection as a "
                    f"list of one item instead of a scalar; transformer {name!r} has {columns!r}"
                )
            if positions:
                branches.append(branch)
        return working, branches

    def _resolve(self, layout: Layout) -> None:
        """Find out which columns are meant."""
        try:
            self._look_up(layout)
        except ValueError as error:
            if layout.frame is None or layout.frame.lazy:
                raise
            raise Unplannable(str(error)) from error  # scikit-learn says it in its own words

    def _look_up(self, layout: Layout) -> None:
        self._columns = []
        self._transformer_to_input_indices = {}
        for name, _, columns in self.transformers:
            given, positions = positions_of(columns, layout)
            # scikit-learn does not see that a slice is empty, and would ask what is not fitted for names.
            self._columns.append([] if isinstance(given, slice) and not positions else given)
            self._transformer_to_input_indices[name] = positions
        self.n_features_in_ = layout.n_columns
        if layout.names is not None:
            self.feature_names_in_ = np.asarray(layout.names, dtype=object)
        self._validate_remainder(None)

    def _unplanned_frame(self, X: Any) -> str:  # noqa: ARG002  (each transformer is looked at with its columns)
        return ""

    def _stacked(self, X: Any, results: dict[str, tuple[Any, Any]]) -> Any:
        """Transform the data frame that was fitted; what comes of transformers fitted alone is there."""
        done = copy.copy(self)
        done.transformers_ = [
            (name, _Made(*results[name]) if name in results and not isinstance(step, str) else step, columns)
            for name, step, columns in self.transformers_
        ]
        return _compose.ColumnTransformer.transform(done, X)

    def _take_branches(self, branches: Sequence[Branch], widths: Sequence[int | None]) -> None:
        fitted = {branch.name: branch.estimator for branch in branches}
        self.transformers_ = []
        for name, given, columns, _ in self._iter(
            fitted=False, column_as_labels=False, skip_drop=False, skip_empty_columns=False
        ):
            step = fitted.get(name, given)
            if is_absent(step) and name in fitted:
                output = getattr(self, "_sklearn_output_config", {}).get(
                    "transform", sklearn.get_config()["transform_output"]
                )
                step = passed_through().set_output(transform=output)
                step.n_features_in_ = len(self._transformer_to_input_indices[name])
                if hasattr(self, "feature_names_in_"):
                    step.feature_names_in_ = self.feature_names_in_[self._transformer_to_input_indices[name]]
            self.transformers_.append((name, step, columns))
        self.sparse_output_ = getattr(self, "sparse_output_", False)
        self.output_indices_ = {}
        start = 0
        for branch, width in zip(branches, widths, strict=True):
            stop = start + (width or 0)
            self.output_indices_[branch.name] = slice(start, stop)
            start = stop
        for name in [*(name for name, *_ in self.transformers), "remainder"]:
            self.output_indices_.setdefault(name, slice(0, 0))

    def _take_results(self, branches: Sequence[Branch], width: int) -> None:
        """Find out whether the result is sparse, from what has come of transformers fitted by themselves."""
        sparse = [branch.made for branch in branches if hasattr(branch.made, "tocsr")]
        if not sparse:
            self.sparse_output_ = False
            return
        n = sparse[0].shape[0]
        dense = n * (width - sum(one.shape[1] for one in sparse))
        density = (dense + sum(one.nnz for one in sparse)) / (n * width)
        self.sparse_output_ = density < self.sparse_threshold

    def _keeps_sparse(self, maps: Sequence[RowMap | None], first_rows: Callable[[], Array]) -> bool:
        if "sparse_output_" not in vars(self):
            self.sparse_output_ = any_sparse(maps) and density(maps, first_rows()) < self.sparse_threshold
        return bool(self.sparse_output_)

    def _keep_sparse(self) -> bool:
        return bool(self.sparse_output_)

    def _fitted_maps(self, dtype: np.dtype[Any]) -> list[RowMap | None]:
        maps = []
        for name, step, _, weight in self._iter(
            fitted=True, column_as_labels=False, skip_drop=True, skip_empty_columns=True
        ):
            positions = list(self._transformer_to_input_indices[name])
            if positions:
                maps.append(map_of(step, positions, self.n_features_in_, weight, dtype))
        return maps

    def _names_needed(self) -> list[str]:
        dropped = {name for name, step, _ in self.transformers_ if isinstance(step, str) and step == "drop"}
        taken = [at for name, at in self._transformer_to_input_indices.items() if name not in dropped]
        return [self.feature_names_in_[at] for part in taken for at in part]

    def _fit_in_memory(self, method: str, X: Any, y: Any, params: dict[str, Any]) -> Any:
        del method  # scikit-learn's `fit` transforms, too: to see whether results are sparse
        with busy(self):
            working = unfitted_copy(self)
            out = _compose.ColumnTransformer.fit_transform(working, X, y, **params)
            commit_all([(self, working)])
        return out


class _Made:
    """Stands for a fitted transformer where what comes of the rows that it was fitted to is known."""

    def __init__(self, fitted: Any, made: Any) -> None:
        self._fitted, self._made = fitted, made

    def transform(self, X: Any) -> Any:
        """Return what is known."""
        del X
        return self._made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fitted, name)


def _alone_or_not(branch: Branch, frame: Frame, *, scalar: bool) -> Branch:
    """Return a branch of a data frame, with what is fitted by itself if it is."""
    step, positions = branch.estimator, branch.positions
    if not positions or (scalar and is_plannable(step)):
        return branch
    why = _why_alone(step, positions, frame)
    if not why:
        return branch
    if frame.lazy:
        raise DataError(
            f"{why}, of a lazy data frame. Drop these columns, or encode them first; transformer {branch.name!r} would be "
            "fitted to them in memory"
        )
    return replace(branch, alone=Alone(step, positions[0] if scalar else positions, branch.params, why))


def _why_alone(step: Any, positions: list[int], frame: Frame) -> str:
    """Return why a transformer of columns of a data frame is fitted by itself; nothing if it is not."""
    kind = "" if isinstance(step, str) else type(step).__name__
    others = [at for at in positions if not frame.numeric[at]]
    if others:
        return f"{kind or 'it'} gets columns that are no numbers: {frame.kinds(others)}"
    if not is_plannable(step):
        return f"{kind} does not say beforehand what it reads"
    if not takes_frames(step, frame.X):
        return f"{kind} gets its columns as a data frame"
    return ""


def make_column_transformer(
    *transformers: Any,
    remainder: Any = "drop",
    sparse_threshold: float = 0.3,
    n_jobs: int | None = None,
    verbose: bool = False,
    verbose_feature_names_out: Any = True,
) -> ColumnTransformer:
    """Return a :class:`ColumnTransformer` whose transformers are named after their classes.

    Parameters
    ----------
    *transformers : tuple of (transformer, columns)
        Without the names that :class:`ColumnTransformer` wants.
    remainder : {"drop", "passthrough"} or transformer, default="drop"
        What becomes of columns that no transformer gets.
    sparse_threshold : float, default=0.3
        If a result is sparse, the whole is kept sparse below this density.
    n_jobs : int or None, default=None
        Of ``transform``, for data frames in memory, as in scikit-learn.
    verbose : bool, default=False
        If set, data frames in memory are fitted as by scikit-learn, which prints.
    verbose_feature_names_out : bool, str or callable, default=True
        Whether, or how, the names of the results begin with that of their transformer; as in scikit-learn.

    Returns
    -------
    ColumnTransformer
        Not fitted.

    Examples
    --------
    >>> from ooclearn.compose import make_column_transformer
    >>> from ooclearn.preprocessing import MaxAbsScaler
    >>> make_column_transformer((MaxAbsScaler(), [0, 1])).transformers
    [('maxabsscaler', MaxAbsScaler(), [0, 1])]
    """
    return ColumnTransformer(
        _compose.make_column_transformer(*transformers).transformers,
        remainder=remainder,
        sparse_threshold=sparse_threshold,
        n_jobs=n_jobs,
        verbose=verbose,
        verbose_feature_names_out=verbose_feature_names_out,
    )
