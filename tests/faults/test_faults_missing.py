"""Faults of the catalogue that lie in missing values and infinities: 12 to 15."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import SGDClassifier, SGDRegressor

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import NonFiniteError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import Binarizer, Normalizer, StandardScaler
from scalers import assert_alike, host


@pytest.fixture
def spoilt(X):
    """Rows with missing values: two in row 437, and one in row 438 of the same block."""
    values = np.array(X)
    values[437, [1, 3]] = values[438, 2] = np.nan
    return values


def test_12_missing_values_are_left_out_by_scalers(any_container, pair, spoilt):
    ours, theirs = pair
    spoilt[100:200, 2] = np.nan
    scaler, expected = ours().fit(any_container(spoilt)), theirs().fit(spoilt)
    assert_alike(scaler, expected, rtol=1e-12)
    scaled = scaler.transform(any_container(spoilt, "Z"))
    np.testing.assert_allclose(host(scaled), expected.transform(spoilt), rtol=1e-9, atol=1e-12)


def test_12_columns_and_blocks_that_are_all_missing(any_container, pair, X):
    ours, theirs = pair
    values = np.array(X)
    values[:, 1] = np.nan
    values[0:300] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about slices that are all missing
        expected = theirs().fit(values)
    assert_alike(ours().fit(any_container(values)), expected, rtol=1e-12)


def test_13_missing_values_in_a_linear_model(container, trained, refused, spoilt, X, y):
    data = container(spoilt)
    where = (
        "Input X contains NaN",
        f"block {container.block_of(data, 437)}",
        "row 437",
        "column 1",
        container.inside(),
    )
    # Before the first fit, and again when there is something to be kept as it was.
    with refused(trained, *where, "3 such cells", error=NonFiniteError):
        trained.fit(data, y)
    trained.fit(X, y)
    with refused(trained, *where, "3 such cells", error=NonFiniteError):
        trained.fit(data, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 501, 999])
def test_13_14_the_row_is_that_of_the_table_though_rows_are_shuffled(container, trained, refused, bad, row, X, y):
    values = np.array(X)
    values[row, 2] = bad
    data = container(values)
    what = "NaN" if np.isnan(bad) else "infinity"
    with refused(
        trained,
        what,
        f"block {container.block_of(data, row)}",
        f"row {row}",
        "column 2",
        container.inside(),
        error=NonFiniteError,
    ):
        trained.fit(data, y)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_13_the_column_is_named(library, trained, refused, spoilt, y):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({name: spoilt[:, j] for j, name in enumerate(["age", "height", "weight", "pay", "debt"])})
    with refused(trained, "Input X contains NaN", "column '", error=NonFiniteError) as caught:
        trained.fit(frame, y)
    assert (caught.value.rows, caught.value.column) == ((437, 438), "height")


def test_13_the_column_of_a_dask_data_frame_is_named(refused, spoilt, y):
    dd = pytest.importorskip("dask.dataframe")
    import pandas as pd

    frame = dd.from_pandas(pd.DataFrame(spoilt, columns=["age", "height", "weight", "pay", "debt"]), npartitions=10)
    model = Incremental(SGDClassifier(shuffle=False))
    with refused(model, "Input X contains NaN", "column 'height'", "block 4", "37", error=NonFiniteError):
        model.fit(frame, dd.from_pandas(pd.Series(y), npartitions=10))


def test_13_how_many_are_counted_among_the_rows_that_were_looked_at(refused, spoilt, y):
    spoilt[[480, 900, 990], 4] = np.nan
    model = Incremental(SGDClassifier(shuffle=False), block_rows=100)
    # Those in later blocks were never read, and the message does not claim to know how many there are.
    with refused(model, "first of 4 such cells", "100 rows", "block 4", "row 437", "column 1", error=NonFiniteError):
        model.fit(ooclearn.scan(spoilt, block_rows=100), y)


def test_13_missing_values_in_sparse_rows(refused, spoilt, y):
    rows = sparse.csr_array(np.where(spoilt > 0.2, spoilt, np.where(np.isnan(spoilt), np.nan, 0.0)))
    for model in (Incremental(SGDClassifier(shuffle=False)), Incremental(SGDClassifier(random_state=0))):
        with refused(model, "Input X contains NaN", error=NonFiniteError) as caught:
            model.fit(rows, y)
        assert (caught.value.rows, caught.value.column) == ((437, 438), 1)


def test_13_missing_values_are_refused_in_predictions(container, trained, refused, spoilt, X, y):
    trained.fit(X, y)
    data = container(spoilt)
    where = ("Input X contains NaN", "3 such cells", "row 437", "column 1")
    block = f"block {container.block_of(data, 437)}"
    # An array in memory has no blocks of its own, and what a lazy Dask array is called is known to nobody.
    lazily = {"numpy": ("(in X",), "dask": ("(in Dask array", block)}.get(container.name, (container.inside(), block))
    for call in (trained.predict, trained.decision_function):
        with refused(trained, *where, *lazily, error=NonFiniteError):
            host(call(data))
    with refused(trained, *where, container.inside(), block, error=NonFiniteError):
        trained.score(data, y)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of NumPy, which knows no place
@pytest.mark.parametrize("big", [1e300, -1e300])
def test_14_values_too_large_for_a_decision(container, refused, big, X, y):
    model = Incremental(SGDClassifier(random_state=0)).fit(X, y)
    model.estimator_.coef_[:] = 1e10
    values = np.array(X)
    values[437] = big
    data = container(values)
    with refused(model, "too large for a decision", "in 1 of the", "row 437", error=NonFiniteError):
        host(model.predict(data))


def test_13_names_the_file_of_a_folder(tmp_path, refused, spoilt, y):
    np.save(tmp_path / "a.npy", spoilt[:400])
    np.save(tmp_path / "b.npy", spoilt[400:])
    model = Incremental(SGDClassifier(shuffle=False))
    with refused(model, "b.npy", "row 37 there", "row 437", "column 1", error=NonFiniteError):
        model.fit(ooclearn.scan(tmp_path), y)
    spoilt[437, 3] = np.inf
    np.save(tmp_path / "b.npy", spoilt[400:])
    with refused(StandardScaler(), "b.npy", "row 37 there", "row 437", "column 3", error=NonFiniteError):
        StandardScaler().fit(ooclearn.scan(tmp_path))


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 437, 999])
def test_14_an_infinity_in_a_scaler(any_container, scaler, refused, bad, row, X):
    values = np.array(X)
    values[row, 3] = bad
    values[min(row + 1, 999), 1] = np.nan
    data = any_container(values)
    where = ("infinity", f"block {any_container.block_of(data, row)}", f"row {row}", "column 3", any_container.inside())
    with refused(scaler, *where, error=NonFiniteError):
        scaler.fit(data)
    scaler.fit(X)
    with refused(scaler, *where, error=NonFiniteError):
        scaler.partial_fit(data)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("estimator", [Normalizer(), Binarizer()], ids=["Normalizer", "Binarizer"])
def test_14_in_transformers_that_have_nothing_to_fit(any_container, estimator, refused, bad, X):
    values = np.array(X)
    values[437, 3] = bad
    data = any_container(values)
    estimator.fit(any_container(X, "fine"))
    where = ("NaN" if np.isnan(bad) else "infinity", "row 437", "column 3")
    if any_container.name not in {"numpy", "strict"}:
        where += (f"block {any_container.block_of(data, 437)}", str(data.name) if hasattr(data, "lengths") else "")
    with refused(estimator, *where, error=NonFiniteError):
        host(estimator.transform(data))


def test_14_the_column_is_named(scaler, refused, X):
    pd = pytest.importorskip("pandas")
    values = np.array(X)
    values[437, 3] = np.inf
    frame = pd.DataFrame(values, columns=["age", "height", "weight", "pay", "debt"])
    with refused(scaler, "infinity", "row 437", "column 'pay'", error=NonFiniteError):
        scaler.fit(frame)
    with refused(Normalizer(), "infinity", "row 437", "column 'pay'", error=NonFiniteError):
        Normalizer().fit(frame)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 555, 999])
def test_15_y_contains_nan(container, refused, bad, row, X, y):
    target = y.astype(np.float64)
    target[row] = bad
    data, labels = container(X), container(target, "y")
    where = ("Input y contains", f"block {container.block_of(data, row)}", f"row {row}", container.inside("y"))
    for model in (
        Incremental(SGDClassifier(random_state=0)),
        Incremental(SGDClassifier(random_state=0), classes=[0, 1]),
        Incremental(SGDRegressor(random_state=0)),
        Incremental(SGDRegressor(), shuffle=False),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier())),
        make_pipeline(StandardScaler(), Incremental(SGDRegressor())),
    ):
        with refused(model, *where, error=NonFiniteError):
            model.fit(data, labels)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_15_labels_of_text_are_missing(refused, missing, X, y):
    labels = np.array(["no", "yes"], dtype=object)[y]
    labels[555] = missing
    model = Incremental(SGDClassifier())
    with refused(model, "Input y contains NaN", "row 555", error=NonFiniteError):
        model.fit(X, labels)
    pd = pytest.importorskip("pandas")
    with refused(model, "Input y contains NaN", "row 555", error=NonFiniteError):
        model.fit(X, pd.Series(labels, dtype="string"))
