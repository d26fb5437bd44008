"""Small array helpers."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from ooclearn._namespace import column_sums, column_sums_of_squares, matmul


class TestMatmul:
    @pytest.mark.parametrize("rows", [2, 3, 1000])
    @pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
    def test_is_the_product(self, rows, dtype):
        rng = np.random.default_rng(rows)
        a, b = (rng.integers(-9, 9, (rows, d)).astype(dtype) for d in (3, 5))
        for left, right in ((a.T, b), (a.T, a), (b[:, 0], a), (a.T, b[:, 1]), (a[:, 0], b[:, 0]), (a[::2].T, b[::2])):
            out = matmul(left, right)
            assert out.dtype == a.dtype
            np.testing.assert_array_equal(out, left @ right)

    @pytest.mark.parametrize("rows", [1, 2, 7])
    @pytest.mark.parametrize("cell", [np.nan, np.inf])
    def test_a_cell_that_is_no_number_shows_whatever_its_weight(self, rows, cell):
        x = np.ones((rows, 3))
        x[-1, 1] = cell
        with np.errstate(invalid="ignore"):
            assert np.isnan(matmul(np.zeros(rows), x)[1])
            assert np.isnan(matmul(x.T, np.zeros((rows, 1)))[1, 0])

    def test_no_rows(self):
        assert not matmul(np.zeros(0), np.zeros((0, 3))).any()

    def test_other_threads_run_meanwhile(self):
        x = np.ones((2_000_000, 8))
        woken, stop = [], threading.Event()

        def wake() -> None:
            while not stop.is_set():
                time.sleep(0.0005)
                woken.append(time.perf_counter())

        other = threading.Thread(target=wake)
        other.start()
        try:
            # Once is proof: a call that keeps the lock lets nobody wake between its first moment and its last.
            for _ in range(50):
                start = time.perf_counter()
                matmul(x.T, x)
                stop_at = time.perf_counter()
                length = stop_at - start
                if any(start + length / 4 < moment < stop_at - length / 4 for moment in woken):
                    break
            else:
                pytest.fail("nobody else ran")
        finally:
            stop.set()
            other.join()


class TestColumnSums:
    @pytest.mark.parametrize("rows", [0, 1, 257, 200_003])
    @pytest.mark.parametrize("columns", [0, 3])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("backend", ["numpy", "strict-no_float64", "torch", "jax", "jax-x64"], indirect=True)
    def test_digits_are_kept_however_many_rows(self, backend, rows, columns, weighted):
        rng = np.random.default_rng(rows)
        x = rng.chisquare(1, (rows, columns)).astype(np.float32)
        w = rng.uniform(0, 2, rows).astype(np.float32) if weighted else None
        wide, weight = (None if part is None else part.astype(np.float64) for part in (x, w))
        sums = column_sums(backend.make(wide), None if w is None else backend.make(weight))
        expected = (wide if w is None else wide * weight[:, None]).sum(axis=0)
        assert sums.shape == (columns,)
        np.testing.assert_allclose(backend.back(sums), expected, rtol=max(1e-12, backend.within(20)))

    @pytest.mark.parametrize("weights", ["equal", "uniform", "exponential", "zeros and ones", "heavy"])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize(("rows", "columns"), [(255, 3), (257, 5), (26_240, 20), (24_960, 21), (104_896, 5)])
    @pytest.mark.parametrize("squares", [False, True])
    def test_weights_cost_few_digits(self, rows, columns, order, weights, squares):
        """A column of two values is the worst: in one long chain all roundings go the same way, thousands of them."""
        rng = np.random.default_rng(rows + columns)
        x = np.asarray(rng.exponential(1, (rows, columns)), order=order)
        x[:, -1] = np.where(rng.random(rows) < 0.3, 0.7, 1 / 3)
        w = {
            "equal": np.full(rows, 0.3),
            "uniform": rng.uniform(0, 1, rows),
            "exponential": rng.exponential(1, rows),
            "zeros and ones": (rng.random(rows) < 0.5).astype(float),
            "heavy": rng.pareto(1.1, rows),
        }[weights]
        got = column_sums_of_squares(x, w) if squares else column_sums(x, w)
        for j in (0, columns - 1):
            column = x[:, j].astype(np.longdouble) ** (2 if squares else 1) * w
            assert abs(got[j] - column.sum()) <= 64 * np.finfo(np.float64).eps * column.sum()

    @pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, 1024, 1025])
    @pytest.mark.parametrize("cell", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("at", [0, -1])
    @pytest.mark.parametrize("columns", [1, 3, 4])
    def test_a_cell_that_is_no_number_shows_whatever_its_weight(self, rows, cell, at, columns):
        x, w = np.ones((rows, columns)), np.ones(rows)
        x[at, -1], w[at] = cell, 0
        for order in ("C", "F"):
            with np.errstate(invalid="ignore"):
                sums = column_sums(np.asarray(x, order=order), w)
            assert np.isnan(sums[-1])
            np.testing.assert_array_equal(sums[:-1], rows - 1)
