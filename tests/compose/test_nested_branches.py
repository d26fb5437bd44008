"""Branches in branches: their maps are one map, and statistics are seen through all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import clone

import ooclearn
import ooclearn.compose
import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.pipeline
import ooclearn.preprocessing
from branches import D, both, counted, rows
from ooclearn import FeatureUnion, make_column_transformer, make_pipeline
from ooclearn.cluster import KMeans
from ooclearn.linear_model import Ridge
from ooclearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from ooclearn.rowmaps import Affine, Columns
from ooclearn.statistics import Moments, Through
from ooclearn.statistics.protocol import is_summed
from ooclearn.table import Rows
from ooclearn.testing.device import register_fake
from ooclearn.testing.syncs import no_synchronisation


def scalers(of, *, axes=False):
    """Return a column transformer of scalers, or of principal axes, of three columns; the first two change places."""
    first = of.decomposition.PCA(2, svd_solver="covariance_eigh") if axes else of.preprocessing.StandardScaler()
    return of.compose.make_column_transformer((first, [1, 0]), remainder="drop" if axes else "passthrough")


# Column transformers and unions in pipelines in one another.
NESTED = {
    "in a pipeline": lambda of: of.compose.make_column_transformer(
        (of.pipeline.make_pipeline(of.preprocessing.MaxAbsScaler(), scalers(of)), [0, 2, 4]),
        (of.preprocessing.MinMaxScaler(), [0, 5]),
    ),
    "twice": lambda of: of.compose.make_column_transformer(
        (
            of.pipeline.make_pipeline(
                of.compose.make_column_transformer(
                    (of.pipeline.make_pipeline(scalers(of), of.preprocessing.MaxAbsScaler()), [2, 1, 0]),
                    remainder="passthrough",
                ),
                of.preprocessing.StandardScaler(),
            ),
            slice(1, 6),
        ),
        remainder="passthrough",
    ),
    "a selection only": lambda of: of.compose.make_column_transformer(
        (of.compose.make_column_transformer(("passthrough", [2, 0])), [1, 2, 3]), ("passthrough", [2, 1])
    ),
    "unions": lambda of: of.pipeline.make_union(
        of.pipeline.make_pipeline(
            of.pipeline.make_union(of.preprocessing.StandardScaler(), of.preprocessing.MaxAbsScaler()),
            of.preprocessing.MinMaxScaler(),
        ),
        "passthrough",
    ),
    "weights": lambda of: of.compose.ColumnTransformer(
        [("a", scalers(of), [3, 4, 5]), ("b", of.preprocessing.MaxAbsScaler(), [0])],
        transformer_weights={"a": 3.0},
    ),
    "axes": lambda of: of.compose.make_column_transformer((scalers(of, axes=True), [2, 4])),
}
BELOW = {
    "ridge": lambda of: of.linear_model.Ridge(),
    "moments": lambda of: of.preprocessing.StandardScaler(),
    "extrema": lambda of: of.preprocessing.MinMaxScaler(),
}


class TestNested:
    """Maps in maps are one map: what is below is seen through all of them."""

    @pytest.mark.parametrize("below", BELOW)
    @pytest.mark.parametrize("name", NESTED)
    def test_one_reading(self, assert_learned_alike, name, below):
        X, y = rows(1e3)
        source, target = counted(X), counted(y)
        ours, theirs = both(lambda of: of.pipeline.make_pipeline(NESTED[name](of), BELOW[below](of)))
        plan = ours.explain(source, target)
        assert plan.n_passes == (2 if name == "axes" and below == "extrema" else 1)
        ours.fit(source, target)
        assert source.passes == plan.n_passes
        assert_learned_alike(ours, theirs.fit(X, y), rtol=1e-7)
        method = "predict" if below == "ridge" else "transform"
        expected = getattr(theirs, method)(X)
        assert_allclose(getattr(ours, method)(source).to_numpy(), expected, rtol=1e-7, atol=1e-7)

    @pytest.mark.parametrize("name", NESTED)
    def test_of_a_feed_below_on_a_device(self, name):
        """What two passes ask goes through fitted maps in maps: it is added up on the device, and asks for no value."""
        fake = register_fake()
        X = rows()[0].astype(np.float32).astype(float)
        pipe = make_pipeline(NESTED[name](ooclearn), Normalizer(), StandardScaler())
        expected = clone(pipe).fit(X)
        given = fake.from_host(X)
        with no_synchronisation():
            pipe.fit(given)
        assert_allclose(pipe[-1].mean_, expected[-1].mean_, rtol=1e-6)

    def test_what_may_be_missing_beside_axes_is_not_asked_of_the_scatter(self):
        X, _ = rows()
        X[5, 2] = np.nan
        inner = make_column_transformer((ooclearn.decomposition.PCA(1), [0, 1]), (StandardScaler(), [2]))
        pipe = make_pipeline(make_column_transformer((inner, [0, 1, 2])), StandardScaler())
        source = counted(X)
        assert pipe.explain(source).n_passes == 2
        pipe.fit(source)
        assert source.passes == 2

    def test_through_one_map_and_another_is_through_both(self):
        X = np.random.default_rng(0).normal(3, 2, (20, 3))
        inner, outer = Affine(np.array([2.0, 4.0])), Columns((2, 0))
        both = Through(Through(Moments(), inner), outer)
        assert isinstance(both.statistic, Moments)
        assert is_summed(both)
        assert_allclose(both.of(Rows(X)).mean, inner(outer(X)).mean(axis=0), rtol=1e-14)


@st.composite
def by_column(draw, width, depth):
    """Draw a function that makes a transformer of so many columns, each mapped by itself, and how many come out of it."""
    kind = draw(
        st.sampled_from(["standard", "range", "max", *(["columns", "columns", "pipeline", "union"] if depth else [])])
    )
    if kind == "columns":
        branches, total = [], 0
        for _ in range(draw(st.integers(1, 2))):
            at = draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=width, unique=True))
            inside, n = draw(by_column(len(at), depth - 1))
            if draw(st.booleans()):
                branches.append((None, at))
                total += len(at)
            else:
                branches.append((inside, at))
                total += n
        rest = draw(st.sampled_from(["drop", "passthrough"]))
        total += (width - len({i for _, at in branches for i in at})) * (rest == "passthrough")
        return (
            lambda of: of.compose.make_column_transformer(
                *(("passthrough" if inside is None else inside(of), at) for inside, at in branches), remainder=rest
            ),
            total,
        )
    if kind == "pipeline":
        first, n = draw(by_column(width, depth - 1))
        second, m = draw(by_column(n, depth - 1))
        return lambda of: of.pipeline.make_pipeline(first(of), second(of)), m
    if kind == "union":
        first, n = draw(by_column(width, depth - 1))
        second, m = draw(by_column(width, depth - 1))
        return lambda of: of.pipeline.make_union(first(of), second(of)), n + m
    names = {"standard": "StandardScaler", "range": "MinMaxScaler", "max": "MaxAbsScaler"}
    return lambda of: getattr(of.preprocessing, names[kind])(), width


@given(by_column(D, 3), st.sampled_from(["moments", "extrema", "none"]))
@settings(max_examples=60, deadline=None)
def test_whatever_maps_each_column_by_itself_is_seen_through(assert_learned_alike, drawn, below):
    """One reading, however deep branches and pipelines are in one another; all learn what they learn one by one."""
    made, _ = drawn
    X, _ = rows()
    source = counted(X)
    steps = {"moments": ["StandardScaler"], "extrema": ["MinMaxScaler"], "none": []}[below]
    ours, theirs = both(
        lambda of: of.pipeline.make_pipeline(made(of), *(getattr(of.preprocessing, name)() for name in steps))
    )
    plan = ours.explain(source)
    assert plan.n_passes <= 1
    ours.fit(source)
    assert source.passes == plan.n_passes
    assert_learned_alike(ours, theirs.fit(X), rtol=1e-9)
    assert_allclose(ours.transform(source).to_numpy(), theirs.transform(X), rtol=1e-8, atol=1e-8)


def test_what_is_waited_for_is_named_without_what_is_fitted():
    X, y = rows()
    inner = FeatureUnion([("a", MinMaxScaler()), ("b", KMeans(2, max_iter=1))])
    model = make_pipeline(FeatureUnion([("c", StandardScaler()), ("d", inner)]), Ridge())
    reason = model.explain(ooclearn.scan(X), y).passes[-1].reason
    assert reason.startswith(
        "ridge gets its rows through featureunion (there featureunion__d__b), which is fitted only"
    )
