"""Faults of the catalogue that lie in lengths, cuts and where the target is: 1 to 5."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import preprocessing as sk
from sklearn.linear_model import SGDClassifier

from ooclearn import Incremental, ParallelPostFit
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import CountingBlocks

HOST = ("numpy", "memmap", "scan", "dask")
FRAMES = ("pandas", "polars")


def frame_of(library: str, X: np.ndarray, **more: np.ndarray):
    frames = pytest.importorskip(library)
    columns = {name: X[:, j] for j, name in enumerate("abcde"[: X.shape[1]])}
    return frames.DataFrame(columns | more)


# Lengths and cuts.


@pytest.mark.parametrize("n", [900, 0])
def test_01_y_shorter_than_x(container, trained, refused, X, y, n):
    data, target = container(X), container(y[:n], "y")
    with refused(trained, "X has 1000 rows and y has", str(n), container.inside("y")):
        trained.fit(data, target)


def test_01_sample_weight_shorter_than_x(any_container, refused, X):
    data, weights = any_container(X), any_container(np.ones(900), "w")
    scaler = StandardScaler()
    with refused(scaler, "X has 1000 rows and sample_weight has 900", any_container.weights()):
        scaler.fit(data, sample_weight=weights)


def test_01_is_seen_before_anything_is_read(trained, refused, X, y):
    counted = CountingBlocks(X, [100] * 10)
    with refused(trained, "1000", "900"):
        trained.fit(counted, y[:900])
    assert counted.reads == []


def test_01_is_seen_before_a_dask_array_is_computed(trained, refused, X, y):
    da = pytest.importorskip("dask.array")
    computed = []

    def chunk(block):
        computed.append(block.shape)
        return block

    lazy = da.from_array(np.array(X), chunks=(100, 5)).map_blocks(chunk, meta=np.empty((0, 0)))
    with refused(trained, "1000", "900"):
        trained.fit(lazy, y[:900])
    assert computed == []


def test_01_score_of_a_shorter_y(container, trained, refused, X, y):
    trained.fit(X, y)
    data, target = container(X), container(y[:900], "y")
    with refused(trained, "1000", "900"):
        trained.score(data, target)


def test_02_y_longer_than_x(container, trained, refused, X, y):
    data, longer = container(X), container(np.concatenate([y, y[:100]]), "y")
    with refused(trained, "X has 1000 rows and y has 1100", container.inside("y")):
        trained.fit(data, longer)


def test_03_x_and_y_cut_at_other_rows(container, same, X, y):
    model = Incremental(SGDClassifier(random_state=0), shuffle=False)
    cut_elsewhere = model.fit(container(X, rows=250), container(y, "y", rows=300)).estimator_
    same(
        Incremental(SGDClassifier(random_state=0), shuffle=False)
        .fit(container(X, rows=250), container(y, "z", rows=250))
        .estimator_,
        cut_elsewhere,
    )


@pytest.mark.parametrize("of_x", HOST)
@pytest.mark.parametrize("of_y", [*HOST, "list", "pandas"])
def test_04_x_and_y_of_different_containers(containers, same, of_x, of_y, X, y):
    if of_y in HOST:
        target = containers(of_y)(y, "y")
    else:
        target = y.tolist() if of_y == "list" else pytest.importorskip("pandas").Series(y)
    data = containers(of_x)(X)
    alike = containers(of_x)(y, "z")
    same(
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, target),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, alike),
    )


# A target in a column.


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Incremental(SGDClassifier(random_state=0)),
        lambda: make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))),
        lambda: make_pipeline(sk.StandardScaler(), Incremental(SGDClassifier(random_state=0))),
        lambda: make_pipeline(sk.FunctionTransformer(), Incremental(SGDClassifier(random_state=0))),
        lambda: ParallelPostFit(SGDClassifier(random_state=0)),
    ],
    ids=["incremental", "pipeline", "by steps", "stateless first", "post fit"],
)
def test_05_y_as_the_name_of_a_column(library, make, X, y):
    frame = frame_of(library, X, target=y)
    features = frame_of(library, X)
    named, given = make().fit(frame, "target"), make().fit(features, y)
    np.testing.assert_array_equal(named.predict(features), given.predict(features))
    assert named.score(frame, "target") == given.score(features, y) > 0.8
    assert list(named.feature_names_in_) == list("abcde")
    assert named.n_features_in_ == 5


@pytest.mark.parametrize("library", FRAMES)
def test_05_y_as_the_name_of_a_column_in_a_plan(library, X, y):
    frame = frame_of(library, X, target=y)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
    assert pipe.explain(frame, "target").n_passes == 2


def test_05_y_as_the_name_of_a_column_of_a_dask_data_frame(X, y):
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(frame_of("pandas", X, target=y), npartitions=4)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(frame, "target")
    assert pipe.score(frame, "target") > 0.8
    assert list(pipe.feature_names_in_) == list("abcde")


@pytest.mark.parametrize("library", FRAMES)
def test_05_y_as_the_name_of_no_column(library, trained, refused, X, y):
    with refused(trained, "y='goal'", "'a', 'b', 'c', 'd', 'e', 'target'", "pass the target itself"):
        trained.fit(frame_of(library, X, target=y), "goal")


def test_05_y_as_a_name_where_columns_have_none(container, trained, refused, X):
    data = container(X)
    with refused(trained, "y='target'", "no names of columns", "pass the target itself"):
        trained.fit(data, "target")
