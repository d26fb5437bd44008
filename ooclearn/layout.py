"""Which columns rows have, as far as that is known before they are read, and which of them are meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ooclearn._filters import quietly
from ooclearn.backend import owner_of
from ooclearn.exceptions import DataError
from ooclearn.frames import Frame, Unplannable
from ooclearn.types import Array
from ooclearn.validation import blocks_of, is_plain

__all__ = ["Layout", "Unplannable", "positions_of"]


@dataclass(frozen=True, eq=False)
class Layout:
    """The columns of rows.

    Attributes
    ----------
    n_columns : int or None
        How many there are; None where that is known only once a step above is fitted, or for rows of one dimension.
    names : ndarray of str or None
        Their names.
    X : container or None
        What the user passed; None behind a step.
    numbers : bool
        Whether all columns are numbers in one array; text and sparse rows are for scikit-learn.
    frame : Frame or None
        A data frame of which some columns stand in the table: one in memory, or a lazy one with columns that are no
        numbers; None behind a step or a selection.
    dtype : dtype or None
        Of the rows, where it may be another than that of the table.
    """

    n_columns: int | None = None
    names: Array | None = None
    X: Any = None
    numbers: bool = True
    frame: Frame | None = None
    dtype: np.dtype[Any] | None = None
    # Gives the columns as they are in a data frame in memory, of which these are a selection.
    look: Callable[[], Any] | None = None

    @classmethod
    def of(cls, X: Any, /) -> Layout:
        """Return the layout of a container, reading nothing."""
        if owner_of(X) is None and hasattr(X, "columns"):
            frame = Frame.of(X)
            if frame is None:
                return cls(len(X.columns), np.asarray(X.columns, dtype=object), X, numbers=False)
            named = isinstance(frame.names[0], str)
            return cls(len(frame.names), frame.names if named else None, X, bool(frame.numeric.all()), frame)
        if is_plain(X):
            values = X if hasattr(X, "shape") else np.asarray(X)
            numbers = isinstance(values, np.ndarray) and values.dtype.kind in "fiub"
            return cls(values.shape[1] if len(values.shape) == 2 else None, None, X, numbers)
        frame = Frame.of_lazy(X)
        if frame is not None:
            return cls(len(frame.names), frame.names, X, numbers=False, frame=frame)
        with quietly():  # it is said again when the rows are taken to be fitted
            blocks = blocks_of(X, "X")
        return cls(blocks.n_columns, blocks.names, X)

    @property
    def width(self) -> int | None:
        """How many columns the rows of the table have here; other than `n_columns` for a data frame in memory."""
        return self.n_columns if self.frame is None else self.frame.width

    def behind(self, n_columns: int | None, /) -> Layout:
        """Return the layout of what comes out of a step."""
        return Layout(n_columns, dtype=self.dtype)

    def taken(self, positions: Sequence[int], /) -> Layout:
        """Return the layout of some of the columns of the table."""
        at = list(positions)
        if self.frame is None:
            return Layout(len(at), None if self.names is None else np.asarray(self.names)[at], dtype=self.dtype)
        kept = self.frame.kept
        if any(one >= len(kept) for one in at):
            return Layout(len(at))
        at = [kept[one] for one in at]
        single = np.dtype(np.float32) if at and self.frame.single[at].all() else None
        names = None if self.names is None else self.names[at]
        return Layout(len(at), names, dtype=single, look=partial(self.frame.columns, at))


def positions_of(columns: Any, layout: Layout, /) -> tuple[Any, list[int]]:
    """Return which columns are meant, as they were given and as positions.

    Parameters
    ----------
    columns : int, str, slice, list, mask or callable
        As a :class:`~ooclearn.compose.ColumnTransformer` takes them.
    layout : Layout
        The columns there are; how many is known.
    """
    n, names = layout.n_columns, layout.names
    assert n is not None
    if callable(columns):
        columns = _asked(columns, layout)
    given = columns
    if isinstance(columns, slice):
        bounds = (columns.start, columns.stop)
        if not any(isinstance(bound, str) for bound in bounds):
            return given, list(range(n))[columns]
        start = None if columns.start is None else _named(columns.start, names)
        stop = None if columns.stop is None else _named(columns.stop, names) + 1
        return given, list(range(n))[slice(start, stop, columns.step)]
    keys = [columns] if isinstance(columns, str) or np.ndim(columns) == 0 else list(columns)
    if keys and all(isinstance(key, (bool, np.bool_)) for key in keys):
        if len(keys) != n:
            raise ValueError(f"the mask of columns has {len(keys)} values, X has {n} columns")
        return given, np.flatnonzero(keys).tolist()
    return given, [_named(key, names) if isinstance(key, str) else _position(key, n) for key in keys]


def _asked(columns: Any, layout: Layout) -> Any:
    """Return what a callable says of the rows; it looks at names and dtypes, so one made-up row is enough."""
    if layout.X is None and layout.look is not None:
        return columns(layout.look())
    if layout.X is None:
        raise Unplannable("columns are chosen by a function, which can look only at rows that are not mapped before")
    X = layout.X
    if is_plain(X):
        return columns(X)
    if layout.names is None:
        return columns(np.empty((1, layout.n_columns or 0), dtype=blocks_of(X, "X").dtype))
    try:
        import pandas as pd
    except ImportError:
        raise DataError("a function that selects columns is given a data frame; it needs pandas installed") from None
    frame = getattr(X, "_meta", None)
    if not hasattr(frame, "columns"):
        frame = pd.DataFrame(np.zeros((1, len(layout.names)), dtype=blocks_of(X, "X").dtype), columns=layout.names)
    return columns(frame)


def _named(name: Any, names: Array | None) -> int:
    if names is None:
        raise ValueError("Specifying the columns using strings is only supported for dataframes and Blocks with names.")
    if isinstance(name, str):
        where = np.flatnonzero(np.asarray(names) == name)
        if not len(where):
            raise ValueError(f"Some column names are not columns of the dataframe: {{{name!r}}}")
        return int(where[0])
    raise ValueError(f"columns are given by name and by {type(name).__name__}; expected one of the two")


def _position(key: Any, n: int) -> int:
    position = int(key)
    if not -n <= position < n:
        raise ValueError(f"all features must be in [0, {n - 1}] or [-{n}, 0]")
    return position % n
