"""Data frames in memory as tables: the columns that are numbers in one array, and results of what is fitted alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ooclearn.backend import owner_of
from ooclearn.types import Array
from ooclearn.validation import checked_rows, host_array, is_lazy

__all__ = ["Alone", "Frame", "Unplannable", "fitted_alone"]


class Unplannable(Exception):  # noqa: N818  (no error: it makes a fit go on step by step)
    """Why a fit cannot be planned as a whole."""


@dataclass(frozen=True, eq=False)
class Alone:
    """A transformer that is fitted by itself, to its own columns of a data frame, before what is planned.

    Attributes
    ----------
    estimator : estimator or "passthrough"
        What is fitted.
    columns : int, str, or list of int
        The columns that it gets; one that is not in a list comes as a series.
    params : dict
        What its ``fit`` gets.
    why : str
        Why it is not part of the plan.
    """

    estimator: Any
    columns: Any
    params: dict[str, Any]
    why: str


@dataclass(frozen=True, eq=False)
class Frame:
    """A data frame in memory as a table: some of its columns, and behind them what comes of transformers fitted alone.

    Attributes
    ----------
    X : data frame
        What the user passed.
    names : ndarray
        Names of all its columns.
    numeric, single : ndarray of bool
        Which of the columns are numbers; which of them are float32.
    kept : tuple of int
        The columns of `X` that stand in the table.
    alone : dict of str to Alone
        What is fitted by itself, by name; filled while the steps are put in order.
    results : dict of str to (estimator, array)
        What has been: the fitted transformer and what comes of it; empty before.
    """

    X: Any
    names: Array
    numeric: Array
    single: Array
    kept: tuple[int, ...]
    alone: dict[str, Alone] = field(default_factory=dict)
    results: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, X: Any, /) -> Frame | None:
        """Return the frame that `X` is; None for anything else, and for frames that only scikit-learn knows to take."""
        if owner_of(X) is not None or not hasattr(X, "columns") or 0 in getattr(X, "shape", (0,)):
            return None
        return cls._described(X)

    @classmethod
    def _described(cls, X: Any) -> Frame | None:
        import narwhals as nw  # scikit-learn brings it; only data frames need it

        try:
            frame = nw.from_native(X, eager_only=True)
            schema = frame.schema
        except (TypeError, ValueError):  # another kind of frame, or columns of one name
            return None
        if len(schema) != frame.shape[1] or len({type(name) is str for name in schema}) > 1:
            return None
        wide = (nw.Int128, nw.UInt128)
        numeric = [
            (one.is_integer() and one not in wide) or one.is_float() or one == nw.Boolean for one in schema.values()
        ]
        # scikit-learn makes float64 of what is not NumPy's.
        single = [isinstance(one, np.dtype) and one == np.float32 for one in getattr(X, "dtypes", [None] * len(schema))]
        names = np.empty(len(schema), dtype=object)
        names[:] = list(schema)
        return cls(X, names, np.array(numeric), np.array(single), tuple(np.flatnonzero(numeric).tolist()))

    @classmethod
    def of_lazy(cls, X: Any, /) -> Frame | None:
        """Return a lazy data frame some of whose columns are no numbers; None for anything else."""
        meta = getattr(X, "_meta", None)
        found = cls._described(meta) if is_lazy(X) and hasattr(meta, "columns") else None
        if found is None or found.numeric.all() or not isinstance(found.names[0], str):
            return None
        return replace(found, X=X, single=np.zeros(len(found.names), dtype=bool))

    @property
    def lazy(self) -> bool:
        """Whether it is read later."""
        return is_lazy(self.X)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self.X.shape[0])

    @property
    def width(self) -> int:
        """How many columns the table has; what is not fitted yet is taken to give one each."""
        return len(self.kept) + sum(self._width(name) for name in self.alone)

    def _width(self, name: str) -> int:
        return int(self.results[name][1].shape[1]) if name in self.results else 1

    def keeping(self, positions: Sequence[int], results: dict[str, tuple[Any, Any]], /) -> Frame:
        """Return the frame with these columns in the table, and what has come of transformers fitted alone."""
        return replace(self, kept=tuple(positions), alone={}, results=results)

    def placed(self, positions: Sequence[int], /) -> list[int]:
        """Return where columns of `X` stand in the table."""
        where = {at: i for i, at in enumerate(self.kept)}
        return [where[at] for at in positions]

    def put(self, name: str, alone: Alone, /) -> list[int]:
        """Take in what is fitted by itself; return where its results stand in the table."""
        start = self.width
        self.alone[name] = alone
        return list(range(start, start + self._width(name)))

    def columns(self, positions: Sequence[int] | int | str, /) -> Any:
        """Return some of the columns as a frame; a single one that is not in a list as a series."""
        import narwhals as nw

        if self.lazy:
            return self.X[self.names[np.atleast_1d(positions)].tolist()]
        frame = nw.from_native(self.X, eager_only=True)
        if isinstance(positions, (int, str)):
            name = self.names[positions] if isinstance(positions, int) else positions
            return frame[name].to_native()
        return frame[:, list(positions)].to_native()

    def kinds(self, positions: Sequence[int], /) -> str:
        """Return columns with their dtypes, for a message; some of them, where they are many."""
        import narwhals as nw

        schema = nw.from_native(self.X._meta if self.lazy else self.X, eager_only=True).schema
        listed = ", ".join(f"{self.names[at]!r} ({schema[self.names[at]]})" for at in positions[:5])
        return listed + (f" and {len(positions) - 5} more" if len(positions) > 5 else "")

    def rows(self, *, read: bool, whole: bool) -> Array:
        """Return the table as an array.

        Parameters
        ----------
        read : bool
            Otherwise nothing is converted but one row: the array has its shape and dtype, and zeros.
        whole : bool
            With what has come of transformers fitted alone, which nobody may want.
        """
        import narwhals as nw

        known = BaseEstimator()
        if self.lazy:
            return checked_rows(known, self.columns(self.kept), reset=True)
        if not read:
            few = nw.from_native(self.X, eager_only=True)[:1, list(self.kept)].to_native()
            dtype = checked_rows(known, few, reset=True).dtype
            return np.broadcast_to(np.zeros((), dtype=dtype), (self.n_rows, self.width if whole else len(self.kept)))
        rows = checked_rows(known, self.columns(self.kept), reset=True)
        found = [self.results[name][1] for name in self.alone if name in self.results]
        dense = [np.asarray(one.toarray() if hasattr(one, "tocsr") else one) for one in found]
        return np.concatenate([rows, *dense], axis=1) if whole and dense else rows


def fitted_alone(frame: Frame, y: Any, /) -> dict[str, tuple[Any, Any]]:
    """Fit what is fitted by itself as scikit-learn does; return the transformers and what comes of them."""
    y = host_array(y) if y is not None and is_lazy(y) else y
    out = {}
    for name, one in frame.alone.items():
        rows = frame.columns(one.columns)
        step = one.estimator
        if isinstance(step, str):
            made = rows
        elif hasattr(step, "fit_transform"):
            # More than one after the other: a TargetEncoder's is made of folds.
            made = step.fit_transform(rows, y, **one.params)
        else:
            made = step.fit(rows, y, **one.params).transform(rows)
        if len(made.shape) != 2:
            raise Unplannable(f"what comes of {name!r} has {len(made.shape)} dimensions")
        if hasattr(made, "columns") and not isinstance(step, str) and not hasattr(step, "get_feature_names_out"):
            raise Unplannable(f"only what comes of {name!r} tells the names of its columns")
        out[name] = (step, made)
    return out
