"""Law 5: scikit-learn's results, from one pass, alone and behind a scaler; and what is refused."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import sklearn.discriminant_analysis as theirs
import sklearn.pipeline
import sklearn.preprocessing
from sklearn.naive_bayes import GaussianNB as TheirGaussianNB

import ooclearn.discriminant_analysis as ours
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.naive_bayes import GaussianNB
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Affine
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import uneven_cut

ROWS = 600
SETTINGS = [
    ("LinearDiscriminantAnalysis", {}),
    ("LinearDiscriminantAnalysis", {"store_covariance": True, "n_components": 1}),
    ("LinearDiscriminantAnalysis", {"solver": "lsqr"}),
    ("LinearDiscriminantAnalysis", {"solver": "lsqr", "shrinkage": 0.3}),
    ("LinearDiscriminantAnalysis", {"solver": "eigen"}),
    ("LinearDiscriminantAnalysis", {"solver": "eigen", "shrinkage": 0.2}),
    ("QuadraticDiscriminantAnalysis", {}),
    ("QuadraticDiscriminantAnalysis", {"reg_param": 0.1, "store_covariance": True}),
    ("QuadraticDiscriminantAnalysis", {"solver": "eigen", "shrinkage": 0.1, "store_covariance": True}),
]
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
LABELS = {
    "three": lambda y: y,
    "two": lambda y: y > 0,
    "text": lambda y: np.array(["a", "b", "long"])[y],
}


def table(ratio=0.0, seed=0):
    """Three correlated classes whose mean lies `ratio` standard deviations from 0."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, ROWS)
    mixing = np.eye(4) + 0.3 * rng.standard_normal((4, 4))
    return rng.standard_normal((ROWS, 4)) @ mixing + y[:, None] * [1.0, 0.0, 0.5, 2.0] + ratio, y


def attributes(model):
    return {
        name: value
        for name, value in vars(model).items()
        if name.endswith("_") and not name.startswith("_") and isinstance(value, (np.ndarray, list))
    }


def unsigned(name, value):
    """Return what scikit-learn defines: axes but for their sign."""
    return np.abs(value) if name in ("scalings_", "rotations_") else np.asarray(value)


def assert_alike(mine, reference, rtol=1e-10, skip=()):
    for name, expected in attributes(reference).items():
        if name in skip:
            continue
        got, want = unsigned(name, getattr(mine, name)), unsigned(name, expected)
        assert got.shape == want.shape, name
        assert got.dtype == want.dtype, name
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.max(np.abs(want), initial=0), err_msg=name)
        else:
            assert np.array_equal(got, want), name


def skipped(settings):
    # All directions but those of the classes have the same ratio of scatters, so they may be turned.
    return ("scalings_",) if settings.get("solver") == "eigen" else ()


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=repr)
def test_attributes_and_answers(name, settings, labels):
    X, y = table()
    X, y = X * [1.0, 100.0, 1.0, 0.1], LABELS[labels](y)
    mine = getattr(ours, name)(**settings).fit(CountingBlocks(X, uneven_cut(ROWS)), y)
    reference = getattr(theirs, name)(**settings).fit(X, y)
    assert_alike(mine, reference, skip=skipped(settings))
    for method in METHODS:
        if method == "transform" and (name.startswith("Q") or settings.get("solver") == "lsqr"):
            with pytest.raises(AttributeError, match="transform"):
                mine.transform(X)
            continue
        got, expected = getattr(mine, method)(X), getattr(reference, method)(X)
        assert got.dtype == expected.dtype
        if method == "predict":
            assert np.array_equal(got, expected)
        else:
            turned = np.abs if method == "transform" else np.asarray
            np.testing.assert_allclose(turned(got), turned(expected), rtol=1e-8, atol=1e-9, err_msg=method)
    assert mine.score(X, y) == reference.score(X, y)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("LinearDiscriminantAnalysis", {"store_covariance": True}),
        ("LinearDiscriminantAnalysis", {"solver": "lsqr"}),
        ("LinearDiscriminantAnalysis", {"solver": "eigen"}),
        ("QuadraticDiscriminantAnalysis", {}),
    ],
)
def test_priors(name, settings):
    X, y = table()
    for priors in ([0.2, 0.2, 0.6], [1.0, 1.0, 2.0] if name.startswith("L") else [0.5, 0.25, 0.25]):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The priors do not sum to 1")
            mine = getattr(ours, name)(priors=priors, **settings).fit(X, y)
            reference = getattr(theirs, name)(priors=priors, **settings).fit(X, y)
        assert_alike(mine, reference, skip=skipped(settings))
        np.testing.assert_allclose(mine.predict_proba(X), reference.predict_proba(X), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 1e3, 1e6, 1e8])
