"""What is learnt and answered is what scikit-learn learns and answers, in every container."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.decomposition as theirs
from scipy.linalg import subspace_angles

import ooclearn.decomposition as ours
from ooclearn.testing import CountingBlocks

PCA_ATTRIBUTES = (
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "mean_",
    "noise_variance_",
    "n_components_",
    "n_samples_",
    "n_features_in_",
)


def table(n=120, d=5, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * np.arange(1, d + 1) @ (np.eye(d) + 0.2 * rng.normal(size=(d, d))) + 3).astype(
        dtype
    )


def dtype_of(backend):
    return "float64" if backend.has("float64") else "float32"


def assert_alike(mine, reference, names, rtol, atol=0.0):
    for name in names:
        got, expected = getattr(mine, name), getattr(reference, name)
        assert np.shape(got) == np.shape(expected), name
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("n_components", [None, 2, 0.8, "mle", 5, 1])
def test_pca(backend, n_components, whiten):
    X = table(dtype=dtype_of(backend))
    mine = ours.PCA(n_components, whiten=whiten).fit(backend.make(X))
    reference = theirs.PCA(n_components, whiten=whiten, svd_solver="full").fit(X.astype(np.float64))
    room = backend.within(1e4)
    assert_alike(mine, reference, PCA_ATTRIBUTES, room, room)
    out = mine.transform(backend.make(X))
    expected = reference.transform(X.astype(np.float64))
    np.testing.assert_allclose(backend.back(out), expected, rtol=10 * room, atol=10 * room)
    back = backend.back(mine.inverse_transform(out))
    np.testing.assert_allclose(back, reference.inverse_transform(expected), rtol=10 * room, atol=10 * room)
    assert back.dtype == X.dtype


@pytest.mark.parametrize("seed", range(30))
def test_as_many_components_as_are_most_likely(seed):
    """Of few rows, where no gap between the variances says how many, every term of the evidence counts."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((int(rng.integers(10, 40)), 6)) * np.exp(rng.standard_normal(6))
    assert ours.PCA("mle").fit(X).n_components_ == theirs.PCA("mle").fit(X).n_components_


@pytest.mark.parametrize("n_components", [None, 2, 0.8, "mle", 0])
def test_the_model_of_pca(backend, n_components):
    X = table(dtype=dtype_of(backend))
    mine = ours.PCA(n_components).fit(backend.make(X))
    reference = theirs.PCA(n_components, svd_solver="full").fit(X.astype(np.float64))
    room = backend.within(1e4)
    np.testing.assert_allclose(mine.get_covariance(), reference.get_covariance(), rtol=room, atol=room)
    np.testing.assert_allclose(mine.get_precision(), reference.get_precision(), rtol=room, atol=room)
    scores = backend.back(mine.score_samples(backend.make(X)))
    np.testing.assert_allclose(scores, reference.score_samples(X.astype(np.float64)), rtol=10 * room)
    assert mine.score(backend.make(X)) == pytest.approx(reference.score(X.astype(np.float64)), rel=room)


def test_the_model_does_not_depend_on_whitening():
    """scikit-learn multiplies by the variances twice, though the components have been of unit length since 0.19."""
    X = table()
    plain, whitened = ours.PCA(3).fit(X), ours.PCA(3, whiten=True).fit(X)
    assert whitened.get_covariance().tobytes() == plain.get_covariance().tobytes()
    assert whitened.get_precision().tobytes() == plain.get_precision().tobytes()
    assert whitened.score(X) == plain.score(X)
    full = ours.PCA(whiten=True).fit(X)
    np.testing.assert_allclose(full.get_covariance(), np.cov(X.T), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("solver", ["auto", "full", "covariance_eigh"])
def test_every_solver_of_pca(solver):
    X = table()
    mine = ours.PCA(3, svd_solver=solver).fit(X)
    assert_alike(mine, theirs.PCA(3, svd_solver="full").fit(X), PCA_ATTRIBUTES, 1e-12, 1e-13)


def test_a_fraction_is_exceeded_and_never_just_met():
    X = np.kron(np.eye(4), [[1.0], [-1.0]])  # four components of a quarter each
    for fraction in (0.2, 0.3, 0.5, 0.74, 0.76, 1 - 1e-12):
        assert ours.PCA(fraction).fit(X).n_components_ == theirs.PCA(fraction, svd_solver="full").fit(X).n_components_


@pytest.mark.parametrize("n_components", [None, 2])
@pytest.mark.parametrize("whiten", [False, True])
def test_incremental_pca_is_exact(backend, n_components, whiten):
    X = table(dtype=dtype_of(backend))
    mine = ours.IncrementalPCA(n_components, whiten=whiten).fit(backend.make(X))
    # In one batch, scikit-learn's is exact, too.
    reference = theirs.IncrementalPCA(n_components, whiten=whiten, batch_size=len(X)).fit(X.astype(np.float64))
    names = [name for name in PCA_ATTRIBUTES if name != "n_samples_"] + ["var_", "n_samples_seen_"]
    room = backend.within(1e4)
    assert_alike(mine, reference, names, room, room)
    out = backend.back(mine.transform(backend.make(X)))
    np.testing.assert_allclose(out, reference.transform(X.astype(np.float64)), rtol=10 * room, atol=10 * room)
    if not whiten:
        np.testing.assert_allclose(mine.get_covariance(), reference.get_covariance(), rtol=room, atol=room)
        np.testing.assert_allclose(mine.get_precision(), reference.get_precision(), rtol=room, atol=room)


@pytest.mark.parametrize("n_components", [1, 2, 4, 5])
def test_truncated_svd(backend, n_components):
    X = table(dtype=dtype_of(backend))
    mine = ours.TruncatedSVD(n_components).fit(backend.make(X))
    reference = theirs.TruncatedSVD(n_components, n_iter=50, random_state=0).fit(X.astype(np.float64))
    room = backend.within(1e4)
    names = ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "n_features_in_")
    assert_alike(mine, reference, names, room, room)
    out = mine.transform(backend.make(X))
    expected = reference.transform(X.astype(np.float64))
    np.testing.assert_allclose(backend.back(out), expected, rtol=10 * room, atol=10 * room)
    back = backend.back(mine.inverse_transform(out))
    np.testing.assert_allclose(back, reference.inverse_transform(expected), rtol=10 * room, atol=10 * room)


