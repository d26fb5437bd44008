"""Moments and scatter of the rows of each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn.products import product
from ooclearn.rowmaps import Kind, RowMap
from ooclearn.statistics.added import digits_lost, rounding_of
from ooclearn.statistics.centred import proper, rooted
from ooclearn.statistics.class_states import ByClass, ClassMomentsState, ClassScatterState
from ooclearn.statistics.class_tiles import ClassTile, Means, products_by_class
from ooclearn.statistics.coded import classes_of_both, host
from ooclearn.statistics.distinct import Distinct
from ooclearn.statistics.means import sum_and_rest
from ooclearn.statistics.met_classes import CentredByClass, Classes, added_by_class
from ooclearn.statistics.moments import Moments
from ooclearn.statistics.protocol import Sums
from ooclearn.statistics.scatter import Scatter
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["ClassMoments", "ClassMomentsState", "ClassScatter", "ClassScatterState"]


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
        tile = ClassTile(rows, self.limit)
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
        if sums["bad"] or not np.isfinite(squares).all():
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
        tile = ClassTile(rows, self.limit)
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
        return ClassScatterState(*tile.means(), proper(scatter), tile.rounding)

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
            x = rooted(block.centred, block.w)
            if self.pooled:
                return {**_sums(block), "products": product(x, x)}
            products = products_by_class(x, block.met.codes, block.met.rows)
            return {**_sums(block), "products": block.met.among_all(products)}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added_by_class(a, b, whole={"bad", "products"} if self.pooled else {"bad"})

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> ClassScatterState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all rows; None where a cell is not finite, a weight is none, or digits are lost."""
        products = sums["products"]
        if sums["bad"] or not np.isfinite(products).all():
            return None
        means, offset, order = _means(origin, sums)
        off = offset * np.sqrt(means[2])[:, None]
        between = off.T @ off if self.pooled else off[:, :, None] * off[:, None, :]
        scatter = proper((products if self.pooled else products[order]) - between)
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
