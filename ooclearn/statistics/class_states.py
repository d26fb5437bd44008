"""States of the moments and of the scatter of the rows of each class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ooclearn.rowmaps import Affine, Columns, RowMap
from ooclearn.statistics.coded import placed
from ooclearn.statistics.distinct import Counts, DistinctState
from ooclearn.statistics.means import affine_mean, projected_mean, sum_and_rest
from ooclearn.statistics.moments import MomentsState
from ooclearn.statistics.scatter import ScatterState
from ooclearn.types import Array

__all__ = ["ByClass", "ClassMomentsState", "ClassScatterState"]


@dataclass(frozen=True, eq=False)
class ByClass:
    """What the states by class share: who the classes are, and their means; aligned with the sorted `classes`."""

    classes: Array
    rows: Array
    weight: Array
    mean: Array
    rest: Array

    @property
    def n_columns(self) -> int:
        """How many columns X has."""
        return int(self.mean.shape[1])

    @property
    def total(self) -> float:
        """The sum of the weights of all rows."""
        return float(self.weight.sum())

    def center(self) -> tuple[Array, Array, Array]:
        """Return the mean of all rows, and how far that of each class lies from it.

        Returns
        -------
        mean : ndarray of shape (columns,)
            The mean of all rows, in float64.
        rest : ndarray of shape (columns,)
            What float64 cannot hold of it.
        delta : ndarray of shape (classes, columns)
            The mean of each class less that of all rows; 0 for a class without weight.
        """
        n = self.total
        if not n:
            zeros = np.zeros(self.n_columns)
            return zeros, zeros, np.zeros_like(self.mean)
        # Differences of means that lie far from 0 are taken before anything is added up.
        shift = self.mean[int(np.argmax(self.weight))]
        delta = np.where(self.weight[:, None] > 0, (self.mean - shift) + self.rest, 0.0)
        off = (self.weight / n) @ delta
        mean, rest = sum_and_rest(shift, off)
        return mean, rest, np.where(self.weight[:, None] > 0, delta - off, 0.0)

    def distinct(self) -> DistinctState:
        """Return the labels, with the rows and the weight of each.

        Returns
        -------
        DistinctState
            As :class:`Distinct` of the same rows gives it.
        """
        if not len(self.classes):
            return DistinctState(0)
        return DistinctState(int(self.rows.sum()), (Counts(self.classes, self.rows, self.weight),))


@dataclass(frozen=True, eq=False)
class ClassMomentsState(ByClass):
    """State of :class:`ClassMoments`; host arrays with one row for each class.

    Attributes
    ----------
    classes : ndarray of shape (classes,)
        The labels seen, sorted.
    rows : ndarray of shape (classes,)
        Rows of each.
    weight : ndarray of shape (classes,)
        The sum of their weights, or their number.
    mean : ndarray of shape (classes, columns)
        Their weighted mean; 0 where there is no weight.
    rest : ndarray of shape (classes, columns)
        What float64 cannot hold of that mean.
    m2 : ndarray of shape (classes, columns)
        Their weighted sum of squared deviations from the mean of the class.
    rounding : float
        The rounding unit of what computed it.
    """

    m2: Array
    rounding: float = 0.0

    def variance(self) -> Array:
        """Return the variance of each column in each class, divided by the weight of the class.

        Returns
        -------
        ndarray of shape (classes, columns)
            NaN where a class has no weight.
        """
        weight = self.weight[:, None]
        return np.divide(self.m2, weight, out=np.full_like(self.m2, np.nan), where=weight > 0)

    def moments(self) -> MomentsState:
        """Return the moments of all rows: the classes merged.

        Returns
        -------
        MomentsState
            As :class:`Moments` of the same rows gives them.
        """
        mean, rest, delta = self.center()
        n = self.total
        m2 = self.m2.sum(axis=0) + self.weight @ (delta * delta)
        return MomentsState(int(self.rows.sum()), n, np.full(self.n_columns, n), mean, rest, m2, self.rounding)

    def among(self, classes: Array, /) -> Self:
        """Return the state with more classes; those that were not seen have no rows.

        Parameters
        ----------
        classes : ndarray of shape (n_classes,)
            Sorted labels, all that were seen among them.

        Returns
        -------
        ClassMomentsState
            Aligned with `classes`.
        """
        return replace(self, classes=classes, **_placed(self, classes), m2=placed(self.m2, self.classes, classes))

    def through(self, row_map: RowMap, /) -> ClassMomentsState:
        """Return the state of the rows that come out of a map by column.

        Parameters
        ----------
        row_map : Affine or Columns
            The map, fitted; an affine one is diagonal.

        Returns
        -------
        ClassMomentsState
            Of the columns that come out.
        """
        if isinstance(row_map, Columns):
            at = np.asarray(row_map.positions, dtype=np.int64)
            return replace(self, mean=self.mean[:, at], rest=self.rest[:, at], m2=self.m2[:, at])
        mean, rest, factor = affine_mean(self.mean, self.rest, row_map)
        there = self.weight[:, None] > 0
        return replace(
            self, mean=np.where(there, mean, 0.0), rest=np.where(there, rest, 0.0), m2=self.m2 * factor * factor
        )

    def __repr__(self) -> str:
        return f"ClassMoments: rows={int(self.rows.sum()):_} | classes={len(self.classes)} | columns={self.n_columns}"


@dataclass(frozen=True, eq=False)
class ClassScatterState(ByClass):
    """State of :class:`ClassScatter`; host arrays with one row for each class.

    Attributes
    ----------
    classes, rows, weight : ndarray of shape (classes,)
        The labels seen, sorted, the rows of each and the sum of their weights.
    mean, rest : ndarray of shape (classes, columns)
        Their weighted mean, and what float64 cannot hold of it.
    scatter : ndarray of shape (classes, columns, columns) or (columns, columns)
        The weighted sum of products of deviations from the mean of the class; of each class, or pooled over all.
    rounding : float
        The rounding unit of what computed it.
    """

    scatter: Array
    rounding: float = 0.0

    @property
    def within(self) -> Array:
        """The scatter of all rows about the mean of their class."""
        return self.scatter if self.scatter.ndim == 2 else self.scatter.sum(axis=0)

    def pooled(self) -> ClassScatterState:
        """Return the state with one scatter for all classes.

        Returns
        -------
        ClassScatterState
            As ``ClassScatter(pooled=True)`` gives it.
        """
        return replace(self, scatter=self.within)

    def class_moments(self) -> ClassMomentsState:
        """Return the moments of each class; the scatter must not be pooled.

        Returns
        -------
        ClassMomentsState
            As :class:`ClassMoments` of the same rows gives them.
        """
        m2 = np.diagonal(self.scatter, axis1=1, axis2=2).copy()
        return ClassMomentsState(self.classes, self.rows, self.weight, self.mean, self.rest, m2, self.rounding)

    def total_scatter(self) -> ScatterState:
        """Return the scatter of all rows about their mean: the classes merged.

        Returns
        -------
        ScatterState
            As :class:`Scatter` of the same rows gives it.
        """
        mean, rest, delta = self.center()
        scatter = self.within + delta.T @ (self.weight[:, None] * delta)
        return ScatterState(int(self.rows.sum()), self.total, mean, rest, (scatter + scatter.T) / 2, 0, self.rounding)

    def moments(self) -> MomentsState:
        """Return the moments of all rows: the classes merged.

        Returns
        -------
        MomentsState
            As :class:`Moments` of the same rows gives them.
        """
        return self.total_scatter().moments()

    def among(self, classes: Array, /) -> Self:
        """Return the state with more classes; those that were not seen have no rows.

        Parameters
        ----------
        classes : ndarray of shape (n_classes,)
            Sorted labels, all that were seen among them.

        Returns
        -------
        ClassScatterState
            Aligned with `classes`.
        """
        scatter = self.scatter if self.scatter.ndim == 2 else placed(self.scatter, self.classes, classes)
        return replace(self, classes=classes, **_placed(self, classes), scatter=scatter)

    def with_weight(self) -> ClassScatterState:
        """Return the state of those classes that have weight.

        Returns
        -------
        ClassScatterState
            Without the classes whose rows all have weight 0.
        """
        there = self.weight > 0
        if there.all():
            return self
        names = ("classes", "rows", "weight", "mean", "rest")
        scatter = self.scatter if self.scatter.ndim == 2 else self.scatter[there]
        return replace(self, **{name: getattr(self, name)[there] for name in names}, scatter=scatter)

    def through(self, row_map: RowMap, /) -> ClassScatterState:
        """Return the state of the rows that come out of a map.

        Parameters
        ----------
        row_map : Affine or Columns
            The map, fitted.

        Returns
        -------
        ClassScatterState
            Of the columns that come out.
        """
        there = self.weight[:, None] > 0
        if isinstance(row_map, Columns):
            at = np.asarray(row_map.positions, dtype=np.int64)
            scatter = self.scatter[..., at[:, None], at]
            return replace(self, mean=self.mean[:, at], rest=self.rest[:, at], scatter=scatter)
        assert isinstance(row_map, Affine)
        if row_map.diagonal:
            mean, rest, factor = affine_mean(self.mean, self.rest, row_map)
            factor = factor[0] if len(factor) else np.ones(self.n_columns)
            scatter = self.scatter * factor[:, None] * factor
        else:
            mean, rest, matrix = projected_mean(self.mean, self.rest, row_map)
            scatter = matrix.T @ self.scatter @ matrix
            scatter = (scatter + np.swapaxes(scatter, -1, -2)) / 2
        return replace(self, mean=np.where(there, mean, 0.0), rest=np.where(there, rest, 0.0), scatter=scatter)

    def __repr__(self) -> str:
        return f"ClassScatter: rows={int(self.rows.sum()):_} | classes={len(self.classes)} | columns={self.n_columns}"


def _placed(state: ByClass, classes: Array) -> dict[str, Array]:
    names = ("rows", "weight", "mean", "rest")
    return {name: placed(getattr(state, name), state.classes, classes) for name in names}