@pytest.mark.parametrize("name", ["PCA", "IncrementalPCA", "TruncatedSVD"])
def test_names_of_what_comes_out(name):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(table(), columns=list("abcde"))
    mine = getattr(ours, name)(n_components=2).fit(frame)
    assert mine.get_feature_names_out().tolist() == [f"{name.lower()}0", f"{name.lower()}1"]
    assert mine.feature_names_in_.tolist() == list("abcde")
    assert list(mine.set_output(transform="pandas").transform(frame).columns) == [
        f"{name.lower()}0",
        f"{name.lower()}1",
    ]


@pytest.mark.parametrize("name", ["PCA", "IncrementalPCA", "TruncatedSVD"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "bool"])
def test_dtypes(name, dtype):
    """Everything is computed in float64; rows come out as they went in, if they are floating."""
    X = (table() > 3) if dtype == "bool" else table(dtype=dtype)
    mine = getattr(ours, name)(n_components=2).fit(X)
    reference = getattr(theirs, name)(n_components=2).fit(X.astype(np.float64))
    if name == "PCA":
        np.testing.assert_allclose(mine.explained_variance_, reference.explained_variance_, rtol=1e-12)
    assert mine.components_.dtype == mine.explained_variance_.dtype == np.float64
    assert mine.transform(X).dtype == (np.float32 if dtype == "float32" else np.float64)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_fewer_rows_than_columns(n):
    X = table(n=n, d=10)
    mine, reference = ours.PCA().fit(X), theirs.PCA(svd_solver="full").fit(X)
    assert mine.components_.shape == (n, 10)
    assert mine.noise_variance_ == reference.noise_variance_ == 0.0
    np.testing.assert_allclose(mine.explained_variance_, reference.explained_variance_, rtol=1e-12, atol=1e-12)
    # The last axis is orthogonal to all rows, and to the other axes; there are many such.
    np.testing.assert_allclose(mine.components_[: n - 1], reference.components_[: n - 1], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(mine.components_ @ mine.components_.T, np.eye(n), atol=1e-14)
    two, their_two = ours.PCA(1).fit(X), theirs.PCA(1, svd_solver="full").fit(X)
    assert two.noise_variance_ == pytest.approx(their_two.noise_variance_, rel=1e-12, abs=1e-12)
    svd, their_svd = ours.TruncatedSVD(9).fit(X), theirs.TruncatedSVD(9, n_iter=20, random_state=0).fit(X)
    assert svd.components_.shape == their_svd.components_.shape == (n, 10)
    np.testing.assert_allclose(svd.singular_values_, their_svd.singular_values_, rtol=1e-10)


@pytest.mark.parametrize("solver", ["full", "covariance_eigh"])
def test_columns_that_depend_on_one_another(solver):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 6)) + 5.0
    mine, reference = ours.PCA(svd_solver=solver).fit(X), theirs.PCA(svd_solver="full").fit(X)
    np.testing.assert_allclose(mine.explained_variance_[:3], reference.explained_variance_[:3], rtol=1e-12)
    assert mine.explained_variance_[3:].max() <= 1e-28 * mine.explained_variance_[0]
    assert subspace_angles(mine.components_[:3].T, reference.components_[:3].T).max() < 1e-12
    whitened = ours.PCA(whiten=True, svd_solver=solver).fit(X)
    out = whitened.transform(X)
    np.testing.assert_allclose(np.cov(out[:, :3].T), np.eye(3), atol=1e-12)
    assert not out[:, 3:].any(), "what does not vary stays at 0; scikit-learn's is noise"
    np.testing.assert_allclose(whitened.inverse_transform(out), X, rtol=1e-12, atol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match="no variance along 3 of 6 directions"):
        mine.get_precision()
    assert np.isfinite(ours.PCA(2).fit(X).score(X))


