"""The statistics of k-means under the laws, and against sums written down plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from ooclearn.cluster.distances import distances, labels_on_host, nearest_label, squares_on_host
from ooclearn.cluster.drawing import DrawnRows
from ooclearn.cluster.sums import ClusterSums
from ooclearn.rowmaps import Affine, Columns
from ooclearn.statistics import merge_all
from ooclearn.statistics.held import as_held
from ooclearn.statistics.protocol import after, before
from ooclearn.table import Rows
from ooclearn.testing import check_statistic
from ooclearn.testing.tables import DTYPES, WEIGHTS, Column, made_rows, part_of

# No row is as near to two of them, up to rounding.
CENTERS = np.array([[-1.13, 0.31], [0.97, -0.43], [2.21, 2.17], [50.3, 50.1]])


def pairs(offset):
    """Tables of two columns that lie about `offset`."""
    column = st.builds(Column, st.sampled_from(("normal", "constant", "integers", "outlier")), st.just(offset))
    return st.builds(
        lambda n, columns, dtype, weights, seed: made_rows(n, columns, dtype=dtype, weights=weights, seed=seed),
        st.integers(0, 40),
        st.lists(column, min_size=2, max_size=2),
        st.sampled_from(DTYPES if not offset else ("float64",)),
        st.sampled_from(WEIGHTS),
        st.integers(0, 2**16),
    )


def far_but_order(state):
    """Leave out which of equally far rows are kept."""
    return state.weights, state.sums, state.inertia, state.far.squares


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_laws_of_sums(offset):
    center = np.array([offset, offset])
    check_statistic(ClusterSums(CENTERS, center, n_far=3), rows=pairs(offset), answer=far_but_order)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_laws_of_sums_that_keep_far_rows_for_empty_clusters(offset):
    center = np.array([offset, offset])
    check_statistic(ClusterSums(CENTERS, center, 3, for_empty=True), rows=pairs(offset), answer=far_but_order)


@pytest.mark.parametrize("weights", [None, "some zero"])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 0.0], ids=["wide", "narrow", "equal"])
@pytest.mark.parametrize("offset", [0.0, 0.5, 1e8])
@pytest.mark.parametrize("order", ["mixed", "C first", "F"])
def test_sums_without_distances_of_single_rows(order, offset, spread, weights):
    """Rows about 0 are not centred, and the inertia comes from sums, as far as that loses few digits."""
    rng = np.random.default_rng(5)
    label = rng.integers(0, 3, 700)
    if order == "C first":  # the first rows lie about 0, the others do not
        label = np.sort(label)
    X = np.round((CENTERS[label] + spread * rng.normal(size=(700, 2))) * 2**20) / 2**20 + offset
    if order == "F":
        X = np.asfortranarray(X)
    w = None if weights is None else np.where(rng.random(700) < 0.2, 0.0, rng.uniform(0.5, 2, 700))
    center = np.round(X.mean(axis=0))
    got = ClusterSums(CENTERS + (offset - center), center, 2, for_empty=True).of(Rows(X, None, w))
    off = (X - center).astype(np.longdouble)
    squares = ((off[:, None] - (CENTERS + (offset - center))) ** 2).sum(axis=2)
    nearest, least, one = squares.argmin(axis=1), squares.min(axis=1), np.ones(700) if w is None else w
    np.testing.assert_allclose(got.weights, np.bincount(nearest, weights=one, minlength=4), rtol=1e-13)
    sums = np.array([(one * (nearest == k)) @ off for k in range(4)], dtype=float)
    np.testing.assert_allclose(got.sums, sums, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(got.inertia, float(one @ least), rtol=1e-12)
    # One cluster is empty.
    assert len(got.far.squares) == 1
    np.testing.assert_allclose(got.far.squares[0], float(least[one > 0].max()), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 8, 9, 32, 33, 300])
@pytest.mark.parametrize("n", [1, 100, 5000])
def test_labels_are_the_first_of_the_nearest(n, k):
    """Whichever way centres are compared; those of the second half are again those of the first."""
    rng = np.random.default_rng(k)
    centers = rng.normal(size=(k, 3))
    centers[k - k // 2 :] = centers[: k // 2]
    X = rng.normal(size=(n, 3))
    squares = ((X[:, None] - centers) ** 2).sum(axis=2)
    labels = labels_on_host(X, centers)
    np.testing.assert_array_equal(labels, squares.argmin(axis=1))
    np.testing.assert_allclose(squares_on_host(X, centers, labels), squares.min(axis=1), rtol=1e-12)
    # What is none of them is refused later, and must not lead out of the centres.
    X[n // 2, 1] = np.nan
    labels = labels_on_host(X, centers)
    assert labels.min() >= 0
    assert labels.max() < k


def everything(state):
    return state.possible, state.rows, state.weights


def only_the_number(state):
    return state.possible


@pytest.mark.parametrize("centers", [None, CENTERS], ids=["by weight", "by distance"])
@pytest.mark.parametrize(("count", "answer"), [(64, everything), (5, only_the_number)], ids=["all", "some"])
def test_laws_of_drawing(count, answer, centers):
    statistic = DrawnRows(7, count, centers=centers, center=np.zeros(2))
    check_statistic(statistic, rows=pairs(0.0), answer=answer, roundings=0)


@pytest.mark.parametrize("weights", [None, "some zero"])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_sums_are_those_of_the_differences(backend, weights, offset):
    if backend.rounding > 1e-10:
        offset = min(offset, 100.0)
    rows = made_rows(500, [Column("normal", offset), Column("normal", offset)], weights=weights, seed=3)
    center = np.array([offset + 0.25, offset])
    statistic = ClusterSums(CENTERS, center, n_far=4)
    parts = [part_of(rows, start, stop) for start, stop in ((0, 0), (0, 1), (1, 400), (400, 500))]
    made = [
        Rows(
            *(
                None if part is None else backend.backend.blocks(backend.make(part)).to_numpy()
                for part in (p.X, None, p.w)
            )
        )
        if backend.lazy
        else Rows(backend.make(p.X), None, None if p.w is None else backend.make(p.w))
        for p in parts
    ]
    got = merge_all(statistic, [statistic.of(part) for part in made])

    X = rows.X.astype(np.float32).astype(float) if backend.rounding > 1e-10 else rows.X
    w = np.ones(500) if rows.w is None else rows.w
    off = (X - center).astype(np.longdouble)
    squares = ((off[:, None] - CENTERS) ** 2).sum(axis=2)
    labels = squares.argmin(axis=1)
    least = squares.min(axis=1)
    rtol = backend.within(1e4)
    np.testing.assert_allclose(got.weights, np.bincount(labels, weights=w, minlength=4), rtol=rtol)
    sums = np.array([(w * (labels == k)) @ off for k in range(4)], dtype=float)
    np.testing.assert_allclose(got.sums, sums, rtol=rtol, atol=1e3 * rtol)
    np.testing.assert_allclose(got.inertia, float(w @ least), rtol=rtol)
    far = np.argsort(-np.where(w > 0, least, -1), kind="stable")[:4]
    np.testing.assert_allclose(got.far.squares, least[far].astype(float), rtol=rtol)
    np.testing.assert_array_equal(got.far.labels, labels[far])
    np.testing.assert_allclose(got.far.rows, off[far].astype(float), rtol=rtol, atol=1e3 * rtol)


def test_rows_are_drawn_by_their_odds():
    """Of ten clocks with odds 1 to 10, the one that runs first is as often the k-th as its odds say."""
    X = np.zeros((11, 1))
    X[1:, 0] = np.sqrt(np.arange(1, 11))
    statistics = [DrawnRows(seed, 1, centers=np.zeros((1, 1)), center=np.zeros(1)) for seed in range(4000)]
    drawn = np.array([one.of(Rows(X)).rows[0, 0] ** 2 for one in statistics])
    share = np.array([np.isclose(drawn, k).mean() for k in range(11)])
    assert share[0] == 0
    np.testing.assert_allclose(share[1:], np.arange(1, 11) / 55, atol=0.03)


def test_equal_tiles_do_not_drown_the_others():
    """Tables made by repeating rows have equal tiles, which draw equal rows: each counts once."""
    rng = np.random.default_rng(0)
    tile = rng.normal(size=(200, 2))
    statistic = DrawnRows(0, 50)
    state = merge_all(statistic, [statistic.of(Rows(tile))] * 20)
    assert state.possible == 4000
    assert len(np.unique(state.rows, axis=0)) == len(state.rows) == 50


@pytest.mark.parametrize(
    "row_map",
    [Affine(np.array([2.0, 4.0]), center=np.array([1.0, -1.0])), Affine(np.array([[1.0], [2.0]])), Columns((1,))],
    ids=["diagonal", "affine", "columns"],
)
@pytest.mark.parametrize("count", [5, 100])
def test_naturality_of_drawing(row_map, count):
    rows = made_rows(60, [Column(), Column("normal", 3.0)], weights="some zero")
    kind = "columns" if isinstance(row_map, Columns) else "diagonal" if row_map.diagonal else "affine"
    statistic = DrawnRows(0, count)
    seen = after(statistic, before(statistic, kind).of(rows), row_map)
    here = statistic.of(Rows(row_map(rows.X), None, rows.w))
    assert seen.possible == here.possible
    assert len(seen.rows) == len(here.rows)
    if here.complete:
        np.testing.assert_array_equal(seen.rows, here.rows)
        np.testing.assert_array_equal(seen.weights, here.weights)


def test_drawing_by_distance_is_not_seen_through():
    assert before(DrawnRows(0, 5, centers=CENTERS, center=np.zeros(2)), "diagonal") is None
    assert before(ClusterSums(CENTERS, np.zeros(2)), "diagonal") is None


def test_distances_of_device_blocks(backend):
    X = np.random.default_rng(0).normal(3, 2, (70, 2))
    block = backend.make(X) if not backend.lazy else X
    host = (lambda x: backend.backend.blocks(x).to_numpy()) if not backend.lazy else np.asarray
    exact = np.sqrt(((X[:, None] - CENTERS) ** 2).sum(axis=2))
    got = distances(block, centers=CENTERS)
    np.testing.assert_allclose(host(got), exact, rtol=backend.within(1e4))
    labels = host(nearest_label(block, centers=CENTERS))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, exact.argmin(axis=1))


def test_centres_are_rounded_only_where_the_device_holds_no_more(backend):
    centers = np.array([[0.1, 1 / 3]])
    held = as_held(centers, backend.backend.blocks(backend.make(np.ones((2, 2)))).read(0))
    rounded = centers if backend.has("float64") else centers.astype(np.float32)
    np.testing.assert_array_equal(held, rounded)
