"""Triangle: directions that products of columns lose, weights as repeated rows, one R."""

from __future__ import annotations

import numpy as np
import pytest

from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.rowmaps import Affine
from ooclearn.statistics import Scatter, Triangle, merge_all
from ooclearn.statistics.triangle import triangular
from ooclearn.table import Rows

EPS = np.finfo(np.float64).eps


def cut(statistic, rows, length):
    parts = [slice(i, i + length) for i in range(0, rows.n, length)]
    return merge_all(
        statistic, [statistic.of(Rows(*(None if a is None else a[s] for a in (rows.X, rows.y, rows.w)))) for s in parts]
    )


def nearly_dependent(ratio, n=2000, d=4, seed=0):
    """Return rows whose centred singular values go from 1 down to `ratio`, no column small."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n, d))
    u = np.linalg.qr(u - u.mean(axis=0))[0]
    v = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return u * np.geomspace(1.0, ratio, d) @ v.T


@pytest.mark.parametrize("length", [50, 700, 2000])
@pytest.mark.parametrize("ratio", [1e-6, 1e-10, 1e-13])
def test_small_spreads_beside_large_ones(ratio, length):
    """The least singular value is told where the scatter matrix has nothing left of it."""
    X = nearly_dependent(ratio)
    expected = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    got = np.linalg.svd(cut(Triangle(), Rows(X), length).xx, compute_uv=False)
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * EPS)
    np.testing.assert_allclose(got[-1], ratio, rtol=64 * EPS / ratio)
    if ratio < 1e-8:
        squares = np.linalg.eigvalsh(cut(Scatter(), Rows(X), length).scatter)
        assert not abs(np.sqrt(abs(squares[0])) / ratio - 1) < 0.5


def test_a_spread_of_1e_15_is_told_from_none():
    least = [
        np.linalg.svd(cut(Triangle(), Rows(nearly_dependent(ratio)), 500).xx, compute_uv=False)[-1]
        for ratio in (1e-15, 1e-14, 1e-13)
    ]
    assert least[0] < 1e-14 / 2 < least[1] < 1e-13 / 2 < least[2]


def test_columns_of_any_size_keep_their_digits():
    """A column's own size costs nothing: each is rounded to itself."""
    X = np.random.default_rng(1).standard_normal((500, 4))
    size = np.array([1e-15, 1.0, 1e8, 1e15])
    expected = Triangle().of(Rows(X)).factor
    np.testing.assert_allclose(cut(Triangle(), Rows(X * size), 60).factor / size, expected, rtol=1e-12, atol=1e-12)


def test_least_squares_where_normal_equations_fail():
    X = nearly_dependent(1e-9)
    true = np.array([[1.0], [-2.0], [3.0], [0.5]])
    rows = Rows(X + 10.0, X @ true)
    triangle, scatter = cut(Triangle(target=True), rows, 300), cut(Scatter(target=True), rows, 300)
    by_factor = np.linalg.solve(triangle.xx, triangle.xy)
    by_products = np.linalg.solve(scatter.xx, scatter.xy)
    # Adding 10 has rounded the cells: no method can tell more of them than that.
    assert np.abs(by_factor - true).max() < 1e-4
    assert np.abs(by_products - true).max() > 100 * np.abs(by_factor - true).max()
    assert np.abs(triangle.yy).max() < 1e-13


def test_r_is_one_whatever_the_cut_and_the_signs():
    X = np.random.default_rng(2).standard_normal((300, 5)) + 1e3
    whole = Triangle().of(Rows(X))
    assert (np.diagonal(whole.factor) > 0).all()
    assert not np.tril(whole.factor, -1).any()
    np.testing.assert_allclose(cut(Triangle(), Rows(X), 7).factor, whole.factor, rtol=1e-10, atol=1e-11)
    flipped = whole.through(Affine(np.array([-1.0, 1.0, -2.0, 1.0, 1.0])))
    assert (np.diagonal(flipped.factor) > 0).all()


def test_weights_are_repetitions():
    rng = np.random.default_rng(3)
    X, y, w = rng.standard_normal((40, 3)), rng.standard_normal((40, 2)), rng.integers(0, 3, 40)
    weighted = cut(Triangle(target=True), Rows(X, y, w.astype(float)), 9)
    repeated = Triangle(target=True).of(Rows(np.repeat(X, w, axis=0), np.repeat(y, w, axis=0)))
    np.testing.assert_allclose(weighted.factor, repeated.factor, atol=1e-13)
    np.testing.assert_allclose(weighted.mean, repeated.mean, atol=1e-15)
    np.testing.assert_allclose(weighted.scatter().yy, Scatter(target=True).of(Rows(X, y, w * 1.0)).yy, rtol=1e-13)


def test_fewer_rows_than_columns():
    X = np.arange(12.0).reshape(2, 6) ** 2
    state = Triangle().of(Rows(X))
    assert state.factor.shape == (6, 6)
    np.testing.assert_allclose(state.scatter().scatter, Scatter().of(Rows(X)).scatter, rtol=1e-13)


def test_no_rows(capfd):
    np.testing.assert_array_equal(triangular(np.empty((0, 3))), np.zeros((3, 3)))
    assert not any(capfd.readouterr())


@pytest.mark.parametrize("role", ["X", "y"])
@pytest.mark.parametrize("weights", [None, np.zeros(4)])
def test_what_is_not_finite_is_named(role, weights):
    X, y = np.ones((4, 2)), np.ones(4)
    (X if role == "X" else y)[2] = np.nan
    with pytest.raises(NonFiniteError, match=f"Input {role} contains NaN") as error:
        Triangle(target=True).of(Rows(X, y, weights))
    assert error.value.rows == (2, 3)


def test_deviations_that_overflow():
    with pytest.raises(DataError, match="overflow"):
        Triangle().of(Rows(np.array([[1e308], [-1e308]]) * 1.7))


def test_a_target_is_asked_for():
    with pytest.raises(ValueError, match="requires y"):
        Triangle(target=True).of(Rows(np.ones((3, 1))))
