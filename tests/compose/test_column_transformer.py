"""Column transformers and unions: scikit-learn's results from shared readings, on every container."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import sklearn.compose
import sklearn.decomposition
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

import ooclearn
import ooclearn.compose
import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.pipeline
import ooclearn.preprocessing
from branches import N, both, counted, rows
from ooclearn import ColumnTransformer, FeatureUnion, make_column_transformer, make_pipeline, make_union
from ooclearn.beside import Beside, as_affine, beside
from ooclearn.exceptions import DataError, PerformanceWarning
from ooclearn.feature_selection import SelectKBest
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from ooclearn.rowmaps import Affine, Columns, Rowwise, compose
from ooclearn.testing import CountingBlocks, check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES, LAZY


class TestAgainstSklearn:
    def test_on_every_container(self, make, backend, assert_learned_alike):
        X, _ = rows()
        ours, theirs = both(make)
        expected = theirs.fit_transform(X)
        given = backend.make(X)
        got = ours.fit(given).transform(given)
        coarse = backend.rounding > 1e-10
        scale = np.abs(expected).max()
        assert_allclose(
            backend.back(got), expected, rtol=1e-5 if coarse else 1e-9, atol=(1e-4 if coarse else 1e-12) * scale
        )
        assert_allclose(backend.back(make(ooclearn).fit_transform(given)), backend.back(got), rtol=1e-12)
        if not coarse:
            assert_learned_alike(ours, theirs)
        assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())

    def test_on_a_data_frame(self, make, assert_learned_alike):
        pd = pytest.importorskip("pandas", reason="in the group `test`")
        X, _ = rows()
        frame = pd.DataFrame(X, columns=list("abcdef"))
        ours, theirs = both(make)
        assert_allclose(ours.fit_transform(frame), theirs.fit_transform(frame), rtol=1e-9, atol=1e-12)
        assert_learned_alike(ours, theirs)
        assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())
        framed = make(ooclearn).set_output(transform="pandas").fit_transform(frame)
        assert list(framed.columns) == list(theirs.get_feature_names_out())

    @pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
    def test_dtypes(self, make, dtype):
        X = rows()[0]
        X = (X.mean(axis=0) < X if dtype == "bool" else 10 * X).astype(dtype)
        ours, theirs = both(make)
        expected = theirs.fit_transform(X)
        got = ours.fit_transform(X)
        assert got.dtype == expected.dtype
        assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())

    def test_one_pass_as_promised(self, make):
        source = counted(rows()[0])
        ours = make(ooclearn)
        plan = ours.explain(source)
        assert not source.reads
        ours.fit(source)
        passing = all(step == "passthrough" for _, step, *_ in getattr(ours, "transformers", [("", "")]))
        assert source.passes == plan.n_passes == (0 if passing else 1)

    def test_steps_given_are_left_alone_and_clones_work(self, make):
        ours = make(ooclearn)
        copied = clone(ours)
        X, _ = rows()
        ours.fit(X)
        if isinstance(ours, ColumnTransformer):
            assert not any(hasattr(step, "n_features_in_") for _, step, _ in ours.transformers)
        again = clone(ours)
        assert not hasattr(again, "transformers_")
        assert repr(copied) == repr(make(ooclearn)) or "function" in repr(copied)

    def test_pickled(self, make):
        X, _ = rows()
        ours = make(ooclearn)
        if "function" in repr(ours):
            pytest.skip("a function that is no module's cannot be pickled")
        ours.fit(X)
        assert_array_equal(pickle.loads(pickle.dumps(ours)).transform(X), ours.transform(X))


def test_parameters_of_steps():
    ours = make_pipeline(make_column_transformer((StandardScaler(), [0])))
    assert ours.get_params()["columntransformer__standardscaler__with_mean"] is True
    ours.set_params(columntransformer__standardscaler__with_mean=False)
    assert ours.fit(rows()[0])[0].named_transformers_["standardscaler"].with_mean is False
    union = make_union(StandardScaler(), MaxAbsScaler()).set_params(standardscaler__with_std=False)
    assert union.transformer_list[0][1].with_std is False


class TestNames:
    """Columns by name: data frames, and lazy containers that know the names of theirs."""

    def test_blocks_with_names(self):
        X, _ = rows()
        source = CountingBlocks(X, (100, 200))
        source.names = np.array(list("abcdef"), dtype=object)
        ours = ColumnTransformer([("x", StandardScaler(), ["b", "a"]), ("y", MaxAbsScaler(), slice("d", "e"))])
        ours.fit(source)
        assert_array_equal(ours.feature_names_in_, list("abcdef"))
        assert_array_equal(ours.named_transformers_["x"].feature_names_in_, ["b", "a"])
        assert_array_equal(ours.get_feature_names_out(), ["x__b", "x__a", "y__d", "y__e"])
        theirs = sklearn.compose.ColumnTransformer(
            [("x", sklearn.preprocessing.StandardScaler(), [1, 0]), ("y", sklearn.preprocessing.MaxAbsScaler(), [3, 4])]
        )
        assert_allclose(ours.transform(source).to_numpy(), theirs.fit_transform(X), rtol=1e-12)
        # As scikit-learn with data frames: by name, whatever their order, and more of them.
        other = CountingBlocks(np.c_[X[:, ::-1], X[:, :1]], (300,))
        other.names = np.array([*"fedcba", "more"], dtype=object)
        assert_allclose(ours.transform(other).to_numpy(), theirs.transform(X), rtol=1e-12)
        other.names = np.array([*"xedcba", "more"], dtype=object)
        ColumnTransformer([("x", "passthrough", ["a"])]).fit(source)
        with pytest.raises(DataError, match="columns are missing"):
            ColumnTransformer([("x", "passthrough", ["f"]), ("gone", "drop", ["a"])]).fit(source).transform(
                _renamed(other, "abcdegh")
            )

    def test_a_dask_data_frame_and_a_selector(self):
        pd = pytest.importorskip("pandas", reason="in the group `test`")
        dd = pytest.importorskip("dask.dataframe", reason="the extra `dask` is not installed")
        X, _ = rows()
        frame = pd.DataFrame(X, columns=list("abcdef"))
        chosen = make_column_selector(pattern="^[abc]$")
        ours = make_column_transformer((StandardScaler(), chosen), remainder="passthrough")
        theirs = sklearn.compose.make_column_transformer(
            (sklearn.preprocessing.StandardScaler(), chosen), remainder="passthrough"
        )
        lazy = dd.from_pandas(frame, npartitions=3)
        got = ours.fit(lazy).transform(lazy)
        assert_allclose(np.asarray(got), theirs.fit_transform(frame), rtol=1e-12)
        assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())

    def test_a_frame_with_text(self):
        pd = pytest.importorskip("pandas", reason="in the group `test`")
        frame = pd.DataFrame({"n": [1.0, 2.0, 4.0], "t": ["a", "b", "a"]})
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer(
                (of.preprocessing.StandardScaler(), make_column_selector(dtype_include="number")),
                (OneHotEncoder(sparse_output=False), ["t"]),
            )
        )
        assert_allclose(ours.fit_transform(frame), theirs.fit_transform(frame))
        assert_allclose(ours.transform(frame), theirs.transform(frame))

    @pytest.mark.parametrize(
        ("columns", "error"),
        [("a", "strings is only supported"), ([9], "must be in"), ([True], "mask of columns"), (0, "1D data passed")],
    )
    def test_columns_that_are_not_there(self, columns, error):
        with pytest.raises(ValueError, match=error):
            ColumnTransformer([("x", StandardScaler(), columns)]).fit(counted(rows()[0]))


def _renamed(blocks, names):
    blocks.names = np.array(list(names), dtype=object)
    return blocks


def _on_all(steps):
    return [(f"step{i}", step, slice(0, None)) for i, step in enumerate(steps)]


class TestFailing:
    @pytest.mark.parametrize("lazy", [True, False])
    @pytest.mark.parametrize("kind", ["columns", "union"])
    def test_everything_stays_as_it_was(self, kind, lazy):
        X, _ = rows()
        if kind == "columns":
            one = ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(), [2])])
        else:
            one = FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())])
        one.fit(X)
        before = pickle.dumps(one)
        bad = X.copy()
        bad[150, 2] = np.inf
        with pytest.raises(DataError):
            one.fit(counted(bad) if lazy else bad)
        assert pickle.dumps(one) == before

    @pytest.mark.parametrize(
        "make", [make_union, lambda *steps: ColumnTransformer(_on_all(steps))], ids=["union", "columns"]
    )
    def test_with_a_step_of_another_library(self, make):
        X, _ = rows()
        one = make(
            QuantileTransformer(n_quantiles=20), make_pipeline(QuantileTransformer(n_quantiles=9), StandardScaler())
        )
        one = make(one, MaxAbsScaler()).fit(X)
        before = pickle.dumps(one)
        bad = X.copy()
        bad[150, 2] = np.inf
        source = counted(bad)
        warnings.simplefilter("ignore", PerformanceWarning)
        with pytest.raises(ValueError, match="infinity"):
            one.fit(source)
        assert pickle.dumps(one) == before

    def test_in_a_pipeline(self, parallel):
        X, y = rows()
        pipe = make_pipeline(parallel["halves"](ooclearn), ooclearn.linear_model.Ridge())
        bad = X.copy()
        bad[150, 5] = np.nan
        before = pickle.dumps(pipe)
        with pytest.raises(DataError):
            pipe.fit(counted(bad), y)
        assert pickle.dumps(pipe) == before


class TestWeights:
    @pytest.mark.parametrize("lazy", [True, False])
    def test_routed(self, lazy, assert_learned_alike):
        X, y = rows()
        w = np.linspace(0, 2, N)
        with sklearn.config_context(enable_metadata_routing=True):
            ours, theirs = both(
                lambda of: of.pipeline.make_pipeline(
                    of.compose.make_column_transformer(
                        (of.preprocessing.StandardScaler().set_fit_request(sample_weight=True), [0, 1]),
                        (of.preprocessing.MaxAbsScaler(), [2]),
                        remainder="passthrough",
                    ),
                    of.linear_model.Ridge().set_fit_request(sample_weight=True),
                )
            )
            source = counted(X) if lazy else X
            ours.fit(source, y, sample_weight=w)
            assert not lazy or source.passes == 1
            assert_learned_alike(ours, theirs.fit(X, y, sample_weight=w))

    def test_not_routed(self, assert_learned_alike):
        X, _ = rows()
        w = np.linspace(0, 2, N)
        ours, theirs = both(lambda of: of.pipeline.make_union(of.preprocessing.StandardScaler()))
        assert_learned_alike(ours.fit(X, sample_weight=w), theirs.fit(X, sample_weight=w))
        with pytest.raises(ValueError, match="enable_metadata_routing=True"):
            ColumnTransformer([("a", StandardScaler(), [0])]).fit(X, sample_weight=w)


class TestMaps:
    """Maps side by side."""

    X = np.random.default_rng(3).normal(5, 2, (7, 4))

    def test_by_column_they_collapse(self):
        one = compose(Columns((2, 0)), Affine(np.array([2.0, 4.0]), center=np.array([1.0, 1.0]), divide=True))
        two = Columns((3,))
        three = compose(Columns((1,)), Affine(np.array([3.0]), divide=True))
        both = beside([one, two, three], n_columns=4)
        assert [type(part) for part in both.maps] == [Columns, Affine]
        assert both.maps[0] == Columns((2, 0, 3, 1))
        assert both.maps[1].divide
        assert_array_equal(both(self.X), Beside((one, two, three))(self.X))

    def test_all_columns_in_order_need_no_selection(self):
        one = compose(Columns((0, 1)), Affine(np.array([2.0, 4.0])))
        assert isinstance(beside([one, Columns((2, 3))], n_columns=4), Affine)
        assert beside([Columns((0, 1)), Columns((2, 3))], n_columns=4) is None

    def test_a_selection_before_is_taken_in(self):
        maps = Beside((Rowwise(np.abs), Columns((1, 0))))
        both = compose(Columns((3, 1)), maps)
        assert isinstance(both, Beside)
        assert_array_equal(both(self.X), maps(self.X[:, [3, 1]]))
        assert both.columns(4) == 4

    def test_as_one_matrix(self):
        pca = Affine(np.arange(6.0).reshape(2, 3), center=np.array([5.0, 4.0]), offset=np.ones(3))
        maps = [
            compose(Columns((1, 3)), pca),
            compose(Columns((0, 1)), Affine(np.array([2.0, 4.0]), divide=True)),
            None,
        ]
        both = beside(maps, n_columns=4)
        assert isinstance(both, Beside)
        assert_allclose(as_affine(both, 4)(self.X), both(self.X), rtol=1e-12)


AS_SKLEARN = "scikit-learn's own fails it, too: "
EXPECTED = {
    ColumnTransformer: {
        "check_complex_data": AS_SKLEARN + "columns are looked for first",
        "check_estimators_empty_data_messages": AS_SKLEARN + "columns are looked for first",
        "check_fit2d_1feature": AS_SKLEARN + "columns are looked for first",
        "check_estimators_nan_inf": AS_SKLEARN + "it is for the transformers to refuse what is missing",
        "check_estimator_sparse_array": AS_SKLEARN + "it is for the transformers to refuse sparse rows",
        "check_estimator_sparse_matrix": AS_SKLEARN + "it is for the transformers to refuse sparse rows",
        "check_dataframe_column_names_consistency": AS_SKLEARN + "columns are found by name in any order",
    },
    FeatureUnion: {
        "check_estimators_overwrite_params": AS_SKLEARN + "the transformers given are fitted, as by a pipeline",
        "check_dont_overwrite_parameters": AS_SKLEARN + "the transformers given are fitted, as by a pipeline",
        "check_estimators_nan_inf": AS_SKLEARN + "it is for the transformers to refuse what is missing",
        "check_param_validation": AS_SKLEARN + "it says of no parameter what it may be",
    },
}


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize(
    "estimator",
    [ColumnTransformer([("one", StandardScaler(), [0, 1])]), FeatureUnion([("one", StandardScaler())])],
    ids=lambda one: type(one).__name__,
)
def test_all_of_scikit_learns_checks(estimator, container):
    expected = EXPECTED[type(estimator)] | (FRAMES if container in LAZY else {})
    if container == "numpy" and isinstance(estimator, ColumnTransformer):
        expected = expected | {"check_fit1d": AS_SKLEARN + "rows of one dimension have no columns to look for"}
    results = check_estimator(estimator, on=container, expected_failed_checks=expected)
    assert sum(one["status"] == "passed" for one in results) >= 40


def test_the_same_columns_in_two_orders(backend):
    """What each asks contains what the other asks; one of them must be asked."""
    X = np.random.default_rng(0).normal(2.0, 3.0, (60, 4))
    both = ColumnTransformer(
        [("a", StandardScaler(), [1, 2, 3]), ("b", MinMaxScaler(), [3, 2, 1]), ("c", StandardScaler(), [2, 1, 3])]
    )
    done = both.fit(backend.make(X))
    for name, scaler, columns in both.transformers:
        alone = clone(scaler).fit(X[:, columns])
        np.testing.assert_allclose(done.named_transformers_[name].scale_, alone.scale_, rtol=backend.within(256))


@pytest.mark.parametrize("empty", [slice(1, 1), [], [False] * 4])
def test_columns_passed_through_may_be_none(empty):
    X = np.random.default_rng(0).standard_normal((60, 4))
    done = ColumnTransformer([("a", StandardScaler(), [0]), ("b", "passthrough", empty)]).fit(X)
    assert list(done.get_feature_names_out()) == ["a__x0"]
    assert done.transform(X).shape == (60, 1)


def test_a_branch_may_select_no_column():
    """Beside others, that is: what a step behind it gets has columns."""
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 2
    none = ("none", SelectKBest(k=0), [0, 1])
    done = ColumnTransformer([none, ("a", StandardScaler(), [2])]).fit(X, y)
    with pytest.warns(UserWarning, match="No features were selected"):
        assert_allclose(done.transform(X), StandardScaler().fit_transform(X[:, [2]]))
