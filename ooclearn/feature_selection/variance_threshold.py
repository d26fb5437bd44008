"""Selecting the columns that vary."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from ooclearn._compat import Interval
from ooclearn.exceptions import DataError
from ooclearn.feature_selection.base import Selector
from ooclearn.passes import Fit
from ooclearn.statistics import Extrema, Join, Moments, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["VarianceThreshold"]


class VarianceThreshold(Selector):
    """Select the columns whose variance is above a threshold.

    As :class:`sklearn.feature_selection.VarianceThreshold`, from one pass over the rows, on every backend. Missing
    values (NaN) are left out of the variances and kept by ``transform``. Memory: a few tiles of a block for each
    worker.

    Parameters
    ----------
    threshold : float, default=0.0
        Columns with this variance or less are left out; with 0, those whose values are all equal.

    Attributes
    ----------
    variances_ : ndarray of shape (n_features,)
        Variance of each column (of the population); with a threshold of 0 the range between its least and its greatest
        value where that is less. NaN where there is no value.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    Variances are accumulated by centred blocks and merging (Chan, Golub and LeVeque 1983). ``fit`` raises if no column
    is above the threshold; ``partial_fit`` and ``merge`` do not, as more rows may come.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.feature_selection import VarianceThreshold
    >>> X = np.array([[0, 2, 0, 3], [0, 1, 4, 3], [0, 1, 1, 3]])
    >>> VarianceThreshold().fit_transform(X).tolist()
    [[2, 0], [1, 4], [1, 1]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"threshold": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Compute the variance of each column, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        self : object
            This selector, fitted.

        Raises
        ------
        ValueError
            No column has a variance above the threshold.
        """
        return self._fit(X)

    def partial_fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (as above)
        """Learn from more rows, in one pass over them; the result is that of one fit to all rows.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        self : object
            This selector, fitted to all rows so far.
        """
        return self._grow(X)

    def _statistic(self, schema: Schema) -> Statistic[Any]:  # noqa: ARG002  (the protocol's signature)
        return Join(moments=Moments(), extrema=Extrema())

    def _passes(self, schema: Schema) -> Fit:
        yield from super()._passes(schema)
        if not self._get_support_mask().any():
            one = " (X contains only one sample)" if self._state_["moments"].rows == 1 else ""
            raise DataError(f"No feature in X meets the variance threshold {self.threshold:.5f}{one}")

    def _set_from(self, state: Any) -> None:
        moments, extrema = state["moments"], state["extrema"]
        self.variances_ = moments.variance()
        if self.threshold == 0:
            # One value alone is known exactly by the range, and by the variance but for rounding. Where values are
            # missing scikit-learn knows no range; a range of 0 is one all the same.
            spread = extrema.greatest() - extrema.least()
            known = (moments.n == moments.weight) | (spread == 0)
            self.variances_ = np.where(known & (spread < self.variances_), spread, self.variances_)

    def _get_support_mask(self) -> Array:
        mask: Array = self.variances_ > self.threshold
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
