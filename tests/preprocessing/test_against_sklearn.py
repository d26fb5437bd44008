"""Law 5: on a table that fits in memory the results are scikit-learn's, on every container."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.preprocessing as theirs
from sklearn.base import clone

import ooclearn.preprocessing as ours
from ooclearn.exceptions import DataError
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import Column, made_rows

ROUNDINGS = 64
"""Both sum some hundred numbers and divide; each loses a few roundings of the dtype that it computes in."""

PARAMETERS = {
    "StandardScaler": [
        {},
        {"with_mean": False},
        {"with_std": False},
        {"with_mean": False, "with_std": False},
    ],
    "MinMaxScaler": [
        {},
        {"feature_range": (-1, 2.5)},
        {"clip": True},
        {"feature_range": (-3, -1), "clip": True},
    ],
    "MaxAbsScaler": [{}, {"clip": True}],
    "Normalizer": [{"norm": "l1"}, {"norm": "l2"}, {"norm": "max"}],
    "Binarizer": [{}, {"threshold": 0.5}, {"threshold": -1.0}],
}
CASES = [(name, parameters) for name, several in PARAMETERS.items() for parameters in several]
STATELESS = {"Normalizer", "Binarizer"}
DTYPES = ["float64", "float32", "float16", "int64", "int16", "uint8", "bool"]


def table(name, dtype, n=90):
    kinds = [Column("normal", 3.0), Column("constant", 2.0), Column("integers"), Column("normal", -40.0)]
    if name not in STATELESS:
        kinds += [Column("some missing", 1.0), Column("missing")]
    X = np.array(made_rows(n, kinds, dtype=dtype, seed=11).X)
    if name in STATELESS:
        X[::7] = 0  # rows of zeros have no length
    return X


def pair(name, parameters):
    return getattr(ours, name)(**parameters), getattr(theirs, name)(**parameters)


def close(got, expected, rounding, scale=None):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    finite = expected[np.isfinite(expected)]
    scale = max(1.0, np.max(np.abs(finite), initial=0.0)) if scale is None else scale
    room = ROUNDINGS * rounding
    np.testing.assert_allclose(got.astype(float), expected.astype(float), rtol=room, atol=room * scale)


def rounding_of(backend, dtype):
    return max(backend.rounding, float(np.finfo(dtype).eps) if np.dtype(dtype).kind == "f" else 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "parameters"), CASES, ids=lambda x: x if isinstance(x, str) else repr(x))
def test_attributes_and_results(backend, name, parameters, dtype):
    if not backend.has(dtype):
        dtype = "float32"
    X = table(name, dtype)
    mine, reference = pair(name, parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of its minimum of a column of NaN
        reference.fit(X)
    assert mine.fit(backend.make(X)) is mine
    rounding = rounding_of(backend, dtype)
    for attribute, expected in vars(reference).items():
        if not attribute.endswith("_"):
            continue
        got = getattr(mine, attribute)
        if expected is None:
            assert got is None
            continue
        assert np.shape(got) == np.shape(expected), attribute
        if backend.rounding < 1e-10:
            assert np.asarray(got).dtype.kind == np.asarray(expected).dtype.kind, attribute
        close(got, expected, rounding)

    seen = X * 2 if dtype != "bool" else ~X  # outside the range, so that clipping shows
    with np.errstate(invalid="ignore"):
        expected = reference.transform(seen.copy())
    got = backend.back(mine.transform(backend.make(seen)))
    if backend.rounding < 1e-10:
        assert got.dtype == expected.dtype
    close(got, expected, rounding)
    if hasattr(reference, "inverse_transform"):
        close(
            backend.back(mine.inverse_transform(backend.make(got))),
            reference.inverse_transform(expected.copy()),
            rounding,
        )


@pytest.mark.parametrize("weights", ["some zero", "counts"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sample_weights(backend, dtype, weights):
    rows = made_rows(
        90,
        [Column("normal", 3.0), Column("some missing"), Column("constant", 5.0)],
        dtype=dtype,
        weights=weights,
    )
    mine = ours.StandardScaler().fit(backend.make(rows.X), sample_weight=backend.make(rows.w))
    reference = theirs.StandardScaler().fit(rows.X, sample_weight=rows.w)
    rounding = rounding_of(backend, dtype)
    close(mine.mean_, reference.mean_, rounding)
    close(mine.var_, reference.var_, rounding)
    close(mine.scale_, reference.scale_, rounding)
    close(mine.n_samples_seen_, reference.n_samples_seen_, rounding)


def test_the_sum_of_the_weights_is_one_number(backend):
    """Also where it is added up by column, each with its own rounding."""
    X, w = np.random.default_rng(0).normal(size=(60, 6)), np.random.default_rng(1).random(60)
    seen = ours.StandardScaler().fit(backend.make(X), sample_weight=backend.make(w)).n_samples_seen_
    assert np.shape(seen) == ()
    np.testing.assert_allclose(seen, w.sum(), rtol=backend.within(64))


def test_weights_of_other_libraries_and_shapes_go_beside_the_rows(backend):
    """Weights may lie on the host, in a list, be cut elsewhere, or be one number."""
    rows = made_rows(40, [Column("normal")], weights="counts")
    X = backend.make(rows.X)
    expected = ours.StandardScaler().fit(rows.X, sample_weight=rows.w)
    for w in (rows.w, rows.w.tolist(), backend.make(rows.w.astype(np.float32))):
        close(ours.StandardScaler().fit(X, sample_weight=w).var_, expected.var_, backend.rounding)
    once = ours.StandardScaler().fit(rows.X)
    close(ours.StandardScaler().fit(X, sample_weight=2.0).var_, once.var_, backend.rounding)
    assert ours.StandardScaler().fit(X, sample_weight=2.0).n_samples_seen_ == 80


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (50, 1), (64, 1), (2, 700)])
@pytest.mark.parametrize("name", PARAMETERS)
def test_odd_shapes(backend, name, shape):
    X = np.random.default_rng(3).normal(1, 2, shape).astype(np.float64 if backend.has("float64") else np.float32)
    mine, reference = pair(name, {})
    got = backend.back(mine.fit_transform(backend.make(X)))
    close(got, reference.fit_transform(X), backend.rounding)


@pytest.mark.parametrize("name", PARAMETERS)
def test_arrays_larger_than_a_tile_go_through_threads(name):
    X = np.random.default_rng(5).normal(2, 3, (150_000, 7))
    mine, reference = pair(name, {})
    close(mine.fit_transform(X), reference.fit_transform(X), 2.0**-52)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_plan_is_what_is_read(name):
    """Law 7: one reading for a scaler, none for what has nothing to learn."""
    X = CountingBlocks(np.random.default_rng(4).normal(1, 2, (40, 3)), (7, 0, 33))
    estimator = getattr(ours, name)()
    plan = estimator.explain(X)
    assert X.passes == 0
    estimator.fit(X)
    assert X.passes == plan.n_passes == (0 if name in STATELESS else 1)
    result = estimator.transform(X)
    assert X.passes == plan.n_passes, "lazy"
    result.to_numpy()
    assert X.passes == plan.n_passes + 1


@pytest.mark.parametrize("frames", ["pandas", "polars"])
def test_a_data_frame_of_another_container(backend, frames):
    library = pytest.importorskip(frames, reason="in the group `test`")
    X = np.random.default_rng(4).normal(1, 2, (40, 3)).astype(np.float32)
    scaler = ours.StandardScaler().fit(X).set_output(transform=frames)
    if backend.lazy:
        with pytest.raises(DataError, match=f"set_output asks for {frames} and the result is lazy"):
            scaler.transform(backend.make(X))
        return
    out = scaler.transform(backend.make(X))
    assert isinstance(out, library.DataFrame)
    close(out.to_numpy(), theirs.StandardScaler().fit_transform(X), np.finfo(np.float32).eps)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("frames", ["pandas", "polars"])
def test_data_frames_names_and_set_output(name, frames):
    library = pytest.importorskip(frames, reason="in the group `test`")
    X = library.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.0, 1.0, 5.0]})
    mine, reference = pair(name, {})
    got = mine.set_output(transform=frames).fit_transform(X)
    expected = reference.set_output(transform=frames).fit_transform(X)
    assert type(got) is type(expected)
    assert list(got.columns) == ["a", "b"]
    close(got.to_numpy(), expected.to_numpy(), 2.0**-52)
    assert mine.get_feature_names_out().tolist() == mine.feature_names_in_.tolist() == ["a", "b"]
    if hasattr(mine, "inverse_transform"):
        back = mine.inverse_transform(got)  # without a word about names
        assert isinstance(back, np.ndarray)
        close(back, X.to_numpy(), 2.0**-52)
    with pytest.raises(ValueError, match="feature names"):
        mine.transform(library.DataFrame({"b": [1.0], "a": [2.0]}))


def test_names_of_blocks_are_kept(backend):
    blocks = backend.backend.blocks(backend.make(np.ones((3, 2))))
    blocks.names = np.array(["a", "b"], dtype=object)
    scaler = ours.StandardScaler().fit(blocks)
    assert scaler.get_feature_names_out().tolist() == ["a", "b"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_fitted_on_one_container_used_on_another(backend, name):
    """Fitted attributes are the host's: fit anywhere, use anywhere."""
    X = np.random.default_rng(6).normal(1, 2, (30, 3)).astype(np.float32)
    there = getattr(ours, name)().fit(backend.make(X))
    here = getattr(ours, name)().fit(X)
    for attribute, value in vars(there).items():
        if attribute.endswith("_") and isinstance(value, np.ndarray):
            assert type(value) is np.ndarray
    rounding = max(backend.rounding, np.finfo(np.float32).eps)
    close(there.transform(X), here.transform(X), rounding)
    close(backend.back(here.transform(backend.make(X))), here.transform(X), rounding)
    close(clone(there).fit(X).transform(X), here.transform(X), rounding)


@pytest.mark.parametrize("name", PARAMETERS)
def test_nothing_is_written_to(name):
    X = np.random.default_rng(8).normal(1, 2, (30, 3))
    before = X.copy()
    estimator = getattr(ours, name)(copy=False)
    out = estimator.fit(X).transform(X)
    assert not np.shares_memory(out, X)
    if hasattr(estimator, "inverse_transform"):
        estimator.inverse_transform(X)
    np.testing.assert_array_equal(X, before)


def test_a_scaler_that_does_nothing_may_give_back_what_it_got():
    X = np.ones((2, 2))
    assert ours.StandardScaler(with_mean=False, with_std=False, copy=False).fit(X).transform(X) is X
    assert ours.StandardScaler(with_mean=False, with_std=False).fit(X).transform(X) is not X


def test_long_rows_are_normalised_without_overflow():
    """scikit-learn gives rows of zeros here."""
    X = np.array([[3e200, 4e200], [3e-200, 4e-200], [0.0, 0.0]])
    np.testing.assert_allclose(ours.Normalizer().fit_transform(X), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-15)
