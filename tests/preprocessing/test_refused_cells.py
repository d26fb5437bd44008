"""What is not a number to go on with is refused where rows are computed, as scikit-learn refuses it, with the place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sklearn.preprocessing as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier

import ooclearn
import ooclearn.preprocessing as ours
from ooclearn import Incremental
from ooclearn._namespace import surely_finite
from ooclearn.compose import make_column_transformer
from ooclearn.exceptions import NonFiniteError
from ooclearn.pipeline import make_pipeline
from ooclearn.rowmaps import Affine, Chain, Columns, compose

SCALERS = [
    ours.StandardScaler(),
    ours.StandardScaler(with_mean=False, with_std=False),
    ours.MinMaxScaler(),
    ours.MinMaxScaler(clip=True),
    ours.MaxAbsScaler(),
    ours.MaxAbsScaler(clip=True),
]
STATELESS = [ours.Normalizer(), ours.Binarizer()]
GOOD = np.random.default_rng(3).normal(3, 2, (90, 4)).astype(np.float32)


def with_cells(*cells):
    X = GOOD.copy()
    for row, column, value in cells:
        X[row, column] = value
    return X


def computed(backend, result):
    return backend.back(result)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
@pytest.mark.parametrize("scaler", SCALERS, ids=repr)
def test_scalers_refuse_infinities_and_keep_missing_values(backend, scaler, method, value):
    scaler = scaler.fit(backend.make(GOOD))
    apply = getattr(scaler, method)
    missing = with_cells((5, 3, np.nan), (70, 1, np.nan))
    assert np.isnan(computed(backend, apply(backend.make(missing)))).sum() == 2
    X = with_cells((5, 3, np.nan), (61, 2, value))
    if backend.lazy:
        result = apply(backend.make(X))  # reads nothing yet
    with pytest.raises(NonFiniteError, match="Input X contains infinity") as caught:
        computed(backend, result if backend.lazy else apply(backend.make(X)))
    error = caught.value
    assert error.column == 2
    assert error.rows == (61, 62)
    if backend.lazy:
        assert error.source is not None
        assert error.block is not None


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("estimator", STATELESS, ids=repr)
def test_transformers_of_rows_refuse_missing_values_too(backend, estimator, value):
    X = with_cells((61, 2, value))
    fitted = estimator.fit(backend.make(GOOD))
    with pytest.raises(NonFiniteError, match="Input X contains") as caught:
        computed(backend, fitted.transform(backend.make(X)))
    assert (caught.value.rows, caught.value.column) == ((61, 62), 2)


@pytest.mark.parametrize("name", ["StandardScaler", "MinMaxScaler", "MaxAbsScaler", "Normalizer", "Binarizer"])
def test_scikit_learn_refuses_the_same(name):
    for value in (np.inf, np.nan):
        X = with_cells((3, 0, value))
        refused = []
        for module in (ours, theirs):
            try:
                getattr(module, name)().fit(GOOD).transform(X)
                refused.append(False)
            except ValueError:
                refused.append(True)
        assert refused[0] == refused[1], value


def test_values_that_overflow_are_not_infinities():
    """What scikit-learn takes is taken: it looks at the rows, and not at what comes of them or of their sums."""
    X = np.full((500, 3), 1.5e308)
    with np.errstate(over="ignore"):
        got = ours.MaxAbsScaler().fit(np.full((500, 3), 1e308)).transform(X)
        np.testing.assert_allclose(got, 1.5)
        scaler = ours.MaxAbsScaler().fit(np.full((3, 3), 1e-5))
        assert np.isinf(scaler.transform(X)).all()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_map_that_has_collapsed_looks_at_its_end_alone(value):
    rng = np.random.default_rng(5)
    X = rng.normal(0, 1, (400, 4))
    y = (X[:, 0] > 0).astype(int)
    pipe = make_pipeline(ours.StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(X, y)
    row_map = pipe._method_map("predict", n_columns=4, dtype=X.dtype)
    assert [type(one).__name__ for one in row_map.maps] == ["Affine", "Rowwise"]
    X[321, 3] = value
    for rows in (X, ooclearn.scan(X)):
        with pytest.raises(NonFiniteError) as caught:
            np.asarray(pipe.predict(rows))
        assert (caught.value.rows, caught.value.column) == ((321, 322), 3)


def test_a_fit_looks_once():
    """The map between the steps of a pipeline does not look: what is fed behind it is looked at already."""
    scaler = ours.StandardScaler().fit(GOOD)
    assert scaler._row_map().refuses_infinite is False
    assert scaler._transform_map().refuses_infinite is True


def test_beside_a_scaler_only_its_own_columns_are_looked_at():
    columns = make_column_transformer((ours.StandardScaler(), [2, 0]), ("passthrough", [1]))
    columns.fit(GOOD)
    for rows in (with_cells((7, 1, np.inf)), ooclearn.scan(with_cells((7, 1, np.inf)))):
        assert np.isinf(np.asarray(columns.transform(rows))).sum() == 1
    X = with_cells((7, 1, np.inf), (9, 2, np.inf))
    for rows in (X, ooclearn.scan(X)):
        with pytest.raises(NonFiniteError) as caught:
            np.asarray(columns.transform(rows))
        assert (caught.value.rows, caught.value.column) == ((9, 10), 2)


def test_composed_maps_refuse_what_one_of_them_does():
    refusing = Affine(np.array([2.0, 3.0]), refuses_infinite=True)
    plain = Affine(offset=np.array([1.0, 1.0]))
    for row_map in (compose(refusing, plain), compose(plain, refusing), compose(refusing, Affine(np.ones((2, 1))))):
        assert row_map.refuses_infinite is True
    assert compose(plain, plain).refuses_infinite is False
    some = replace(refusing, refuses_infinite=np.array([False, True]))
    assert compose(some, plain).refuses_infinite.tolist() == [False, True]
    assert compose(some, Columns((1, 1, 0))).maps[1].refuses_infinite.tolist() == [True, True, False]


def test_the_columns_of_a_selection_are_counted_over_all():
    row_map = compose(Columns((3, 1)), Affine(np.array([2.0, 3.0]), refuses_infinite=True))
    assert isinstance(row_map, Chain)
    row_map(with_cells((4, 0, np.inf)))  # of a column that is not taken
    with pytest.raises(NonFiniteError) as caught:
        row_map(with_cells((4, 0, np.inf), (8, 1, np.inf)))
    assert (caught.value.rows, caught.value.column) == ((8, 9), 1)


@given(
    st.sampled_from(["float16", "float32", "float64"]),
    st.tuples(st.integers(1, 70), st.integers(1, 5)),
    st.sampled_from([None, np.inf, -np.inf, np.nan]),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_cell_that_is_not_finite_is_never_missed(dtype, shape, value, data):
    X = np.random.default_rng(0).normal(0, 100, shape).astype(dtype)
    if value is not None:
        X[data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))] = value
    for rows in (X, X.T, X[::2], np.asfortranarray(X)):
        assert surely_finite(rows) <= bool(np.isfinite(rows).all())
    assert value is not None or surely_finite(X)
