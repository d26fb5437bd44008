"""The scatter of each of several folds of consecutive rows, and what regressions on all other folds score there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import run_of
from ooclearn.exceptions import DataError
from ooclearn.linear_model._least_squares import problem_of, ridge
from ooclearn.rowmaps import Kind, RowMap
from ooclearn.statistics import Scatter, ScatterState
from ooclearn.statistics.protocol import Sums, contained
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["FoldScatter", "FoldScatterState", "held_out_scores"]

_SCATTER = Scatter(target=True)


@dataclass(frozen=True, eq=False)
class FoldScatterState:
    """State of :class:`FoldScatter`.

    Attributes
    ----------
    folds : tuple of ScatterState
        Of each fold.
    """

    folds: tuple[ScatterState, ...]

    def all(self) -> ScatterState:
        """Return the state of all rows."""
        return reduce(_SCATTER.merge, self.folds)

    def __repr__(self) -> str:
        return f"FoldScatter: rows={sum(one.rows for one in self.folds):_} | folds={len(self.folds)}"


@dataclass(frozen=True)
class FoldScatter:
    """Scatter of ``[X, y]`` in each fold of consecutive rows.

    Parameters
    ----------
    bounds : tuple of int
        The first row of each fold, and the number of rows at the end.
    """

    bounds: tuple[int, ...]
    parts: frozenset[str] = frozenset("Xywi")

    @classmethod
    def of_rows(cls, n: int | None, folds: int) -> FoldScatter:
        """Return the folds of :class:`sklearn.model_selection.KFold`, unshuffled."""
        if n is None:
            raise DataError("folds are runs of rows, and how many rows there are is not known before they are read")
        if n < 2 * folds:
            raise DataError(
                f"{folds} folds of at least 2 rows, which R^2 takes, need {2 * folds} rows, got n_samples = {n}"
            )
        sizes = [n // folds + (k < n % folds) for k in range(folds)]
        return cls(tuple(accumulate(sizes, initial=0)))

    def of(self, rows: Rows, /) -> FoldScatterState:
        """Return the state of one block."""
        folds, first = [], 0
        try:
            for fold in self._cut(rows):
                folds.append(_SCATTER.of(fold))
                first += fold.n
        except DataError as error:
            raise error.located(first_row=first) from error.__cause__
        return FoldScatterState(tuple(folds))

    def _cut(self, rows: Rows) -> Iterator[Rows]:
        """Yield the rows of each fold, which may be none."""
        if rows.n and rows.start is None:
            raise DataError(
                "which fold rows belong to goes by their number, and how many rows the blocks before have is not known"
            )
        start = rows.start or 0
        for first, stop in pairwise(self.bounds):
            i, j = (min(max(bound - start, 0), rows.n) for bound in (first, stop))
            X, y, w = (None if part is None else run_of(part, i, j) for part in (rows.X, rows.y, rows.w))
            yield type(rows)(X, y, w)

    def merge(self, a: FoldScatterState, b: FoldScatterState, /) -> FoldScatterState:
        """Return the state of the rows of `a` and `b`."""
        return FoldScatterState(tuple(_SCATTER.merge(*both) for both in zip(a.folds, b.folds, strict=True)))

    def origin(self, rows: Rows, /) -> Sums:  # noqa: ARG002  (each fold has its own)
        """Return a place for what each fold is centred by."""
        return {}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of each fold that has rows here; the first of them are what it is centred by."""
        sums: Sums = {}
        for k, fold in enumerate(self._cut(rows)):
            if fold.n:
                if not _of_fold(origin, k):
                    origin |= _named(k, _SCATTER.origin(fold))
                sums |= _named(k, _SCATTER.sums(fold, _of_fold(origin, k)))
        return sums

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        sums: Sums = {}
        for k in range(len(self.bounds) - 1):
            one, other = _of_fold(a, k), _of_fold(b, k)
            sums |= _named(k, _SCATTER.add(one, other) if one and other else one or other)
        return sums

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> FoldScatterState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all folds; None where that of one cannot be told."""
        folds = []
        for k, (first, stop) in enumerate(pairwise(self.bounds)):
            fold = _SCATTER.state(_of_fold(origin, k), _of_fold(sums, k), stop - first)
            if fold is None:
                return None
            folds.append(fold)
        return FoldScatterState(tuple(folds))

    def before(self, kind: Kind, /) -> FoldScatter:  # noqa: ARG002  (the same for every kind of map)
        """Return what to ask of the input of a map: the same again."""
        return self

    def after(self, state: FoldScatterState, row_map: RowMap, /) -> FoldScatterState:
        """Return the scatter of the folds behind a map."""
        return FoldScatterState(tuple(one.through(row_map) for one in state.folds))

    def contains(self, other: Any, /) -> Callable[[FoldScatterState], Any] | None:
        """Return how the scatter of all rows follows, and what follows from that."""
        taken = _itself if other == _SCATTER else contained(_SCATTER, other)
        return None if taken is None else lambda state: taken(state.all())


def _itself(state: ScatterState) -> ScatterState:
    return state


def _named(k: int, values: Sums) -> Sums:
    """Return what belongs to a fold under names of its own."""
    return {f"{k} {name}": value for name, value in values.items()}


def _of_fold(values: Sums, k: int) -> Sums:
    """Return what belongs to a fold."""
    return {name.split(" ")[1]: value for name, value in values.items() if name.startswith(f"{k} ")}


def held_out_scores(state: FoldScatterState, alphas: Array, /, *, centred: bool) -> Array:
    """Return R^2 on each fold of the ridge regression on all others, of shape (folds, penalties).

    The other folds are merged, never subtracted from all.
    """
    n = len(state.folds)
    before = list(accumulate(state.folds[:-1], _SCATTER.merge))
    behind = list(accumulate(state.folds[:0:-1], _SCATTER.merge))[::-1]
    scores = np.empty((n, len(alphas)))
    for k in range(n):
        others = reduce(_SCATTER.merge, [*before[k - 1 : k], *behind[k : k + 1]])
        problem = problem_of(others, centred=centred)
        held = problem_of(state.folds[k], centred=True)
        total = np.sum(held.b**2, axis=0) + held.residual
        for j, alpha in enumerate(alphas):
            coef = ridge(problem, np.full(problem.b.shape[1], alpha))
            bias = held.intercept(coef) - problem.intercept(coef)
            missed = np.sum((held.b - held.A @ coef.T) ** 2, axis=0) + held.residual + held.weight * bias**2
            with np.errstate(invalid="ignore", divide="ignore"):
                each = np.where(total > 0, 1.0 - missed / total, np.where(missed > 0, 0.0, 1.0))
            scores[k, j] = np.mean(each)
    return scores
