"""Fourth moments: right, and the same seen through a map as behind it."""

from __future__ import annotations

import numpy as np
import pytest

from ooclearn.rowmaps import Affine, Columns
from ooclearn.statistics import FourthMoments, Moments, Scatter, merge_all
from ooclearn.statistics.protocol import after, before, contained
from ooclearn.table import Rows
from ooclearn.testing.comparing import assert_identical
from ooclearn.testing.tables import Column, made_rows, part_of

COLUMNS = [Column("normal"), Column("outlier"), Column("constant", 3.0), Column("integers", -2.0)]
MAPS = {
    "diagonal": Affine(np.array([2.0, 0.5, -1.0, 3.0]), center=np.array([1.0, 0.0, 3.0, 1e3]), offset=np.full(4, 7.0)),
    "dividing": Affine(np.array([2.0, 0.5, -1.0, 3.0]), center=np.arange(4.0), divide=True),
    "shift": Affine(center=np.arange(4.0)),
    "columns": Columns((3, 0, 0)),
}


def direct(X, w=None):
    w = np.ones(len(X)) if w is None else w
    near = X.astype(np.longdouble) - X[0]  # the mean of numbers near 0 is exact enough
    u = near - (w.astype(np.longdouble) @ near) / w.sum()
    weighted = (u * u) * w[:, None]
    return weighted.T @ u, weighted.T @ (u * u)


def assert_near(state, expected, room):
    for got, want in zip((state.third, state.fourth), expected, strict=True):
        np.testing.assert_allclose(got, want.astype(np.float64), rtol=room, atol=room * float(np.abs(want).max()))


@pytest.mark.parametrize("weights", [None, "some zero", "counts"])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_against_the_definition(offset, weights):
    rows = made_rows(500, [Column("normal", offset), Column("integers", -offset)], weights=weights)
    state = merge_all(FourthMoments(), [FourthMoments().of(part_of(rows, i, i + 20)) for i in range(0, 500, 20)])
    assert_near(state, direct(rows.X, rows.w), 1e-12)


@pytest.mark.parametrize("row_map", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("weights", [None, "some zero"])
def test_seen_through_a_map(row_map, weights):
    rows = made_rows(300, COLUMNS, weights=weights)
    statistic = FourthMoments()
    kind = "columns" if isinstance(row_map, Columns) else "diagonal"
    through = after(statistic, before(statistic, kind).of(rows), row_map)
    behind = statistic.of(Rows(row_map(rows.X), rows.y, rows.w))
    for name in ("third", "fourth"):
        got, want = getattr(through, name), getattr(behind, name)
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.abs(want).max(), err_msg=name)
    np.testing.assert_allclose(through.scatter.mean, behind.scatter.mean, rtol=1e-12, atol=1e-12)


def test_a_matrix_is_not_seen_through():
    assert before(FourthMoments(), "affine") is before(FourthMoments(), "mixed") is None
    assert before(FourthMoments(), None) is None


def test_it_contains_the_scatter_and_the_moments():
    rows = made_rows(50, COLUMNS)
    state = FourthMoments().of(rows)
    scatter = contained(FourthMoments(), Scatter())(state)
    np.testing.assert_allclose(scatter.scatter, Scatter().of(rows).scatter, rtol=1e-12, atol=1e-3)
    assert_identical(contained(FourthMoments(), Moments())(state), scatter.moments(), "moments")
    assert contained(FourthMoments(), Scatter(target=True)) is None


def test_what_overflows_is_said():
    with pytest.raises(ValueError, match="overflow float64; scale the columns"):
        FourthMoments().of(Rows(np.array([[1e200], [-1e200]])))
