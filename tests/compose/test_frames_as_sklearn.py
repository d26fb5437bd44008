"""Data frames as scikit-learn takes them: by law on drawn layouts, their names, what is handed back, and lazy ones."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import sklearn.compose
import sklearn.decomposition
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_selector
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

import ooclearn
import ooclearn.compose
import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.pipeline
import ooclearn.preprocessing
from branches import both
from ooclearn import ColumnTransformer, make_column_transformer, make_pipeline, make_union
from ooclearn.exceptions import DataError
from ooclearn.linear_model import Ridge
from ooclearn.preprocessing import Normalizer, StandardScaler

pd = pytest.importorskip("pandas", reason="in the group `test`")
pl = pytest.importorskip("polars", reason="in the group `polars`")

N = 60
KINDS = ("float64", "float32", "int64", "uint8", "bool", "text", "category")
NUMBERS = ("float64", "float32", "int64", "uint8", "bool")


STEPS = ("standard", "range", "max", "axes", "passthrough", "drop", "chain", "nested")


def step_of(name, of):
    pre = of.preprocessing
    return {
        "standard": lambda: pre.StandardScaler(),
        "range": lambda: pre.MinMaxScaler(),
        "max": lambda: pre.MaxAbsScaler(),
        "axes": lambda: of.decomposition.PCA(1, svd_solver="covariance_eigh"),
        "passthrough": lambda: "passthrough",
        "drop": lambda: "drop",
        "chain": lambda: of.pipeline.make_pipeline(pre.MaxAbsScaler(), pre.StandardScaler()),
        "nested": lambda: of.compose.make_column_transformer((pre.MaxAbsScaler(), [0]), remainder="passthrough"),
        "one-hot": lambda: OneHotEncoder(handle_unknown="ignore"),
        "ordinal": lambda: OrdinalEncoder(),
    }[name]()


@st.composite
def laid_out(draw):
    """Draw the kinds of columns, and branches of which each takes some of them, given in one way or another."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=6))
    numbers = [i for i, kind in enumerate(kinds) if kind in NUMBERS]
    names = [f"{kind}{i}" for i, kind in enumerate(kinds)]
    branches = []
    for _ in range(draw(st.integers(1, 3))):
        step = draw(st.sampled_from([*STEPS, "one-hot", "ordinal"] if numbers else ["one-hot", "ordinal", "drop"]))
        among = range(len(kinds)) if step in ("one-hot", "ordinal", "drop", "passthrough") else numbers
        at = draw(st.lists(st.sampled_from(list(among)), min_size=1, max_size=3, unique=True))
        way = draw(st.sampled_from(["names", "positions", "mask", "negative"]))
        columns = {
            "names": [names[i] for i in at],
            "positions": at,
            "mask": [i in at for i in range(len(kinds))],
            "negative": [i - len(kinds) for i in at],
        }[way]
        branches.append((step, columns))
    every_number = len(numbers) == len(kinds)
    remainder = draw(st.sampled_from(["drop", "passthrough", *(["max"] if every_number else [])]))
    weights = draw(st.sampled_from([None, 0.5]))
    return kinds, branches, remainder, weights


class TestLaw:
    @given(laid_out(), st.sampled_from(["pandas", "polars"]), st.integers(0, 3))
    @settings(max_examples=40, deadline=None)
    def test_as_scikit_learn_fits_it(
        self, assert_same_columns, assert_same_rows, frame_of, assert_learned_alike, layout, library, seed
    ):
        kinds, branches, remainder, weight = layout
        frame = frame_of(kinds, library, seed)
        y = np.random.default_rng(seed).normal(size=N)

        def made(of):
            transformers = [(f"t{i}", step_of(step, of), columns) for i, (step, columns) in enumerate(branches)]
            rest = remainder if remainder != "max" else of.preprocessing.MaxAbsScaler()
            weights = None if weight is None or branches[0][0] in ("passthrough", "drop") else {"t0": weight}
            return of.compose.ColumnTransformer(transformers, remainder=rest, transformer_weights=weights)

        ours, theirs = both(made)
        try:
            expected = theirs.fit_transform(frame, y)
        except ValueError as error:  # text beside what is sparse
            with pytest.raises(ValueError, match=re.escape(str(error))):
                ours.fit_transform(frame, y)
            return
        got = ours.fit_transform(frame, y)
        # A column of float32 is scaled in float32 where scikit-learn does so, and principal axes keep fewer digits.
        rtol = 1e-4 if "float32" in kinds or "axes" in dict(branches) else 1e-9
        assert_same_rows(got, expected, rtol)
        assert_learned_alike(ours, theirs, rtol=rtol)
        assert_same_columns(ours, theirs)
        again = made(ooclearn).fit(frame, y)
        assert_same_rows(again.transform(frame), expected, rtol)
        assert_same_columns(again, theirs)
        assert_same_columns(pickle.loads(pickle.dumps(again)), theirs)


