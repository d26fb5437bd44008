"""Row maps: what they state is what comes out, on every library; composed they are the same map."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import ooclearn
from ooclearn.backend import get_backend
from ooclearn.beside import as_affine
from ooclearn.rowmaps import Affine, Chain, Columns, RowMap, Rowwise, compose, kind_of, map_into

# One map after the other rounds a few times; composed into one it rounds otherwise.
ROUNDINGS = 1e3


def doubled(block):
    return np.asarray(block) * 2


def first(block):
    return np.asarray(block)[:, 0].astype(np.float64)


RNG = np.random.default_rng(7)
D = 4
MAPS = {
    "centred": Affine(center=RNG.normal(0, 10, D)),
    "scaled": Affine(RNG.uniform(0.5, 2, D)),
    "divided": Affine(RNG.uniform(0.5, 2, D), center=RNG.normal(0, 10, D), divide=True),
    "shifted": Affine(offset=RNG.normal(0, 10, D)),
    "all three": Affine(RNG.uniform(0.5, 2, D), center=RNG.normal(0, 1, D), offset=RNG.normal(0, 1, D)),
    "nothing": Affine(),
    "matrix": Affine(RNG.normal(0, 1, (D, 2)), center=RNG.normal(0, 1, D), offset=RNG.normal(0, 1, 2)),
    "squeezed": Affine(RNG.normal(0, 1, (D, 1)), offset=np.array([3.0]), squeeze=True),
    "columns": Columns((2, 0)),
    "rowwise": Rowwise(doubled, host=True),
    "one column": Rowwise(first, None, np.float64, host=True),
    "chain": compose(Columns((2, 0)), Rowwise(doubled, host=True), Affine(np.array([2.0, 3.0]))),
    "empty chain": Chain(()),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "int8", "bool"])
@pytest.mark.parametrize("name", MAPS)
def test_what_is_stated_comes_out(backend, name, dtype):
    row_map = MAPS[name]
    if not backend.has(dtype):
        dtype = "float32"
    if name in {"rowwise", "chain"} and dtype == "bool":
        dtype = "int8"
    X = (RNG.normal(0, 5, (30, D))).astype(dtype)
    blocks = backend.backend.blocks(backend.make(X)).map(row_map)
    assert isinstance(row_map, RowMap)
    columns = row_map.columns(D)
    shape = (30,) if columns is None else (30, columns)
    read = [backend.backend.to_host(blocks.read(i)) for i in range(blocks.n_blocks)]
    stated = row_map.dtype(np.dtype(dtype))
    # A device without float64 gives the widest it has.
    expected = np.dtype(np.float32) if stated == np.float64 and not backend.has("float64") else stated
    assert {block.dtype for block in read} == {expected}
    assert (blocks.shape, blocks.dtype) == (shape, stated)
    got = np.concatenate(read)
    assert got.shape == shape
    eps = max(backend.rounding, float(np.finfo(got.dtype).eps) if got.dtype.kind == "f" else 0.0)
    np.testing.assert_allclose(got.astype(float), row_map(X).astype(float), rtol=8 * eps, atol=100 * eps)


@pytest.mark.parametrize("name", MAPS)
def test_no_rows(backend, name):
    row_map = MAPS[name]
    X = np.zeros((0, D))
    out = row_map(backend.backend.blocks(backend.make(X)).read(0))
    columns = row_map.columns(D)
    assert backend.backend.to_host(out).shape == ((0,) if columns is None else (0, columns))


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 1024])
def test_a_block_is_not_written_to_and_layout_does_not_matter(name, rows):
    row_map = MAPS[name]
    X = RNG.normal(0, 5, (rows, D))
    expected = row_map(X)
    X.flags.writeable = False
    for view in (
        np.asfortranarray(X),
        np.repeat(X, 2, axis=0)[::2],
        np.ascontiguousarray(X)[:, ::-1][:, ::-1],
    ):
        view.flags.writeable = False
        np.testing.assert_allclose(row_map(view), expected, rtol=1e-13, atol=1e-13)
    out = np.empty(expected.shape, dtype=expected.dtype)
    map_into(row_map, X, out)
    np.testing.assert_array_equal(out, expected)
    if not np.shares_memory(expected, X):
        expected[...] = 0  # what comes out is the caller's


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [1, 2, 5, 2000])
def test_into_the_block_itself(d, dtype):
    row_map = Affine(RNG.uniform(1, 2, d), center=RNG.normal(0, 1, d), offset=RNG.normal(0, 1, d))
    X = RNG.normal(0, 5, (128, d)).astype(dtype)
    expected = row_map(X)
    row_map.into(X, X)
    np.testing.assert_array_equal(X, expected)


def maps_of(d):
    """Row maps that take `d` columns, and how many they give."""
    number = st.floats(-4, 4, width=32).map(lambda x: round(x * 8) / 8)
    row = st.lists(number, min_size=d, max_size=d).map(np.array)
    factor = st.lists(number.filter(lambda x: abs(x) >= 0.25), min_size=d, max_size=d).map(np.array)
    maybe = st.one_of(st.none(), row)
    diagonal = st.builds(Affine, st.one_of(st.none(), factor), maybe, maybe)
    divided = st.builds(Affine, factor, maybe, maybe, st.just(True))
    matrix = st.integers(1, 3).flatmap(
        lambda k: st.builds(
            Affine,
            st.lists(number, min_size=d * k, max_size=d * k).map(lambda v: np.reshape(v, (d, k)).astype(float)),
            maybe,
            st.one_of(st.none(), st.lists(number, min_size=k, max_size=k).map(np.array)),
        )
    )
    columns = st.lists(st.integers(0, d - 1), min_size=1, max_size=3).map(lambda at: Columns(tuple(at)))
    return st.one_of(diagonal, divided, matrix, columns, st.just(Rowwise(doubled, host=True)))


@st.composite
def chains(draw):
    d, maps = D, []
    for _ in range(draw(st.integers(0, 4))):
        maps.append(draw(maps_of(d)))
        d = maps[-1].columns(d)
    return maps


@settings(deadline=None, derandomize=True, max_examples=200)
@given(chains())
def test_composed_is_applied_in_turn(maps):
    X = np.random.default_rng(0).normal(0, 3, (20, D))
    in_turn = X
    scale = 1.0
    for row_map in maps:
        in_turn = row_map(in_turn)
        scale = max(scale, np.max(np.abs(in_turn)))
    both = compose(*maps)
    got = both(X)
    assert got.shape == in_turn.shape
    assert both.columns(D) == in_turn.shape[1]
    assert both.dtype(np.dtype(np.float64)) == got.dtype
    np.testing.assert_allclose(got, in_turn, rtol=0, atol=ROUNDINGS * np.finfo(float).eps * scale)
    neighbours = list(getattr(both, "maps", (both,)))
    pairs = pairwise(neighbours)
    assert not any(isinstance(a, Affine) and a.diagonal and isinstance(b, Affine) for a, b in pairs), "not collapsed"


def test_compose_leaves_out_what_does_nothing():
    one = Affine(np.array([2.0]))
    assert compose(None, one, None) is one
    both = compose(compose(one, Columns((2, 1))), Columns((1,)))
    assert both.maps[0] == Columns((1,)), "what is not kept is not mapped"
    np.testing.assert_array_equal(both(np.array([[1.0, 2.0, 3.0]])), [[4.0]])


@pytest.mark.parametrize("ratio", [1e2, 1e6, 1e9])
def test_a_scaler_before_a_matrix_keeps_the_digits_of_far_columns(ratio):
    """One product instead of two steps is used only where the centre is not too far from 0."""
    rng = np.random.default_rng(1)
    X = rng.normal(0, 1, (50, D)) + ratio
    scaled = Affine(np.full(D, 1.25), center=np.full(D, ratio), divide=True)
    matrix = Affine(rng.normal(0, 1, (D, 2)), offset=np.array([0.5, -0.5]))
    both = compose(scaled, matrix)
    assert isinstance(both, Affine)
    np.testing.assert_allclose(both(X), matrix(scaled(X)), rtol=0, atol=1e-12)


def test_a_far_centre_on_a_device_of_float32():
    """The part of the centre that float32 cannot hold is subtracted too."""
    xp = pytest.importorskip("array_api_strict", reason="in the group `test`")
    rng = np.random.default_rng(1)
    X = (rng.normal(0, 1, (100, 2)) + 1e4).astype(np.float32)
    center = X.astype(float).mean(axis=0)
    got = Affine(center=center)(xp.asarray(X, device=xp.Device("no_float64")))
    host = np.asarray(xp.asarray(got, device=xp.Device("CPU_DEVICE")))
    np.testing.assert_allclose(host, X - center, rtol=0, atol=4e-7)


@pytest.mark.parametrize("name", MAPS)
def test_pickled(name):
    row_map = pickle.loads(pickle.dumps(MAPS[name]))
    X = RNG.normal(0, 5, (5, D))
    np.testing.assert_array_equal(row_map(X), MAPS[name](X))


@pytest.mark.parametrize("after", ["matrix", "diagonal", "squeezed"])
def test_a_matrix_and_what_follows_are_one_product(after):
    rng = np.random.default_rng(0)
    X = rng.normal(50, 2, (300, 8))
    first = Affine(rng.normal(size=(8, 3)), center=X.mean(axis=0), offset=rng.normal(size=3))
    second = {
        "matrix": Affine(rng.normal(size=(3, 2)), center=rng.normal(size=3), offset=rng.normal(size=2)),
        "diagonal": Affine(rng.random(3) + 0.5, center=rng.normal(size=3), divide=True),
        "squeezed": Affine(rng.normal(size=(3, 1)), offset=rng.normal(size=1), squeeze=True),
    }[after]
    both = compose(first, second)
    assert type(both) is Affine
    np.testing.assert_allclose(both(X), second(first(X)), rtol=1e-12, atol=1e-12)


def test_two_products_stay_two_where_one_would_be_more_work():
    wide = compose(Affine(np.ones((100, 2))), Affine(np.ones((2, 100))))
    assert type(wide) is not Affine
    np.testing.assert_allclose(wide(np.ones((3, 100))), 200.0)


@pytest.mark.parametrize("n", [1, 32, 33])
def test_one_number_stands_for_all_columns(n):
    X = np.arange(n * 3.0).reshape(n, 3)
    for row_map in (Affine(np.array([2.0])), Affine(np.array([2.0]), offset=np.array([1.0]), divide=True)):
        expected = X * 2.0 if row_map.offset is None else X / 2.0 + 1.0
        np.testing.assert_array_equal(row_map(X), expected)


def test_one_column_taken_twice_before_a_matrix():
    chain = [Columns((0,)), Affine(center=np.array([1.0])), Columns((0, 0)), Affine(np.array([[1.0], [2.0]]))]
    np.testing.assert_array_equal(compose(*chain)(np.array([[3.0], [4.0]])), [[6.0], [9.0]])


@pytest.mark.parametrize("offset", [None, np.array([1.0, 2.0])])
def test_shifts_one_after_the_other_as_one_affine_map_keep_their_digits(offset):
    """Far from 0, products with a matrix would lose what the difference of the centres keeps."""
    far = np.array([1e8, -3e8]) + 1 / 3
    scale = Affine(np.array([3.0, 7.0]), divide=True)
    chain = Chain((Affine(center=far, offset=offset), Affine(center=np.array([0.1, 0.2])), Columns((1, 0)), scale))
    X = np.random.default_rng(2).standard_normal((20, 2))
    np.testing.assert_allclose(as_affine(chain, 2)(X + far), chain(X + far), rtol=0, atol=1e-14)
    matrix = RNG.normal(0, 1, (2, 2))
    np.testing.assert_array_equal(as_affine(Chain((Columns((0, 1)), Affine(matrix, center=far))), 2).center, far)


@pytest.mark.parametrize(
    ("row_map", "kind"),
    [
        (None, "same"),
        (Affine(), "diagonal"),
        (Affine(np.ones(2), center=np.ones(2)), "diagonal"),
        (Affine(np.ones((2, 3))), "affine"),
        (Affine(np.ones((2, 1)), squeeze=True), None),
        (Columns((1, 0)), "columns"),
        (Rowwise(np.sign), None),
        (Chain((Columns((0,)), Affine(np.ones((1, 3))))), None),
    ],
)
def test_the_kind_of_a_map_says_what_can_be_seen_through_it(row_map, kind):
    assert kind_of(row_map) == kind


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(1, 700), st.sampled_from([64, 100]), st.integers(1, 3))
def test_an_array_is_mapped_by_runs_to_what_it_is_mapped_to_as_one(n, run, workers):
    X = np.random.default_rng(n).normal(size=(n, 2))
    scaled = Affine(np.array([2.0, 3.0]), center=np.array([1.0, -1.0]))
    with pytest.MonkeyPatch.context() as patched, ooclearn.config_context(workers=workers):
        patched.setattr("ooclearn_backends.numpy.run_of_rows", lambda *_: run)
        for row_map in (scaled, Affine(np.ones((2, 1)), squeeze=True), Columns((1,))):
            np.testing.assert_array_equal(get_backend("numpy").map(row_map, X), row_map(X))


@pytest.mark.parametrize("offset", [None, np.array([0.5, -1.0, 2.0])])
def test_sparse_rows_through_a_matrix_are_what_dense_ones_are(offset):
    X = sparse.random_array((20, 4), density=0.4, format="csr", rng=0)
    matrix = np.arange(12.0).reshape(4, 3)
    for row_map in (Affine(matrix, offset=offset), Affine(matrix[:, :1], offset=None, squeeze=True)):
        np.testing.assert_allclose(row_map(X), row_map(X.toarray()), rtol=1e-14)
