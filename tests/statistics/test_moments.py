"""Moments: as exact as float64 can be, weights as repeated rows, missing values left out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.statistics import Moments, merge_all
from ooclearn.table import Rows

EPS = np.finfo(np.float64).eps


def exact(column, weights=None):
    """Mean and sum of squared deviations in rational numbers."""
    values = [Fraction(float(x)) for x in column]
    weights = [Fraction(1)] * len(values) if weights is None else [Fraction(float(w)) for w in weights]
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, values, strict=True)) / total
    return mean, sum(w * (x - mean) ** 2 for w, x in zip(weights, values, strict=True))


def off(got, expected):
    return abs(float((Fraction(float(got)) - expected) / expected))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("block_rows", [1, 7, 3000])
def test_digits_far_from_zero(ratio, block_rows, weighted):
    """However far the rows lie from 0 and however they are cut, a few roundings."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3000, 1)) + ratio
    w = rng.uniform(0, 2, 3000) if weighted else None
    parts = [slice(i, i + block_rows) for i in range(0, 3000, block_rows)]
    moments = Moments()
    got = merge_all(moments, [moments.of(Rows(x[s], None, None if w is None else w[s])) for s in parts])
    mean, m2 = exact(x[:, 0], w)
    assert off(got.mean[0], mean) <= 8 * EPS
    assert off(got.m2[0], m2) <= 16 * EPS