class TestLazyFrames:
    """Data frames of Dask: columns that no transformer gets may be anything."""

    @staticmethod
    def made(of):
        return of.compose.make_column_transformer(
            (of.preprocessing.StandardScaler(), make_column_selector(dtype_include="number")),
            (of.preprocessing.MinMaxScaler(), ["b"]),
            ("drop", ["s"]),
        )

    def test_text_that_is_dropped(self, assert_same_columns, mixed, assert_learned_alike):
        dd = pytest.importorskip("dask.dataframe", reason="the extra `dask` is not installed")
        frame, y = mixed()
        lazy, target = dd.from_pandas(frame, npartitions=3), dd.from_pandas(pd.Series(y), npartitions=3)
        ours, theirs = both(lambda of: of.pipeline.make_pipeline(self.made(of), of.linear_model.Ridge()))
        assert ours.explain(lazy, target).n_passes == 1
        assert_learned_alike(ours.fit(lazy, target), theirs.fit(frame, y), rtol=1e-9)
        assert_same_columns(ours[0], theirs[0])
        expected = theirs.predict(frame)
        assert type(ours.predict(lazy)).__module__.startswith("dask.array")
        assert_allclose(np.asarray(ours.predict(lazy)), expected, rtol=1e-9)
        assert_allclose(ours.predict(frame), expected, rtol=1e-9)
        assert_allclose(ours.score(lazy, target), theirs.score(frame, y), rtol=1e-9)
        other = lazy[list("zcsba")].assign(more=1.0)
        assert_allclose(np.asarray(ours.predict(other)), expected, rtol=1e-9)
        assert_allclose(ours.score(other, target), theirs.score(frame, y), rtol=1e-9)
        alone = self.made(ooclearn)
        assert_allclose(np.asarray(alone.fit_transform(lazy)), theirs[0].transform(frame), rtol=1e-12)
        with pytest.raises(DataError, match="columns are missing"):
            ours.predict(lazy[["a", "s"]])

    def test_text_that_a_transformer_gets_is_refused(self, mixed):
        dd = pytest.importorskip("dask.dataframe", reason="the extra `dask` is not installed")
        lazy = dd.from_pandas(mixed()[0], npartitions=3)
        for made in (
            make_column_transformer((StandardScaler(), ["a", "s"])),
            make_column_transformer((StandardScaler(), ["a"]), remainder="passthrough"),
        ):
            with pytest.raises(DataError, match="'s' .* of a lazy data frame. Drop these columns, or encode them"):
                made.fit(lazy)
        for made in (make_column_transformer((OneHotEncoder(), ["s"])), StandardScaler(), make_union(StandardScaler())):
            with pytest.raises(DataError, match="'s' .*, 't' .* are not numeric"):
                made.fit(lazy)

    def test_a_union_knows_the_names_that_it_was_fitted_with(self, mixed):
        """Its names are those of its first transformer; that they were not found gave a warning, an error in tests."""
        dd = pytest.importorskip("dask.dataframe", reason="the extra `dask` is not installed")
        frame = mixed()[0][list("abc")]
        lazy = dd.from_pandas(frame, npartitions=3)
        union = make_union(StandardScaler()).fit(lazy)
        assert_allclose(np.asarray(union.transform(lazy)), union.transform(frame), rtol=1e-12)

    def test_names_in_another_order(self, mixed):
        frame, y = mixed()
        X = frame[list("abc")].to_numpy()
        source, other = ooclearn.scan(X).recut([20, 40]), ooclearn.scan(X[:, ::-1].copy()).recut([20, 40])
        source.names, other.names = np.array(list("abc"), dtype=object), np.array(list("cba"), dtype=object)
        pipe = make_pipeline(make_column_transformer((StandardScaler(), ["a", "b"])), Ridge()).fit(source, y)
        assert_allclose(pipe.predict(other).to_numpy(), pipe.predict(source).to_numpy())
        assert_allclose(pipe.score(other, y), pipe.score(source, y))


