"""What selectors of columns share: which are kept, their names, and their row maps."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ooclearn._namespace import device_of, int_dtype, like, namespace
from ooclearn.base import MergeableTransformer
from ooclearn.rowmaps import Columns, Kind, RowMap, Rowwise, compose
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.types import Array
from ooclearn.unlooked import only_counted

__all__ = ["Selector"]


class Selector(MergeableTransformer):
    """A transformer that keeps some of the columns; a subclass gives ``_get_support_mask``."""

    def _get_support_mask(self) -> Array:
        raise NotImplementedError(f"{type(self).__name__} must define _get_support_mask")  # a subclass's duty

    def get_support(self, indices: bool = False) -> Array:
        """Return which columns are kept.

        Parameters
        ----------
        indices : bool, default=False
            Return their positions rather than a mask.

        Returns
        -------
        ndarray of bool of shape (n_features,), or ndarray of int of shape (n_features_out,)
            The mask, or with `indices` the positions, in ascending order.
        """
        check_is_fitted(self)
        mask = self._get_support_mask()
        return np.flatnonzero(mask) if indices else mask

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the columns that are kept.

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
        names: Array = super().get_feature_names_out(input_features)
        return names[self.get_support()]

    @property
    def _n_features_out(self) -> int:
        return int(self.get_support().sum())

    def _map_kind(self) -> Kind | None:
        return "columns"

    def _row_map(self) -> RowMap | None:
        return Columns(tuple(self.get_support(indices=True).tolist()))

    def _transform_map(self) -> RowMap | None:
        if not self.get_support().any():
            warnings.warn(
                "No features were selected: either the data is too noisy or the selection test too strict.",
                UserWarning,
                stacklevel=3,
            )
        allowed = self.__sklearn_tags__().input_tags.allow_nan
        return compose(None if allowed else Rowwise(_finite), self._row_map())

    def _inverse_row_map(self) -> RowMap | None:
        support = self.get_support()
        at = np.where(support, np.cumsum(support) - 1, support.sum())
        return Rowwise(partial(_put_back, at=at), n_columns=len(at))


def _finite(block: Array) -> Array:
    """Return `block`; raise if a cell is not finite, in a column that is left out too."""
    xp = namespace(block)
    if xp.isdtype(block.dtype, "real floating") and not only_counted(block):
        with np.errstate(invalid="ignore", over="ignore"):
            fine = bool(xp.isfinite(xp.sum(block)))
        if not fine:
            refuse_nonfinite(block)
    return block


def _put_back(block: Array, *, at: Array) -> Array:
    """Return `block` with columns of zeros where the others were; `at` says where each column of the result is."""
    xp = namespace(block)
    zeros = xp.zeros((block.shape[0], 1), dtype=block.dtype, device=device_of(block))
    return xp.take(xp.concat([block, zeros], axis=1), like(at, block, int_dtype(block)), axis=1)
