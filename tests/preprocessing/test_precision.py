"""Law 5: where scikit-learn loses digits, ours is at least as exact, shown against rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import sklearn.preprocessing as theirs

import ooclearn
import ooclearn.preprocessing as ours
from ooclearn.testing.tables import uneven_cut

# At a ratio of 1e8 float32 has one value for all rows, which is a constant column.
TABLES = [(ratio, np.float64) for ratio in (1.0, 1e4, 1e8)] + [(ratio, np.float32) for ratio in (1.0, 1e4, 1e6)]
ROWS = 2000

EQUAL = 4
"""Roundings that two right algorithms may differ by: to be nearer by less says nothing."""


def column(ratio, dtype, seed=0):
    """Values whose mean lies `ratio` standard deviations from 0."""
    return (np.random.default_rng(seed).standard_normal((ROWS, 1)) + ratio).astype(dtype)


def exact_moments(x):
    values = [Fraction(float(value)) for value in x[:, 0]]
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def error(got, expected):
    return float(abs(Fraction(float(got)) - expected) / abs(expected))


@pytest.fixture(params=["whole", "in blocks"])
def cut(request):
    """The table in memory, or as blocks; scikit-learn sees it whole, which is the easiest for it."""
    return (lambda x: x) if request.param == "whole" else lambda x: ooclearn.scan(x).recut(uneven_cut(len(x)))


@pytest.mark.parametrize(("ratio", "dtype"), TABLES)
def test_mean_and_variance(ratio, dtype, cut):
    x = column(ratio, dtype)
    mean, variance = exact_moments(x)
    mine, reference = ours.StandardScaler().fit(cut(x)), theirs.StandardScaler().fit(x)
    room = EQUAL * np.finfo(np.float64).eps
    assert error(mine.mean_[0], mean) <= error(reference.mean_[0], mean) + room
    assert error(mine.var_[0], variance) <= error(reference.var_[0], variance) + room


@pytest.mark.parametrize(("ratio", "dtype"), TABLES)
def test_standardised_rows(ratio, dtype, cut):
    x = column(ratio, dtype)
    mean, variance = exact_moments(x)
    exact = [(Fraction(float(value)) - mean) / Fraction(np.sqrt(float(variance))) for value in x[:, 0]]
    rows = [float(value) for value in exact]

    def worst(result):
        return np.max(np.abs(np.asarray(result, dtype=np.float64)[:, 0] - rows))

    mine = ours.StandardScaler().fit(cut(x)).transform(x)
    reference = theirs.StandardScaler().fit(x).transform(x)
    assert mine.dtype == reference.dtype == dtype
    assert worst(mine) <= worst(reference) + EQUAL * np.finfo(dtype).eps
    # What comes out is rounded to its dtype; the mean, in float64, by a rounding of itself.
    assert worst(mine) <= 8 * np.finfo(dtype).eps + 2 * ratio * np.finfo(np.float64).eps


@pytest.mark.parametrize(("ratio", "dtype"), TABLES)
def test_rows_scaled_to_a_range(ratio, dtype, cut):
    x = column(ratio, dtype)
    low, high = Fraction(float(x.min())), Fraction(float(x.max()))
    rows = [float((Fraction(float(value)) - low) / (high - low)) for value in x[:, 0]]

    def worst(result):
        return np.max(np.abs(np.asarray(result, dtype=np.float64)[:, 0] - rows))

    mine = ours.MinMaxScaler().fit(cut(x)).transform(x)
    reference = theirs.MinMaxScaler().fit(x).transform(x)
    assert worst(mine) <= worst(reference) + EQUAL * np.finfo(dtype).eps
    assert worst(mine) <= 4 * np.finfo(dtype).eps


@pytest.mark.parametrize("value", [0.1, 1e-3, 123456.789, 1.7e9, -1e8, 0.0, 1e-300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_constant_columns_are_constant(value, dtype, cut):
    """They are mapped to 0 and not to noise, whatever the value and however the rows are cut."""
    if abs(value) > float(np.finfo(dtype).max):
        value = 0.1
    x = np.full((1500, 2), value, dtype=dtype)
    scaler = ours.StandardScaler().fit(cut(x))
    assert scaler.scale_.tolist() == [1.0, 1.0]
    room = 4 * np.finfo(np.float64).eps * abs(float(dtype(value)))
    np.testing.assert_allclose(scaler.transform(x), 0.0, atol=room)
    assert ours.MinMaxScaler().fit(cut(x)).transform(x).max() == 0.0


def test_times_in_seconds_are_not_taken_for_constant():
    """scikit-learn's bound grows with the number of rows; with 1e5 rows it says constant here."""
    x = np.random.default_rng(1).normal(1.7e9, 0.02, (100_000, 1))
    assert theirs.StandardScaler().fit(x).scale_[0] == 1.0
    assert ours.StandardScaler().fit(x).scale_[0] == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("ratio", [1e4, 1e6])
