"""Distinct: exact values and counts, for every dtype of labels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.statistics import Distinct, merge_all
from ooclearn.table import Rows

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint64", "float32", "float64", "bool", "U4", "object"]


def extreme(dtype):
    if dtype.kind in "iu":
        return [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 3]
    if dtype.kind == "f":
        # Differences of these round to whole numbers, though the values are none.
        return [-1.0, 0.0, 1e-17, 0.1, 1.1, 3.3, 2.0**60]
    return [False, True] if dtype.kind == "b" else ["a", "b", "cccc", "é"]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data(), st.sampled_from(DTYPES))
def test_counts_are_those_of_a_dictionary(data, name):
    dtype = np.dtype(name)
    values = data.draw(st.lists(st.sampled_from(extreme(dtype)), min_size=1, max_size=30))
    y = np.array(values, dtype=dtype)
    cut = data.draw(st.integers(0, len(y)))
    distinct = Distinct()
    w = np.arange(len(y), dtype=float)
    state = merge_all(distinct, [distinct.of(Rows(None, y[:cut], w[:cut])), distinct.of(Rows(None, y[cut:], w[cut:]))])
    found = state.columns[0]
    expected = Counter(y.tolist())
    assert found.values.tolist() == sorted(expected)
    assert dict(zip(found.values.tolist(), found.counts.tolist(), strict=True)) == expected
    assert found.values.dtype == dtype
    weights = {value: sum(x for x, one in zip(w, y.tolist(), strict=True) if one == value) for value in expected}
    assert dict(zip(found.values.tolist(), found.weights.tolist(), strict=True)) == weights


def test_columns_are_counted_apart():
    y = np.array([[0, 5], [1, 5], [1, 7]])
    state = Distinct().of(Rows(None, y))
    assert [column.values.tolist() for column in state.columns] == [[0, 1], [5, 7]]
    assert repr(state) == "Distinct: rows=3 | values=2, 2"


def test_a_continuous_target_is_refused_within_a_block_and_between_blocks():
    distinct = Distinct(limit=10)
    with pytest.raises(DataError, match="more than 10 distinct values"):
        distinct.of(Rows(None, np.random.default_rng(0).standard_normal(11)))
    halves = [distinct.of(Rows(None, np.arange(i, i + 6) * 0.5)) for i in (0, 6)]
    with pytest.raises(DataError, match="continuous"):
        distinct.merge(*halves)


def test_labels_of_several_types_are_refused():
    with pytest.raises(DataError, match="all of one type"):
        Distinct().of(Rows(None, np.array(["a", 1, None], dtype=object)))


def test_nan_in_labels_is_named():
    with pytest.raises(NonFiniteError, match="y") as error:
        Distinct().of(Rows(None, np.array([0.0, np.nan])))
    assert error.value.rows == (1, 2)
