"""Tables that are hard on statistics: far from 0, constant, missing, of one row or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ooclearn.rowmaps import Kind
from ooclearn.table import Rows
from ooclearn.types import Array

__all__ = [
    "DTYPES",
    "KINDS",
    "LABELS",
    "MAP_KINDS",
    "OFFSETS",
    "TARGETS",
    "WEIGHTS",
    "Column",
    "hostile_tables",
    "made_rows",
    "uneven_cut",
]

KINDS = ("normal", "constant", "integers", "missing", "some missing", "outlier")
OFFSETS = (0.0, 1.0, -1e4, 1e8)
DTYPES = ("float64", "float32", "int64", "int8", "bool")
WEIGHTS = (None, "some zero", "all zero", "counts")
LABELS = ("integers", "text", "halves", "booleans")
# Kinds of row maps, as `ooclearn.rowmaps.Kind`.
MAP_KINDS: tuple[Kind, ...] = ("same", "diagonal", "affine", "columns", "mixed")
TARGETS = ("integers", "numbers", "columns", "booleans")


@dataclass(frozen=True)
class Column:
    """What is in a column.

    Parameters
    ----------
    kind : str
        One of ``KINDS``: normal, constant, whole numbers, all missing, some missing, one far outlier.
    offset : float
        Added to all values.
    """

    kind: str = "normal"
    offset: float = 0.0

    def values(self, n: int, rng: np.random.Generator) -> Array:
        """Return `n` values in float64."""
        values = rng.standard_normal(n)
        if self.kind == "constant":
            values[:] = 0.1
        elif self.kind == "integers":
            values = np.round(3 * values)
        elif self.kind == "missing":
            values[:] = np.nan
        elif self.kind == "some missing":
            values[rng.random(n) < 0.4] = np.nan
        elif self.kind == "outlier" and n:
            values[rng.integers(n)] = 1e6
        return values + self.offset


def made_rows(
    n: int,
    columns: Sequence[Column],
    /,
    *,
    dtype: str = "float64",
    weights: str | None = None,
    labels: str = "integers",
    seed: int = 0,
) -> Rows:
    """Return X, y and w of `n` rows, all read-only.

    Parameters
    ----------
    n : int
        Rows.
    columns : sequence of Column
        What is in each column.
    dtype : str
        Of X. Where it is not floating there is nothing missing, and values are kept in its range.
    weights : {None, "some zero", "all zero", "counts"}
        What w holds.
    labels : {"integers", "text", "halves", "booleans", "numbers", "columns"}
        What y holds: classes, or numbers in one or several columns.
    seed : int
        The same seed gives the same rows.

    Examples
    --------
    >>> from ooclearn.testing.tables import Column, made_rows
    >>> made_rows(3, [Column("constant", 1e8)], dtype="float32").X.tolist()
    [[100000000.0], [100000000.0], [100000000.0]]
    """
    rng = np.random.default_rng(seed)
    X = np.empty((n, len(columns)))
    for j, column in enumerate(columns):
        X[:, j] = column.values(n, rng)
    kind = np.dtype(dtype).kind
    if kind in "iu":
        info = np.iinfo(dtype)
        X = np.clip(np.nan_to_num(X), max(info.min, -(2.0**53)), min(info.max, 2.0**53))
    elif kind == "b":
        X = np.nan_to_num(X) > np.nan_to_num(X).mean(axis=0) if n else X
    rows = Rows(np.ascontiguousarray(X, dtype=dtype), _labels(labels, n, rng), _weights(weights, n, rng))
    for part in (rows.X, rows.y, rows.w):
        if part is not None:
            part.flags.writeable = False
    return rows


def _weights(kind: str | None, n: int, rng: np.random.Generator) -> Array | None:
    if kind is None:
        return None
    w = rng.uniform(0.1, 3.0, n)
    if kind == "counts":
        return np.floor(w)
    w[rng.random(n) < (0.4 if kind == "some zero" else 1.1)] = 0.0
    return w


def _labels(kind: str, n: int, rng: np.random.Generator) -> Array:
    y = rng.integers(-2, 3, n)
    if kind == "text":
        return np.array(["b", "a", "ccc", "d", "é"])[y + 2]
    if kind == "halves":
        return y / 2
    if kind == "numbers":
        return rng.standard_normal(n) + 1e4
    if kind == "columns":
        return rng.standard_normal((n, 2)) + np.array([0.0, -3.0])
    return y > 0 if kind == "booleans" else y


def uneven_cut(n: int, /, seed: int = 0) -> tuple[int, ...]:
    """Return random lengths of blocks that add up to `n`: at least one of one row, and one of none.

    Parameters
    ----------
    n : int
        Rows.
    seed : int
        The same seed gives the same cut.

    Examples
    --------
    >>> from ooclearn.testing.tables import uneven_cut
    >>> sum(uneven_cut(20))
    20
    """
    rng = np.random.default_rng([n, seed])
    lengths = [1] if n else []
    while (left := n - sum(lengths)) > 0:
        few = rng.random() < 0.4
        lengths.append(min(left, int(rng.integers(2) if few else rng.integers(1, max(2, n // 3) + 1))))
    lengths.append(0)
    return tuple(int(length) for length in rng.permutation(lengths))


def hostile_tables(*, kinds: Sequence[str] = KINDS, labels: Sequence[str] = LABELS) -> Iterator[Rows]:
    """Yield the tables that every statistic should be tried on, where no hypothesis draws them.

    Parameters
    ----------
    kinds : sequence of str
        Of the columns; leave "missing" and "some missing" out for a statistic that refuses NaN.
    labels : sequence of str
        Four, what y holds; ``TARGETS`` where numbers are wanted.
    """
    every = [Column(kind, offset) for kind in kinds for offset in OFFSETS]
    for dtype in DTYPES:
        for n in (0, 1, 2, 37):
            for weights, label in zip(WEIGHTS, labels, strict=True):
                yield made_rows(n, every, dtype=dtype, weights=weights, labels=label, seed=n)


def part_of(rows: Rows, start: int, stop: int, /) -> Rows:
    """Return rows `start` to `stop`, as views."""
    parts: list[Any] = [None if part is None else part[start:stop] for part in (rows.X, rows.y, rows.w)]
    return Rows(*parts)
