"""Moments and scatter of the rows of each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ooclearn._namespace import float_dtype, int_dtype, like, namespace, run_of
from ooclearn.buffers import local_buffers
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Kind, RowMap
from ooclearn.statistics.added import digits_lost, rounding_of
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.class_states import ByClass, ClassMomentsState, ClassScatterState
from ooclearn.statistics.coded import ClassSummer, classes_of_both, codes_of, host, labels_of
from ooclearn.statistics.distinct import Distinct
from ooclearn.statistics.met_classes import CentredByClass, Classes, added_by_class
from ooclearn.statistics.moments import Moments, sum_and_rest
from ooclearn.statistics.protocol import Sums
from ooclearn.statistics.scatter import Scatter
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["ClassMoments", "ClassMomentsState", "ClassScatter", "ClassScatterState"]

# Classes, rows, weights, means and their rests.
Means: TypeAlias = tuple[Array, Array, Array, Array, Array]


@dataclass(frozen=True)
class ClassMoments:
    r"""Weighted count, mean and centred sum of squares of each column, of the rows of each class.

    The classes are the labels that occur in y, found on the way. A tile is centred by the means of its classes before
    squaring, and classes are merged as in :class:`Moments`, so that no digits are lost to a large offset, nor to
    classes that lie far apart. Missing values and infinities are refused, with the place.

    Parameters
    ----------
    limit : int
        Give up with an error beyond so many classes.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import ClassMoments
    >>> from ooclearn.table import Rows
    >>> state = ClassMoments().of(Rows(np.array([[1.0], [3.0], [7.0]]), np.array(["a", "a", "b"])))
    >>> state.classes.tolist(), state.mean[:, 0].tolist(), state.variance()[:, 0].tolist()
    (['a', 'b'], [2.0, 7.0], [1.0, 0.0])
    """

    limit: int = 100_000
    parts: frozenset[str] = frozenset("Xyw")

    def before(self, kind: Kind, /) -> ClassMoments | ClassScatter:
        """Return what to ask of the input of a map: the same, or the scatter by class if it is not by column."""
        return ClassScatter(limit=self.limit) if kind == "affine" else self

    def after(self, state: Any, row_map: RowMap, /) -> ClassMomentsState:
        """Return the moments behind a map."""
        if isinstance(state, ClassMomentsState):
            return state.through(row_map)
        return state.through(row_map).class_moments()  # type: ignore[no-any-return]  # a ClassScatterState

    def contains(self, other: Any, /) -> Callable[[ClassMomentsState], Any] | None:
        """Return how the moments of all rows, or the labels and their counts, follow."""
        if other == Moments():
            return ClassMomentsState.moments
        return ClassMomentsState.distinct if other == Distinct(self.limit) else None

    def of(self, rows: Rows, /) -> ClassMomentsState:
        """Return the state of one block."""
        tile = _Tile(rows, self.limit)
        if tile.centred is None:
            return ClassMomentsState(*tile.empty(), np.zeros((len(tile.classes), tile.n_columns)))
        x = tile.centred
        with np.errstate(invalid="ignore", over="ignore"):
            m2 = host(tile.sums(np.multiply(x, x, out=x) if isinstance(x, np.ndarray) else x * x))
            m2 = m2 - tile.off * tile.off * tile.weight[:, None]
        tile.refuse(m2)
        # A negative rest is rounding.
        return ClassMomentsState(*tile.means(), np.maximum(m2, 0.0), tile.rounding)

    def merge(self, a: ClassMomentsState, b: ClassMomentsState, /) -> ClassMomentsState:
        """Return the state of the rows of `a` and `b`."""
        if not len(a.classes) or not len(b.classes):
            return b if not len(a.classes) else a
        a, b = _aligned(a, b, self.limit)
        means, delta, weight = _merged(a, b)
        m2 = a.m2 + b.m2 + delta * delta * weight[:, None]
        return ClassMomentsState(*means, m2, max(a.rounding, b.rounding))

    def origin(self, rows: Rows, /) -> Sums:
        """Return a place for the classes met, and the row that each is centred by."""
        return _origin(rows)

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return, for each class met, the sums of what differs from its origin, and of the squares."""
        with np.errstate(all="ignore"):
            block = CentredByClass(rows, origin, self.limit)
            squares = block.sums(block.centred * block.centred)
            return {**_sums(block), "squares": block.met.among_all(squares)}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added_by_class(a, b, whole={"bad"})

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> ClassMomentsState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all rows; None where a cell is not finite, a weight is none, or digits are lost."""
        squares = sums["squares"]
        if sums["bad"] or not (np.isfinite(sums["off"]).all() and np.isfinite(squares).all()):
            return None
        means, offset, order = _means(origin, sums)
        # The same products as in `of`: those of a class of one row cancel to the last bit.
        m2 = np.maximum(squares[order] - offset * offset * means[2][:, None], 0.0)
        if _digits_lost(means, offset, m2, origin):
            return None
        return ClassMomentsState(*means, m2, origin["rounding"])


@dataclass(frozen=True)
class ClassScatter:
    r"""Weighted mean and centred scatter matrix of the columns of X, of the rows of each class.

    As :class:`ClassMoments`. With `pooled` there are the means and weights of each class, and one scatter matrix of
    all rows about the mean of their class, whatever the number of classes:

    .. math:: W = W^a + W^b + \sum_k \delta_k \delta_k^T \frac{n_{ka} n_{kb}}{n_k}

    Parameters
    ----------
    pooled : bool
        One scatter matrix for all classes, rather than one for each.
    limit : int
        Give up with an error beyond so many classes.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import ClassScatter
    >>> from ooclearn.table import Rows
    >>> rows = Rows(np.array([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]]), np.array([1, 1, 2]))
    >>> ClassScatter(pooled=True).of(rows).scatter
    array([[2., 4.],
           [4., 8.]])
    """

    pooled: bool = False
    limit: int = 100_000
    parts: frozenset[str] = frozenset("Xyw")

    def before(self, kind: Kind, /) -> ClassScatter:  # noqa: ARG002  (the same for every kind of map)
        """Return what to ask of the input of a map: the same again."""
        return self

    def after(self, state: ClassScatterState, row_map: RowMap, /) -> ClassScatterState:
        """Return the scatter behind a map."""
        return state.through(row_map)

    def contains(self, other: Any, /) -> Callable[[ClassScatterState], Any] | None:
        """Return how what is asked of all rows, of each class, or of the labels alone follows."""
        if other == Moments():
            return ClassScatterState.moments
        if other == Scatter():
            return ClassScatterState.total_scatter
        if other == Distinct(self.limit):
            return ClassScatterState.distinct
        if self.pooled:
            return None
        if other == ClassScatter(pooled=True, limit=self.limit):
            return ClassScatterState.pooled
        return ClassScatterState.class_moments if other == ClassMoments(self.limit) else None

    def of(self, rows: Rows, /) -> ClassScatterState:
        """Return the state of one block."""
        tile = _Tile(rows, self.limit)
        d = tile.n_columns
        if tile.centred is None:
            shape = (d, d) if self.pooled else (len(tile.classes), d, d)
            return ClassScatterState(*tile.empty(), np.zeros(shape))
        between = tile.off * np.sqrt(tile.weight)[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            if self.pooled:
                scatter = tile.scatter() - between.T @ between
            else:
                scatter = tile.scatters() - between[:, :, None] * between[:, None, :]
        tile.refuse(scatter)
        return ClassScatterState(*tile.means(), _proper(scatter), tile.rounding)

    def merge(self, a: ClassScatterState, b: ClassScatterState, /) -> ClassScatterState:
        """Return the state of the rows of `a` and `b`."""
        if not len(a.classes) or not len(b.classes):
            return b if not len(a.classes) else a
        a, b = _aligned(a, b, self.limit)
        means, delta, weight = _merged(a, b)
        weighted = delta * weight[:, None]
        between = delta.T @ weighted if self.pooled else delta[:, :, None] * weighted[:, None, :]
        return ClassScatterState(*means, a.scatter + b.scatter + between, max(a.rounding, b.rounding))

    def origin(self, rows: Rows, /) -> Sums:
        """Return a place for the classes met, and the row that each is centred by."""
        return _origin(rows)

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return, for each class met, the sum of what differs from its origin, and sums of products of that."""
        with np.errstate(all="ignore"):
            block = CentredByClass(rows, origin, self.limit)
            x = _rooted(block.centred, block.w)
            if self.pooled:
                return {**_sums(block), "products": _product(x)}
            products = _products_by_class(x, block.met.codes, block.met.rows)
            return {**_sums(block), "products": block.met.among_all(products)}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added_by_class(a, b, whole={"bad", "products"} if self.pooled else {"bad"})

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> ClassScatterState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all rows; None where a cell is not finite, a weight is none, or digits are lost."""
        products = sums["products"]
        if sums["bad"] or not (np.isfinite(sums["off"]).all() and np.isfinite(products).all()):
            return None
        means, offset, order = _means(origin, sums)
        off = offset * np.sqrt(means[2])[:, None]
        between = off.T @ off if self.pooled else off[:, :, None] * off[:, None, :]
        scatter = _proper((products if self.pooled else products[order]) - between)
        if _digits_lost(means, offset, np.diagonal(scatter, axis1=-2, axis2=-1), origin):
            return None
        return ClassScatterState(*means, scatter, origin["rounding"])


def _aligned(a: Any, b: Any, limit: int) -> tuple[Any, Any]:
    """Return two states with the same classes."""
    classes = classes_of_both(a.classes, b.classes, limit)
    return a.among(classes), b.among(classes)


def _merged(a: ByClass, b: ByClass) -> tuple[Means, Array, Array]:
    """Return classes, rows, weights and means of two aligned states, and what Chan's term of the squares is made of."""
    weight = a.weight + b.weight
    share = np.divide(b.weight, weight, out=np.zeros_like(weight), where=weight > 0)
    # A side without weight has mean 0, and must not pull.
    both = ((a.weight > 0) & (b.weight > 0))[:, None]
    delta = np.where(both, (b.mean - a.mean) + (b.rest - a.rest), 0.0)
    mean, rest = sum_and_rest(a.mean, a.rest + delta * share[:, None])
    none = (a.weight == 0)[:, None]
    mean, rest = np.where(none, b.mean, mean), np.where(none, b.rest, rest)
    return (a.classes, a.rows + b.rows, weight, mean, rest), delta, a.weight * share


