"""Cells and labels that are not what they should be."""

from __future__ import annotations

import datetime as dt
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn import preprocessing as sk
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import DataError, DataWarning, NonFiniteError
from ooclearn.naive_bayes import BernoulliNB
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler

HOST = ("numpy", "memmap", "scan", "dask")
PAIRS = {
    "StandardScaler": (StandardScaler, sk.StandardScaler),
    "MinMaxScaler": (MinMaxScaler, sk.MinMaxScaler),
    "MaxAbsScaler": (MaxAbsScaler, sk.MaxAbsScaler),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    """A scaler of ours and its counterpart."""
    return PAIRS[request.param]


def host(x):
    if hasattr(x, "compute"):
        return x.compute()
    return x.to_numpy() if isinstance(x, ooclearn.Blocks) else np.asarray(x)


def assert_alike(ours, theirs, **tolerance):
    """Check that two fitted scalers have the same numbers."""
    for name in ("mean_", "var_", "scale_", "min_", "data_min_", "data_max_", "data_range_", "max_abs_"):
        if hasattr(theirs, name):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), err_msg=name, **tolerance)


# Labels.


@pytest.mark.parametrize("labels", [[0, 1], [1, 2], [-3, 0, 7], ["no", "yes"], [False, True], [2.0, 4.0]], ids=str)
def test_06_no_classes_given_and_10_labels_of_any_kind(container, labels, X):
    y = np.asarray(labels)[np.digitize(X[:, 0], [0.5, 1.2][: len(labels) - 1])]
    data, target = container(X), container(y, "y")
    for model in (
        Incremental(SGDClassifier(random_state=0)),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))),
    ):
        model.fit(data, target)
        np.testing.assert_array_equal(model.classes_, labels)
        predicted = host(model.predict(data))
        assert set(predicted.tolist()) == set(labels)
        assert model.score(data, target) == pytest.approx((predicted == y).mean())
        assert (predicted == y).mean() > 0.7


@pytest.mark.parametrize(
    "of", [lambda: GaussianNB(), lambda: SGDClassifier(random_state=0, shuffle=False)], ids=["GaussianNB", "SGD"]
)
def test_06_classes_found_are_those_that_scikit_learn_is_given(container, of, X, y):
    found = Incremental(of()).fit(container(X), container(y, "y"))
    given = of().partial_fit(X, y, classes=[0, 1])
    np.testing.assert_allclose(
        getattr(found, "coef_", None) if hasattr(given, "coef_") else found.theta_,
        getattr(given, "coef_", None) if hasattr(given, "coef_") else given.theta_,
        rtol=1e-12,
    )


def test_06_partial_fit_cannot_know_them(container, refused, X, y):
    model = Incremental(SGDClassifier())
    data = container(X)
    with refused(model, "classes must be passed on the first call to partial_fit", error=ValueError):
        model.partial_fit(data, y)


@pytest.mark.parametrize("shuffle", [False, True])
def test_07_an_unseen_label_in_a_late_block(container, refused, shuffle, X, y):
    spoilt = np.array(y)
    spoilt[823] = 7
    data, target = container(X), container(spoilt, "y")
    where = ("label 7", f"block {container.block_of(data, 823)}", "row 823", container.inside("y"))
    model = Incremental(SGDClassifier(random_state=0), classes=[0, 1], shuffle=shuffle)
    with refused(model, *where):
        model.fit(data, target)
    model.fit(X, y)
    for call in (model.fit, model.partial_fit):
        with refused(model, *where):
            call(data, target)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(), classes=[0, 1], shuffle=shuffle))
    with refused(pipe, *where):
        pipe.fit(data, target)


def test_07_an_unseen_label_among_texts(container, refused, X, y):
    names = np.array(["no", "yes"])[y]
    model = Incremental(SGDClassifier(), classes=["no", "yes"]).fit(X, names)
    spoilt = names.astype("<U5")
    spoilt[823] = "maybe"
    data, target = container(X), container(spoilt, "y")
    with refused(model, "'maybe'", f"block {container.block_of(data, 823)}", "row 823"):
        model.partial_fit(data, target)


def test_07_counts_of_a_class_that_came_too_late(refused, X, y):
    model = Incremental(GaussianNB(), classes=[0, 1])
    with refused(model, "label 2", "row 823", "block 8"):
        model.fit(ooclearn.scan(np.array(X), block_rows=100), np.where(np.arange(1000) == 823, 2, y))


@pytest.mark.parametrize("of", [lambda: GaussianNB(), lambda: SGDClassifier(random_state=0)], ids=["GaussianNB", "SGD"])
def test_08_a_class_that_was_given_and_never_occurs(container, of, X, y):
    data, target = container(X), container(y, "y")
    model = Incremental(of(), classes=[0, 1, 5])
    with pytest.warns(DataWarning, match="5") as caught:
        model.fit(data, target)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = host(model.predict(data))
    assert set(predicted.tolist()) <= {0, 1}


def test_08_several_classes_in_a_pipeline_of_several_epochs(container, X, y):
    data, target = container(X), container(y, "y")
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0), classes=[0, 1, 5, 6], epochs=3))
    with pytest.warns(DataWarning, match="5, 6") as caught:
        pipe.fit(data, target)
    assert len(caught) == 1


@pytest.fixture
def in_order(X, y):
    """Rows sorted by class."""
    order = np.argsort(y, kind="stable")
    return X[order], y[order]


def test_09_rows_sorted_by_class(container, in_order):
    data, target = container(in_order[0]), container(in_order[1], "y")
    poor = Incremental(SGDClassifier(random_state=0, shuffle=False))
    with pytest.warns(DataWarning, match=r"sorted by class.*shuffle=True") as caught:
        poor.fit(data, target)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0), shuffle=False, epochs=2))
    with pytest.warns(DataWarning, match=r"sorted by class.*shuffle=True") as caught:
        pipe.fit(data, target)
    assert len(caught) == 1


def test_09_the_cure_and_the_default_shuffle_rows_that_are_sorted(container, in_order):
    data, target = container(in_order[0], rows=20), container(in_order[1], "y", rows=20)
    for pipe in (
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0, shuffle=False), shuffle=True)),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipe.fit(data, target)
        assert pipe.score(*in_order) > 0.9


def test_11_run_twice(container, trained, same, X, y):
    from sklearn.base import clone

    data, target = container(X), container(y, "y")
    with ooclearn.config_context(workers=4):
        first = trained.fit(data, target)
    again = clone(trained).fit(data, target)
    same(first, again)


def test_11_a_generator_that_is_given_is_not_used_up(refused, same, X, y):
    state = np.random.RandomState(7)
    before = state.get_state()[1].tobytes()
    model = Incremental(SGDClassifier(random_state=0), random_state=state)
    first = model.fit(X, y).estimator_
    assert state.get_state()[1].tobytes() == before
    model.explain(X, y)
    same(model.fit(X, y).estimator_, first)
    other = Incremental(SGDClassifier(random_state=0), random_state=8).fit(X, y).estimator_
    assert not np.array_equal(first.coef_, other.coef_)


# Missing values and infinities.


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
    import polars as pl

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
