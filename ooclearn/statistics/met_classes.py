"""Classes in the order in which a pass over a device meets them, and the row that each of them is centred by.

The labels are looked at on the host, where most of them are read anyway, so that shapes follow without asking the
device. What is summed by class has a row for each class met so far: of two runs of blocks the one that has met fewer has
met the first of the other's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import device_of, like, namespace, run_of
from ooclearn.statistics.added import weight_sums, widened
from ooclearn.statistics.coded import ClassSummer, classes_of_both, codes_of, labels_of
from ooclearn.statistics.means import representable
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["CentredByClass", "Classes", "Met", "SummedByClass", "added_by_class"]

# Membership of rows in classes is a matrix of so many cells at a time: about what a block of a device takes.
_CELLS = 2**23


class Classes:
    """The classes that a pass has met.

    Attributes
    ----------
    labels : ndarray
        In the order in which they were met; on the host, as they were read.
    """

    def __init__(self) -> None:
        self.labels: Array = np.empty(0)

    def __len__(self) -> int:
        return len(self.labels)

    def order(self) -> Array:
        """Return the positions of the labels, sorted."""
        return np.argsort(self.labels, kind="stable")

    def meet(self, rows: Rows, limit: int, /) -> Met:
        """Look the labels of a block up, and take new ones in.

        Where y lies on a device beside X it has to be waited for here: nobody else knows how many classes there are.
        """
        classes, codes = codes_of(labels_of(rows), limit)
        known = self.labels
        if not len(known):
            self.labels, places = classes, np.arange(len(classes))
        elif len(known) == len(classes) and np.array_equal(known, classes):
            places = np.arange(len(classes))
        else:
            order = self.order()
            ranked = known[order]
            classes_of_both(ranked, classes, limit)  # it refuses too many, and what cannot be put in order
            at = np.minimum(np.searchsorted(ranked, classes), len(known) - 1)
            there = ranked[at] == classes
            places = np.empty(len(classes), dtype=np.int64)
            places[there] = order[at[there]]
            places[~there] = len(known) + np.arange(int(np.count_nonzero(~there)))
            self.labels = np.concatenate([known, classes[~there]])
        order = np.argsort(places)
        if not np.array_equal(order, np.arange(len(order))):
            codes, places = np.argsort(order)[codes], places[order]
        count = np.bincount(codes, minlength=len(places))
        return Met(codes, count, places, len(self), len(self) - len(known))


@dataclass(frozen=True, eq=False)
class Met:
    """The classes of one block among all that the pass has met.

    Attributes
    ----------
    codes : ndarray of shape (rows,)
        The position of each row's class among those of the block; on the host.
    rows : ndarray of shape (classes of the block,)
        How many rows each has.
    places : ndarray of shape (classes of the block,)
        Their positions among all classes met, ascending: those that are new stand last.
    n_met : int
        How many classes the pass has met, with this block.
    n_new : int
        How many of them are new.
    """

    codes: Array
    rows: Array
    places: Array
    n_met: int
    n_new: int

    @property
    def n_classes(self) -> int:
        """How many classes the block has."""
        return len(self.places)

    def among_all(self, values: Array, /) -> Array:
        """Return `values`, one for each class of the block, as one for each class met; zeros for the others."""
        if self.n_classes == self.n_met:
            return values
        if isinstance(values, np.ndarray):
            out = np.zeros((self.n_met, *values.shape[1:]), dtype=values.dtype)
            out[self.places] = values
            return out
        xp = namespace(values)
        at = np.full(self.n_met, self.n_classes)
        at[self.places] = np.arange(self.n_classes)
        return xp.take(_padded(values, self.n_classes + 1), like(at, values, xp.int32), axis=0)

    def taken(self, values: Array | None, like_: Array, /) -> Array:
        """Return of `values`, one for each class met before, those of the classes of the block; zeros for new ones."""
        n_known = self.n_met - self.n_new
        if values is None:
            return namespace(like_).zeros_like(like_)
        if self.n_classes == self.n_met:
            return _padded(values, self.n_met)
        xp = namespace(values)
        kept = self.places[self.places < n_known]
        return _padded(xp.take(values, like(kept, values, xp.int32), axis=0), self.n_classes)

    def replaced(self, values: Array | None, new: Array, /) -> Array:
        """Return `values`, one for each class met before, with those of the classes of the block in their places."""
        if values is None or self.n_classes == self.n_met:
            return new
        xp = namespace(new)
        at = np.arange(self.n_met)
        at[self.places] = values.shape[0] + np.arange(self.n_classes)
        return xp.take(xp.concat([values, new], axis=0), like(at, new, xp.int32), axis=0)


def added_by_class(a: Sums, b: Sums, /, *, whole: Collection[str] = ()) -> Sums:
    """Return the sums of two runs of blocks, one of which may have met more classes.

    Parameters
    ----------
    a, b : dict
        Sums with a row for each class met; what is None stays so.
    whole : collection of str
        Which of them are sums over all classes.
    """

    def both(name: str) -> Any:
        one, other = a[name], b[name]
        if one is None or name in whole:
            return None if one is None else one + other
        n = max(one.shape[0], other.shape[0])
        return _padded(one, n) + _padded(other, n)

    return {name: both(name) for name in a}


def _padded(values: Array, n: int) -> Array:
    """Return `values` with zeros behind them, up to `n` rows."""
    if values.shape[0] == n:
        return values
    xp = namespace(values)
    shape = (n - values.shape[0], *values.shape[1:])
    return xp.concat([values, xp.zeros(shape, dtype=values.dtype, device=device_of(values))], axis=0)


class SummedByClass:
    """One block of rows whose classes are met.

    Attributes
    ----------
    met : Met
        Its classes.
    x : array
        Its rows, in the widest float of the device.
    w : array or None
        The weights of the rows.
    bad : number or array
        How many weights are none.
    """

    def __init__(self, rows: Rows, origin: Sums, limit: int) -> None:
        self.met: Met = origin["classes"].meet(rows, limit)
        self.x = widened(rows.X)
        self.w, self.bad = weight_sums(rows.w, self.x)
        self._summer = ClassSummer(self.met.codes, self.met.n_classes, self.x, self.w, cells=_CELLS)

    def sums(self, x: Array, /) -> Array:
        """Return the weighted sums of `x` by class, of the classes of the block."""
        return self._summer.sums(x)

    def weights(self) -> Array | None:
        """Return the sum of the weights of each class of the block; None without weights."""
        if self.w is None:
            return None
        return self.sums(namespace(self.x).ones_like(self.x[:, :1]))[:, 0]

    def counts(self, weights: Array | None) -> Sums:
        """Return the rows and the weight of each class met, and how many weights are none."""
        among_all = self.met.among_all
        return {
            "rows": among_all(self.met.rows),
            "weight": None if weights is None else among_all(weights),
            "bad": self.bad,
        }


class CentredByClass(SummedByClass):
    """One block of rows, less the origin of the class of each.

    The origin of a class is its mean in the first block in which it has weight; ``origin["shift"]`` keeps it for the
    blocks that follow. While a class has had no weight nothing was summed, and its origin may still move, which the
    device decides for itself: ``origin["settled"]`` says of each class whether it has had weight.

    Memory: beside the block, three of its size in the widest float: differences, their squares, who belongs where.

    Attributes
    ----------
    centred : array
        The rows; those of a class that has had no weight are as they were.
    """

    def __init__(self, rows: Rows, origin: Sums, limit: int) -> None:
        super().__init__(rows, origin, limit)
        x, met = self.x, self.met
        xp = namespace(x)
        self.weight = self.weights()
        if self.weight is not None:
            has = xp.reshape(self.weight > 0, (-1, 1))
            one = xp.ones_like(self.weight)
            mean = self.sums(x) / xp.reshape(xp.where(self.weight > 0, self.weight, one), (-1, 1))
            settled = met.taken(origin["settled"], has)
            mean = xp.where(has, representable(mean, rows.X), xp.zeros_like(mean))
            shift = xp.where(settled, met.taken(origin["shift"], mean), mean)
            origin["settled"] = met.replaced(origin["settled"], settled | has)
            origin["shift"] = met.replaced(origin["shift"], shift)
        elif met.n_new:
            mean = self.sums(x) / like(met.rows[:, None], x, x.dtype)
            n_old = met.n_classes - met.n_new
            new = representable(run_of(mean, n_old, met.n_classes), rows.X)
            shift = xp.concat([run_of(met.taken(origin["shift"], mean), 0, n_old), new], axis=0) if n_old else new
            origin["shift"] = met.replaced(origin["shift"], shift)
        else:
            shift = met.taken(origin["shift"], origin["shift"])
        self.centred = x - self._summer.spread(shift)
