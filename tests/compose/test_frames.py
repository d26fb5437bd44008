"""Data frames in memory: planned by columns; what takes no numbers is fitted by itself, before."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn.compose
import sklearn.decomposition
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, TargetEncoder

import ooclearn
import ooclearn.compose
import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.pipeline
import ooclearn.preprocessing
from branches import both
from ooclearn import make_column_transformer, make_pipeline, make_union
from ooclearn.exceptions import DataError
from ooclearn.linear_model import Ridge
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

pd = pytest.importorskip("pandas", reason="in the group `test`")
pl = pytest.importorskip("polars", reason="in the group `polars`")

N = 60


class CountingFrame(pd.DataFrame):
    """A frame that counts the cells that are turned into arrays."""

    cells = 0

    @property
    def _constructor(self):
        return CountingFrame

    def __array__(self, *args, **kwargs):
        CountingFrame.cells += self.size
        return super().__array__(*args, **kwargs)


class TestOneReading:
    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_of_branches_and_what_is_below(
        self, counted_passes, assert_same_columns, mixed, assert_learned_alike, library
    ):
        frame, y = mixed(library)
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.compose.make_column_transformer(
                    (of.preprocessing.StandardScaler(), ["a", "b"]),
                    (of.preprocessing.MinMaxScaler(), [2]),
                    ("drop", ["s", "t"]),
                    remainder="passthrough",
                ),
                of.preprocessing.StandardScaler(),
                of.linear_model.Ridge(),
            )
        )
        plan = ours.explain(frame, y)
        assert plan.n_passes == 1
        assert not plan.alone
        with counted_passes() as seen:
            ours.fit(frame, y)
        assert seen.count == 1
        assert_learned_alike(ours, theirs.fit(frame, y), rtol=1e-9)
        assert_same_columns(ours[0], theirs[0])
        assert_allclose(ours.predict(frame), theirs.predict(frame), rtol=1e-9)
        assert_allclose(ours.score(frame, y), theirs.score(frame, y), rtol=1e-9)

    def test_each_cell_is_converted_once(self, mixed):
        frame, y = mixed()
        frame = CountingFrame(frame)
        pipe = make_pipeline(
            make_column_transformer(
                (StandardScaler(), ["a", "b"]),
                (MaxAbsScaler(), ["b"]),
                (MinMaxScaler(), make_column_selector(pattern="^a$")),
            ),
            Ridge(),
        )
        CountingFrame.cells = 0
        pipe.explain(frame, y)
        assert CountingFrame.cells <= 2  # one row, for the dtype
        CountingFrame.cells = 0
        pipe.fit(frame, y)
        assert CountingFrame.cells == 2 * N
        plain = make_pipeline(StandardScaler(), Ridge())
        CountingFrame.cells = 0
        assert plain.explain(frame[["a", "b", "c"]], y).n_passes == 1
        assert CountingFrame.cells <= 3
        CountingFrame.cells = 0
        plain.fit(frame[["a", "b", "c"]], y)
        assert CountingFrame.cells == 3 * N

    def test_a_union(self, mixed, assert_learned_alike):
        frame, y = mixed()
        numbers = frame[["a", "b", "c"]]
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.pipeline.make_union(of.preprocessing.StandardScaler(), "passthrough"), of.linear_model.Ridge()
            )
        )
        assert ours.explain(numbers, y).n_passes == 1
        assert_learned_alike(ours.fit(numbers, y), theirs.fit(numbers, y), rtol=1e-8)
        assert "columns 's'" in make_union(StandardScaler()).explain(frame).note

    def test_nested_with_selectors(self, mixed, assert_learned_alike):
        frame, y = mixed()
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.compose.make_column_transformer(
                    (
                        of.compose.make_column_transformer(
                            (of.preprocessing.StandardScaler(), make_column_selector(pattern="a")),
                            remainder="passthrough",
                        ),
                        make_column_selector(dtype_include="number"),
                    ),
                ),
                of.linear_model.Ridge(),
            )
        )
        assert ours.explain(frame, y).n_passes == 1
        assert_learned_alike(ours.fit(frame, y), theirs.fit(frame, y), rtol=1e-9)

    def test_a_feed_below_takes_two(self, counted_passes, mixed):
        frame, y = mixed()
        labels = (y > y.mean()).astype(int)
        pipe = make_pipeline(
            make_column_transformer((StandardScaler(), ["a", "b"]), (OrdinalEncoder(), ["t"])),
            ooclearn.Incremental(sklearn.linear_model.SGDClassifier(shuffle=False)),
        )
        assert pipe.explain(frame, labels).n_passes == 2
        with counted_passes() as seen:
            pipe.fit(frame, labels)
        assert seen.count == 2
        assert pipe.predict(frame).shape == (N,)

    def test_missing_values(self, assert_same_rows, mixed, assert_learned_alike):
        frame, _ = mixed()
        frame["n"] = pd.array([None, *range(N - 1)], dtype="Int64")
        frame.loc[3, "a"] = np.nan
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer((of.preprocessing.StandardScaler(), ["n", "a"]))
        )
        assert ours.explain(frame).n_passes == 1
        assert_same_rows(ours.fit_transform(frame), theirs.fit_transform(frame))
        assert_learned_alike(ours, theirs)
        bad = make_pipeline(make_column_transformer((StandardScaler(), ["a", "b"])), Ridge())
        with pytest.raises(DataError, match="column 'a'"):
            bad.fit(frame, np.zeros(N))


class TestFittedByItself:
    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_the_others_share_a_reading_with_what_is_below(
        self, counted_passes, assert_same_columns, mixed, assert_learned_alike, library
    ):
        frame, y = mixed(library)
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.compose.make_column_transformer(
                    (OneHotEncoder(sparse_output=False), ["s", "t"]),
                    (of.preprocessing.StandardScaler(), ["a", "b"]),
                    (of.preprocessing.MaxAbsScaler(), ["c"]),
                ),
                of.preprocessing.StandardScaler(),
                of.linear_model.Ridge(),
            )
        )
        plan = ours.explain(frame, y)
        assert plan.n_passes == 1
        text = (
            "columntransformer__onehotencoder is fitted by itself: OneHotEncoder gets columns that are no numbers: 's'"
        )
        assert plan.alone[0].startswith(text)
        assert text in str(plan)
        assert "is fitted by itself" in plan._repr_html_()
        with counted_passes() as seen:
            ours.fit(frame, y)
        assert seen.count == 1
        theirs.fit(frame, y)
        assert_learned_alike(ours, theirs, rtol=1e-8)
        assert_same_columns(ours[0], theirs[0])
        assert_allclose(ours.predict(frame), theirs.predict(frame), rtol=1e-8)
        assert_allclose(ours[:-1].fit_transform(frame, y), theirs[:-1].fit_transform(frame, y), rtol=1e-8, atol=1e-12)

    def test_what_says_nothing_of_numbers(self, assert_same_rows, mixed):
        frame, y = mixed()
        quantiles = sklearn.preprocessing.QuantileTransformer(n_quantiles=9)
        scaler = FrozenEstimator(sklearn.preprocessing.StandardScaler().fit(frame[["c"]]))
        made = make_column_transformer(
            (quantiles, ["a"]), (FunctionTransformer(np.abs), ["b"]), (scaler, ["c"]), (StandardScaler(), ["a"])
        )
        plan = made.explain(frame, y)
        assert plan.n_passes == 1
        assert [text.partition(": ")[2] for text in plan.alone] == [
            "QuantileTransformer does not say beforehand what it reads",
            "FunctionTransformer gets its columns as a data frame",
            "FrozenEstimator gets its columns as a data frame",
        ]
        theirs = sklearn.compose.make_column_transformer(
            (clone(quantiles), ["a"]),
            (FunctionTransformer(np.abs), ["b"]),
            (scaler, ["c"]),
            (sklearn.preprocessing.StandardScaler(), ["a"]),
        )
        assert_same_rows(made.fit_transform(frame), theirs.fit_transform(frame))

    def test_a_fit_and_transform_in_one_that_is_more_than_both(self, counted_passes, assert_same_rows, mixed):
        """A TargetEncoder encodes the rows that it is fitted to by folds."""
        frame, y = mixed()
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer(
                (TargetEncoder(cv=KFold(3)), ["s"]), (of.preprocessing.StandardScaler(), ["a"])
            )
        )
        expected = theirs.fit_transform(frame, y)
        with counted_passes() as seen:
            assert_same_rows(ours.fit_transform(frame, y), expected)
        assert seen.count == 1
        assert_same_rows(ours.transform(frame), theirs.transform(frame))
        pipe = make_pipeline(clone(ours), Ridge()).fit(frame, y)
        assert_allclose(pipe[-1].coef_, sklearn.linear_model.Ridge().fit(expected, y).coef_, rtol=1e-8)
        above, reference = make_pipeline(clone(ours), StandardScaler()), sklearn.preprocessing.StandardScaler()
        assert_allclose(above.fit_transform(frame, y), reference.fit_transform(expected), rtol=1e-8, atol=1e-10)

    def test_a_column_that_is_no_table(self, assert_same_columns, assert_same_rows, mixed):
        frame, _ = mixed()
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer(
                (CountVectorizer(analyzer="char"), "s"), (of.preprocessing.StandardScaler(), ["a"])
            )
        )
        assert ours.explain(frame).n_passes == 1
        assert_same_rows(ours.fit_transform(frame), theirs.fit_transform(frame))
        assert_same_columns(ours, theirs)
        with pytest.raises(ValueError, match="1D data passed"):
            make_column_transformer((StandardScaler(), "a")).fit(frame)

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
    def test_sparse_results(self, assert_same_columns, assert_same_rows, mixed, assert_learned_alike, threshold):
        frame, y = mixed()
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer(
                (OneHotEncoder(), ["s", "t", "b"]),
                (of.preprocessing.Normalizer(), ["a"]),
                sparse_threshold=threshold,
            )
        )
        assert_same_rows(ours.fit_transform(frame), theirs.fit_transform(frame))
        assert_same_columns(ours, theirs)
        assert_same_columns(clone(ours).fit(frame), theirs)
        pipe = make_pipeline(clone(ours), ooclearn.Incremental(sklearn.linear_model.SGDRegressor(shuffle=False)))
        rows = theirs.fit_transform(frame)
        expected = sklearn.linear_model.SGDRegressor(shuffle=False).partial_fit(rows, y)
        assert_allclose(pipe.fit(frame, y)[-1].coef_, expected.coef_, rtol=1e-8)

    def test_text_that_is_passed_on(self, assert_same_rows, mixed):
        frame, y = mixed()
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer(
                (of.preprocessing.StandardScaler(), ["a"]), ("passthrough", ["s"])
            )
        )
        assert_same_rows(ours.fit_transform(frame), theirs.fit_transform(frame))
        with pytest.raises(ValueError, match="could not convert string to float"):
            make_pipeline(ours, Ridge()).fit(frame, y)

    def test_everything_stays_as_it_was_where_a_fit_fails(self, mixed):
        frame, y = mixed()
        made = make_pipeline(
            make_column_transformer((OneHotEncoder(sparse_output=False), ["s"]), (StandardScaler(), ["a"])), Ridge()
        ).fit(frame, y)
        before = pickle.dumps(made)
        bad = frame.copy()
        bad.loc[5, "a"] = np.inf
        with pytest.raises(DataError, match="infinity"):
            made.fit(bad, y)
        assert pickle.dumps(made) == before

    def test_one_pass_is_refused_with_the_reason(self, mixed):
        frame, y = mixed()
        pipe = make_pipeline(
            make_column_transformer((OneHotEncoder(), ["s"]), (StandardScaler(), ["a"])),
            ooclearn.Incremental(sklearn.linear_model.SGDRegressor()),
            passes=1,
        )
        with pytest.raises(ValueError, match="OneHotEncoder gets columns that are no numbers"):
            pipe.fit(frame, y)

    def test_nothing_is_left_to_plan(self, mixed):
        frame, _ = mixed()
        made = make_column_transformer((OneHotEncoder(), ["s"]))
        plan = made.explain(frame)
        assert plan.note.startswith("fitted one by one, since OneHotEncoder gets columns that are no numbers")
        assert [one.answers[0][0] for one in plan.passes] == ["onehotencoder"]
        assert made.fit_transform(frame).shape == (N, 3)
