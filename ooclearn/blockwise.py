"""Methods of a fitted estimator over any container: by blocks, in parallel, answered in the container given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ooclearn._compat import wrap_in_frame
from ooclearn.backend import backend_of, owner_of
from ooclearn.base import gives_frames, mapped
from ooclearn.exceptions import DataError
from ooclearn.methods import method_map
from ooclearn.rowmaps import RowMap
from ooclearn.scoring import score_of, scored_by
from ooclearn.storage.arrays import host_dtype
from ooclearn.types import Array
from ooclearn.validation import as_table, checked_rows, host_array, split_target

__all__ = ["Blockwise", "rows_for", "tags_of"]


def tags_of(estimator: Any, /) -> Tags:
    """Return the tags of an estimator; scikit-learn's defaults for an object that is none of its."""
    return get_tags(estimator if hasattr(estimator, "__sklearn_tags__") else BaseEstimator())


def rows_for(estimator: Any, X: Any, /, *, known: Any, reset: bool) -> Any:
    """Return `X` as a container, checked as far as `estimator` wants it: rows of numbers, or texts and the like.

    Parameters
    ----------
    estimator : object
        Its tags say what it takes.
    X : container
        What the user passed.
    known : estimator
        Holds the number and names of the columns, to be set or compared.
    reset : bool
        Whether this is a fit.
    """
    tags = tags_of(estimator).input_tags
    if tags.two_d_array:
        return checked_rows(known, X, reset=reset, sparse=tags.sparse)
    if owner_of(X) is not None:
        return X
    if isinstance(X, str) or not hasattr(X, "__len__"):
        raise ValueError(f"expected a list, array or Blocks of texts or the like, got a {type(X).__name__}")
    # One by one: NumPy would make a table of texts that are given as lists of words.
    out = np.empty(len(X), dtype=object)
    for i, item in enumerate(X):
        out[i] = item
    return out


def _has(method: str) -> Callable[[Any], bool]:
    def check(self: Blockwise) -> bool:
        getattr(self._inner(), method)  # raises the AttributeError that the user should see
        return True

    return check


def _can_score(self: Blockwise) -> bool:
    return self.scoring is not None or _has("score")(self)


