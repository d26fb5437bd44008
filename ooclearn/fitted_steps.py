"""What a fitted pipeline does to rows: all its steps as one row map, over each block once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import sklearn
from sklearn import pipeline as _pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ooclearn.base import gives_frames, mapped
from ooclearn.blockwise import Blockwise, rows_for
from ooclearn.methods import method_map
from ooclearn.planned_fit import AnyRows
from ooclearn.rowmaps import Columns, RowMap, compose
from ooclearn.scoring import score_of
from ooclearn.steps import is_absent, is_composed, is_one_map
from ooclearn.validation import as_table, blocks_of, host_dtype, is_plain, split_target

__all__ = ["FittedSteps", "can", "columns_of", "final_has"]


def final_has(method: str) -> Any:
    """Return a check, for ``available_if``, that the final estimator has a method."""

    def check(self: FittedSteps) -> bool:
        getattr(self._final_estimator, method)  # raises the AttributeError that the user should see
        return True

    return check


def can(method: str) -> Any:
    """Return a check, for ``available_if``, that the final estimator has a method or is left out."""

    def check(self: FittedSteps) -> bool:
        return self._final_estimator == "passthrough" or bool(final_has(method)(self))

    return check


def _can_invert(self: FittedSteps) -> bool:
    return all(is_absent(step) or hasattr(step, "inverse_transform") for _, step in self.steps)


class FittedSteps(_pipeline.Pipeline):
    """The methods of a pipeline that ask nothing of a fit; :class:`ooclearn.pipeline.Pipeline` adds it."""

    @available_if(final_has("predict"))
    def predict(self, X: Any, **params: Any) -> Any:
        """Transform the rows and predict with the final estimator, in one map over the blocks.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        **params : dict
            For the final estimator's ``predict``. With any, the rows are transformed and predicted as by scikit-learn.

        Returns
        -------
        Same container as `X`, of shape (n_samples,) or (n_samples, n_outputs)
            At once for arrays in memory; lazily for Blocks, memory maps and Dask arrays.
        """
        return self._called("predict", X, params)

    @available_if(final_has("predict_proba"))
    def predict_proba(self, X: Any, **params: Any) -> Any:
        """Return the probability of each class.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`predict`.
        **params : dict
            For the final estimator's method.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            At once or lazily, as :meth:`predict` does it.
        """
        return self._called("predict_proba", X, params)

    @available_if(final_has("predict_log_proba"))
    def predict_log_proba(self, X: Any, **params: Any) -> Any:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`predict`.
        **params : dict
            For the final estimator's method.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            At once or lazily, as :meth:`predict` does it.
        """
        return self._called("predict_log_proba", X, params)

    @available_if(final_has("decision_function"))
    def decision_function(self, X: Any, **params: Any) -> Any:
        """Return the confidence of the final estimator in each class.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`predict`.
        **params : dict
            For the final estimator's method.

        Returns
        -------
        Same container as `X`, of shape (n_samples,) or (n_samples, n_classes)
            At once or lazily, as :meth:`predict` does it.
        """
        return self._called("decision_function", X, params)

    @available_if(final_has("score_samples"))
    def score_samples(self, X: Any) -> Any:
        """Return the score that the final estimator gives each row.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`predict`.

        Returns
        -------
        Same container as `X`, of shape (n_samples,)
            At once or lazily, as :meth:`predict` does it.
        """
        return self._called("score_samples", X, {})

    @available_if(final_has("score"))
    def score(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> float:
        """Transform the rows and score them with the final estimator, in one pass and bounded memory.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`predict`.
        y : array-like or Blocks, optional
            The true targets.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows.
        **params : dict
            With metadata routing enabled, what the steps have requested.

        Returns
        -------
        float
            What the final estimator's ``score`` gives, such as accuracy or R^2.
        """
        X, y = split_target(X, y)
        routed = sklearn.get_config()["enable_metadata_routing"] and sample_weight is not None
        if params or routed or not self._mapped_as_one(X):
            return float(super().score(X, y, sample_weight, **params))
        check_is_fitted(self)
        final = self._final_estimator
        rows, order = self._rows(X)
        blocks = blocks_of(rows, "X")
        if order is not None:
            blocks = blocks.map(order)
            X = blocks
        above = self._map_of_steps(self.steps[:-1], "transform", blocks.n_columns, blocks.dtype)
        if isinstance(final, FittedSteps) or getattr(final, "scoring", None) is not None:
            weights = {} if sample_weight is None else {"sample_weight": sample_weight}
            return float(final.score(X if above is None else blocks.map(above), y, **weights))
        table = as_table(blocks if above is None else blocks.map(above), y, sample_weight)
        return score_of(final._inner() if isinstance(final, Blockwise) else final, table, partial(method_map, final))

    @available_if(can("transform"))
    def transform(self, X: Any, **params: Any) -> Any:
        """Transform the rows by all steps, in one map over the blocks.

        Parameters
        ----------
        X : container of shape (n_samples, n_features)
            The rows, as for :meth:`predict`.
        **params : dict
            With metadata routing enabled, what the steps have requested.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features_out)
            At once or lazily, as :meth:`predict` does it; for data in memory a data frame, if ``set_output`` says so.
        """
        if params or is_plain(X) or gives_frames(self._final_estimator, X):
            return super().transform(X, **params)
        return self._called("transform", X, params)

    @available_if(_can_invert)
    def inverse_transform(self, X: Any, **params: Any) -> Any:
        """Undo :meth:`transform`, the last step first.

        Parameters
        ----------
        X : container of shape (n_samples, n_features_out)
            Transformed rows.
        **params : dict
            With metadata routing enabled, what the steps have requested.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features)
            At once or lazily, as :meth:`predict` does it.
        """
        if params or is_plain(X):
            return super().inverse_transform(X, **params)
        check_is_fitted(self)
        return mapped(self._method_map("inverse_transform", n_columns=columns_of(X), dtype=host_dtype(X)), X)

    def _called(self, method: str, X: Any, params: dict[str, Any]) -> Any:
        if params or not self._mapped_as_one(X):
            return getattr(super(), method)(X, **params)
        check_is_fitted(self)
        X, order = self._rows(X)
        n_columns = columns_of(X) if order is None else len(order.positions)
        return mapped(compose(order, self._method_map(method, n_columns=n_columns, dtype=host_dtype(X))), X)

    def _rows(self, X: Any) -> tuple[Any, Columns | None]:
        """Return `X` as a container, checked against what the first step was fitted with, and which columns it has."""
        first = next((step for _, step in self.steps if not is_absent(step)), AnyRows())
        if is_composed(first) and not is_plain(X):
            found: tuple[Any, Columns | None] = first._rows(X)
            return found
        return rows_for(first, X, known=first if hasattr(first, "n_features_in_") else AnyRows(), reset=False), None

    def _mapped_as_one(self, X: Any) -> bool:
        """Whether the steps are composed into one row map; data in memory go to foreign steps as they are."""
        return not is_plain(X) or (self._is_one_map(frames=hasattr(X, "columns")) and not self._hands_on_frames(X))

    def _is_one_map(self, *, frames: bool = False) -> bool:
        """Whether all steps are of this library; for data frames, whether they take these as one array."""
        return all(is_one_map(step, frames=frames) for _, step in self.steps if not is_absent(step))

    def _map_of_steps(
        self, steps: Sequence[tuple[str, Any]], method: str, n_columns: int | None, dtype: np.dtype[Any]
    ) -> RowMap | None:
        maps: list[RowMap] = []
        for _, step in steps:
            if not is_absent(step):
                maps.append(method_map(step, method, n_columns=n_columns, dtype=dtype))
                n_columns, dtype = maps[-1].columns(n_columns), maps[-1].dtype(dtype)
        return compose(*maps) if maps else None

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:
        if method == "inverse_transform":
            return compose(self._map_of_steps(self.steps[::-1], method, n_columns, dtype))
        above = self._map_of_steps(self.steps[:-1], "transform", n_columns, dtype)
        if above is not None:
            n_columns, dtype = above.columns(n_columns), above.dtype(dtype)
        return compose(above, self._map_of_steps(self.steps[-1:], method, n_columns, dtype))

    def _hands_on_frames(self, X: Any) -> bool:
        """Whether steps get data frames from the steps before them, and with them the names of columns."""
        if X is None or not is_plain(X):
            return False
        return any(hasattr(step, "transform") and gives_frames(step, X) for _, step in self.steps[:-1])


def columns_of(X: Any) -> int | None:
    """Return how many columns a container has; None for one of one dimension."""
    return X.shape[1] if len(X.shape) > 1 else None