@pytest.mark.parametrize(("name", "settings"), [SETTINGS[0], SETTINGS[2], SETTINGS[6]], ids=repr)
def test_behind_a_scaler_in_one_reading(name, settings, ratio):
    X, y = table(ratio)
    source = CountingBlocks(X, uneven_cut(ROWS))
    mine = make_pipeline(StandardScaler(), getattr(ours, name)(**settings))
    assert mine.explain(source, y).n_passes == 1
    mine.fit(source, y)
    assert source.passes == 1
    staged = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), getattr(theirs, name)(**settings)
    ).fit(X, y)
    exact = X.astype(np.longdouble)
    exact = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    reference = getattr(theirs, name)(**settings).fit(exact.astype(np.float64), y)
    for attribute, value in attributes(reference).items():
        if attribute == "classes_" or isinstance(value, list):
            continue
        want = unsigned(attribute, value)
        size = np.max(np.abs(want)) if attribute != "xbar_" else 1.0
        got, other = (unsigned(attribute, getattr(one[-1], attribute)) for one in (mine, staged))
        error, their_error = np.max(np.abs(got - want)) / size, np.max(np.abs(other - want)) / size
        # Where the two differ, it is scikit-learn that is off: its scaler's mean has rounding of all the rows.
        assert error <= their_error + max(1e-13, 2.0**-53 * ratio), attribute
        if ratio <= 1e6:
            assert np.max(np.abs(got - other)) / size <= 1e-10 + 2 * their_error, attribute
    assert np.mean(mine.predict(X) == staged.predict(X)) > 0.99


def test_in_the_middle_of_a_pipeline():
    X, y = table(5.0)
    source = CountingBlocks(X, uneven_cut(ROWS))
    mine = make_pipeline(StandardScaler(), ours.LinearDiscriminantAnalysis(), GaussianNB())
    assert mine.explain(source, y).n_passes == 1
    mine.fit(source, y)
    assert source.passes == 1
    staged = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), theirs.LinearDiscriminantAnalysis(), TheirGaussianNB()
    ).fit(X, y)
    np.testing.assert_allclose(mine[-1].var_, staged[-1].var_, rtol=1e-10)
    np.testing.assert_allclose(np.abs(mine[-1].theta_), np.abs(staged[-1].theta_), rtol=1e-10)
    assert np.array_equal(mine.predict(X), staged.predict(X))


def test_a_decision_behind_a_scaler_is_one_matrix_product():
    X, y = table()
    mine = make_pipeline(StandardScaler(), ours.LinearDiscriminantAnalysis()).fit(X, y)
    row_map = mine._method_map("decision_function", n_columns=4, dtype=X.dtype)
    assert [type(one) for one in row_map.maps].count(Affine) == 1


def test_decisions_far_from_0_keep_their_digits():
    X, y = table()
    X = np.round(X * 256) / 256  # so that adding the offset is exact
    near, far = (ours.LinearDiscriminantAnalysis().fit(X + offset, y) for offset in (0.0, 2.0**27))
    assert_alike(far, near, skip=("means_", "xbar_", "intercept_"))
    np.testing.assert_allclose(far.decision_function(X + 2.0**27), near.decision_function(X), rtol=1e-10, atol=1e-10)
    two = [ours.QuadraticDiscriminantAnalysis().fit(X + offset, y) for offset in (0.0, 2.0**27)]
    np.testing.assert_allclose(two[1].decision_function(X + 2.0**27), two[0].decision_function(X), rtol=1e-6, atol=1e-6)