class _Tile:
    """One tile of rows, centred by the means of its classes.

    Attributes
    ----------
    classes, rows, weight : ndarray
        The labels in it, sorted; the rows and the weight of each.
    centred : array or None
        The rows less the mean of their class, nearly; None if there is no row.
    off : ndarray
        How far the means lie from what was subtracted.
    """

    def __init__(self, rows: Rows, limit: int) -> None:
        y = labels_of(rows)
        self.classes, codes = codes_of(y, limit)
        k = len(self.classes)
        x, w = rows.X, rows.w
        self.n_columns = int(x.shape[1])
        self.rows = np.bincount(codes, minlength=k)
        self.weight: Array = self.rows.astype(np.float64)
        self.centred: Array | None = None
        self._x, self._codes = x, codes
        if not k:
            return
        xp = namespace(x)
        wide = float_dtype(x)
        x = xp.astype(x, wide, copy=False)
        self.rounding = float(xp.finfo(wide).eps)
        if w is not None:
            refuse_weights(w)
            on_host = host(w)
            w = on_host if isinstance(x, np.ndarray) else xp.astype(w, wide, copy=False)
            self.weight = np.bincount(codes, weights=on_host, minlength=k)
        self._w = w
        summer = ClassSummer(codes, k, x, w)
        self.sums = summer.sums
        # A class without weight stays where it is: its squares count nothing.
        safe = np.where(self.weight > 0, self.weight, 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            shift = self.sums(x) / like(safe[:, None], x, wide)
            if isinstance(x, np.ndarray):
                centred = summer.spread(shift, local_buffers().empty(x.shape, np.dtype(np.float64)))
                np.subtract(x, centred, out=centred)
            else:
                centred = x - summer.spread(shift)
            self.off = host(self.sums(centred)) / safe[:, None]
        self._shift = host(shift)
        self.centred = centred

    def empty(self) -> Means:
        """Return classes, rows, weights and means where there is no row."""
        zeros = np.zeros((len(self.classes), self.n_columns))
        return self.classes, self.rows, self.weight, zeros, zeros

    def means(self) -> Means:
        """Return classes, rows, weights and means."""
        there = self.weight[:, None] > 0
        mean, rest = sum_and_rest(np.where(there, self._shift, 0.0), np.where(there, self.off, 0.0))
        return self.classes, self.rows, self.weight, mean, rest

    def scatter(self) -> Array:
        """Return the sum of products about what was subtracted, over all rows."""
        return host(_product(_rooted(self.centred, self._w)))

    def scatters(self) -> Array:
        """Return the same by class."""
        return host(_products_by_class(_rooted(self.centred, self._w), self._codes, self.rows))

    def refuse(self, squares: Array) -> None:
        """Raise for what is not finite; look at the cells only where there is reason to."""
        if np.isfinite(squares).all() and np.isfinite(self._shift).all():
            return
        refuse_nonfinite(self._x)
        raise DataError(
            "products of the deviations of two columns overflow float64; scale the columns to a size near 1 first"
        )


def _rooted(x: Array, w: Array | None) -> Array:
    """Return rows times the roots of their weights."""
    xp = namespace(x)
    return x if w is None else x * xp.reshape(xp.sqrt(w), (-1, 1))


def _product(x: Array) -> Array:
    """Return the sum of products of the columns, over all rows."""
    xp = namespace(x)
    return xp.matmul(xp.matrix_transpose(x), x)


def _products_by_class(x: Array, codes: Array, rows: Array) -> Array:
    """Return the same by class, given the position of each row's class and the rows of each class, on the host."""
    if len(rows) == 1:
        return _product(x)[None, :, :]
    xp = namespace(x)
    # Sorted by class, each class is one run of rows.
    few = len(rows) <= np.iinfo(np.uint16).max
    order = np.argsort(codes.astype(np.uint16) if few else codes, kind="stable")
    x = xp.take(x, like(order, x, int_dtype(x)), axis=0)
    stops = np.cumsum(rows)
    runs = [run_of(x, int(stop) - int(n), int(stop)) for stop, n in zip(stops, rows, strict=True)]
    return xp.stack([_product(run) for run in runs])


def _proper(scatter: Array) -> Array:
    """Return a scatter whose diagonal is not negative, which it can be by rounding; writes to it."""
    at = np.arange(scatter.shape[-1])
    scatter[..., at, at] = np.maximum(scatter[..., at, at], 0.0)
    return scatter


def _origin(rows: Rows) -> Sums:
    return {"classes": Classes(), "shift": None, "settled": None, "rounding": rounding_of(rows.X)}


def _sums(block: CentredByClass) -> Sums:
    """Return rows and weight of each class met, and the sum of what differs from its origin."""
    return {**block.counts(block.weight), "off": block.met.among_all(block.sums(block.centred))}


def _means(origin: Sums, sums: Sums) -> tuple[Means, Array, Array]:
    """Return classes, rows, weights and means, how far these lie from the origins, and the order of the labels."""
    order = origin["classes"].order()
    rows = sums["rows"][order]
    weight = rows.astype(np.float64) if sums["weight"] is None else sums["weight"][order]
    there = weight[:, None] > 0
    off = sums["off"][order]
    offset = np.divide(off, weight[:, None], out=np.zeros_like(off), where=there)
    mean, rest = sum_and_rest(np.where(there, origin["shift"][order], 0.0), offset)
    return (origin["classes"].labels[order], rows, weight, mean, rest), offset, order


def _digits_lost(means: Means, offset: Array, m2: Array, origin: Sums) -> bool:
    """Say whether the means of classes lie too far from what these were centred by, for `m2`; it takes outliers."""
    _, _, weight, mean, _ = means
    return digits_lost(offset, weight[:, None], m2, mean, origin["rounding"])
