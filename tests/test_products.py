"""Products in small pieces are products, whatever the shape and layout, with kernels for small matrices and without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ooclearn import products
from ooclearn.products import product, rows_times


@pytest.fixture(params=[True, False], ids=["small kernels", "none"], scope="module")
def kernels(request):
    """Say whether BLAS has kernels for small matrices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_small_is_fast", lambda: request.param)
        yield request.param


def laid_out(rows, layout):
    """Return the same rows, laid out otherwise in memory."""
    n, d = rows.shape
    if layout == "by column":
        return np.asfortranarray(rows)
    if layout == "every other column":
        out = np.zeros((n, 2 * d), dtype=rows.dtype)[:, ::2]
    elif layout == "some rows of a wider table":
        out = np.zeros((2 * n, d + 3), dtype=rows.dtype)[::2, 1 : d + 1]
    else:
        return rows
    out[...] = rows
    return out


LAYOUTS = ["by row", "by column", "every other column", "some rows of a wider table"]


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None)
@given(n=st.integers(0, 40_000), p=st.integers(1, 70), q=st.none() | st.integers(1, 70), seed=st.integers(0, 9))
@example(n=30_001, p=20, q=None, seed=0)
@example(n=30_001, p=2, q=None, seed=0)
@example(n=30_001, p=17, q=None, seed=0)
@example(n=30_001, p=3, q=20, seed=0)
def test_a_product_is_that_of_all_rows(kernels, layout, n, p, q, seed):
    n = min(n, 400_000 // max(p, q or 1))
    rng = np.random.default_rng(seed)
    a = laid_out(rng.normal(size=(n, p)), layout)
    b = a if q is None else laid_out(rng.normal(size=(n, q)), layout)
    size = np.sqrt(np.outer((a * a).sum(axis=0), (b * b).sum(axis=0)))
    found = product(a, b)
    assert found.shape == (p, b.shape[1])
    assert np.all(np.abs(found - np.dot(a.T, b)) <= 1e-13 * size)
    if q is None and kernels and products._runs(a, a):
        assert np.array_equal(found, found.T)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("into", [None, "by row", "by column"])
@settings(deadline=None)
@given(n=st.integers(0, 40_000), d=st.integers(1, 70), k=st.integers(1, 70), seed=st.integers(0, 9))
@example(n=30_001, d=20, k=5, seed=0)
def test_rows_times_a_matrix_are_those_of_one_product(kernels, layout, into, n, d, k, seed):
    n = min(n, 400_000 // max(d, k))
    rng = np.random.default_rng(seed)
    x, matrix = laid_out(rng.normal(size=(n, d)), layout), rng.normal(size=(d, k))
    out = None if into is None else laid_out(np.full((n, k), np.nan), into)
    found = rows_times(x, matrix if seed % 2 else np.asfortranarray(matrix), out)
    assert out is None or found is out
    size = np.abs(x) @ np.abs(matrix)
    assert np.all(np.abs(found - np.dot(x, matrix)) <= 1e-14 * size)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 20_000, -1])
def test_what_is_not_finite_comes_out(kernels, bad, row):
    x = np.random.default_rng(0).normal(size=(30_001, 20))
    x[row, 7] = bad
    with np.errstate(invalid="ignore"):
        found = product(x, x)
        times = rows_times(x, np.ones((20, 5)))
    assert not np.isfinite(np.diagonal(found)[7])
    assert np.isfinite(np.delete(np.diagonal(found), 7)).all()
    assert np.flatnonzero(~np.isfinite(times).all(axis=1)).tolist() == [row % 30_001]


def test_sums_of_short_runs_keep_digits():
    # A column of zeros and ones: one long chain of additions would lose none here, of 1/3 it does.
    x = np.full((200_000, 20), 1 / 3)
    assert np.abs(product(x, x) / (200_000 * (1 / 3) ** 2) - 1).max() <= 2e-13


@settings(deadline=None)
@given(n=st.integers(1, 300_000), p=st.integers(1, 80), q=st.none() | st.integers(1, 80))
@example(n=26_208, p=20, q=None)
@example(n=524_288, p=2, q=None)
def test_runs_are_many_enough_for_numpy_to_let_other_threads_run(n, p, q):
    a = np.broadcast_to(np.float64(0), (n, p))
    a = np.lib.stride_tricks.as_strided(a, strides=(8 * p, 8))  # of no memory: only its layout is looked at
    b = a if q is None else np.lib.stride_tricks.as_strided(a, shape=(n, q), strides=(8 * q, 8))
    runs = products._runs(a, b)
    if not runs:
        assert p == 1 or b.shape[1] == 1 or max(p, b.shape[1]) > 64 or n < 64 * 500
        return
    parts = products._parts(p, b.shape[1], symmetric=q is None)
    assert [first for first, _, _ in parts] == [0, *(last for _, last, _ in parts[:-1])]
    assert parts[-1][1] == p
    for first, last, start in parts:
        assert runs * (last - first) * (b.shape[1] - start) >= 500
        # What NumPy would take for a matrix with itself has another kernel, which is not for small ones.
        assert q is not None or (first, last) != (start, p)
    assert n // runs >= 64
    assert n // runs * max(p, b.shape[1]) <= 41_000
