"""Unions of features: several transformers of the same rows, fitted over shared readings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import pipeline as _pipeline
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.metadata_routing import process_routing

from ooclearn.base import busy, replace_contents, unfitted_copy
from ooclearn.layout import Layout, Unplannable
from ooclearn.parallel import Parallel, map_of, routing
from ooclearn.rowmaps import RowMap
from ooclearn.steps import Branch, is_absent
from ooclearn.types import Array

__all__ = ["FeatureUnion", "make_union"]


class FeatureUnion(Parallel, _pipeline.FeatureUnion):
    """Several transformers of the same rows, whose results come side by side; fitted over shared readings.

    A subclass of :class:`sklearn.pipeline.FeatureUnion`, with the same parameters, attributes and methods, for any
    container; planned, lazy and seen through as a :class:`~ooclearn.compose.ColumnTransformer`. Data frames in memory are
    planned if all their columns are numbers and all transformers of this library; otherwise they are fitted as by
    scikit-learn.

    Parameters
    ----------
    transformer_list : list of (str, transformer)
        A transformer may be "drop" or "passthrough".
    n_jobs : int, default=None
        Of ``transform``, for data frames in memory, as in scikit-learn. Otherwise blocks are worked on by ``workers`` of
        the configuration.
    transformer_weights : dict, default=None
        What the results of transformers are multiplied by.
    verbose : bool, default=False
        If set, data frames in memory are fitted as by scikit-learn, which prints.
    verbose_feature_names_out : bool, default=True
        As in scikit-learn.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.pipeline import FeatureUnion
    >>> from ooclearn.preprocessing import MaxAbsScaler, StandardScaler
    >>> both = FeatureUnion([("std", StandardScaler()), ("max", MaxAbsScaler())])
    >>> both.fit_transform(np.array([[1.0], [3.0]])).round(2)
    array([[-1.  ,  0.33],
           [ 1.  ,  1.  ]])
    """

    _sklearn = _pipeline.FeatureUnion
    _also_learned = ("transformer_list", "_transformers_feature_names_out")
    _names_given: Array | None = None

    def _transformers_to_plan(self) -> list[tuple[str, Any]]:
        return [(name, step) for name, step in self.transformer_list if step != "drop"]

    def _branches(self, layout: Layout, params: dict[str, Any]) -> tuple[Any, list[Branch]]:
        if not layout.numbers:
            raise Unplannable("X is not an array of numbers")
        working = unfitted_copy(self)
        working.transformer_list = list(self.transformer_list)
        working._names_given = layout.names
        working._validate_transformers()
        working._validate_transformer_weights()
        positions = None if layout.n_columns is None else list(range(layout.n_columns))
        routed = process_routing(self, "fit", **params) if routing() else {}
        return working, [
            Branch(name, step, positions, self._weight(name), dict(routed[name]["fit"] if routed else params))
            for name, step in self._transformers_to_plan()
        ]

    def _take_branches(self, branches: Sequence[Branch], widths: Sequence[int | None]) -> None:
        del widths
        given = {branch.name: branch for branch in branches}
        self.transformer_list: list[tuple[str, Any]] = [
            (name, _done(given[name], self._names_given) if name in given else step)
            for name, step in self.transformer_list
        ]

    def _keeps_sparse(self, maps: Sequence[RowMap | None], first_rows: Callable[[], Array]) -> bool:
        del maps, first_rows
        return True

    def _keep_sparse(self) -> bool:
        return True

    def _fitted_maps(self, dtype: np.dtype[Any]) -> list[RowMap | None]:
        n_columns = getattr(self, "n_features_in_", None)
        return [map_of(step, None, n_columns, self._weight(name), dtype) for name, step in self._transformers_to_plan()]

    def _fit_in_memory(self, method: str, X: Any, y: Any, params: dict[str, Any]) -> Any:
        steps = [step for _, step in self.transformer_list if not isinstance(step, str)]
        with busy(self, *steps):
            fitted = clone(self)
            out = getattr(_pipeline.FeatureUnion, method)(fitted, X, y, **params)
            contents = vars(self) | {name: value for name, value in vars(fitted).items() if name in self._also_learned}
            contents["transformer_list"] = [
                (name, given if not isinstance(given, str) else done)
                for (name, given), (_, done) in zip(self.transformer_list, fitted.transformer_list, strict=True)
            ]
            done = [
                step
                for (_, given), (_, step) in zip(self.transformer_list, fitted.transformer_list, strict=True)
                if not isinstance(given, str)
            ]
            replace_contents([*steps, self], [*(dict(vars(one)) for one in done), contents])
        return self if method == "fit" else out


def _done(branch: Branch, names: Array | None) -> Any:
    """Return the fitted transformer of a branch; scikit-learn puts one in the place of 'passthrough', too."""
    if not is_absent(branch.estimator):
        return branch.estimator
    through = FunctionTransformer(feature_names_out="one-to-one")
    if branch.positions is not None:
        through.n_features_in_ = len(branch.positions)
    if names is not None:
        through.feature_names_in_ = names
    return through


def make_union(
    *transformers: Any, n_jobs: int | None = None, verbose: bool = False, verbose_feature_names_out: bool = True
) -> FeatureUnion:
    """Return a :class:`FeatureUnion` whose transformers are named after their classes.

    Parameters
    ----------
    *transformers : estimator
        All get the same rows; their results come side by side, in this order.
    n_jobs : int or None, default=None
        Of ``transform``, for data frames in memory, as in scikit-learn.
    verbose : bool, default=False
        If set, data frames in memory are fitted as by scikit-learn, which prints.
    verbose_feature_names_out : bool, default=True
        Whether the names of the results begin with that of their transformer.

    Returns
    -------
    FeatureUnion
        Not fitted.

    Examples
    --------
    >>> from ooclearn.pipeline import make_union
    >>> from ooclearn.preprocessing import MaxAbsScaler
    >>> make_union(MaxAbsScaler()).transformer_list
    [('maxabsscaler', MaxAbsScaler())]
    """
    return FeatureUnion(
        _pipeline.make_union(*transformers).transformer_list,
        n_jobs=n_jobs,
        verbose=verbose,
        verbose_feature_names_out=verbose_feature_names_out,
    )
