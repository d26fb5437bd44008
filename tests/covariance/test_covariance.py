"""Covariances: what scikit-learn finds, in one reading of whatever parts, and as exact as the rows allow."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import sklearn.covariance as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

import ooclearn
import ooclearn.covariance as ours
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import uneven_cut

NAMES = ["EmpiricalCovariance", "LedoitWolf", "OAS"]


def table(n=120, d=5, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_t(5, size=(n, d)) * np.arange(1, d + 1) + 3).astype(dtype)


def dtype_of(backend):
    return "float64" if backend.has("float64") else "float32"


def assert_alike(mine, reference, room):
    for name in ("location_", "covariance_", "shrinkage_", "precision_", "n_features_in_"):
        if hasattr(reference, name):
            got, expected = getattr(mine, name), getattr(reference, name)
            if expected is None:
                assert got is None
                continue
            assert np.shape(got) == np.shape(expected), name
            np.testing.assert_allclose(got, expected, rtol=room, atol=room, err_msg=name)


@pytest.mark.parametrize("assume_centered", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_scikit_learn_finds(backend, name, assume_centered):
    X = table(dtype=dtype_of(backend))
    wide = X.astype(np.float64)
    mine = getattr(ours, name)(assume_centered=assume_centered).fit(backend.make(X))
    reference = getattr(theirs, name)(assume_centered=assume_centered).fit(wide)
    room = backend.within(1e4)
    assert_alike(mine, reference, room)
    np.testing.assert_allclose(mine.get_precision(), reference.get_precision(), rtol=room, atol=room)
    distances = backend.back(mine.mahalanobis(backend.make(X)))
    np.testing.assert_allclose(distances, reference.mahalanobis(wide), rtol=10 * room, atol=room)
    assert mine.score(backend.make(X)) == pytest.approx(reference.score(wide), rel=room)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(4, 9), (30, 1), (2, 2), (200, 3)])
def test_shapes(name, shape):
    X = table(*shape)
    assert_alike(getattr(ours, name)().fit(X), getattr(theirs, name)().fit(X), 1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scaling", [True, False])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("norm", ["frobenius", "spectral"])
def test_error_norm(name, norm, scaling, squared):
    X = table()
    mine, reference = getattr(ours, name)().fit(X), getattr(theirs, name)().fit(X)
    got = mine.error_norm(np.eye(5), norm, scaling, squared)
    assert got == pytest.approx(reference.error_norm(np.eye(5), norm, scaling, squared), rel=1e-12)
    with pytest.raises(NotImplementedError, match="Only spectral and frobenius norms are implemented"):
        mine.error_norm(np.eye(5), norm="other")


@pytest.mark.parametrize("name", NAMES)
def test_the_precision_need_not_be_stored(name):
    X = table()
    mine = getattr(ours, name)(store_precision=False).fit(X)
    stored = getattr(ours, name)().fit(X)
    assert mine.precision_ is None
    assert mine.get_precision().tobytes() == stored.precision_.tobytes()
    assert mine.score(X) == stored.score(X)


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 89), max_size=6, unique=True).map(sorted),
    name=st.sampled_from(NAMES),
    offset=st.sampled_from([0.0, 1e4, -1e8]),
    merging=st.booleans(),
)
def test_any_parts_give_the_fit_of_all_rows(cuts, name, offset, merging):
    X = table(90, 3) + offset
    cls = getattr(ours, name)
    grown = cls()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Only one sample")
        for k, part in enumerate(np.split(X, cuts)):
            grown = grown.merge(cls().fit(part)) if merging and k else grown.partial_fit(part)
    assert_alike(grown, cls().fit(X), 1e-11 if offset == 0 else 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_one_reading_and_what_explain_says(name):
    X = table(dtype="float64")
    rows = CountingBlocks(X, [30, 0, 1, 89])
    mine = getattr(ours, name)()
    plan = mine.explain(rows)
    assert rows.passes == 0
    mine.fit(rows)
    assert rows.passes == plan.n_passes == 1
    lazy = mine.mahalanobis(rows)
    assert rows.passes == 1, "distances of blocks are lazy"
    np.testing.assert_allclose(lazy.to_numpy(), getattr(theirs, name)().fit(X).mahalanobis(X), rtol=1e-10)
    mine.score(rows)
    assert rows.passes == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_behind_a_scaler_it_is_one_reading_too(name, offset):
    X = table(500) * [1e-3, 1.0, 1e3, 1e-2, 10.0]
    X = X + offset * X.std(axis=0)
    rows = CountingBlocks(X, uneven_cut(len(X)))
    pipe = make_pipeline(StandardScaler(), getattr(ours, name)())
    plan = pipe.explain(rows)
    pipe.fit(rows)
    assert plan.n_passes == rows.passes == 1
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    reference = getattr(theirs, name)().fit(scaled)
    np.testing.assert_allclose(pipe[1].covariance_, reference.covariance_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(getattr(pipe[1], "shrinkage_", 0.0), getattr(reference, "shrinkage_", 0.0), rtol=1e-9)
    assert pipe.score(rows) == pytest.approx(reference.score(scaled), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_an_offset_costs_no_digits(name, offset):
    """Against the same rows moved back in extended precision, where nothing is lost."""
    X = table(3000) + offset
    moved = (X.astype(np.longdouble) - offset).astype(np.float64)  # exact: cells have no digits below
    reference = getattr(ours, name)().fit(moved)
    mine = getattr(ours, name)().fit(ooclearn.scan(X).recut(uneven_cut(len(X))))
    np.testing.assert_allclose(mine.covariance_, reference.covariance_, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(getattr(mine, "shrinkage_", 0.0), getattr(reference, "shrinkage_", 0.0), rtol=1e-11)


def test_columns_of_very_different_scales_are_not_singular():
    scales = np.array([1.0, 1e-6, 1e-12, 1e6])
    X = table(500, 4) * scales
    mine = ours.EmpiricalCovariance().fit(X)
    np.testing.assert_allclose(mine.precision_ @ mine.covariance_ / scales * scales[:, None], np.eye(4), atol=1e-12)
    plain = ours.EmpiricalCovariance().fit(X / scales)
    np.testing.assert_allclose(mine.mahalanobis(X), plain.mahalanobis(X / scales), rtol=1e-10)
    assert mine.score(X) == pytest.approx(plain.score(X / scales) - np.log(scales).sum(), rel=1e-12)


def test_columns_that_depend_on_one_another():
    X = table(50, 3)
    X = np.concatenate([X, X[:, :1] - X[:, 1:2], np.full((50, 1), 2.0)], axis=1)
    mine, reference = ours.EmpiricalCovariance().fit(X), theirs.EmpiricalCovariance().fit(X)
    assert_alike(mine, reference, 1e-9)
    np.testing.assert_allclose(mine.mahalanobis(X), reference.mahalanobis(X), rtol=1e-9)
    assert mine.score(X) == -np.inf, "scikit-learn's is the rounding of a determinant of 0"
    assert_alike(ours.LedoitWolf().fit(X), theirs.LedoitWolf().fit(X), 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_one_row(name):
    X = np.array([[1.0, 2.0, 3.0]])
    with pytest.warns(UserWarning, match="Only one sample available"):
        mine = getattr(ours, name)().fit(X)
    with pytest.warns(UserWarning, match="Only one sample available"):
        reference = getattr(theirs, name)().fit(X)
    assert_alike(mine, reference, 1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_refused_with_the_place(backend, name, bad):
    X = table(dtype=dtype_of(backend))
    mine = getattr(ours, name)().fit(X)
    before = pickle.dumps(mine)
    X[37, 3] = bad
    for call in (
        lambda: mine.fit(backend.make(X)),
        lambda: mine.partial_fit(backend.make(X)),
        lambda: backend.back(mine.mahalanobis(backend.make(X))),
        lambda: mine.score(backend.make(X)),
    ):
        with pytest.raises(ValueError, match="Input X contains " + ("NaN" if np.isnan(bad) else "infinity")) as error:
            call()
        assert (error.value.rows, error.value.column) == ((37, 38), 3)
    assert pickle.dumps(mine) == before


@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_grow_with_rows(name):
    def peak(n):
        rows = CountingBlocks(np.random.default_rng(0).normal(size=(n, 8)), [20_000] * (n // 20_000))
        with ooclearn.config_context(workers=1):
            mine = getattr(ours, name)().fit(rows)  # what is kept for good, buffers and imports, is there now
            tracemalloc.start()
            try:
                mine.fit(rows)
                mine.score(rows)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    few, many = peak(60_000), peak(480_000)
    assert many <= 1.1 * few + 2**16, (few, many)


def test_weights_are_refused():
    X = table()
    with pytest.raises(TypeError, match="sample_weight"):
        ours.LedoitWolf().fit(X, sample_weight=np.ones(len(X)))
    pipe = make_pipeline(StandardScaler(), ours.OAS())
    with pytest.raises(TypeError, match=r"OAS.fit\(\) got an unexpected keyword argument 'sample_weight'"):
        pipe.fit(X, oas__sample_weight=np.ones(len(X)))