def test_a_first_run_of_rows_unlike_the_others_costs_few_digits():
    """The rows whose mean is subtracted are the first ones; here they are a thousand deviations off."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((20_000, 1))
    x[:1024] += 1e3
    got = Moments().of(Rows(x))
    mean, m2 = exact(x[:, 0])
    assert off(got.mean[0], mean) <= 64 * EPS
    assert off(got.m2[0], m2) <= 64 * EPS


@pytest.mark.parametrize("ratio", [0.0, 1.9, 1.99, 2.01])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("rows", "columns"), [(65_537, 5), (65_536, 1), (26_049, 20), (1023, 1)])
def test_rows_that_lie_about_0_lose_nothing_by_not_being_centred(rows, columns, order, ratio):
    """On both sides of the limit, however many rows there are and however they lie in memory."""
    rng = np.random.default_rng(11)
    x = np.asarray(rng.standard_normal((rows, columns)) + ratio, order=order)
    got = Moments().of(Rows(x))
    longer = x.astype(np.longdouble)
    m2 = ((longer - longer.mean(axis=0)) ** 2).sum(axis=0)
    assert (abs(got.mean - longer.mean(axis=0)) <= EPS * (1 + ratio)).all()
    assert (abs(got.m2 - m2) <= 16 * EPS * m2).all()


@pytest.mark.parametrize("first", [0.0, 7.0])
def test_first_rows_about_0_say_nothing_of_the_others(first):
    """A column that begins with zeros, or about 0, and lies far from it further down."""
    rng = np.random.default_rng(12)
    x = rng.standard_normal((300_000, 1)) + 1e4
    x[:300] = first * rng.standard_normal((300, 1))
    got = Moments().of(Rows(x))
    longer = x.astype(np.longdouble)
    m2 = ((longer - longer.mean(axis=0)) ** 2).sum(axis=0)
    assert (abs(got.m2 - m2) <= 256 * EPS * m2).all()


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-300, 2.2e-162, 1e-161, 0.1, -3.3, 1e8 + 0.1, 1e154])
@pytest.mark.parametrize("rows", [1, 255, 257, 5001])
def test_a_constant_beside_columns_about_0_has_no_variance(rows, value):
    x = np.random.default_rng(13).standard_normal((rows, 3))
    x[:, 1] = value
    got = Moments().of(Rows(x))
    assert got.m2[1] == 0
    assert got.mean[1] == value


@pytest.mark.parametrize("missing", [0.0, 0.05])
@pytest.mark.parametrize("weights", [None, "equal", "uniform", "zeros and ones", "heavy"])
@pytest.mark.parametrize("ratio", [0.0, 1e3, 1e6])
def test_weights_and_missing_values_cost_few_digits(ratio, weights, missing):
    """A column of two values is the worst: in one long chain all roundings go the same way, thousands of them."""
    rng = np.random.default_rng(14)
    rows = 104_896
    x = rng.standard_normal((rows, 5)) + ratio
    x[:, 4] = ratio + (rng.random(rows) < 0.3)
    x[rng.random(x.shape) < missing] = np.nan
    w = {
        None: None,
        "equal": np.full(rows, 0.3),
        "uniform": rng.uniform(0, 1, rows),
        "zeros and ones": (rng.random(rows) < 0.5).astype(float),
        "heavy": rng.pareto(1.1, rows),
    }[weights]
    got = Moments().of(Rows(x, None, w))
    for j in (0, 4):
        there = ~np.isnan(x[:, j])
        weight = (np.ones(rows) if w is None else w)[there].astype(np.longdouble)
        cells = x[there, j].astype(np.longdouble) - ratio
        mean = (weight * cells).sum() / weight.sum()
        m2 = (weight * (cells - mean) ** 2).sum()
        error = (got.mean[j] - ratio) + got.rest[j] - mean
        assert abs(error) <= 16 * EPS * np.sqrt(m2 / weight.sum())
        assert abs(got.m2[j] - m2) <= 64 * EPS * m2
        assert abs(got.n[j] - weight.sum()) <= 64 * EPS * weight.sum()


def test_weights_are_repetitions():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 3))
    x[rng.random(x.shape) < 0.2] = np.nan
    w = rng.integers(0, 4, 50)
    weighted = Moments().of(Rows(x, None, w.astype(float)))
    repeated = Moments().of(Rows(np.repeat(x, w, axis=0)))
    assert weighted.weight == repeated.weight == w.sum()
    np.testing.assert_allclose(weighted.n, repeated.n, rtol=0)
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=8 * EPS, atol=8 * EPS)
    np.testing.assert_allclose(weighted.m2, repeated.m2, rtol=16 * EPS)


def test_rows_of_no_weight_pull_at_nothing():
    x = np.array([[1e6], [0.25], [0.5]])
    w = np.array([0.0, 1.0, 1.0])
    state = Moments().of(Rows(x, None, w))
    assert state.mean[0] == 0.375
    assert state.m2[0] == 0.03125


def test_a_side_without_values_pulls_at_nothing():
    moments = Moments()
    huge = moments.of(Rows(np.full((2, 1), 1e200)))
    missing = moments.of(Rows(np.full((2, 1), np.nan)))
    for state in (moments.merge(huge, missing), moments.merge(missing, huge)):
        assert state.mean[0] == 1e200
        assert state.m2[0] == 0.0
        assert state.rows == 4


def test_variance_and_means_say_where_there_is_nothing():
    state = Moments().of(Rows(np.array([[1.0, np.nan], [3.0, np.nan]])))
    np.testing.assert_array_equal(state.means(), [2.0, np.nan])
    np.testing.assert_array_equal(state.variance(), [1.0, np.nan])
    np.testing.assert_array_equal(state.variance(correction=1), [2.0, np.nan])
    np.testing.assert_array_equal(state.variance(correction=2), [np.nan, np.nan])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_bad_weights_are_named(bad):
    w = np.ones(5)
    w[3] = bad
    with pytest.raises(DataError, match="sample_weight") as error:
        Moments().of(Rows(np.ones((5, 2)), None, w))
    assert error.value.rows == (3, 4)
    assert "inf)" not in str(error.value)


def test_infinity_is_named_even_where_no_row_of_the_block_has_a_weight():
    x = np.ones((3, 2))
    x[1, 1] = np.inf
    with pytest.raises(NonFiniteError) as error:
        Moments().of(Rows(x, None, np.zeros(3)))
    assert (error.value.rows, error.value.column) == ((1, 2), 1)


@pytest.mark.parametrize("block_rows", [1, 3])
@pytest.mark.parametrize("made", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("cells", [[1e200, -1e200, 0.0], [1e308, -1e308, 1.7e308], [1e308, -1e308, np.nan]])
def test_squares_that_overflow_are_no_variance_of_0(cells, made, block_rows):
    x = made(np.column_stack([np.arange(3.0), cells]))
    moments = Moments()
    state = merge_all(moments, [moments.of(Rows(x[i : i + block_rows])) for i in range(0, 3, block_rows)])
    with pytest.raises(DataError, match="overflow float64, in 1 of 2 columns; scale") as error:
        state.variance()
    assert error.value.column == 1


@pytest.mark.parametrize("block_rows", [1, 40])
@pytest.mark.parametrize("made", [np.asarray, scipy.sparse.csr_array])
def test_means_that_overflow_are_refused(made, block_rows):
    x = made(np.repeat([[1e308], [-1e308]], 20, axis=0) * 1.7)
    moments = Moments()
    state = merge_all(moments, [moments.of(Rows(x[i : i + block_rows])) for i in range(0, 40, block_rows)])
    with pytest.raises(DataError, match="overflow float64, in 1 of 1 columns; scale"):
        state.means()
