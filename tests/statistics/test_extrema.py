"""Extrema: exact, missing values left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ooclearn.exceptions import NonFiniteError
from ooclearn.statistics import Extrema
from ooclearn.table import Rows

CELLS = st.floats(allow_infinity=False, width=64)


@settings(deadline=None, derandomize=True)
@given(arrays(np.float64, st.tuples(st.integers(0, 70), st.integers(1, 3)), elements=CELLS))
def test_least_and_greatest_are_cells(x):
    state = Extrema().of(Rows(x))
    for j in range(x.shape[1]):
        there = x[:, j][~np.isnan(x[:, j])]
        low, high = (there.min(), there.max()) if len(there) else (np.nan, np.nan)
        np.testing.assert_array_equal([state.least()[j], state.greatest()[j]], [low, high])
    assert state.rows == len(x)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinity_is_named(bad):
    x = np.zeros((3, 2))
    x[2, 0] = bad
    with pytest.raises(NonFiniteError, match="infinity") as error:
        Extrema().of(Rows(x))
    assert (error.value.rows, error.value.column) == ((2, 3), 0)


@pytest.mark.parametrize("rows", [1, 2, 64, 1000, 1024, 1025])
@pytest.mark.parametrize("columns", [1, 3, 600])
def test_narrow_rows_that_are_seen_wide(rows, columns):
    x = np.random.default_rng(rows).standard_normal((rows, columns))
    state = Extrema().of(Rows(x))
    np.testing.assert_array_equal(state.low, x.min(axis=0))
    np.testing.assert_array_equal(state.high, x.max(axis=0))
