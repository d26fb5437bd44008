"""Sparse rows, of SciPy and in Blocks: scikit-learn's results, sparse where its are."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.preprocessing as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline as their_pipeline

import ooclearn
import ooclearn.preprocessing as ours
from ooclearn import Incremental
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.linear_model import LogisticRegression
from ooclearn.pipeline import make_pipeline
from ooclearn.statistics import Extrema, Moments
from ooclearn.table import Rows

sparse = pytest.importorskip("scipy.sparse", reason="it comes with scikit-learn")

CASES = [
    ("StandardScaler", {"with_mean": False}),
    ("StandardScaler", {"with_mean": False, "with_std": False}),
    ("MaxAbsScaler", {}),
    ("MaxAbsScaler", {"clip": True}),
    ("Normalizer", {"norm": "l1"}),
    ("Normalizer", {"norm": "l2"}),
    ("Normalizer", {"norm": "max"}),
    ("Binarizer", {}),
    ("Binarizer", {"threshold": 2.5}),
]


def table(dtype="float64", *, missing=False, n=60, d=6, seed=1):
    rng = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=0.4, rng=rng, format="csr")
    X.data = np.round(rng.normal(2, 3, X.nnz), 3).astype(dtype)
    if missing:
        X.data[::17] = np.nan
    return X


def in_blocks(X):
    return lambda: iter([X[:20], X[20:20], X[20:41], X[41:]])


CONTAINERS = {
    "csr_array": lambda X: X,
    "csr_matrix": sparse.csr_matrix,
    "csc_array": lambda X: X.tocsc(),
    "list": lambda X: ooclearn.scan([X[:20], X[20:41], X[41:]]),
    "callable": lambda X: ooclearn.scan(in_blocks(X)),
    "cut elsewhere": lambda X: ooclearn.scan(in_blocks(X)).recut([7, 53]),
}


def together(result):
    return sparse.vstack(list(result)).tocsr() if isinstance(result, ooclearn.Blocks) else result


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(("name", "parameters"), CASES, ids=repr)
def test_attributes_and_results(name, parameters, container, dtype):
    stateless = name in {"Normalizer", "Binarizer"}
    X = table(dtype, missing=not stateless and dtype != "int64")
    given = CONTAINERS[container](X)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    reference = getattr(theirs, name)(**parameters).fit(X)
    mine = getattr(ours, name)(**parameters).fit(given)
    for attribute, expected in vars(reference).items():
        if attribute.endswith("_"):
            got = getattr(mine, attribute)
            if expected is None:
                assert got is None
            else:
                np.testing.assert_allclose(got, expected, rtol=rtol, err_msg=attribute)
    got, expected = together(mine.transform(given)), reference.transform(X.copy())
    assert sparse.issparse(got)
    assert got.dtype == expected.dtype
    assert got.nnz <= X.nnz
    np.testing.assert_allclose(got.toarray(), expected.toarray(), rtol=rtol)
    if hasattr(mine, "inverse_transform"):
        back = together(mine.inverse_transform(mine.transform(given)))
        np.testing.assert_allclose(back.toarray(), reference.inverse_transform(expected.copy()).toarray(), rtol=rtol)


@pytest.mark.parametrize("missing", [False, True])
def test_weights_and_growing(missing):
    X = table(missing=missing)
    w = np.random.default_rng(2).integers(0, 3, 60).astype(float)
    expected = theirs.StandardScaler(with_mean=False).fit(X, sample_weight=w)
    grown = ours.StandardScaler(with_mean=False)
    for rows in (slice(0, 11), slice(11, 12), slice(12, 60)):
        grown.partial_fit(X[rows], sample_weight=w[rows])
    halves = [ours.StandardScaler(with_mean=False).fit(X[k::2], sample_weight=w[k::2]) for k in range(2)]
    for got in (ours.StandardScaler(with_mean=False).fit(X, sample_weight=w), grown, halves[0].merge(halves[1])):
        np.testing.assert_allclose(got.mean_, expected.mean_, rtol=1e-12)
        np.testing.assert_allclose(got.var_, expected.var_, rtol=1e-12)
        np.testing.assert_allclose(got.n_samples_seen_, expected.n_samples_seen_)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_statistics_of_sparse_rows_are_those_of_dense_ones(seed, density, missing, weighted):
    rng = np.random.default_rng(seed)
    X = sparse.random_array((23, 4), density=density, rng=rng, format="csr")
    X.data = rng.normal(1e6, 1, X.nnz)
    if missing and X.nnz:
        X.data[rng.integers(0, X.nnz, 3)] = np.nan
    w = rng.integers(0, 3, 23).astype(float) if weighted else None
    for statistic, names in ((Moments(), ("rows", "weight", "n", "mean", "m2")), (Extrema(), ("rows", "low", "high"))):
        a, b = statistic.of(Rows(X, None, w)), statistic.of(Rows(X.toarray(), None, w))
        for name in names:
            # Where only zeros and values near 1e6 are, deviations have the digits of 1e6.
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-4, err_msg=name)


def test_far_columns_keep_their_digits():
    rng = np.random.default_rng(0)
    far = rng.normal(1e7, 1.0, (500, 1))
    got = ours.StandardScaler(with_mean=False).fit(sparse.csr_array(far)).var_
    np.testing.assert_allclose(got, (far.astype(np.longdouble) - far.mean(dtype=np.longdouble)).var(), rtol=1e-9)


def test_cells_that_are_stored_twice_are_added():
    rows, columns, values = [0, 0, 1, 2], [1, 1, 0, 1], [1.0, 2.0, -4.0, 5.0]
    twice = sparse.csr_array((values, columns, [0, 2, 3, 4]), shape=(3, 2))
    dense = np.zeros((3, 2))
    np.add.at(dense, (rows, columns), values)
    for name, parameters in CASES:
        np.testing.assert_allclose(
            getattr(ours, name)(**parameters).fit(twice).transform(twice).toarray(),
            getattr(theirs, name)(**parameters).fit(dense).transform(dense),
            rtol=1e-12,
        )
    assert twice.nnz == 4
    assert not twice.has_canonical_format


@pytest.mark.parametrize(("name", "parameters"), CASES, ids=repr)
def test_nothing_is_written_to(name, parameters):
    X = table()
    X.data.flags.writeable = X.indices.flags.writeable = X.indptr.flags.writeable = False
    estimator = getattr(ours, name)(**parameters)
    out = estimator.fit(X).transform(X)
    assert not any(np.shares_memory(getattr(out, part), getattr(X, part)) for part in ("data", "indices", "indptr"))


class TestRefused:
    @pytest.mark.parametrize("container", CONTAINERS)
    def test_what_would_move_the_zeros(self, container):
        X = CONTAINERS[container](table())
        for estimator, match in (
            (ours.StandardScaler(), "Cannot center sparse matrices: pass `with_mean=False`"),
            (ours.MinMaxScaler(), "MinMaxScaler does not support sparse input"),
        ):
            with pytest.raises(DataError, match=match):
                estimator.fit(X)
            fitted = estimator.fit(table().toarray())
            for method in (fitted.transform, fitted.inverse_transform):
                with pytest.raises(DataError, match=match):
                    method(X)

    def test_a_threshold_below_zero(self):
        with pytest.raises(DataError, match="Cannot binarize a sparse matrix with threshold < 0"):
            ours.Binarizer(threshold=-1.0).fit_transform(table())

    @pytest.mark.parametrize("container", ["csr_array", "list", "callable"])
    @pytest.mark.parametrize(("name", "parameters"), CASES, ids=repr)
    def test_infinities_with_the_place(self, name, parameters, container):
        X = table()
        row, column = 45, int(X[45:46].indices[0])
        X.data[X.indptr[45]] = np.inf
        make = CONTAINERS[container]
        fitted = getattr(ours, name)(**parameters).fit(make(table()))
        with pytest.raises(NonFiniteError) as caught:
            together(fitted.transform(make(X)))
        assert (caught.value.rows, caught.value.column) == ((row, row + 1), column)
        if name not in {"Normalizer", "Binarizer"}:
            with pytest.raises(NonFiniteError) as caught:
                getattr(ours, name)(**parameters).fit(make(X))
            assert (caught.value.rows, caught.value.column) == ((row, row + 1), column)

    @pytest.mark.parametrize("container", ["list", "callable"])
    def test_estimators_of_dense_rows(self, container):
        with pytest.raises(DataError, match="LogisticRegression takes dense rows"):
            LogisticRegression().fit(CONTAINERS[container](table()), np.arange(60) % 2)

    def test_no_rows_in_memory(self):
        scaler = ours.MaxAbsScaler().fit(table())
        with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\).*required by MaxAbsScaler"):
            scaler.transform(table()[:0])

    def test_sparse_and_dense_parts(self):
        with pytest.raises(DataError, match="sparse rows and dense rows cannot be one table"):
            ooclearn.scan([table(), table().toarray()])

    @pytest.mark.parametrize("container", ["list", "callable"])
    def test_a_file_of_all_cells(self, container, tmp_path):
        X = CONTAINERS[container](table())
        for result in (X, ours.MaxAbsScaler().fit_transform(X), ours.Normalizer().fit_transform(X)):
            with pytest.raises(DataError, match="sparse rows cannot be written to"):
                result.to_npy(tmp_path / "x.npy")
        assert not list(tmp_path.iterdir())


def test_tags_say_what_is_taken():
    from sklearn.utils import get_tags

    takes = {True: [ours.StandardScaler(with_mean=False), ours.MaxAbsScaler(), ours.Normalizer(), ours.Binarizer()]}
    takes[False] = [ours.StandardScaler(), ours.MinMaxScaler()]
    for sparse_rows, estimators in takes.items():
        assert {get_tags(one).input_tags.sparse for one in estimators} == {sparse_rows}


def test_blocks_of_sparse_rows_are_measured_by_what_is_stored():
    X = sparse.random_array((400, 5000), density=0.001, rng=np.random.default_rng(0), format="csr")
    stored = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    for blocks in (ooclearn.scan([X[:100], X[100:]]), ooclearn.scan(lambda: [X[:100], X[100:]])):
        assert blocks.sparse
        assert 0.5 * stored < blocks.nbytes < 1.5 * stored
        np.testing.assert_array_equal(np.asarray(blocks), X.toarray())
        with ooclearn.config_context(memory_limit=10**6), pytest.raises(ooclearn.exceptions.BlockMemoryError):
            blocks.to_numpy()


@pytest.mark.parametrize("container", ["csr_array", "list", "callable"])
@pytest.mark.parametrize("name", ["StandardScaler", "MaxAbsScaler", "Normalizer", "Binarizer"])
def test_before_a_model_that_is_fed(name, container):
    X = table(n=60, d=20)
    y = np.asarray(X[:, [0]].toarray()[:, 0] > 0).astype(int)
    parameters = {"with_mean": False} if name == "StandardScaler" else {}
    expected = their_pipeline(
        getattr(theirs, name)(**parameters), SGDClassifier(random_state=0, shuffle=False, max_iter=1, tol=None)
    ).fit(X, y)
    model = Incremental(SGDClassifier(random_state=0, shuffle=False), shuffle=False)
    given = CONTAINERS[container](X)
    pipe = make_pipeline(getattr(ours, name)(**parameters), model).fit(given, y)
    np.testing.assert_allclose(pipe[-1].coef_, expected[-1].coef_, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(pipe.predict(given)), expected.predict(X))
