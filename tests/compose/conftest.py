"""Column transformers and unions: what every test of this folder may ask for."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ooclearn.events import Observer, observe


def learned(one):
    """Return the fitted attributes of an estimator that are numbers, arrays or text, and those of the steps in it."""
    inside = [step for _, step, *_ in getattr(one, "transformers_", ())]
    inside += [step for _, step in getattr(one, "transformer_list", ())]
    inside += [step for _, step in getattr(one, "steps", ())]
    own = {
        name: value
        for name, value in vars(one).items()
        if name.endswith("_") and not name.startswith("_") and name not in ("transformers_", "solver_")
    }
    return [own, *(learned(step) for step in inside if not isinstance(step, str))]


def _assert_learned_alike(ours, theirs, rtol=1e-10):
    """Compare what two estimators have learned; theirs may lack attributes that only ours has."""
    own, other = learned(ours), learned(theirs)
    assert len(own) == len(other)
    _alike(own, other, rtol)


def _alike(own, other, rtol):
    if isinstance(other, list):
        for a, b in zip(own, other, strict=True):
            _alike(a, b, rtol)
    elif isinstance(other, dict):
        for name, value in other.items():
            assert name in own, f"{name} is missing"
            _alike(own[name], value, rtol)
    elif isinstance(other, (float, np.ndarray)) and np.asarray(other).dtype.kind == "f":
        assert_allclose(own, other, rtol=rtol, atol=rtol)
    elif isinstance(other, np.ndarray):
        assert_array_equal(own, other)
    elif isinstance(other, (int, str, slice, bool, type(None))):
        assert own == other


MAKERS = {
    "float64": lambda rng, rows: rng.normal(3.0, 2.0, rows),
    "float32": lambda rng, rows: rng.normal(1.0, 2.0, rows).astype("float32"),
    "int64": lambda rng, rows: rng.integers(-5, 50, rows),
    "uint8": lambda rng, rows: rng.integers(0, 200, rows).astype("uint8"),
    "bool": lambda rng, rows: rng.random(rows) > 0.4,
    "text": lambda rng, rows: rng.choice(["x", "yy", "z"], rows),
    "category": lambda rng, rows: rng.choice(["u", "v"], rows),
}


def _frame_of(kinds, library="pandas", seed=0, rows=60):
    pd = pytest.importorskip("pandas", reason="in the group `test`")
    pl = pytest.importorskip("polars", reason="in the group `polars`")
    rng = np.random.default_rng(seed)
    columns = {}
    for i, kind in enumerate(kinds):
        values = MAKERS[kind](rng, rows)
        if library == "polars" and kind == "float32":
            values = values.astype("float64")  # scikit-learn makes this of it, and our scalers do not
        columns[f"{kind}{i}"] = pd.Categorical(values) if kind == "category" else values
    frame = pd.DataFrame(columns)
    return frame if library == "pandas" else pl.from_pandas(frame)


def _mixed(library="pandas"):
    """Return a frame of numbers, text, categories and booleans, and a target."""
    frame = _frame_of(["float64", "int64", "float64", "text", "category", "bool"], library)
    frame.columns = list("abcstz")
    return frame, np.random.default_rng(1).normal(size=60) + np.asarray(frame["a"])


def dense(x):
    return x.toarray() if hasattr(x, "tocsr") else np.asarray(x)


def _assert_same_rows(got, expected, rtol=1e-9):
    assert type(got) is type(expected)
    got, expected = dense(got), dense(expected)
    assert got.dtype == expected.dtype
    if expected.dtype.kind == "O":
        numbers = [
            np.issubdtype(type(value), np.number) or isinstance(value, (bool, float, int)) for value in expected[0]
        ]
        assert_array_equal(got[:, ~np.array(numbers)], expected[:, ~np.array(numbers)])
        got, expected = (one[:, numbers].astype(float) for one in (got, expected))
    rtol = 1e-5 if expected.dtype == np.float32 else rtol
    assert_allclose(got, expected, rtol=rtol, atol=rtol)


def _assert_same_columns(ours, theirs):
    """Compare what a column transformer knows of its columns."""
    assert [(name, columns) for name, _, columns in ours.transformers_] == [
        (name, columns) for name, _, columns in theirs.transformers_
    ]
    assert [type(step).__name__ for _, step, _ in ours.transformers_] == [
        type(step).__name__ for _, step, _ in theirs.transformers_
    ]
    assert list(ours.named_transformers_) == list(theirs.named_transformers_)
    if hasattr(theirs, "output_indices_"):  # not where all is dropped
        assert ours.output_indices_ == theirs.output_indices_
        assert ours.sparse_output_ == theirs.sparse_output_
    assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


class _Passes(Observer):
    """Counts the passes over tables."""

    def __init__(self):
        self.count = 0

    def begin(self, work, /):
        self.count += work.kind in ("fold", "feed")


@contextlib.contextmanager
def _counted_passes():
    seen = _Passes()
    with observe(seen):
        yield seen


# What is made of either library; all are fitted in one reading.
PARALLEL = {
    "halves": lambda of: of.compose.ColumnTransformer(
        [
            ("std", of.preprocessing.StandardScaler(), [0, 1, 2]),
            ("range", of.preprocessing.MinMaxScaler(), slice(3, None)),
        ]
    ),
    "mask, passthrough, drop": lambda of: of.compose.ColumnTransformer(
        [
            ("mask", of.preprocessing.MaxAbsScaler(), [True, False, False, True, False, False]),
            ("as they are", "passthrough", [-1, 1]),
            ("gone", "drop", [2]),
            ("none", of.preprocessing.StandardScaler(), []),
        ]
    ),
    "remainder": lambda of: of.compose.make_column_transformer(
        (of.preprocessing.StandardScaler(with_std=False), [4, 2]),
        remainder=of.preprocessing.MinMaxScaler((-1, 1)),
        verbose_feature_names_out=False,
    ),
    "remainder passes, weights": lambda of: of.compose.ColumnTransformer(
        [("a", of.preprocessing.StandardScaler(), [0]), ("b", of.preprocessing.StandardScaler(), [0, 5])],
        remainder="passthrough",
        transformer_weights={"a": 3.0, "remainder": 0.5},
    ),
    "selector": lambda of: of.compose.ColumnTransformer([("s", of.preprocessing.StandardScaler(), lambda X: [1, 3])]),
    "pipelines in it": lambda of: of.compose.ColumnTransformer(
        [
            (
                "p",
                of.pipeline.make_pipeline(of.preprocessing.MaxAbsScaler(), of.preprocessing.StandardScaler()),
                [0, 1],
            ),
            (
                "nested",
                of.compose.make_column_transformer((of.preprocessing.MinMaxScaler(), [1, 0]), remainder="passthrough"),
                [3, 4, 5],
            ),
        ]
    ),
    "union": lambda of: of.pipeline.FeatureUnion(
        [
            ("std", of.preprocessing.StandardScaler()),
            ("range", of.preprocessing.MinMaxScaler()),
            ("same", "passthrough"),
            ("gone", "drop"),
        ],
        transformer_weights={"range": 2.0},
    ),
    "union with axes": lambda of: of.pipeline.make_union(
        of.decomposition.PCA(2, svd_solver="covariance_eigh"), of.preprocessing.StandardScaler()
    ),
    "only passing": lambda of: of.compose.ColumnTransformer([("a", "passthrough", [2, 0])]),
}


@pytest.fixture(params=PARALLEL.values(), ids=PARALLEL)
def make(request):
    """What is made of either library, one after the other."""
    return request.param


@pytest.fixture(scope="session")
def parallel():
    """All that is made of either library, by name."""
    return PARALLEL


@pytest.fixture(scope="session")
def assert_learned_alike():
    """Compare what two estimators have learned; theirs may lack attributes that only ours has."""
    return _assert_learned_alike


@pytest.fixture(scope="session")
def frame_of():
    """Make a frame of columns of these kinds, in either library."""
    return _frame_of


@pytest.fixture(scope="session")
def mixed():
    """Make a frame of numbers, text, categories and booleans, and a target."""
    return _mixed


@pytest.fixture(scope="session")
def assert_same_rows():
    """Compare what comes of rows, container and dtype as well."""
    return _assert_same_rows


@pytest.fixture(scope="session")
def assert_same_columns():
    """Compare what a column transformer knows of its columns."""
    return _assert_same_columns


@pytest.fixture(scope="session")
def counted_passes():
    """Count the passes over tables."""
    return _counted_passes