def test_streaming_as_exact_as_at_once(ratio):
    """partial_fit over many small parts; scikit-learn's running sums drift."""
    x = column(ratio, np.float64)
    mean, variance = exact_moments(x)
    mine, reference = ours.StandardScaler(), theirs.StandardScaler()
    for start in range(0, ROWS, 5):
        mine.partial_fit(x[start : start + 5])
        reference.partial_fit(x[start : start + 5])
    room = EQUAL * np.finfo(np.float64).eps
    assert error(mine.mean_[0], mean) <= error(reference.mean_[0], mean) + room
    assert error(mine.var_[0], variance) <= error(reference.var_[0], variance) + room
    assert error(mine.var_[0], variance) <= 2 * room


def test_half_precision_neither_overflows_nor_drifts(cut):
    x = np.full((5000, 1), 60000.0, dtype=np.float16)
    x[::2] = 59968.0
    scaler = ours.StandardScaler().fit(cut(x))
    assert scaler.mean_[0] == 59984.0
    assert scaler.var_[0] == pytest.approx(256.0, rel=1e-15)
    assert scaler.transform(x).dtype == np.float16


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_lengths_of_rows(norm, scale):
    x = np.random.default_rng(2).normal(0, scale, (200, 5))
    mine = ours.Normalizer(norm=norm).fit_transform(x)
    lengths = {"l1": np.abs(mine).sum(1), "l2": np.sqrt((mine**2).sum(1)), "max": np.abs(mine).max(1)}[norm]
    np.testing.assert_allclose(lengths, 1.0, rtol=4 * np.finfo(float).eps)


# A device without float64.


@pytest.fixture
def narrow():
    xp = pytest.importorskip("array_api_strict", reason="in the group `test`")
    device, host = xp.Device("no_float64"), xp.Device("CPU_DEVICE")
    return lambda x: xp.asarray(x, device=device), lambda x: np.asarray(xp.asarray(x, device=host))


@pytest.mark.parametrize("value", [0.1, 1e-3, 123456.789, 1.7e9, -1e8, 0.0])
def test_constant_columns_are_constant_in_float32_too(value, narrow):
    there, back = narrow
    x = np.full((3000, 2), value, dtype=np.float32)
    scaler = ours.StandardScaler().fit(there(x))
    assert scaler.scale_.tolist() == [1.0, 1.0]
    assert scaler.mean_.dtype == np.float64
    np.testing.assert_allclose(back(scaler.transform(there(x))), 0.0, atol=4e-14 * abs(value))


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4])
def test_float32_keeps_its_own_digits(ratio, narrow):
    """Rows are centred before they are squared, and by a mean of more digits than float32 has."""
    there, back = narrow
    x = column(ratio, np.float32)
    mean, variance = exact_moments(x)
    scaler = ours.StandardScaler().fit(there(x))
    assert error(scaler.mean_[0], mean) <= 4e-7 / ratio
    assert error(scaler.var_[0], variance) <= 1e-5
    rows = [float((Fraction(float(v)) - mean) / Fraction(np.sqrt(float(variance)))) for v in x[:, 0]]
    np.testing.assert_allclose(back(scaler.transform(there(x)))[:, 0], rows, rtol=2e-5, atol=2e-6)
