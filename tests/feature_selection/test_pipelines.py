"""Selectors are seen through: one reading for the steps above and below, and what each learns is as if fitted alone."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.feature_selection
import sklearn.pipeline
import sklearn.preprocessing
from sklearn.base import clone

import ooclearn
import ooclearn.feature_selection
import ooclearn.preprocessing
from ooclearn import Incremental
from ooclearn.cluster import KMeans
from ooclearn.exceptions import DataError
from ooclearn.linear_model import Ridge
from ooclearn.pipeline import make_pipeline
from ooclearn.testing import CountingBlocks

# The last column is, in all tables here.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Features .* are constant", "ignore:invalid value encountered in divide:RuntimeWarning:sklearn"
)

# How to make the steps from either library; all but the constant and the weakest columns are kept.
PIPES = {
    "scaler, k best by regression": lambda of: [
        of.preprocessing.StandardScaler(),
        of.feature_selection.SelectKBest(of.feature_selection.f_regression, k=3),
    ],
    "scaler, k best by class, scaler": lambda of: [
        of.preprocessing.MinMaxScaler(),
        of.feature_selection.SelectKBest(k=3),
        of.preprocessing.StandardScaler(),
    ],
    "k best, threshold, range": lambda of: [
        of.feature_selection.SelectKBest(k=4),
        of.feature_selection.VarianceThreshold(0.1),
        of.preprocessing.MinMaxScaler(),
    ],
    "threshold, scaler, percentile": lambda of: [
        of.feature_selection.VarianceThreshold(),
        of.preprocessing.StandardScaler(),
        of.feature_selection.SelectPercentile(of.feature_selection.r_regression, percentile=60),
    ],
    "two selectors": lambda of: [
        of.feature_selection.VarianceThreshold(),
        of.feature_selection.SelectKBest(k=4),
        of.feature_selection.SelectKBest(of.feature_selection.f_regression, k=2),
    ],
}


def table(n=400, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    X = (rng.normal(size=(n, 5)) + np.outer(y, [0.3, 2.0, 0.0, -1.0, 0.6]) + offset) * np.geomspace(1, 100, 5)
    # Of 0.1, which has no end in binary, scikit-learn takes the rounding for a score and keeps the column.
    return np.column_stack([X, np.full(n, 0.5)]), y


@pytest.fixture(params=PIPES.values(), ids=PIPES)
def listed(request):
    return request.param


def test_one_reading_as_promised(listed):
    X, y = table()
    source = CountingBlocks(X, [100, 0, 1, 299])
    pipe = make_pipeline(*listed(ooclearn))
    plan = pipe.explain(source, y)
    assert not source.reads
    pipe.fit(source, y)
    assert source.passes == plan.n_passes == 1


def test_as_fitted_step_by_step(listed, backend):
    X, y = table()
    X = X.astype("float64" if backend.has("float64") else "float32")
    data = backend.make(X)
    mine = make_pipeline(*listed(ooclearn)).fit(data, y)
    reference = sklearn.pipeline.make_pipeline(*listed(sklearn)).fit(X.astype(float), y)
    room = 1e-10 if backend.rounding < 1e-10 else 1e-3
    for step, expected in zip(mine, reference, strict=True):
        assert step.n_features_in_ == expected.n_features_in_
        if hasattr(expected, "get_support"):
            np.testing.assert_array_equal(step.get_support(), expected.get_support())
        for name in ("mean_", "scale_", "variances_", "data_min_", "data_max_"):
            if hasattr(expected, name):
                kept = getattr(expected, name)
                np.testing.assert_allclose(getattr(step, name), kept, rtol=room, atol=room * np.abs(kept).max())
    out = backend.back(mine.transform(data))
    np.testing.assert_allclose(out, reference.transform(X.astype(float)), rtol=1e3 * room, atol=10 * room)


@pytest.mark.parametrize("score", ["f_classif", "f_regression", "r_regression"])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_scores_seen_through_a_scaler(score, offset):
    """A scaler changes no score of these; a column that is constant before it is so behind it."""
    X, y = table(offset=offset)
    function = getattr(ooclearn.feature_selection, score)
    select = ooclearn.feature_selection.SelectKBest(function, k="all")
    blocks = ooclearn.scan(X).recut([100, 0, 1, 299])
    pipe = make_pipeline(ooclearn.preprocessing.StandardScaler(), select).fit(blocks, y)
    expected = ooclearn.feature_selection.SelectKBest(function, k="all").fit(blocks, y).scores_
    np.testing.assert_allclose(pipe[-1].scores_, expected, rtol=1e-10)


def test_scores_behind_a_rotation():
    X, y = table()
    X = X[:, :5]
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    from ooclearn.rowmaps import Affine, Columns
    from ooclearn.statistics import ClassMoments, CrossScatter, Scatter
    from ooclearn.statistics.protocol import contained
    from ooclearn.table import Rows

    rows, turned = Rows(X, y), Rows(X @ rotation + 3.0, y)
    seen = CrossScatter().before("affine")
    assert seen == Scatter(target=True)
    state = seen.of(rows)
    behind = CrossScatter().after(state, Affine(rotation, offset=np.full(5, 3.0)))
    direct = CrossScatter().of(turned)
    np.testing.assert_allclose(behind.xy, direct.xy, rtol=1e-10)
    np.testing.assert_allclose(behind.m2, direct.m2, rtol=1e-10)
    np.testing.assert_allclose(behind.mean, direct.mean, rtol=1e-10)
    taken = contained(Scatter(target=True), CrossScatter())(state)
    np.testing.assert_allclose(taken.xy, CrossScatter().of(rows).xy, rtol=1e-12)
    assert contained(Scatter(), CrossScatter()) is None
    chosen = CrossScatter().after(CrossScatter().of(rows), Columns((4, 0)))
    np.testing.assert_allclose(chosen.xy, CrossScatter().of(Rows(X[:, [4, 0]], y)).xy, rtol=1e-12)
    moments = ClassMoments().after(ClassMoments().before("affine").of(rows), Affine(rotation))
    np.testing.assert_allclose(moments.m2, ClassMoments().of(Rows(X @ rotation, y)).m2, rtol=1e-10)


def test_in_front_of_a_feed():
    from sklearn.linear_model import SGDClassifier

    X, y = table()
    source = CountingBlocks(X, [100, 300])
    pipe = make_pipeline(
        ooclearn.preprocessing.StandardScaler(),
        ooclearn.feature_selection.SelectKBest(k=3),
        Incremental(SGDClassifier(random_state=0)),
    )
    assert pipe.explain(source, y).n_passes == 2
    pipe.fit(source, y)
    assert source.passes == 2
    assert pipe[-1].coef_.shape == (3, 3)
    assert pipe.predict(source).to_numpy().shape == (400,)


def test_with_sample_weights_for_another_step():
    """scikit-learn's selectors take no weights; those of another step leave theirs alone."""
    X, y = table()
    w = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    pipe = make_pipeline(ooclearn.preprocessing.StandardScaler(), ooclearn.feature_selection.SelectKBest(k=3))
    pipe.fit(CountingBlocks(X, [100, 300]), y, standardscaler__sample_weight=w)
    alone = ooclearn.feature_selection.SelectKBest(k=3).fit(X, y)
    np.testing.assert_allclose(pipe[-1].scores_[:5], alone.scores_[:5], rtol=1e-10)


