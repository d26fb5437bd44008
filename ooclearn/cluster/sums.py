"""What one step of Lloyd's algorithm needs: for each cluster its weight and sum, the inertia, the farthest rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ooclearn._namespace import device_of, float_dtype, like, namespace, ones, run_of
from ooclearn.cluster.distances import centred, labels_on_host, nearest, runs_there, squares_on_host
from ooclearn.exceptions import DataError
from ooclearn.statistics.added import weight_sums, widened
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import host
from ooclearn.statistics.held import as_held
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["ClusterSums", "ClusterSumsState", "FarRows"]


@dataclass(frozen=True, eq=False)
class FarRows:
    """The rows that lie farthest from their centres, the farthest first; of equals, the first in the table.

    Attributes
    ----------
    squares : ndarray of shape (m,)
        Squared distances.
    labels : ndarray of shape (m,)
        The cluster of each.
    weights : ndarray of shape (m,)
        The weight of each; above 0.
    rows : ndarray of shape (m, d)
        The rows, about the common centre.
    """

    squares: Array
    labels: Array
    weights: Array
    rows: Array

    def take(self, at: Array, /) -> FarRows:
        """Return those at these positions."""
        return FarRows(self.squares[at], self.labels[at], self.weights[at], self.rows[at])


@dataclass(frozen=True, eq=False)
class ClusterSumsState:
    """State of :class:`ClusterSums`; host arrays.

    Attributes
    ----------
    rows : int
        Rows seen.
    weights : ndarray of shape (k,)
        The sum of the weights of the rows of each cluster, or their number.
    sums : ndarray of shape (k, d)
        The weighted sum of these rows, about the common centre.
    inertia : float
        The weighted sum of squared distances of the rows to their centres.
    far : FarRows
        The rows farthest from their centres.
    """

    rows: int
    weights: Array
    sums: Array
    inertia: float
    far: FarRows

    def means(self, otherwise: Array, /) -> Array:
        """Return the mean of each cluster, about the common centre; the row of `otherwise` where there is no weight."""
        there = self.weights > 0
        safe = np.where(there, self.weights, 1.0)
        return np.where(there[:, None], self.sums / safe[:, None], otherwise)

    def moved(self) -> Array:
        """Return the centres of the next step, about the common centre, with empty clusters relocated.

        As scikit-learn does: each empty cluster takes one of the farthest rows, which leaves the cluster it was in.
        Where there are not enough rows off their centres, it is put on the centre of the heaviest cluster.
        """
        sums, weights = self.sums.copy(), self.weights.copy()
        far = self.far
        for cluster, at in zip(np.flatnonzero(weights == 0), np.flatnonzero(far.squares > 0), strict=False):
            label, weight, row = far.labels[at], far.weights[at], far.rows[at]
            left = weights[label] - weight
            sums[label] -= row * weight
            # What is left of the only row is rounding.
            weights[label] = left if left > 1e-12 * self.weights[label] else 0.0
            sums[cluster], weights[cluster] = row * weight, weight
        there = weights > 0
        means = sums / np.where(there, weights, 1.0)[:, None]
        means[~there] = means[np.argmax(weights)]
        return means

    def __repr__(self) -> str:
        k, d = self.sums.shape
        return f"ClusterSums: rows={self.rows:_} | clusters={k} | columns={d} | inertia={self.inertia:.6g}"


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Weight and sum of the rows nearest to each centre, and the weighted sum of their squared distances.

    Memory: the distances of a run of rows to all centres at a time; the state holds two numbers a column and cluster.

    Parameters
    ----------
    centers : ndarray of shape (k, d)
        The centres, about the common centre.
    center : ndarray of shape (d,)
        What is subtracted from rows first, near their mean: distances are computed from products, which lose the digits
        that a large offset takes.
    n_far : int
        How many of the farthest rows to keep.
    for_empty : bool
        Keep no more of them than there are empty clusters, which are what they are for. Mostly there is none, and the
        distances of single rows need not be known.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.cluster.sums import ClusterSums
    >>> from ooclearn.table import Rows
    >>> sums = ClusterSums(np.array([[-1.0], [1.0]]), np.array([5.0]))
    >>> state = sums.of(Rows(np.array([[3.0], [4.0], [6.0]])))
    >>> state.weights, state.sums[:, 0], state.inertia
    (array([2., 1.]), array([-3.,  1.]), 1.0)
    """

    centers: Array
    center: Array
    n_far: int = 0
    for_empty: bool = False
    parts: frozenset[str] = frozenset("Xw")

    def of(self, rows: Rows, /) -> ClusterSumsState:
        """Return the state of one block."""
        x, w = rows.X, rows.w
        k, d = self.centers.shape
        n = int(x.shape[0])
        if n == 0:
            return ClusterSumsState(0, np.zeros(k), np.zeros((k, d)), 0.0, _none_far(d))
        xp = namespace(x)
        wide = float_dtype(x)
        if w is not None:
            refuse_weights(w)
            w = xp.astype(w, wide, copy=False)
        with np.errstate(invalid="ignore", over="ignore"):
            if isinstance(x, np.ndarray):
                return self._of_host(x, w)
            x, held = centred(x, self.center)
            labels, squares = nearest(x, like(self.centers - (held - self.center), x, wide))
            inertia = float(xp.sum(squares if w is None else squares * w))
        if not np.isfinite(inertia):
            _refuse(rows.X)
        weights, sums = (host(part) for part in _by_cluster(x, labels, w, k))
        off = held - self.center
        if off.any():  # a device without float64 cannot hold the centre
            sums = sums + weights[:, None] * off
        far = _none_far(d)
        if self._n_far(weights):
            far = self._far(x, labels, squares, w, off, self._n_far(weights))
        return ClusterSumsState(n, weights, sums, inertia, far)

    def _of_host(self, x: Array, w: Array | None) -> ClusterSumsState:
        """Do as :meth:`of` with NumPy, where one look at a number may save looking at all rows again."""
        seen, off = (x, self.center) if _lies_about_0(x, self.center) else (centred(x, self.center)[0], None)
        labels, weights, sums, squares = self._seen(seen, w, off)
        if off is not None:
            about = squares - 2.0 * float(off @ sums.sum(axis=0)) + float(off @ off) * float(weights.sum())
            if not squares <= 4.0 * about:  # the first rows are not like the others: digits are lost
                seen, off = centred(x, self.center)[0], None
                labels, weights, sums, squares = self._seen(seen, w, off)
        n_far, far = self._n_far(weights), _none_far(x.shape[1])
        inertia = None if n_far else _inertia(squares, self._about(off), weights, sums)
        if inertia is None:
            singly = squares_on_host(seen, self.centers, labels, off)
            inertia = float(np.sum(singly if w is None else singly * w))
            if not np.isfinite(inertia):
                _refuse(x)
            if n_far:
                far = self._far(seen, labels, singly, w, np.zeros(x.shape[1]) if off is None else -off, n_far)
        if off is not None:
            sums -= weights[:, None] * off
        return ClusterSumsState(x.shape[0], weights, sums, inertia, far)

    def _about(self, off: Array | None) -> Array:
        return self.centers if off is None else self.centers + off

    def _seen(self, x: Array, w: Array | None, off: Array | None) -> tuple[Array, Array, Array, float]:
        """Return the labels of rows from whose centre `off` was not taken, weights and sums by cluster, all squares."""
        labels = labels_on_host(x, self._about(off))
        return labels, *_by_cluster(x, labels, w, len(self.centers)), _sum_of_squares(x, w)

    def _n_far(self, weights: Array) -> int:
        """Return how many of the farthest rows to keep beside such weights of clusters.

        Of more rows, no more clusters are empty: a state that is merged has kept enough of them.
        """
        return min(self.n_far, int(np.count_nonzero(weights == 0))) if self.for_empty else self.n_far

    def _far(self, x: Array, labels: Array, squares: Array, w: Array | None, off: Array, count: int) -> FarRows:
        far = host(squares)
        weights = np.ones(far.shape[0]) if w is None else host(w)
        there = np.flatnonzero(weights > 0)
        at = there[_largest(far[there], count)]
        xp = namespace(x)
        if isinstance(x, np.ndarray):
            rows, labels = x[at], labels[at].astype(np.int64)
        else:
            where = like(at, x, labels.dtype)
            rows, labels = host(xp.take(x, where, axis=0)), host(xp.take(labels, where)).astype(np.int64)
        return FarRows(far[at], labels, weights[at], rows + off)

    def merge(self, a: ClusterSumsState, b: ClusterSumsState, /) -> ClusterSumsState:
        """Return the state of the rows of `a` and `b`."""
        far = FarRows(
            *(
                np.concatenate([getattr(a.far, name), getattr(b.far, name)])
                for name in ("squares", "labels", "weights", "rows")
            )
        )
        weights = a.weights + b.weights
        far = far.take(_largest(far.squares, self._n_far(weights)))
        return ClusterSumsState(a.rows + b.rows, weights, a.sums + b.sums, a.inertia + b.inertia, far)

    def origin(self, rows: Rows, /) -> Sums:
        """Return the common centre and the centres on the device."""
        x = rows.X
        held = as_held(self.center, x)
        return {"center": like(held, x), "centers": like(self.centers - (held - self.center), x)}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return weight and sum of the rows of each cluster, the inertia, and the farthest rows."""
        with np.errstate(all="ignore"):
            x = widened(rows.X) - origin["center"]
            xp = namespace(x)
            w, bad = weight_sums(rows.w, x)
            labels, squares = nearest(x, origin["centers"])
            weights, sums = _by_cluster(x, labels, w, len(self.centers))
            inertia = xp.sum(squares if w is None else squares * w)
            far = (
                {}
                if not self.n_far
                else {
                    # A row of no weight is farther than none.
                    "squares": squares if w is None else xp.where(w > 0, squares, -xp.ones_like(squares)),
                    "labels": labels,
                    "far_weights": xp.ones_like(squares) if w is None else w,
                    "far_rows": x,
                }
            )
            return {"weights": weights, "sums": sums, "inertia": inertia, "bad": bad, **self._farthest(far)}

    def _farthest(self, far: Sums) -> Sums:
        """Return those of some rows that lie farthest, the farthest first; of equals, the first."""
        if not far:
            return far
        squares = far["squares"]
        xp = namespace(squares)
        at = run_of(xp.argsort(-squares, stable=True), 0, min(self.n_far, squares.shape[0]))
        return {name: xp.take(values, at, axis=0) for name, values in far.items()}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        xp = namespace(a["sums"])
        far = {name: xp.concat([a[name], b[name]], axis=0) for name in _FAR if name in a}
        return {**{name: a[name] + b[name] for name in a if name not in far}, **self._farthest(far)}

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> ClusterSumsState | None:
        """Return the state of all rows; None where a cell or a weight is none, or squares overflow."""
        weights, total, inertia = sums["weights"], sums["sums"], float(sums["inertia"])
        if sums["bad"] or not (np.isfinite(inertia) and np.isfinite(total).all()):
            return None
        off = origin["center"] - self.center
        far = _none_far(total.shape[1])
        n_far = self._n_far(weights)
        if n_far:
            there = sums["squares"] >= 0
            squares, labels, far_weights, far_rows = (sums[name][there][:n_far] for name in _FAR)
            far = FarRows(squares, labels.astype(np.int64), far_weights, far_rows + off)
        return ClusterSumsState(rows, weights, total + weights[:, None] * off, inertia, far)


# Rows that show whether they lie about 0.
_LOOK_ROWS = 256

# So many rows are added up in one chain.
_CHAIN = 4096

# What is kept of the farthest rows.
_FAR = ("squares", "labels", "far_weights", "far_rows")


def _none_far(n_columns: int) -> FarRows:
    none = np.zeros(0)
    return FarRows(none, np.zeros(0, dtype=np.int64), none, np.zeros((0, n_columns)))


def _refuse(x: Array) -> NoReturn:
    refuse_nonfinite(x)
    raise DataError("squared distances of rows to the centres overflow; scale the columns to a size near 1 first")


def _lies_about_0(x: Array, center: Array) -> bool:
    """Say whether rows may be taken as they are: their first lie farther from 0 than the centre, on average."""
    if x.dtype != np.float64 or not x.flags.c_contiguous:
        return False
    first = x[:_LOOK_ROWS]
    return bool(2.0 * float(center @ center) * first.shape[0] <= float(np.vdot(first, first)))


def _sum_of_squares(x: Array, w: Array | None) -> float:
    """Return the weighted sum of all squares; not finite if a cell is not, whatever its weight."""
    if w is None:
        # Not in one chain, which loses digits.
        return float(sum(float(np.vdot(x[i : i + _CHAIN], x[i : i + _CHAIN])) for i in range(0, x.shape[0], _CHAIN)))
    return float(np.einsum("ij,ij->i", x, x) @ w)


def _inertia(squares: float, centers: Array, weights: Array, sums: Array) -> float | None:
    """Return the inertia by Huygens's theorem, from the sum of squares about 0; None where that loses more than 8 bits."""
    lost = weights @ np.einsum("ij,ij->i", centers, centers) - 2.0 * np.einsum("ij,ij->", sums, centers)
    inertia = float(squares + lost)
    # NaN and infinity compare as False.
    return inertia if squares < 256 * inertia < np.inf else None


