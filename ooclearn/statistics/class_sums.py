"""Sums of the columns by class, and counts of categories by class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ooclearn._namespace import float_dtype, namespace
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Columns, Kind, RowMap
from ooclearn.statistics.by_class import ClassMoments, ClassMomentsState
from ooclearn.statistics.checks import refuse_negative, refuse_nonfinite, refuse_weights
from ooclearn.statistics.class_tiles import ClassTile
from ooclearn.statistics.coded import ClassSummer, class_weights, classes_of_both, codes_of, host, labels_of, placed
from ooclearn.statistics.distinct import Counts, Distinct, DistinctState
from ooclearn.statistics.extrema import Extrema, ExtremaState
from ooclearn.statistics.join import Join
from ooclearn.statistics.means import affine_mean
from ooclearn.statistics.met_classes import Classes, SummedByClass, added_by_class
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["ClassCategories", "ClassCategoriesState", "ClassSums", "ClassSumsState"]


@dataclass(frozen=True, eq=False)
class _Counted:
    """Who the classes are, sorted, and the rows and weight of each."""

    classes: Array
    rows: Array
    weight: Array

    def distinct(self) -> DistinctState:
        """Return the labels, the rows and the weight of each, as :class:`Distinct` has them."""
        if not len(self.classes):
            return DistinctState(0)
        return DistinctState(int(self.rows.sum()), (Counts(self.classes, self.rows, self.weight),))

    def _counts_among(self, classes: Array) -> dict[str, Array]:
        return {
            "classes": classes,
            "rows": placed(self.rows, self.classes, classes),
            "weight": placed(self.weight, self.classes, classes),
        }


@dataclass(frozen=True, eq=False)
class ClassSumsState(_Counted):
    """State of :class:`ClassSums`; host arrays with one row for each class.

    Attributes
    ----------
    classes, rows, weight : ndarray of shape (classes,)
        The labels seen, sorted; rows of each; the sum of their weights, or their number.
    sums : ndarray of shape (classes, columns)
        The weighted sum of each column.
    """

    sums: Array

    def among(self, classes: Array, /) -> Self:
        """Return the state with these sorted labels, which hold all that were seen; those that were not have no rows."""
        return replace(self, **self._counts_among(classes), sums=placed(self.sums, self.classes, classes))

    def __repr__(self) -> str:
        columns = self.sums.shape[1]
        return f"ClassSums: rows={int(self.rows.sum()):_} | classes={len(self.classes)} | columns={columns}"


@dataclass(frozen=True)
class ClassSums:
    """Weighted sum of each column, of the rows of each class; of counts, mostly.

    Nothing cancels in a sum of what is not negative, so plain sums keep their digits. Behind a map by column they follow
    from the means of the classes before it, which keep the digits of columns that lie far from 0. Missing values and
    infinities are refused, with the place.

    Parameters
    ----------
    threshold : float or None
        Sum 1 for what is above it and 0 for the rest, instead of the values.
    counts : bool
        Refuse negative values, with the place.
    limit : int
        Give up with an error beyond so many classes.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics.class_sums import ClassSums
    >>> from ooclearn.table import Rows
    >>> ClassSums().of(Rows(np.array([[1.0], [3.0], [7.0]]), np.array(["a", "a", "b"]))).sums
    array([[4.],
           [7.]])
    """

    threshold: float | None = None
    counts: bool = False
    limit: int = 100_000
    parts: frozenset[str] = frozenset("Xyw")

    def before(self, kind: Kind, /) -> ClassSums | Join | None:
        """Return what to ask of the input of a map: the same, or means by class, and extrema that tell of negatives."""
        if kind == "columns":
            return self
        # What is above a threshold is not known before the map is.
        if kind != "diagonal" or self.threshold is not None:
            return None
        return Join(means=_ClassMeans(self.limit), extrema=Extrema())

    def after(self, state: Any, row_map: RowMap, /) -> ClassSumsState:
        """Return the sums behind a map; of counts, refuse columns that are negative there."""
        if not isinstance(state, ClassSumsState):
            return self._behind(state["means"], state["extrema"], row_map)
        if not isinstance(row_map, Columns):
            return state  # the map that does nothing: all columns were kept
        return replace(state, sums=state.sums[:, np.asarray(row_map.positions, dtype=np.int64)])

    def _behind(self, means: ClassMomentsState, ends: ExtremaState, row_map: RowMap) -> ClassSumsState:
        """Return the sums behind a map by column, from what was there before it."""
        ends = Extrema().after(ends, row_map)
        negative = np.flatnonzero(ends.low < 0)
        if self.counts and len(negative):
            raise DataError(
                f"Negative values in data passed as X: in {len(negative):,} of its {len(ends.low):,} columns, behind the "
                "steps before; expected counts, 0 or more. Scale the columns to a range of 0 or more, for example with "
                "MinMaxScaler. This is the first",
                column=int(negative[0]),
                part="X",
            )
        mean, rest, factor = affine_mean(means.mean, means.rest, row_map)
        mean = mean + rest
        # The least difference of two values moves a mean by more than this, and rounding moves it by less: a class whose
        # values are all the least of the column has the sum of these, mostly 0, to the last bit.
        unit = max(means.rounding, float(np.finfo(np.float64).eps)) / (1024 * np.maximum(means.rows, 1))
        mean = np.where(mean - ends.low <= np.abs(means.mean * factor) * unit[:, None], ends.low, mean)
        weight = means.weight[:, None]
        sums = np.where(weight > 0, weight * np.clip(mean, ends.low, ends.high), 0.0)
        return ClassSumsState(means.classes, means.rows, means.weight, sums)

    def of(self, rows: Rows, /) -> ClassSumsState:
        """Return the state of one block."""
        classes, codes = codes_of(labels_of(rows), self.limit)
        k, x = len(classes), rows.X
        count = np.bincount(codes, minlength=k)
        if not k:
            return ClassSumsState(classes, count, count.astype(np.float64), np.zeros((0, x.shape[1])))
        if hasattr(x, "tocsr"):
            return self._of_sparse(rows, classes, codes)
        xp = namespace(x)
        wide = float_dtype(x)
        values = xp.astype(x, wide, copy=False)
        w, weight = _weights(rows, codes, k, wide)
        with np.errstate(invalid="ignore", over="ignore"):
            if self.threshold is not None:
                if not bool(xp.isfinite(xp.sum(values))):
                    refuse_nonfinite(x)
                values = xp.astype(values > self.threshold, wide)
            elif self.counts and bool(xp.any(values < 0)):
                refuse_negative(x)
            sums = host(ClassSummer(codes, k, values, w).sums(values))
        self._refuse(sums, x)
        return ClassSumsState(classes, count, weight, sums)

    def _of_sparse(self, rows: Rows, classes: Array, codes: Array) -> ClassSumsState:
        k, x = len(classes), rows.X.tocsr().astype(np.float64)
        refuse_nonfinite(x)
        w, weight = _weights(rows, codes, k, np.float64)
        if self.threshold is not None:
            x = (x > self.threshold).astype(np.float64)
        elif self.counts and x.nnz and x.data.min() < 0:
            refuse_negative(x)
        sums = ClassSummer(codes, k, x.data, w).sums(x).toarray()
        self._refuse(sums, x)
        return ClassSumsState(classes, np.bincount(codes, minlength=k), weight, sums)

    def _refuse(self, sums: Array, x: Array) -> None:
        if not np.isfinite(sums).all():
            refuse_nonfinite(x)
            raise DataError("sums of columns overflow float64; scale the columns to a size near 1 first")

    def merge(self, a: ClassSumsState, b: ClassSumsState, /) -> ClassSumsState:
        """Return the state of the rows of `a` and `b`."""
        if not len(a.classes) or not len(b.classes):
            return b if not len(a.classes) else a
        classes = classes_of_both(a.classes, b.classes, self.limit)
        a, b = a.among(classes), b.among(classes)
        return ClassSumsState(classes, a.rows + b.rows, a.weight + b.weight, a.sums + b.sums)

    def origin(self, rows: Rows, /) -> Sums:  # noqa: ARG002  (nothing is centred)
        """Return a place for the classes met."""
        return {"classes": Classes()}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return, for each class met, rows, weight and sums; and how many cells or weights are none."""
        with np.errstate(all="ignore"):
            block = SummedByClass(rows, origin, self.limit)
            x = block.x
            xp = namespace(x)
            sums = block.counts(block.weights())
            if self.threshold is not None:
                # A comparison tells nothing of what is not finite.
                sums["bad"] = sums["bad"] + xp.sum(xp.astype(xp.logical_not(xp.isfinite(x)), x.dtype))
                x = xp.astype(x > self.threshold, x.dtype)
            elif self.counts:
                sums["bad"] = sums["bad"] + xp.sum(xp.astype(x < 0, x.dtype))
            return {**sums, "sums": block.met.among_all(block.sums(x))}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added_by_class(a, b, whole={"bad"})

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> ClassSumsState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all rows; None where a cell or a weight is none."""
        if sums["bad"] or not np.isfinite(sums["sums"]).all():
            return None
        order = origin["classes"].order()
        count = sums["rows"][order]
        weight = count.astype(np.float64) if sums["weight"] is None else sums["weight"][order]
        return ClassSumsState(origin["classes"].labels[order], count, weight, sums["sums"][order])


@dataclass(frozen=True)
class _ClassMeans(ClassMoments):
    """Means of the columns by class, of sparse rows too; what else :class:`ClassMoments` tells is not to be relied on."""

    def before(self, kind: Kind, /) -> _ClassMeans | None:  # type: ignore[override]  # it is asked of maps by column
        """Return what to ask of the input of a map: the same, if that is by column."""
        return self if kind in ("diagonal", "columns") else None

    def contains(self, other: Any, /) -> Callable[[ClassMomentsState], Any] | None:
        """Return how the labels and their counts follow."""
        return ClassMomentsState.distinct if other == Distinct(self.limit) else None

    def of(self, rows: Rows, /) -> ClassMomentsState:
        """Return the state of one block."""
        if not hasattr(rows.X, "tocsr"):
            tile = ClassTile(rows, self.limit)
            zeros = np.zeros((len(tile.classes), tile.n_columns))
            if tile.centred is None:
                return ClassMomentsState(*tile.empty(), zeros)
            tile.refuse(tile.off)
            return ClassMomentsState(*tile.means(), zeros, tile.rounding)
        # Zeros, of which there are most, cost nothing here; sums of what is sparse do not lie far from 0.
        found = ClassSums(limit=self.limit).of(rows)
        mean = np.divide(
            found.sums, found.weight[:, None], out=np.zeros_like(found.sums), where=found.weight[:, None] > 0
        )
        zeros = np.zeros_like(mean)
        return ClassMomentsState(found.classes, found.rows, found.weight, mean, zeros, zeros)


def _weights(rows: Rows, codes: Array, k: int, wide: Any) -> tuple[Array | None, Array]:
    """Return the weights of rows where X is, and their sums by class."""
    if rows.w is None:
        return None, np.bincount(codes, minlength=k).astype(np.float64)
    refuse_weights(rows.w)
    on_host = host(rows.w)
    # Sparse rows, and NumPy's, are on the host, wherever their weights are.
    here = isinstance(rows.X, np.ndarray) or hasattr(rows.X, "tocsr")
    w = on_host if here else namespace(rows.w).astype(rows.w, wide, copy=False)
    return w, class_weights(codes, k, on_host)


@dataclass(frozen=True, eq=False)
class ClassCategoriesState(_Counted):
    """State of :class:`ClassCategories`; host arrays.

    Attributes
    ----------
    classes, rows, weight : ndarray of shape (classes,)
        The labels seen, sorted; rows of each; the sum of their weights, or their number.
    columns : tuple of ndarray of shape (classes, categories)
        For each column, the weight of each category in each class; categories count from 0 to the largest seen.
    """

    columns: tuple[Array, ...]

    def among(self, classes: Array, /) -> Self:
        """Return the state with these sorted labels, which hold all that were seen; those that were not have no rows."""
        columns = tuple(placed(column, self.classes, classes) for column in self.columns)
        return replace(self, **self._counts_among(classes), columns=columns)

    def __repr__(self) -> str:
        columns = len(self.columns)
        return f"ClassCategories: rows={int(self.rows.sum()):_} | classes={len(self.classes)} | columns={columns}"


@dataclass(frozen=True)
class ClassCategories:
    """How often each category occurs in each column, in the rows of each class.

    Categories are whole numbers from 0; numbers with a fraction lose it, as in scikit-learn. They are counted on the
    host, block by block, since what there is to count depends on the largest of them: asked alone, rows are counted where
    they are read, and not sent to a device; rows in a device's memory are brought back.

    Parameters
    ----------
    limit : int
        Give up with an error beyond so many classes, or so many categories of a column.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics.class_sums import ClassCategories
    >>> from ooclearn.table import Rows
    >>> state = ClassCategories().of(Rows(np.array([[0], [2], [2]]), np.array(["a", "a", "b"])))
    >>> state.columns[0]
    array([[1., 0., 1.],
           [0., 0., 1.]])
    """

    limit: int = 100_000
    parts: frozenset[str] = frozenset("Xyw")
    on_host: ClassVar[bool] = True

    def before(self, kind: Kind, /) -> ClassCategories | None:
        """Return what to ask of the input of a map: the same, if that only selects columns."""
        return self if kind == "columns" else None

    def after(self, state: ClassCategoriesState, row_map: RowMap, /) -> ClassCategoriesState:
        """Return the counts behind a selection of columns."""
        if not isinstance(row_map, Columns):
            return state  # the map that does nothing: all columns were kept
        return replace(state, columns=tuple(state.columns[i] for i in row_map.positions))

    def of(self, rows: Rows, /) -> ClassCategoriesState:
        """Return the state of one block."""
        classes, codes = codes_of(labels_of(rows), self.limit)
        k, x = len(classes), rows.X
        count = np.bincount(codes, minlength=k)
        if not k:
            none = tuple(np.zeros((0, 0)) for _ in range(x.shape[1]))
            return ClassCategoriesState(classes, count, count.astype(np.float64), none)
        w, weight = _weights(rows, codes, k, float_dtype(x))
        values = backend_of(x).to_host(x)
        refuse_nonfinite(values)
        if values.min() <= -1:
            refuse_negative(np.trunc(values))
        largest = values.max(axis=0)
        if largest.max() >= self.limit:  # it may be larger than any integer
            raise DataError(
                f"there are categories above {self.limit:,}; expected whole numbers from 0 to the number of categories: "
                "encode them, for example with sklearn.preprocessing.OrdinalEncoder",
                column=int(np.argmax(largest)),
            )
        values, sizes = values.astype(np.int64, copy=False), largest.astype(np.int64) + 1
        weights = None if w is None else host(w)
        columns = tuple(
            np.bincount(codes * size + values[:, j], weights, k * size).astype(np.float64).reshape(k, size)
            for j, size in enumerate(sizes.tolist())
        )
        return ClassCategoriesState(classes, count, weight, columns)

    def merge(self, a: ClassCategoriesState, b: ClassCategoriesState, /) -> ClassCategoriesState:
        """Return the state of the rows of `a` and `b`."""
        if not len(a.classes) or not len(b.classes):
            return b if not len(a.classes) else a
        classes = classes_of_both(a.classes, b.classes, self.limit)
        a, b = a.among(classes), b.among(classes)
        columns = tuple(_sum_of_ragged(x, y) for x, y in zip(a.columns, b.columns, strict=True))
        return ClassCategoriesState(classes, a.rows + b.rows, a.weight + b.weight, columns)


def _sum_of_ragged(a: Array, b: Array) -> Array:
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    out = a.copy()
    out[:, : b.shape[1]] += b
    return out
