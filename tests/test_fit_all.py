"""Several fits over shared readings: as if each had been alone, all of them or none."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn.linear_model
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline as make_sklearn_pipeline
from sklearn.preprocessing import OrdinalEncoder, QuantileTransformer

import ooclearn
from branches import counted
from ooclearn import (
    ColumnTransformer,
    Incremental,
    explain_all,
    fit_all,
    make_column_transformer,
    make_pipeline,
    make_union,
)
from ooclearn.decomposition import PCA
from ooclearn.exceptions import DataError, PerformanceWarning
from ooclearn.linear_model import LinearRegression, Ridge
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from ooclearn.statistics import Moments, Scatter

N = 300


def rows(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3.0, 2.0, (N, 5))
    return X, X @ np.arange(5.0) + rng.normal(size=N)


def halves():
    return ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(), slice(2, None))])


# Makers of estimators, and how many readings all take together.
TOGETHER = {
    "scalers": (lambda: [StandardScaler(), MinMaxScaler(), MaxAbsScaler()], 1),
    "pipelines": (
        lambda: (
            [make_pipeline(StandardScaler(), Ridge(alpha)) for alpha in (0.1, 1.0)]
            + [make_pipeline(MinMaxScaler(), LinearRegression())]
        ),
        1,
    ),
    "of all kinds": (
        lambda: [make_pipeline(halves(), Ridge()), make_union(PCA(2), StandardScaler()), halves(), Ridge(), PCA(3)],
        1,
    ),
    "one that needs more": (
        lambda: [StandardScaler(), make_pipeline(StandardScaler(), MinMaxScaler(clip=True), MaxAbsScaler())],
        2,
    ),
    "nothing": (list, 0),
}


@pytest.fixture(params=TOGETHER.values(), ids=TOGETHER)
def together(request):
    return request.param


def test_as_promised(together):
    make, passes = together
    X, y = rows()
    source, target = counted(X), counted(y)
    plan = explain_all(make(), source, target)
    assert not source.reads
    estimators = make()
    fitted = fit_all(estimators, source, target)
    assert all(one is given for one, given in zip(fitted, estimators, strict=True))
    assert source.passes == plan.n_passes == passes


def test_as_if_fitted_alone(together, backend):
    if backend.rounding > 1e-10:
        pytest.skip("compared with float64")
    make, _ = together
    X, y = rows()
    given = backend.make(X)
    for one, alone in zip(fit_all(make(), given, y), make(), strict=True):
        alone.fit(X, y)
        method = "predict" if hasattr(alone, "predict") else "transform"
        got, expected = getattr(one, method)(X), getattr(alone, method)(X)
        # Axes may be found from sums in another order.
        assert_allclose(np.abs(got), np.abs(expected), rtol=1e-7, atol=1e-7)
        assert getattr(one, "n_features_in_", 5) == 5


def test_equal_questions_are_asked_once(monkeypatch):
    seen = []
    for statistic in (Moments, Scatter):
        of = statistic.of
        monkeypatch.setattr(
            statistic, "of", lambda self, rows, of=of: (seen.append((type(self), rows.n)), of(self, rows))[1]
        )
    X, y = rows()
    fit_all([make_pipeline(StandardScaler(), Ridge(alpha)) for alpha in (0.1, 1.0, 10.0)], counted(X), y)
    assert sum(n for kind, n in seen if kind is Scatter) == N
    assert not [n for kind, n in seen if kind is Moments], "moments are in the scatter"


def test_columns_of_what_is_asked_anyway_are_not_asked_again(monkeypatch):
    seen = []
    of = Moments.of
    monkeypatch.setattr(Moments, "of", lambda self, rows: (seen.append(rows.n), of(self, rows))[1])
    X, y = rows()
    column = ColumnTransformer([("a", StandardScaler(), [1, 0])], remainder="passthrough")
    source = counted(X)
    fit_all([Ridge(), column], source, y)
    assert source.passes == 1
    assert not seen
    assert_allclose(column.named_transformers_["a"].mean_, X[:, [1, 0]].mean(axis=0), rtol=1e-12)


def test_feeds_share_their_reading():
    X, y = rows()
    labels = (y > y.mean()).astype(int)
    source = counted(X)
    models = [Incremental(SGDClassifier(alpha=alpha, shuffle=False)) for alpha in (1e-4, 1e-3)]
    fit_all(models, source, labels)
    assert source.passes == 1
    assert_array_equal(models[0].coef_, Incremental(SGDClassifier(shuffle=False)).fit(counted(X), labels).coef_)


def test_sample_weights_of_some():
    X, y = rows()
    w = np.linspace(0.0, 2.0, N)

    def make():
        return [Ridge(), Ridge(), make_pipeline(StandardScaler(), Ridge())]

    params = [{"sample_weight": w}, {}, {"ridge__sample_weight": w}]
    source = counted(X)
    assert explain_all(make(), source, y, fit_params=params).n_passes == 2
    fitted = fit_all(make(), source, y, fit_params=params)
    for one, alone, given in zip(fitted, make(), params, strict=True):
        assert_allclose(one.predict(X), alone.fit(X, y, **given).predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match="one for each"):
        fit_all(make(), source, y, fit_params=[{}])


def test_what_does_not_say_what_it_reads_is_fitted_by_itself():
    X, y = rows()
    source = counted(X)
    others = [
        sklearn.linear_model.Ridge(),
        make_pipeline(QuantileTransformer(n_quantiles=10), Ridge()),
        make_sklearn_pipeline(StandardScaler(), Ridge()),
    ]
    estimators = [StandardScaler(), *others]
    plan = explain_all(estimators, source, y)
    assert "ridge is fitted by itself: Ridge does not say beforehand" in str(plan)
    with pytest.warns(PerformanceWarning):
        fit_all(estimators, source, y)
    for one in others:
        assert_allclose(one.predict(X), clone(one).fit(X, y).predict(X), rtol=1e-9)
    assert others[1][0].n_features_in_ == 5


@pytest.mark.parametrize(
    "failing",
    [lambda: StandardScaler(with_mean="no"), lambda: sklearn.linear_model.Ridge(alpha=-1)],
    ids=["ours", "alone"],
)
def test_all_or_none(failing):
    X, y = rows()
    one, two = StandardScaler().fit(X[:10]), make_pipeline(StandardScaler(), Ridge())
    before = pickle.dumps((one, two))
    with pytest.raises(ValueError, match="parameter"):
        fit_all([one, two, failing()], X, y)
    assert pickle.dumps((one, two)) == before
    bad = X.copy()
    bad[250, 3] = np.inf
    with pytest.raises(DataError):
        fit_all([one, two], counted(bad), y)
    assert pickle.dumps((one, two)) == before


def test_one_object_in_two_places_is_refused():
    scaler = StandardScaler()
    with pytest.raises(ValueError, match="the same StandardScaler is in 2"):
        fit_all([scaler, make_pipeline(scaler, Ridge())], *rows())


def test_targets_in_a_table_of_one_column():
    X, y = rows()
    models = [LinearRegression(), Ridge()]
    fit_all(models, X, y[:, None])
    for model in models:
        alone = clone(model).fit(X, y[:, None])
        assert np.shape(model.coef_) == np.shape(alone.coef_)
        assert_allclose(model.coef_, alone.coef_, rtol=1e-12)


def test_data_frames():
    pd = pytest.importorskip("pandas", reason="in the group `test`")
    X, y = rows()
    frame = pd.DataFrame(X, columns=list("abcde"))
    fitted = fit_all([StandardScaler(), ColumnTransformer([("x", MaxAbsScaler(), ["b"])])], frame, y)
    assert_array_equal(fitted[0].feature_names_in_, list("abcde"))
    assert_allclose(fitted[1].transform(frame)[:, 0], X[:, 1] / np.abs(X[:, 1]).max())
    assert ooclearn.explain_all(fitted, frame).n_passes == 1
    frame["t"] = "text"
    encoded = make_column_transformer((OrdinalEncoder(), ["t"]), (MaxAbsScaler(), ["b"]))
    fitted = fit_all([encoded, ColumnTransformer([("x", MaxAbsScaler(), ["b"])])], frame, y)
    assert_allclose(fitted[0].transform(frame)[:, 1], fitted[1].transform(frame)[:, 0])
    assert "OrdinalEncoder gets columns that are no numbers" in str(ooclearn.explain_all(fitted, frame))


@pytest.mark.parametrize("one", [StandardScaler(), ooclearn.make_pipeline(StandardScaler(), Ridge())])
def test_one_that_is_in_no_list(one):
    X, y = rows()
    for call in (fit_all, ooclearn.explain_all):
        with pytest.raises(TypeError, match=rf"expected a list of estimators, got a {type(one).__name__}; pass \[it\]"):
            call(one, X, y)