class TestFrames:
    @pytest.mark.parametrize("given", ["pandas", "polars"])
    @pytest.mark.parametrize("asked", ["pandas", "polars"])
    def test_set_output(self, mixed, assert_learned_alike, given, asked):
        frame, y = mixed(given)

        def made(of):
            inside = of.compose.make_column_transformer(
                (of.preprocessing.StandardScaler(), ["a", "b"]),
                (OneHotEncoder(sparse_output=False), ["s"]),
                ("passthrough", ["z"]),
            )
            return inside.set_output(transform=asked)

        ours, theirs = both(made)
        assert ours.explain(frame).n_passes == 1
        got, expected = ours.fit_transform(frame), theirs.fit_transform(frame)
        assert type(got) is type(expected)
        assert list(got.columns) == list(expected.columns)
        assert [str(one) for one in got.dtypes] == [str(one) for one in expected.dtypes]
        assert_allclose(np.asarray(got, dtype=float), np.asarray(expected, dtype=float), rtol=1e-12, atol=1e-12)
        assert list(ours.transform(frame).columns) == list(expected.columns)
        assert_learned_alike(ours, theirs)
        pipes = both(lambda of: of.pipeline.make_pipeline(made(of), of.linear_model.Ridge()))
        for pipe in pipes:
            pipe.fit(frame, y)
        assert_array_equal(pipes[0][-1].feature_names_in_, pipes[1][-1].feature_names_in_)
        assert_allclose(pipes[0].predict(frame), pipes[1].predict(frame), rtol=1e-8)

    def test_columns_in_another_order_and_more_of_them(self, mixed):
        frame, y = mixed()
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.compose.make_column_transformer((of.preprocessing.StandardScaler(), ["a", "c"])),
                of.linear_model.Ridge(),
            )
        )
        ours.fit(frame, y), theirs.fit(frame, y)
        other = frame[list("zcsa")].assign(more=1.0)
        assert_allclose(ours.predict(other), theirs.predict(other), rtol=1e-9)
        with pytest.raises(ValueError, match="columns are missing"):
            ours.predict(frame[["a"]])

    def test_names_that_are_no_text(self, assert_same_rows, mixed, assert_learned_alike):
        frame, _ = mixed()
        frame.columns = range(6)
        ours, theirs = both(lambda of: of.compose.make_column_transformer((of.preprocessing.StandardScaler(), [0, 2])))
        assert ours.explain(frame).n_passes == 1
        assert_same_rows(ours.fit_transform(frame), theirs.fit_transform(frame))
        assert_learned_alike(ours, theirs)
        assert not hasattr(ours, "feature_names_in_")
        frame.columns = ["a", 1, 2, 3, 4, 5]
        with pytest.raises(TypeError, match="string"):
            ours.fit(frame)

    def test_what_is_wrong_is_said_in_scikit_learns_words(self, mixed):
        frame, _ = mixed()
        for columns in (["nothing"], [9], [True]):
            ours, theirs = both(
                lambda of, columns=columns: of.compose.make_column_transformer(
                    (of.preprocessing.StandardScaler(), columns)
                )
            )
            with pytest.raises(ValueError) as expected:
                theirs.fit(frame)
            with pytest.raises(type(expected.value), match=".") as caught:
                ours.fit(frame)
            assert str(caught.value) == str(expected.value)
        with pytest.raises(DataError, match="not numeric"):
            make_column_transformer((StandardScaler(), ["s"])).fit(frame)

    def test_what_hands_frames_on_is_fitted_step_by_step(self, mixed):
        frame, y = mixed()
        pipe = make_pipeline(FunctionTransformer(), make_column_transformer((StandardScaler(), ["a"])), Ridge())
        assert "hand data frames on" in pipe.explain(frame, y).note
        assert pipe.fit(frame, y)[-1].coef_.shape == (1,)

    def test_routed_weights(self, counted_passes, mixed, assert_learned_alike):
        frame, y = mixed()
        w = np.linspace(0, 2, N)
        with sklearn.config_context(enable_metadata_routing=True):
            ours, theirs = both(
                lambda of: of.pipeline.make_pipeline(
                    of.compose.make_column_transformer(
                        (of.preprocessing.StandardScaler().set_fit_request(sample_weight=True), ["a", "b"]),
                        (OneHotEncoder(sparse_output=False), ["s"]),
                    ),
                    of.linear_model.Ridge().set_fit_request(sample_weight=True),
                )
            )
            with counted_passes() as seen:
                ours.fit(frame, y, sample_weight=w)
            assert seen.count == 1
            assert_learned_alike(ours, theirs.fit(frame, y, sample_weight=w), rtol=1e-8)

    def test_columns_of_rows_normalised(self, assert_same_rows, mixed):
        frame, y = mixed()
        ours, theirs = both(
            lambda of: of.compose.ColumnTransformer(
                [
                    ("n", of.preprocessing.Normalizer(), ["a", "c"]),
                    ("s", of.preprocessing.StandardScaler(), slice(0, 2)),
                ]
            )
        )
        assert isinstance(ours, ColumnTransformer)
        assert isinstance(ours.transformers[0][1], Normalizer)
        assert_same_rows(ours.fit_transform(frame, y), theirs.fit_transform(frame, y))
