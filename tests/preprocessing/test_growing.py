"""partial_fit and merge: as if everything had been fitted at once."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn.preprocessing as theirs
from sklearn.exceptions import NotFittedError

import ooclearn.preprocessing as ours
from ooclearn.exceptions import DataError
from ooclearn.testing.tables import Column, made_rows

SCALERS = ["StandardScaler", "MinMaxScaler", "MaxAbsScaler"]


def table(dtype="float64", n=60):
    return made_rows(
        n,
        [Column("normal", 5.0), Column("some missing"), Column("constant", 2.0)],
        dtype=dtype,
        weights="counts",
    ).X


def attributes(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_") and not name.startswith("_")}


def assert_alike(a, b, rtol=1e-12):
    left, right = attributes(a), attributes(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("name", SCALERS)
def test_parts_one_after_the_other(backend, name):
    X = table() if backend.has("float64") else table("float32")
    at_once = getattr(ours, name)().fit(X)
    grown = getattr(ours, name)()
    for part in (X[:1], X[1:20], X[20:]):
        assert grown.partial_fit(backend.make(part)) is grown
    assert_alike(grown, at_once, backend.within(1e3))


@pytest.mark.parametrize("name", SCALERS)
def test_fitted_apart_and_merged(backend, name):
    X = table() if backend.has("float64") else table("float32")
    left = getattr(ours, name)().fit(backend.make(X[:23]))
    right = getattr(ours, name)().fit(backend.make(X[23:]))
    before = pickle.dumps(right)
    assert left.merge(right) is left
    assert pickle.dumps(right) == before, "the other is as it was"
    assert_alike(left, getattr(ours, name)().fit(X), backend.within(1e3))


def test_weights_grow_and_merge_too():
    rows = made_rows(60, [Column("normal", 5.0), Column("some missing")], weights="some zero")
    at_once = ours.StandardScaler().fit(rows.X, sample_weight=rows.w)
    grown = ours.StandardScaler().fit(rows.X[:20], sample_weight=rows.w[:20])
    grown.partial_fit(rows.X[20:40], sample_weight=rows.w[20:40])
    grown.merge(ours.StandardScaler().fit(rows.X[40:], sample_weight=rows.w[40:]))
    assert_alike(grown, at_once)


def test_rows_of_no_weight_among_others_change_nothing():
    X = table()
    grown = ours.StandardScaler().fit(X)
    grown.partial_fit(X + 100, sample_weight=np.zeros(len(X)))
    assert_alike(grown, ours.StandardScaler().fit(X))
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="all of the 60 sample weights are zero"):
            getattr(ours.StandardScaler(), method)(X, sample_weight=np.zeros(len(X)))


@pytest.mark.parametrize("name", SCALERS)
def test_partial_fit_goes_on_after_fit_and_fit_begins_anew(name):
    X = table()
    scaler = getattr(ours, name)().fit(X[:30]).partial_fit(X[30:])
    assert_alike(scaler, getattr(ours, name)().fit(X))
    assert_alike(scaler.fit(X[:5]), getattr(ours, name)().fit(X[:5]))


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize(("first", "second"), [("float64", "float32"), ("float32", "float64"), ("int8", "float16")])
def test_another_dtype_does_not_lose_digits(name, first, second):
    """Statistics are kept in the wider of the dtypes seen, as scikit-learn keeps them."""
    X = np.full((4, 2), 0.1).astype(first) if first != "int8" else np.full((4, 2), 100, dtype=np.int8)
    X[0] = 1
    Y = np.full((4, 2), 0.3).astype(second)
    mine, reference = getattr(ours, name)(), getattr(theirs, name)()
    for part in (X, Y):
        mine.partial_fit(part)
        reference.partial_fit(part)
    for attribute, expected in attributes(reference).items():
        got = np.asarray(getattr(mine, attribute))
        rtol = 1e-12 if got.dtype == np.float64 else 1e-6
        np.testing.assert_allclose(got, expected, rtol=rtol, err_msg=attribute)
        if isinstance(expected, np.ndarray):
            assert got.dtype in {expected.dtype, np.dtype(np.float64)}, attribute
    merged = getattr(ours, name)().fit(X).merge(getattr(ours, name)().fit(Y))
    for attribute, value in attributes(mine).items():
        assert np.asarray(getattr(merged, attribute)).dtype == np.asarray(value).dtype, attribute


@pytest.mark.parametrize("name", SCALERS)
def test_other_columns_are_refused_and_nothing_is_changed(backend, name):
    X = table() if backend.has("float64") else table("float32")
    scaler = getattr(ours, name)().fit(X)
    before = pickle.dumps(scaler)
    with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
        scaler.partial_fit(backend.make(X[:, :2]))
    with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
        scaler.transform(backend.make(X[:, :2]))
    with pytest.raises(ValueError, match=f"X has 2 features, but {name} is expecting 3"):
        scaler.inverse_transform(backend.make(X[:, :2]))
    with pytest.raises(DataError, match="2 features in the other"):
        scaler.merge(getattr(ours, name)().fit(X[:, :2]))
    assert pickle.dumps(scaler) == before


def test_what_cannot_be_merged():
    X = table()
    scaler = ours.StandardScaler().fit(X)
    with pytest.raises(TypeError, match="got a MinMaxScaler"):
        scaler.merge(ours.MinMaxScaler().fit(X))
    with pytest.raises(NotFittedError):
        scaler.merge(ours.StandardScaler())
    with pytest.raises(NotFittedError):
        ours.StandardScaler().merge(scaler)


def test_merged_with_itself_counts_twice():
    X = table()
    scaler = ours.MaxAbsScaler().fit(X)
    assert scaler.merge(scaler).n_samples_seen_ == 2 * len(X)


@pytest.mark.parametrize("name", SCALERS)
def test_pickled_and_grown_on(name):
    X = table()
    scaler = pickle.loads(pickle.dumps(getattr(ours, name)().fit(X[:30])))
    assert_alike(scaler.partial_fit(X[30:]), getattr(ours, name)().fit(X))