def test_constant_columns():
    X = table()
    X[:, 2] = 7.25
    mine, reference = ours.PCA().fit(X), theirs.PCA(svd_solver="full").fit(X)
    assert_alike(mine, reference, ("explained_variance_", "components_", "mean_"), 1e-11, 1e-13)
    nothing = ours.PCA().fit(np.full((5, 3), 2.5))
    assert nothing.explained_variance_.tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(nothing.explained_variance_ratio_).all()


def test_one_row():
    for name in ("PCA", "IncrementalPCA"):
        with pytest.raises(ValueError, match=r"1 sample\(s\) \(n_samples=1\) while a minimum of 2"):
            getattr(ours, name)().fit(np.ones((1, 3)))
    svd = ours.TruncatedSVD(2).fit(np.array([[3.0, 0.0, 4.0]]))
    np.testing.assert_allclose(svd.components_, [[0.6, 0.0, 0.8]], atol=1e-15)
    np.testing.assert_allclose(svd.singular_values_, [5.0])
    assert svd.explained_variance_.tolist() == [0.0]


def test_what_is_asked_for_is_checked_before_anything_is_read():
    X = CountingBlocks(table(n=4, d=3), [1, 3])
    for estimator, message in (
        (ours.PCA(4), r"n_components=4 must be between 0 and min\(n_samples, n_features\)=3 with svd_solver='auto'"),
        (ours.IncrementalPCA(4), "n_components=4 invalid for n_features=3, need more rows than columns"),
        (ours.TruncatedSVD(4), r"n_components\(4\) must be <= n_features\(3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            estimator.fit(X)
        with pytest.raises(ValueError, match=message):
            estimator.explain(X)
    with pytest.raises(ValueError, match="less or equal to the batch number of samples 2"):
        ours.IncrementalPCA(3).fit(CountingBlocks(table(n=2, d=3)))
    with pytest.raises(ValueError, match="'mle' is only supported if n_samples >= n_features"):
        ours.PCA("mle").fit(table(n=2, d=3))
    assert X.reads == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["PCA", "IncrementalPCA", "TruncatedSVD"])
def test_what_is_not_finite_is_refused_with_the_place(backend, name, bad):
    X = table(dtype=dtype_of(backend))
    mine = getattr(ours, name)(n_components=2).fit(X)
    spoilt = X.copy()
    spoilt[37, 3] = bad
    what = "NaN" if np.isnan(bad) else "infinity"
    calls = [lambda: getattr(ours, name)(n_components=2).fit(backend.make(spoilt))]
    calls.append(lambda: backend.back(mine.transform(backend.make(spoilt))))
    if name == "PCA":
        calls += [
            lambda: backend.back(mine.score_samples(backend.make(spoilt))),
            lambda: mine.score(backend.make(spoilt)),
        ]
    for call in calls:
        with pytest.raises(ValueError, match=f"Input X contains {what}") as error:
            call()
        assert (error.value.rows, error.value.column) == ((37, 38), 3)


def test_sample_weights_are_refused():
    from ooclearn.pipeline import make_pipeline
    from ooclearn.preprocessing import StandardScaler

    X = table()
    with pytest.raises(TypeError, match="sample_weight"):
        ours.PCA().fit(X, sample_weight=np.ones(len(X)))
    pipe = make_pipeline(StandardScaler(), ours.PCA(2))
    with pytest.raises(TypeError, match=r"PCA.fit\(\) got an unexpected keyword argument 'sample_weight'"):
        pipe.fit(X, pca__sample_weight=np.ones(len(X)))


def test_scores_of_a_pipeline_are_made_by_blocks():
    from ooclearn.pipeline import make_pipeline
    from ooclearn.preprocessing import StandardScaler

    X = table()
    rows = CountingBlocks(X, [100, 0, 20])
    pipe = make_pipeline(StandardScaler(), ours.PCA(2)).fit(rows)
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    reference = theirs.PCA(2, svd_solver="full").fit(scaled)
    lazy = pipe.score_samples(rows)
    assert rows.passes == 1
    np.testing.assert_allclose(lazy.to_numpy(), reference.score_samples(scaled), rtol=1e-10)
    assert pipe.score(rows) == pytest.approx(reference.score(scaled), rel=1e-10)
    assert rows.passes == 3
