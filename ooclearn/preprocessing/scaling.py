"""What the scalers share: which cells they refuse, and what they do to sparse rows."""

from __future__ import annotations

from typing import Any

from ooclearn.base import MergeableTransformer
from ooclearn.rowmaps import RowMap, refusing_infinite

__all__ = ["Scaler"]


class Scaler(MergeableTransformer):
    """A scaler of columns, from one statistic: missing values pass through, infinities are refused, as in scikit-learn.

    A subclass gives ``_row_map`` and ``_unscaling``. Infinities are looked for at the end of the map that users apply.
    A fit looks at what it is given itself, so that the map between the steps of a pipeline does without.
    """

    def _unscaling(self) -> RowMap | None:
        """Return what undoes the scaling."""
        raise NotImplementedError(f"{type(self).__name__} must define _unscaling")  # a subclass's duty, not a path

    def _transform_map(self) -> RowMap | None:
        return refusing_infinite(self._row_map())

    def _inverse_row_map(self) -> RowMap | None:
        return refusing_infinite(self._unscaling())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