def test_every_container(backend):
    X, y = table(1.0)
    for cls in (ours.LinearDiscriminantAnalysis, ours.QuadraticDiscriminantAnalysis):
        reference = cls().fit(X, y)
        mine = cls().fit(backend.make(X), y)
        np.testing.assert_allclose(mine.means_, reference.means_, rtol=backend.within(2000), atol=backend.within(100))
        got = mine.predict_proba(backend.make(X))
        np.testing.assert_allclose(backend.back(got), reference.predict_proba(X), atol=backend.within(2000))
        labels = backend.back(mine.predict(backend.make(X)))
        assert np.mean(labels == reference.predict(X)) > 0.99


@pytest.mark.parametrize("name", ["LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"])
def test_partial_fit_and_merge_are_one_fit(name):
    X, y = table(100.0)
    order = np.argsort(y, kind="stable")  # so that no part has all the classes
    X, y = X[order], y[order]
    cls = getattr(ours, name)
    whole = cls().fit(X, y)
    grown = cls()
    for part in (slice(0, 350), slice(350, 600)):
        grown.partial_fit(X[part], y[part])
    assert_alike(grown, whole)
    merged = cls().fit(X[:350], y[:350]).merge(pickle.loads(pickle.dumps(cls().fit(X[350:], y[350:]))))
    assert_alike(merged, whole)


def test_weights_are_repetitions():
    X, y = table()
    w = np.random.default_rng(1).integers(0, 3, ROWS)
    for cls in (ours.LinearDiscriminantAnalysis, ours.QuadraticDiscriminantAnalysis):
        assert_alike(cls().fit(X, y, w), cls().fit(np.repeat(X, w, axis=0), np.repeat(y, w)))


def test_dependent_and_constant_columns_and_more_columns_than_rows():
    X, y = table(3.0)
    X = np.column_stack([X, X[:, 0] + X[:, 1], np.full(ROWS, 0.1), 7.0 * X[:, 2]])
    mine, reference = (
        module.LinearDiscriminantAnalysis().fit(X[:, [0, 1, 2, 3, 4, 6]], y) for module in (ours, theirs)
    )
    np.testing.assert_allclose(
        mine.decision_function(X[:, [0, 1, 2, 3, 4, 6]]),
        reference.decision_function(X[:, [0, 1, 2, 3, 4, 6]]),
        rtol=1e-7,
        atol=1e-7,
    )
    assert np.array_equal(
        ours.LinearDiscriminantAnalysis().fit(X, y).predict(X), reference.predict(X[:, [0, 1, 2, 3, 4, 6]])
    )
    wide = np.random.default_rng(4).standard_normal((12, 30)) + (np.arange(12) % 3)[:, None]
    labels = np.arange(12) % 3
    mine, reference = (module.LinearDiscriminantAnalysis().fit(wide, labels) for module in (ours, theirs))
    np.testing.assert_allclose(mine.decision_function(wide), reference.decision_function(wide), rtol=1e-7, atol=1e-7)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        ours.LinearDiscriminantAnalysis("eigen").fit(wide, labels)
    with pytest.raises(np.linalg.LinAlgError, match="not full rank"):
        ours.QuadraticDiscriminantAnalysis().fit(wide, labels)
    with pytest.raises(np.linalg.LinAlgError, match="Increase the value of `reg_param`"):
        ours.QuadraticDiscriminantAnalysis().fit(X, y)


def test_one_class():
    X, _ = table()
    with pytest.raises(ValueError, match="The number of classes has to be greater than one"):
        ours.QuadraticDiscriminantAnalysis().fit(X, np.zeros(ROWS))
    model = ours.LinearDiscriminantAnalysis().fit(X, np.full(ROWS, "only"))
    assert set(model.predict(X)) == {"only"}
    assert model.transform(X).shape == (ROWS, 0)
    assert np.array_equal(model.predict_proba(X), np.ones((ROWS, 1)))


