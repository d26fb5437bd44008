"""Faults of the catalogue that lie in columns hard on arithmetic, or of no numbers: 16 to 20."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.naive_bayes import BernoulliNB
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
from scalers import assert_alike, host

HOST = ("numpy", "memmap", "scan", "dask")
# Columns that are hard on arithmetic.


@pytest.mark.parametrize("value", [0.1, 1e8, -7.0, 0.0, 1e-9])
def test_16_a_constant_column(any_container, pair, value, X):
    ours, theirs = pair
    values = np.array(X)
    values[:, 2] = value
    scaler, expected = ours().fit(any_container(values)), theirs().fit(values)
    assert_alike(scaler, expected, rtol=1e-9)
    if ours is not MaxAbsScaler:
        assert scaler.scale_[2] == 1.0
        assert set(host(scaler.transform(any_container(values)))[:, 2].tolist()) == {0.0}


@pytest.mark.parametrize("name", HOST)  # the standard has no half precision
def test_17_float16(containers, name, pair):
    ours, theirs = pair
    values = np.random.default_rng(0).normal(300.0, 20.0, (20_000, 3)).astype(np.float16)
    data = containers(name)(values)
    scaler, wide = ours().fit(data), theirs().fit(values.astype(np.float64))
    tolerance = {"rtol": 1e-10} if ours is StandardScaler else {"rtol": 2e-3}  # extrema are kept as they came
    assert_alike(scaler, wide, **tolerance)
    out = scaler.transform(data)
    assert out.dtype == np.float16
    np.testing.assert_allclose(
        host(out).astype(np.float64), wide.transform(values.astype(np.float64)), rtol=4e-3, atol=4e-3
    )


def test_18_float32_far_from_zero(any_container, pair):
    ours, theirs = pair
    values = (np.random.default_rng(0).standard_normal((100_000, 2)) + 1e4).astype(np.float32)
    with ooclearn.config_context(block_bytes=2**18):
        scaler = ours().fit(any_container(values, rows=30_000))
    wide = theirs().fit(values.astype(np.float64))
    assert_alike(scaler, wide, rtol=1e-10 if ours is StandardScaler else 1e-6)
    assert_alike(scaler, theirs().fit(values), rtol=1e-5)


# Columns that are no numbers.


def test_19_bool_is_numbers(any_container, pair, X):
    ours, theirs = pair
    values = X > 0.5
    scaler, expected = ours().fit(any_container(values)), theirs().fit(values)
    assert_alike(scaler, expected, rtol=1e-12)
    np.testing.assert_allclose(host(scaler.transform(any_container(values))), expected.transform(values), rtol=1e-12)


def test_19_bool_and_whole_columns_of_a_data_frame(pair, X):
    ours, theirs = pair
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": X[:, 0] > 0, "b": np.arange(1000), "c": X[:, 1].astype(object)})
    assert_alike(ours().fit(frame), theirs().fit(frame), rtol=1e-12)


def pandas_frame(X):
    import pandas as pd

    return pd.DataFrame(
        {
            "size": X[:, 0],
            "town": ["secret"] * 1000,
            "kind": pd.Categorical(["secret"] * 1000),
            "note": pd.array(["secret"] * 1000, dtype="string"),
            "mixed": [1.5, "secret"] * 500,
        }
    )


def polars_frame(X):
    import polars as pl

    return pl.DataFrame(
        {
            "size": X[:, 0],
            "town": ["secret"] * 1000,
            "kind": pl.Series(["secret"] * 1000, dtype=pl.Categorical),
            "note": pl.Series([b"secret"] * 1000),
            "mixed": pl.Series([["secret"]] * 1000),
        }
    )


@pytest.mark.parametrize(
    ("make", "dtypes"),
    [
        (pandas_frame, {"town": "object|str", "kind": "category", "note": "string"}),
        (polars_frame, {"town": "String", "kind": "Categorical", "note": "Binary", "mixed": "List"}),
    ],
    ids=["pandas", "polars"],
)
def test_19_columns_of_text_are_named_with_their_dtypes(make, dtypes, scaler, trained, refused, X, y):
    pytest.importorskip(make.__name__.partition("_")[0])
    frame = make(X)
    for estimator, call in ((scaler, lambda: scaler.fit(frame)), (trained, lambda: trained.fit(frame, y))):
        with refused(
            estimator, "not numeric", "select the numeric columns", "encode", never=("secret", "size")
        ) as caught:
            call()
        for name, dtype in dtypes.items():
            assert any(f"{name!r} ({one}" in str(caught.value) for one in dtype.split("|")), str(caught.value)


def test_19_a_column_of_objects_some_of_which_are_numbers(scaler, refused, X):
    pytest.importorskip("pandas")
    with refused(scaler, "column 'mixed' (object)", "not numeric", "encode", never=("secret", "size")):
        scaler.fit(pandas_frame(X)[["size", "mixed"]])


def test_19_a_column_of_objects_beside_numbers_with_gaps(scaler, refused):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"gaps": pd.array([1, None], "Int64"), "mixed": np.array([1.0, "secret"], dtype=object)})
    with refused(scaler, "column 'mixed' (object) is", "encode", never=("secret", "gaps")):
        scaler.fit(frame)


def test_19_a_table_that_has_columns_and_no_dtypes(scaler, refused):
    pa = pytest.importorskip("pyarrow")
    with refused(scaler, "column 1 of dtype object holds text", "encode", never=("secret",)):
        scaler.fit(pa.table({"size": [1.0, 2.0], "note": ["secret", "secret"]}))


def test_19_an_array_of_objects(scaler, trained, refused, X, y):
    values = X.astype(object)
    values[7, 1] = values[5, 4] = "secret"
    for estimator, call in ((scaler, lambda: scaler.fit(values)), (trained, lambda: trained.fit(values, y))):
        with refused(estimator, "columns 1, 4 of dtype object hold text", "encode", never=("secret",)):
            call()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "got None for X"),
        ([[1.0, 2.5], [3.0]], "rows of X have different lengths"),
        ([[1.5 + 1j], [2.0]], "X has complex numbers"),
    ],
    ids=["none", "ragged", "complex"],
)
def test_19_what_is_no_table_of_numbers_is_told_without_its_cells(scaler, refused, rows, said):
    with refused(scaler, said, never=("1.5", "\n")):
        scaler.fit(rows)


def test_19_an_array_of_text(container, scaler, trained, refused, y):
    data = container(np.full((1000, 2), "secret"))
    for estimator, call in ((scaler, lambda: scaler.fit(data)), (trained, lambda: trained.fit(data, y))):
        with refused(estimator, "<U6", "numbers", "encode", never=("secret",)):
            call()


def test_19_a_list_of_text(scaler, refused):
    with refused(scaler, ["text", "strings"][1], never=("secret",), error=ValueError):
        scaler.fit([["secret", "b"], ["c", "d"]])


def test_19_a_dask_data_frame_with_text(scaler, refused, X):
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(pandas_frame(X), npartitions=3)
    with refused(scaler, "'town'", "'kind'", "not numeric", never=("secret", "size")):
        scaler.fit(frame)


def test_19_a_masked_array(scaler, refused, X):
    with refused(scaler, "masked", "filled"):
        scaler.fit(np.ma.masked_greater(X, 1.0))


MOMENTS = np.arange(1000).astype("M8[ms]")


@pytest.mark.parametrize("values", [MOMENTS, MOMENTS - MOMENTS[0]], ids=["dates", "durations"])
def test_20_an_array_of_timestamps(container, scaler, trained, refused, values, y):
    data = container(np.stack([values, values], axis=1))
    for estimator, call in (
        (scaler, lambda: scaler.fit(data)),
        (scaler, lambda: scaler.partial_fit(data)),
        (trained, lambda: trained.fit(data, y)),
    ):
        with refused(estimator, str(values.dtype), "dates", "seconds as float64", never=("1970",)):
            call()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_20_timestamps_in_a_data_frame(library, scaler, refused, X):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"size": X[:, 0], "at": MOMENTS, "took": MOMENTS - MOMENTS[0]})
    with refused(scaler, "'at' (", "'took' (", "not numeric", "dates", never=("1970", "size")):
        scaler.fit(frame)
    scaler.fit(X[:, :2])
    if library == "pandas":
        objects = frames.DataFrame({"size": X[:, 0], "on": [dt.date(1970, 1, 1)] * 1000})
        with refused(scaler, never=("1970",), error=TypeError):
            scaler.fit(objects)
    else:
        days = frames.DataFrame({"size": X[:, 0], "on": [dt.date(1970, 1, 1)] * 1000})
        with refused(scaler, "'on' (Date)", never=("1970",)):
            scaler.fit(days)


def test_20_timestamps_to_be_scaled(container, scaler, refused, X):
    scaler.fit(X[:, :2])
    data = container(np.stack([MOMENTS, MOMENTS], axis=1))
    with refused(scaler, "datetime64[ms]", "dates"):
        scaler.transform(data)


def test_polars_columns_that_numpy_has_no_dtype_for():
    """Truth values with gaps and decimals come as Python objects: gaps are gaps, and numbers numbers."""
    pl = pytest.importorskip("polars")

    gaps = pl.DataFrame({"a": [True, None, False, True]})
    np.testing.assert_allclose(MinMaxScaler().fit_transform(gaps), [[1.0], [np.nan], [0.0], [1.0]])
    with pytest.raises(NonFiniteError, match=r"NaN.*row 1, column 'a'"):
        BernoulliNB().fit(gaps, [0, 1, 0, 1])
    with pytest.raises(NonFiniteError, match=r"NaN.*row 1, column 'a'"):
        Normalizer().fit_transform(gaps)
    decimals = pl.DataFrame({"a": [1, 2, 3]}).with_columns(pl.col("a").cast(pl.Decimal(10, 2)))
    np.testing.assert_allclose(MinMaxScaler().fit_transform(decimals), [[0.0], [0.5], [1.0]])


def test_complex_columns_beside_columns_with_gaps():
    """pandas would leave the imaginary parts out."""
    import pandas as pd

    frame = pd.DataFrame({"a": np.arange(3) + 1j, "b": pd.Series([1.0, None, 2.0], dtype="Float64")})
    with pytest.raises(DataError, match=r"Complex data not supported: column 'a' \(complex128\) is not real"):
        MinMaxScaler().fit(frame)


@pytest.mark.parametrize("y", [1, np.array(1), {"a": 1}, {1, 2, 3}], ids=["number", "0d", "dict", "set"])
def test_targets_that_are_no_array(y):
    X = np.arange(6.0).reshape(3, 2)
    for model in (BernoulliNB(), Incremental(SGDClassifier()), make_pipeline(MinMaxScaler(), BernoulliNB())):
        with pytest.raises(DataError, match=r"y should be a 1d array, got an array of shape \(\)"):
            model.fit(X, y)
    with pytest.raises(DataError, match=r"sample_weight should be a 1d array, got an array of shape \(\)"):
        BernoulliNB().fit(X, [0, 1, 0], sample_weight=np.array(2.0))
