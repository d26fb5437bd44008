"""Linear discriminants from the means of classes and the scatter within them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ooclearn.spectral import inverse_root, signed
from ooclearn.statistics import ClassScatterState
from ooclearn.statistics.means import sum_and_rest
from ooclearn.types import Array

__all__ = ["Discriminants", "Groups", "by_eigenvalues", "by_singular_values", "by_solving", "covariances_of", "shrunk"]

# Up to so many rows the bound of what counts as constant grows with them; see `StandardScaler`.
_BOUND_ROWS = 10_000


def shrunk(covariance: Array, shrinkage: float | None, /) -> Array:
    """Return a covariance drawn towards the same variance in all directions."""
    if not shrinkage:
        return covariance
    d = covariance.shape[-1]
    level = np.trace(covariance, axis1=-2, axis2=-1) / d
    out: Array = (1.0 - shrinkage) * covariance
    at = np.arange(d)
    out[..., at, at] += shrinkage * np.asarray(level)[..., None]
    return out


def covariances_of(state: ClassScatterState, /) -> Array:
    """Return the covariance of each class, that of the population; the scatter must not be pooled."""
    out: Array = state.scatter / state.weight[:, None, None]
    return out


@dataclass(frozen=True, eq=False)
class Groups:
    """Classes about their common centre.

    Attributes
    ----------
    center, rest : ndarray of shape (columns,)
        The mean of the means, each counted by its prior, as two numbers a column.
    deviations : ndarray of shape (classes, columns)
        How far each mean lies from it, with all its digits.
    """

    state: ClassScatterState
    priors: Array
    center: Array = field(init=False)
    rest: Array = field(init=False)
    deviations: Array = field(init=False)

    def __post_init__(self) -> None:
        state = self.state
        shift = state.mean[int(np.argmax(state.weight))]
        # Differences of means that lie far from 0 are taken before anything is added up.
        delta = (state.mean - shift) + state.rest
        off = self.priors @ delta
        center, rest = sum_and_rest(shift, off)
        for name, value in (("center", center), ("rest", rest), ("deviations", delta - off)):
            object.__setattr__(self, name, value)

    def covariance(self, shrinkage: float | None = None) -> Array:
        """Return the covariance within the classes, each counted by its prior."""
        state = self.state
        if state.scatter.ndim == 2:
            # Only where the priors are the shares of the classes.
            return shrunk(state.scatter / state.total, shrinkage)
        return shrunk(np.einsum("k,kij->ij", self.priors, covariances_of(state)), shrinkage)

    def total_covariance(self, shrinkage: float | None = None) -> Array:
        """Return the covariance of all rows."""
        return shrunk(self.state.total_scatter().covariance(correction=0.0), shrinkage)


@dataclass(frozen=True, eq=False)
class Discriminants:
    """A linear score of each class: ``(x - center) @ coef.T + offset``, and what rows are projected on.

    Attributes
    ----------
    coef : ndarray of shape (classes, columns)
    offset : ndarray of shape (classes,)
    common : ndarray of shape (columns,)
        What scikit-learn's coefficients have besides, the same for all classes.
    common_offset : float
        And its offset at the centre.
    scalings : ndarray of shape (columns, components) or None
    ratio : ndarray or None
        The share of the variance between classes in each of them.
    """

    coef: Array
    offset: Array
    common: Array
    common_offset: float = 0.0
    scalings: Array | None = None
    ratio: Array | None = None


def by_singular_values(groups: Groups, tol: float) -> Discriminants:
    """Do as scikit-learn's solver ``"svd"``: drop directions without scatter, sphere the rest, find the class plane."""
    state, deviations = groups.state, groups.deviations
    n, k = state.total, len(state.classes)
    variance = np.diagonal(state.within) / n
    noise = max(min(n, _BOUND_ROWS) * np.finfo(np.float64).eps, 2 * state.rounding)
    constant = variance <= noise * variance + (noise * np.max(np.abs(state.mean), axis=0)) ** 2
    std = np.where(constant, 1.0, np.sqrt(variance))
    correlation = np.where(constant[:, None] | constant, 0.0, state.within / n / std[:, None] / std)
    values, vectors = np.linalg.eigh(correlation)
    values, vectors = values[::-1], vectors[:, ::-1]
    # Eigenvalues that are rounding alone would pass a small `tol` as singular values of 1e-8.
    values = np.where(values > len(values) * np.finfo(np.float64).eps * values[0], values, 0.0)
    singular = np.sqrt(values)
    rank = int(np.sum(singular > tol))
    sphering = vectors[:, :rank] / std[:, None] / singular[:rank]

    share = 1.0 if k == 1 else 1.0 / (k - 1)
    between = np.sqrt(n * groups.priors * share)[:, None] * deviations @ sphering
    if rank:
        _, extent, axes = np.linalg.svd(between, full_matrices=False)
    else:
        extent, axes = np.zeros(0), np.zeros((0, 0))
    squares = extent * extent
    total = squares.sum()
    ratio = squares / total if total else np.full_like(squares, np.nan)
    kept = int(np.sum(extent > tol * extent[0])) if rank else 0
    scalings = sphering @ axes.T[:, :kept]
    scalings = signed(scalings.T).T if kept else scalings
    projected = deviations @ scalings
    with np.errstate(divide="ignore"):
        offset = -0.5 * np.sum(projected * projected, axis=1) + np.log(groups.priors)
    zeros = np.zeros(len(groups.center))
    return Discriminants(projected @ scalings.T, offset, zeros, scalings=scalings, ratio=ratio)


def by_solving(groups: Groups, covariance: Array) -> Discriminants:
    """Do as scikit-learn's solver ``"lsqr"``: the means times the (pseudo-)inverse of the covariance."""
    root, _ = inverse_root(covariance)
    return _from_root(groups, root)


def by_eigenvalues(groups: Groups, covariance: Array, total: Array) -> Discriminants:
    """Do as scikit-learn's solver ``"eigen"``: the directions of the largest ratio of the scatters."""
    root, logdet = inverse_root(covariance)
    if root.shape[1] < root.shape[0] or not np.isfinite(logdet):
        raise np.linalg.LinAlgError(
            "the covariance within the classes is not positive definite, as solver='eigen' needs it: columns depend on "
            "one another, or there are too few rows. Use shrinkage, solver='svd', or drop columns"
        )
    values, vectors = np.linalg.eigh(root.T @ (total - covariance) @ root)
    values, scalings = values[::-1], root @ vectors[:, ::-1]
    total_value = values.sum()
    ratio = values / total_value if total_value else np.full_like(values, np.nan)
    return replace(_from_root(groups, root), scalings=signed(scalings.T).T, ratio=ratio)


def _from_root(groups: Groups, root: Array) -> Discriminants:
    deviations = groups.deviations
    coef = deviations @ root @ root.T
    common = groups.center @ root @ root.T
    with np.errstate(divide="ignore"):
        offset = -0.5 * np.sum(deviations * coef, axis=1) + np.log(groups.priors)
    return Discriminants(coef, offset, common, 0.5 * float(groups.center @ common))