def test_what_is_refused_leaves_the_fit_as_it_was():
    X, y = table()
    model = ours.LinearDiscriminantAnalysis().fit(X, y)
    before = model.coef_.copy()
    bad = X.copy()
    bad[77, 2] = np.nan
    with pytest.raises(NonFiniteError, match="Input X contains NaN") as caught:
        model.fit(CountingBlocks(bad, uneven_cut(ROWS)), y)
    assert (caught.value.rows, caught.value.column) == ((77, 78), 2)
    with pytest.raises(NonFiniteError) as caught:
        model.predict(bad)
    assert caught.value.column == 2
    for cls in (ours.LinearDiscriminantAnalysis, ours.QuadraticDiscriminantAnalysis):
        with pytest.raises(NonFiniteError):
            cls().fit(X, y).predict_proba(bad)
    with pytest.raises(ValueError, match="requires y"):
        model.fit(X, None)
    with pytest.raises(DataError, match="inconsistent|rows"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="n_components cannot be larger"):
        ours.LinearDiscriminantAnalysis(n_components=3).fit(X, y)
    with pytest.raises(ValueError, match="must be more than the number of classes"):
        model.fit(X[:3], np.arange(3))
    with pytest.raises(ValueError, match="1 sample"):
        model.fit(X[:1], y[:1])
    with pytest.raises(ValueError, match="only 1 sample in class 9"):
        ours.QuadraticDiscriminantAnalysis().fit(X, np.where(np.arange(ROWS) == 5, 9, y))
    with pytest.raises(DataError, match="sample weights are zero"):
        model.fit(X, y, np.zeros(ROWS))
    with pytest.raises(ValueError, match="shrinkage not supported"):
        ours.LinearDiscriminantAnalysis(shrinkage=0.1).fit(X, y)
    with pytest.raises(ValueError, match="must match number of classes"):
        ours.LinearDiscriminantAnalysis(priors=[0.5, 0.5]).fit(X, y)
    with pytest.raises(ValueError, match="non-negative"):
        ours.LinearDiscriminantAnalysis(priors=[1.5, -0.5, 0.0]).fit(X, y)
    assert np.array_equal(model.coef_, before)


def test_names_without_components_are_scikit_learns():
    X, y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 3
    for n_components in (None, 1):
        settings = {"solver": "lsqr", "n_components": n_components}
        mine, expected = ours.LinearDiscriminantAnalysis(**settings), theirs.LinearDiscriminantAnalysis(**settings)
        assert list(mine.fit(X, y).get_feature_names_out()) == list(expected.fit(X, y).get_feature_names_out())


@pytest.mark.parametrize("reg_param", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [2, 4, 5, 6])
def test_a_class_of_fewer_rows_than_columns(n, reg_param):
    """A regular covariance does not help the solver "svd", whose directions are the rows'."""
    X = np.random.default_rng(n).normal(size=(n + 20, 5))
    y = np.repeat([0, 1], [n, 20])
    found = []
    for module in (theirs, ours):
        model = module.QuadraticDiscriminantAnalysis(reg_param=reg_param)
        try:
            found.append(model.fit(X, y).decision_function(X))
        except np.linalg.LinAlgError as error:
            found.append(str(error))
    assert isinstance(found[0], str) == isinstance(found[1], str)
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        np.testing.assert_allclose(found[1], found[0], rtol=1e-7)


def test_what_a_pooled_scatter_does_not_tell_is_asked_for_before_the_first_part():
    X, y = table()
    model = ours.LinearDiscriminantAnalysis().partial_fit(X, y)
    model.set_params(priors=[0.2, 0.3, 0.5], store_covariance=True)
    with pytest.raises(ValueError, match="must be set before the first partial_fit"):
        model.partial_fit(X, y)
