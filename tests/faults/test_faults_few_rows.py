"""Faults of the catalogue that lie in few rows, shapes and states: 28 to 32."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn import preprocessing as sk
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import IncrementalPCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental, ParallelPostFit
from ooclearn.exceptions import DataError
from ooclearn.preprocessing import StandardScaler

# Few rows, or none.


def _with_empty_blocks(name, values, tmp_path):
    """Return values in blocks, some of them empty: the first, the last and two in the middle."""
    lengths = (0, 300, 0, 0, 450, 250, 0)
    if name == "dask":
        return pytest.importorskip("dask.array").from_array(np.array(values), chunks=(lengths, *values.shape[1:]))
    starts = np.cumsum((0, *lengths))
    pieces = [values[a:b] for a, b in pairwise(starts)]
    if name == "callable":
        return lambda: iter(pieces)
    if name == "blocks":
        return ooclearn.scan(np.array(values)).recut(lengths)
    for i, piece in enumerate(pieces):
        np.save(tmp_path / f"{values.ndim}-{i}.npy", piece)
    return ooclearn.scan([tmp_path / f"{values.ndim}-{i}.npy" for i in range(len(pieces))])


@pytest.mark.parametrize("name", ["dask", "callable", "blocks", "files"])
def test_28_empty_blocks(name, tmp_path, X, y):
    data, target = _with_empty_blocks(name, X, tmp_path), _with_empty_blocks(name, y, tmp_path)
    expected = sk.StandardScaler().fit(X)
    scaler = StandardScaler().fit(data)
    np.testing.assert_allclose(scaler.mean_, expected.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.var_, expected.var_, rtol=1e-12)
    model = Incremental(SGDClassifier(random_state=0)).fit(data, target)
    predicted = model.predict(ooclearn.scan(data))
    np.testing.assert_array_equal(predicted.to_numpy(), model.predict(X))
    assert model.score(data, target) == model.score(X, y) > 0.8


def test_28_predictions_for_an_empty_block_are_empty(container, X, y):
    model = Incremental(SGDClassifier(random_state=0)).fit(X, y)
    forest = ParallelPostFit(model.estimator_)
    for lazy in (model.predict(ooclearn.scan(X).recut([0, 1000])), forest.predict(ooclearn.scan(X).recut([0, 1000]))):
        assert lazy.read(0).shape == (0,)
        assert lazy.read(0).dtype == y.dtype
        np.testing.assert_array_equal(lazy.to_numpy(), model.predict(X))


def test_28_a_filter_that_leaves_empty_chunks(X, y):
    da = pytest.importorskip("dask.array")
    data, target = da.from_array(np.array(X), chunks=(100, 5)), da.from_array(np.array(y), chunks=100)
    wanted = data[:, 4] > 2.5  # few rows: some chunks have none
    chosen = X[:, 4] > 2.5
    assert 0 in [int(part.sum()) for part in np.split(chosen, 10)]
    scaler = StandardScaler().fit(data[wanted])
    np.testing.assert_allclose(scaler.mean_, X[chosen].mean(axis=0), rtol=1e-12)
    model = Incremental(SGDClassifier(random_state=0), classes=[0, 1]).fit(data[wanted], target[wanted])
    assert model.predict(data[wanted]).compute().shape == (chosen.sum(),)


@pytest.mark.parametrize("name", ["numpy", "scan", "dask", "strict"])  # the system maps no empty file
def test_29_no_rows_at_all(containers, name, scaler, refused, X):
    empty = containers(name)(X[:0])
    for call in (scaler.fit, scaler.partial_fit):
        with refused(scaler, "0 sample(s)", f"there are no rows in {containers(name).source()}"):
            call(empty)


@pytest.mark.parametrize("name", ["numpy", "scan", "dask"])
def test_29_no_rows_to_train_on(containers, name, trained, refused, X, y):
    data, target = containers(name)(X[:0]), containers(name)(y[:0], "y")
    with refused(trained, "0 sample(s)", f"there are no rows in {containers(name).source()}"):
        trained.fit(data, target)


def test_29_no_block_at_all(scaler, trained, refused, X, y):
    with refused(scaler, "there are no rows", "nothing_there"):
        scaler.fit(_nothing_there)
    with refused(trained, "there are no rows", "nothing_there"):
        trained.fit(_nothing_there, y[:0])


def _nothing_there():
    return iter(())


def test_29_a_filter_that_leaves_nothing(scaler, refused, X):
    da = pytest.importorskip("dask.array")
    data = da.from_array(np.array(X), chunks=(100, 5))
    with refused(scaler, "0 sample(s)", "there are no rows"):
        scaler.fit(data[data[:, 0] > 1e9])


def test_29_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"no \.npy file") as caught:
        ooclearn.scan(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "estimator", [MiniBatchKMeans(8, random_state=0), IncrementalPCA(4)], ids=["clusters", "components"]
)
@pytest.mark.parametrize("lengths", [(2, 1, 0, 497, 500), (498, 500, 2), (1,) * 1000], ids=["first", "last", "all"])
def test_30_a_block_smaller_than_the_estimator_needs(estimator, lengths, X):
    data = ooclearn.scan(lambda: (X[a:b] for a, b in zip(np.cumsum((0, *lengths)), np.cumsum(lengths), strict=False)))
    model = Incremental(estimator, shuffle=False, block_rows=None if len(lengths) < 1000 else 50).fit(data)
    fitted = model.estimator_
    centres = fitted.cluster_centers_ if hasattr(fitted, "cluster_centers_") else fitted.components_
    assert len(centres) == (8 if hasattr(fitted, "cluster_centers_") else 4)
    assert np.isfinite(centres).all()
    if hasattr(fitted, "n_samples_seen_"):
        assert fitted.n_samples_seen_ == 1000


# Shapes and states.


@pytest.mark.parametrize("shape", [(40,), (2, 20, 1), (1, 40, 1, 1)], ids=len)
def test_31_x_of_one_or_three_dimensions(any_container, scaler, refused, shape, X):
    data = any_container(np.full(shape, 987654.25))
    fitted = type(scaler)().fit(X)
    for estimator, call in (
        (scaler, scaler.fit),
        (scaler, scaler.partial_fit),
        (fitted, fitted.transform),
        (fitted, fitted.inverse_transform),
    ):
        with refused(estimator, str(shape), never=("987654", "9.8")) as caught:
            call(data)
        assert len(str(caught.value)) < 300


def test_31_a_list_of_one_or_three_dimensions(scaler, refused):
    for values in ([987654.25] * 40, [[[987654.25]] * 40]):
        with refused(scaler, str(np.shape(values)), never=("987654", "9.8")):
            scaler.fit(values)


def test_31_x_of_one_or_three_dimensions_to_train_on(container, trained, refused, y):
    for shape in [(1000,), (1000, 5, 1)]:
        data = container(np.full(shape, 987654.25))
        with refused(trained, str(shape), never=("987654", "9.8")) as caught:
            trained.fit(data, y)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("call", ["transform", "inverse_transform"])
def test_32_transform_before_fit(any_container, scaler, call, X):
    with pytest.raises(NotFittedError, match=type(scaler).__name__):
        getattr(scaler, call)(any_container(X))
    with pytest.raises(NotFittedError, match=type(scaler).__name__):
        scaler.merge(type(scaler)().fit(X))


def test_32_predict_before_fit(container, trained, X, y):
    data = container(X)
    for call in (trained.predict, trained.decision_function, lambda data: trained.score(data, y)):
        with pytest.raises(NotFittedError):
            call(data)
    with pytest.raises(NotFittedError):
        ParallelPostFit(SGDClassifier()).predict(data)
