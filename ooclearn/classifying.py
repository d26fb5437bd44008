"""Classifiers whose fit is one statistic by class: ``partial_fit`` and ``merge``, scores turned into answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np

from ooclearn._namespace import namespace
from ooclearn.base import busy, commit, require_alike, unfitted_copy
from ooclearn.decisions import winners
from ooclearn.exceptions import DataError
from ooclearn.labels import classes_from
from ooclearn.passes import Fit, Request, Stage, run
from ooclearn.predictors import Classifier
from ooclearn.rowmaps import RowMap, Rowwise, compose
from ooclearn.statistics import Statistic
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["ByClassClassifier", "checked_priors", "normalised"]


class ByClassClassifier(Classifier):
    """A classifier whose fit is one statistic by class, and so has ``partial_fit`` and ``merge`` for nothing.

    A subclass gives ``_statistic``, ``_set_from(state)`` and ``_score_map``. The state has ``classes``, ``weight``,
    ``distinct()`` and ``among(classes)``.
    """

    def _statistic(self, schema: Schema | None) -> Statistic[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define _statistic")  # a subclass's duty, not a path

    def _set_from(self, state: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _set_from")  # a subclass's duty, not a path

    def _state_of(self, answer: Any) -> Any:
        """Return the state to keep, from the answer of a pass."""
        return answer

    def _merged(self, a: Any, b: Any) -> Any:
        return self._statistic(None).merge(a, b)

    def _requests(self, schema: Schema) -> Sequence[Request]:
        return [self._statistic(schema)]

    def _passes(self, schema: Schema) -> Fit:
        self._take(self._state_of((yield self._statistic(schema))), None)

    def _take(self, state: Any, given: Array | None) -> None:
        """Set all fitted attributes from a state; its labels must be among those `given`, if any are."""
        found = state.distinct()
        if not found.rows:
            raise DataError("there are no rows to fit on")
        if not float(state.weight.sum()):
            raise DataError(
                f"all of the {found.rows:,} sample weights are zero; expected at least one above 0, leave sample_weight "
                "out to count each row once"
            )
        seen = classes_from(found, None, several=False)
        if given is not None:
            strange = ~np.isin(seen, given)
            if strange.any():
                raise DataError(
                    f"The target label(s) {seen[strange]} in y do not exist in the initial classes {given}; pass all "
                    "labels that can occur as classes"
                )
            state = state.among(given)
        self._state_ = state
        self._given_ = given
        self.classes_ = state.classes
        self._set_from(state)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn from more rows, in one pass over them; any number of calls gives the same as one fit to all rows.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,)
            Their labels.
        classes : array-like of shape (n_classes,), optional
            All labels that can occur, given at the first call; any other label is then an error. By default the classes
            are those that have occurred so far.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        self : object
            This estimator, fitted to all rows so far.

        Raises
        ------
        DataError
            A label is not among `classes`.
        ValueError
            `classes` differs from that of an earlier call.
        """
        with busy(self):
            self._validate_params()
            first = not hasattr(self, "_state_")
            given = None if classes is None else np.unique(np.asarray(classes))
            if not first:
                known = self.classes_ if self._given_ is None else self._given_
                if given is not None and not np.array_equal(given, known):
                    raise ValueError(
                        f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {known!r}"
                    )
                given = self._given_
            working = unfitted_copy(self) if first else copy.copy(self)
            table = working._table(X, y, sample_weight, reset=first)
            answer: list[Any] = []

            def ask() -> Fit:
                answer.append((yield working._statistic(table.schema)))

            run([Stage(type(self).__name__, ask())], table)
            state = working._state_of(answer[0])
            working._take(state if first else working._merged(self._state_, state), given)
            commit(self, working)
        return self

    def merge(self, other: Self, /) -> Self:
        """Add what `other` has learned, as if `self` had been fitted to the rows of both. Reads no data.

        Parameters
        ----------
        other : estimator of the same class, fitted
            Its `n_features_in_` must be the same; its classes may differ. It is not changed.

        Returns
        -------
        self : object
            This estimator, with the rows and the classes of both.
        """
        require_alike(self, other)
        with busy(self):
            working = copy.copy(self)
            mine, theirs = self._given_, other._given_
            given = None if mine is None or theirs is None else np.union1d(mine, theirs)
            working._take(working._merged(self._state_, other._state_), given)
            commit(self, working)
        return self

    def _score_map(self) -> RowMap:
        """Return the map to scores of the classes, whose largest wins, in the widest float.

        Logarithms of the joint probability, but for a term that is the same for all classes. Of two classes it may be
        one-dimensional: how far the second is ahead.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _score_map")  # a subclass's duty, not a path

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:  # noqa: ARG002  (the protocol's)
        scores = self._score_map()
        if method == "predict":
            answer: Any = partial(winners, classes=self.classes_)
            return compose(scores, Rowwise(answer, n_columns=None, out_dtype=self.classes_.dtype))
        if method in ("predict_proba", "predict_log_proba"):
            k = len(self.classes_)
            answer = partial(normalised, log=method == "predict_log_proba", n_classes=k)
            return compose(scores, Rowwise(answer, n_columns=k))
        return scores

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class for each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            Columns in the order of ``classes_``. At once or lazily, as :meth:`predict` does it.
        """
        return self._mapped("predict_proba", X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class for each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; exact where the probability itself rounds to 0, too.
        """
        return self._mapped("predict_log_proba", X)


def normalised(scores: Array, *, log: bool, n_classes: int) -> Array:
    """Return probabilities, or their logarithms, from logarithms of what is in proportion to them."""
    xp = namespace(scores)
    if scores.ndim == 1:
        zero = xp.zeros_like(scores)
        scores = xp.stack([zero, scores] if n_classes > 1 else [zero], axis=1)
    if not scores.shape[0]:
        return scores
    # Rows without any chance of any class give NaN, as scikit-learn's do.
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = scores - xp.max(scores, axis=1, keepdims=True)
        total = xp.sum(xp.exp(scores), axis=1, keepdims=True)
        return scores - xp.log(total) if log else xp.exp(scores) / total


def checked_priors(priors: Any, n_classes: int, /) -> Array:
    """Return given probabilities of classes, one for each; they must not be negative."""
    out = np.asarray(priors, dtype=np.float64)
    if out.shape != (n_classes,):
        raise ValueError(
            f"Number of priors must match number of classes: got {out.size} priors, y has {n_classes} classes."
        )
    if np.any(out < 0):
        raise ValueError("priors must be non-negative")
    return out