def test_moments_that_are_joined_are_not_asked_twice():
    from ooclearn.passes import asked_for
    from ooclearn.statistics import Extrema, Join, Moments

    join = Join(moments=Moments(), extrema=Extrema())
    assert asked_for([Moments(), join, Extrema()]) == [join]


@pytest.mark.parametrize("behind", ["Ridge", "KMeans", "StandardScaler", "SelectKBest"])
def test_steps_behind_a_selector_that_keeps_no_column_are_not_fitted(behind):
    X, y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60.0)
    last = {"Ridge": Ridge(), "KMeans": KMeans(2), "StandardScaler": ooclearn.preprocessing.StandardScaler()}
    none = ooclearn.feature_selection.SelectKBest(ooclearn.feature_selection.f_regression, k=0)
    pipe = make_pipeline(none, last.get(behind, clone(none)))
    with pytest.raises(DataError, match=r"0 feature\(s\).*'selectkbest(-1)?' has selected none"):
        pipe.fit(X, y)
    assert not hasattr(none, "scores_")
    assert make_pipeline(ooclearn.preprocessing.StandardScaler(), none).fit(X, y)[-1].get_support().sum() == 0


def test_a_selector_in_the_middle_refuses_several_targets():
    X = np.random.default_rng(0).standard_normal((60, 3))
    selector = ooclearn.feature_selection.SelectKBest(ooclearn.feature_selection.f_regression, k=2)
    with pytest.raises(DataError, match="y should be a 1d array"):
        make_pipeline(ooclearn.preprocessing.StandardScaler(), selector, Ridge()).fit(X, X[:, :2])