def _by_cluster(x: Array, labels: Array, w: Array | None, k: int) -> tuple[Array, Array]:
    """Return the sum of the weights and the weighted sum of the rows of each cluster."""
    n = x.shape[0]
    if isinstance(x, np.ndarray):
        from scipy.sparse import csc_array  # scikit-learn brings it; imported with the first k-means

        chosen = csc_array((ones(n, x) if w is None else w, labels, _counted(n + 1)), shape=(k, n))
        return np.bincount(labels, weights=w, minlength=k).astype(np.float64, copy=False), chosen @ x
    xp = namespace(x)
    clusters = xp.arange(k, dtype=labels.dtype, device=device_of(x))[None, :]
    weights = sums = None
    for start, stop in runs_there(n, k):
        chosen = xp.astype(run_of(labels, start, stop)[:, None] == clusters, x.dtype)
        if w is not None:
            chosen = chosen * run_of(w, start, stop)[:, None]
        weight, part = xp.sum(chosen, axis=0), xp.matrix_transpose(chosen) @ run_of(x, start, stop)
        weights, sums = (weight, part) if sums is None else (weights + weight, sums + part)
    return weights, sums


def _counted(n: int) -> Array:
    """Return the numbers below `n`; tiles differ by some rows."""
    return _counted_to(max(0, n - 1).bit_length())[:n]


@lru_cache(maxsize=4)
def _counted_to(power: int) -> Array:
    out = np.arange(2**power, dtype=np.int32)
    out.flags.writeable = False
    return out


def _largest(values: Array, count: int) -> Array:
    """Return the positions of the largest values, the largest first; of equals, the first."""
    n = values.shape[0]
    if n > count:
        if count == 0:
            return np.zeros(0, dtype=np.int64)
        least = np.partition(values, n - count)[n - count]
        above = np.flatnonzero(values > least)
        at = np.sort(np.concatenate([above, np.flatnonzero(values == least)[: count - above.shape[0]]]))
    else:
        at = np.arange(n)
    order: Array = at[np.argsort(-values[at], kind="stable")]
    return order