class Blockwise(MetaEstimatorMixin, BaseEstimator):
    """Base of meta-estimators whose inner estimator works on blocks.

    A subclass has the parameters ``estimator`` and ``scoring``, and sets ``estimator_``.
    """

    _doc_link_module = "ooclearn"
    # What scikit-learn's `set_output` looks for; its own mixin would wrap `transform` even where there is none.
    _sklearn_auto_wrap_output_keys = frozenset({"transform"})
    estimator: Any
    scoring: Any

    def _inner(self) -> Any:
        """Return the fitted estimator, or the one to be fitted."""
        return vars(self).get("estimator_", self.estimator)

    def __getattr__(self, name: str) -> Any:
        # Fitted attributes of the estimator inside (coef_, classes_, ...) are those of this one.
        if name.endswith("_") and not name.startswith("_") and name != "estimator_" and self._lends():
            return getattr(self._inner(), name)
        message = f"{type(self).__name__!r} object has no attribute {name!r}"
        if hasattr(type(self), name):
            message += f": its {type(self._inner()).__name__} has none"
            message += ", and `scoring` is not set" if name == "score" else ""
        raise AttributeError(message)

    def _lends(self) -> bool:
        """Whether the estimator inside has fitted attributes."""
        return "estimator_" in vars(self)

    def _rows(self, X: Any, *, reset: bool) -> Any:
        return rows_for(self.estimator, X, known=self, reset=reset)

    def _direct(self, X: Any) -> bool:  # noqa: ARG002  (a subclass looks at it)
        """Whether the estimator inside gets `X` as it is."""
        return False

    def _mapped(self, method: str, X: Any) -> Any:
        check_is_fitted(self)
        if self._direct(X):
            return getattr(self._inner(), method)(X)
        X = self._rows(X, reset=False)
        return mapped(self._method_map(method, n_columns=_columns(X), dtype=host_dtype(X)), X)

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:
        return method_map(self._inner(), method, n_columns=n_columns, dtype=dtype)

    @available_if(_has("predict"))
    def predict(self, X: Any) -> Any:
        """Predict the target of each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,) or (n_samples, n_targets)
            Computed at once for arrays in memory; lazily for Blocks, memory maps and Dask arrays (write them with
            ``to_npy``, or call ``compute()``).

        Raises
        ------
        NonFiniteError
            A row has a missing value that the estimator cannot handle; the message says where. A lazy result raises
            when it is computed.
        """
        return self._mapped("predict", X)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class for each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; for several targets, those of all targets side by side. At once or
            lazily, as :meth:`predict` does it.
        """
        return self._mapped("predict_proba", X)

    @available_if(_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class for each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            As :meth:`predict_proba`.
        """
        return self._mapped("predict_log_proba", X)

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Return the decision of each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,) or (n_samples, n_classes)
            What the estimator inside decides by. At once or lazily, as :meth:`predict` does it.
        """
        return self._mapped("decision_function", X)

    @available_if(_has("score_samples"))
    def score_samples(self, X: Any) -> Any:
        """Return the score of each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,)
            Such as log-likelihoods. At once or lazily, as :meth:`predict` does it.
        """
        return self._mapped("score_samples", X)

    @available_if(_has("transform"))
    def transform(self, X: Any) -> Any:
        """Transform the rows of `X`, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features_out)
            At once or lazily, as :meth:`predict` does it; for data in memory a data frame, if ``set_output`` says so.
        """
        framed = gives_frames(self, X)
        out = self._mapped("transform", X)
        if not framed or hasattr(out, "columns"):
            return out
        return wrap_in_frame("transform", backend_of(out).to_host(out), X, self)

    @available_if(_has("inverse_transform"))
    def inverse_transform(self, X: Any) -> Any:
        """Map transformed rows back to the original columns, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features_out)
            Transformed rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features)
            At once or lazily, as :meth:`predict` does it.
        """
        check_is_fitted(self)
        X = X if owner_of(X) is not None else np.asarray(X)
        given = self._method_map("transform", n_columns=self.n_features_in_, dtype=host_dtype(X))
        expected = given.columns(self.n_features_in_)
        if _columns(X) != expected:
            raise DataError(
                f"X has {_columns(X)} features, but {type(self).__name__}.inverse_transform is expecting {expected} "
                "features as input, as transform gives"
            )
        return mapped(self._method_map("inverse_transform", n_columns=_columns(X), dtype=host_dtype(X)), X)

    @available_if(_has("transform"))
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit the estimator, then transform `X`.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_targets), optional
            The targets.
        **params : dict
            As for :meth:`fit`.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_features_out)
            As :meth:`transform`. A lazy result reads the rows again when it is computed.
        """
        return self.fit(X, y, **params).transform(X)

    @available_if(_has("fit_predict"))
    def fit_predict(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit the estimator, then predict `X`.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_targets), optional
            The targets.
        **params : dict
            As for :meth:`fit`.

        Returns
        -------
        Same container as `X`, of shape (n_samples,)
            As :meth:`predict`. A lazy result reads the rows again when it is computed.
        """
        return self.fit(X, y, **params).predict(X)

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit the estimator inside."""
        raise NotImplementedError(f"{type(self).__name__} must define fit")  # a subclass's duty, not a path

    @available_if(_can_score)
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score the predictions for `X`, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,), optional
            The true targets.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            With ``scoring=None`` the estimator's own score: accuracy, R^2 and the score of a clustering are summed up
            over blocks, in bounded memory. Any other scorer gets the predictions and `y` of all rows as arrays, and `X`
            still by blocks. Any other score of the estimator's own gets `X` as one array.
        """
        check_is_fitted(self)
        X, y = split_target(X, y)
        if self.scoring is not None:
            return scored_by(self.scoring, self, X, y, sample_weight)
        if self._direct(X):
            weights = {} if sample_weight is None else {"sample_weight": host_array(sample_weight)}
            return float(self._inner().score(X, None if y is None else host_array(y), **weights))
        table = as_table(self._rows(X, reset=False), y, sample_weight)
        return score_of(self._inner(), table, self._method_map)

    @available_if(_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the columns that :meth:`transform` gives.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), optional
            Names of the columns that come in; by default ``feature_names_in_``, or x0, x1 and so on.

        Returns
        -------
        ndarray of str of shape (n_features_out,)
            The names.
        """
        check_is_fitted(self)
        # The estimator inside was trained on arrays, and knows no names.
        known = getattr(self, "feature_names_in_", None)
        if known is not None and input_features is not None and not np.array_equal(known, input_features):
            raise ValueError("input_features is not equal to feature_names_in_")
        input_features = known if input_features is None else input_features
        names: Array = self._inner().get_feature_names_out(input_features)
        return names

    @available_if(_has("transform"))
    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose the container that :meth:`transform` gives for data in memory.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None
            The container; None leaves the choice as it is. Lazy results are never made into data frames.

        Returns
        -------
        self : object
            This estimator.
        """
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = tags_of(self.estimator)
        for name in (
            "estimator_type",
            "target_tags",
            "classifier_tags",
            "regressor_tags",
            "transformer_tags",
            "input_tags",
            "non_deterministic",
            "requires_fit",
        ):
            setattr(tags, name, getattr(inner, name))
        return tags


def _columns(X: Any) -> int | None:
    return X.shape[1] if len(X.shape) > 1 else None
