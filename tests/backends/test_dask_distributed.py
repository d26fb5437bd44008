"""The Dask backend on a cluster: a scheduler and two worker processes on this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import SGDClassifier, SGDRegressor

import ooclearn
from ooclearn import Incremental
from ooclearn.backend import get_backend
from ooclearn.events import Observer, Work, observe
from ooclearn.exceptions import DataError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.statistics import Moments
from ooclearn.table import Table
from ooclearn.testing import check_backend
from ooclearn.testing.tables import uneven_cut

distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
cloudpickle = pytest.importorskip("cloudpickle", reason="the extra `dask` is not installed")
da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")

pytestmark = pytest.mark.alone

DASK = get_backend("dask")
WORK = Work("fold", "test")
RNG = np.random.default_rng(7)
X = RNG.normal(3.0, 2.0, (600, 4))
Y = (X[:, 0] + X[:, 1] > 6).astype(int)
LENGTHS = (100, 50, 0, 1, 149, 100, 100, 100)
GROUPS = [(i,) for i in range(8)]

# The workers cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # Any port: with None it is 8787, which another run of the suite may have.
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _two_workers_and_nothing_left_on_them(client):
    client.wait_for_workers(2, timeout=60)
    yield
    end = time.monotonic() + 20
    while busy := {**client.who_has(), **{k: v for k, v in client.processing().items() if v}}:
        if time.monotonic() > end:
            pytest.fail(f"the cluster still holds {len(busy)} results or tasks: {list(busy)[:3]}")
        time.sleep(0.05)


def _number(i, _):
    return i


def chunked(values):
    return da.from_array(values, chunks=(LENGTHS, *values.shape[1:]))


def expected(estimator, *arrays):
    """The same fit in this process, on the same blocks."""
    return estimator.fit(*(ooclearn.scan(values).recut(LENGTHS) for values in arrays))


@dataclass(frozen=True)
class Made:
    """Makes chunks on the workers, and notes there that it did."""

    folder: str
    pause: float = 0.0
    kills: int | None = None

    def __call__(self, block_id=None):
        i = block_id[0]
        time.sleep(self.pause)
        start = sum(LENGTHS[:i])
        number = len(list(Path(self.folder).glob(f"{i}.*")))
        (Path(self.folder) / f"{i}.{number}").touch()
        if self.kills == i and number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return X[start : start + LENGTHS[i]]

    def array(self):
        meta = np.empty((0, 0))
        return da.map_blocks(self, chunks=(LENGTHS, (4,)), dtype=float, meta=meta, name=f"made-{self.folder}")

    def made(self):
        return sorted(int(path.stem) for path in Path(self.folder).iterdir())


def test_the_duties_of_a_backend(client):
    # Connections that the client keeps come and go with the calls of `gather`.
    check_backend(
        DASK,
        lambda values: da.from_array(np.array(values), chunks=(uneven_cut(len(values)), *values.shape[1:])),
    )


def test_a_fold_gives_the_bits_of_the_numpy_backend(client):
    for scaler in (StandardScaler, MinMaxScaler):
        fitted = scaler().fit(chunked(X))
        there = expected(scaler(), X)
        for name in ("mean_", "var_", "data_min_", "data_max_"):
            if hasattr(there, name):
                assert np.array_equal(getattr(fitted, name), getattr(there, name))
        out = fitted.transform(chunked(X))
        assert np.array_equal(out.compute(), there.transform(X))


def test_the_work_is_done_on_both_workers(client):
    class Where(Moments):
        def of(self, rows, /):
            time.sleep(0.02)
            return {os.getpid()}

        def merge(self, a, b, /):
            return a | b

    processes = DASK.fold(Table(DASK.blocks(chunked(X))), Where(), work=WORK)
    assert len(processes) == 2
    assert os.getpid() not in processes

    def where(i, rows):
        time.sleep(0.02)
        return os.getpid()

    processes = set(DASK.stream(Table(DASK.blocks(chunked(X))), GROUPS, where, ahead=4, work=WORK))
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_each_chunk_is_made_once_a_pass(client, tmp_path):
    made = Made(str(tmp_path))
    StandardScaler().fit(made.array())
    assert made.made() == list(range(8))


def test_a_pipeline_is_trained_as_in_this_process(client, tmp_path):
    made = Made(str(tmp_path))
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(shuffle=False), block_rows=100))
    pipe.fit(made.array(), da.from_array(Y, chunks=70))
    there = make_pipeline(StandardScaler(), Incremental(SGDClassifier(shuffle=False), block_rows=100))
    expected(there, X, Y)
    np.testing.assert_allclose(pipe[-1].coef_, there[-1].coef_, rtol=1e-12)
    filled = [i for i, length in enumerate(LENGTHS) if length]
    assert made.made() == sorted([*range(8), *filled]), "all for the first pass, those with rows for the second"
    assert np.array_equal(pipe.predict(chunked(X)).compute(), there.predict(X))
    assert pipe.score(chunked(X), Y) == there.score(X, Y)
    shuffled = Incremental(SGDClassifier(random_state=0), shuffle=True, block_rows=100).fit(chunked(X), Y)
    same = Incremental(SGDClassifier(random_state=0), shuffle=True, block_rows=100).fit(chunked(X), Y)
    assert np.array_equal(shuffled.coef_, same.coef_)


def test_a_worker_that_is_killed_in_a_fold_changes_nothing(client, tmp_path):
    made = Made(str(tmp_path), pause=0.05, kills=5)
    fitted = StandardScaler().fit(made.array())
    assert np.array_equal(fitted.var_, expected(StandardScaler(), X).var_)
    assert made.made().count(5) >= 2, "the worker was not killed"


def test_a_worker_that_is_killed_in_a_feed_changes_nothing(client, tmp_path):
    made = Made(str(tmp_path), pause=0.05, kills=5)
    model = Incremental(SGDRegressor(shuffle=False), block_rows=100).fit(made.array(), X[:, 0])
    there = Incremental(SGDRegressor(shuffle=False), block_rows=100).fit(ooclearn.scan(X).recut(LENGTHS), X[:, 0])
    np.testing.assert_allclose(model.coef_, there.coef_, rtol=1e-12)
    assert made.made().count(5) >= 2, "the worker was not killed"


@pytest.mark.parametrize("row", [0, 100, 599])
def test_errors_say_where(client, row):
    values = X.copy()
    values[row, 1] = np.inf
    block = {0: 0, 100: 1, 599: 7}[row]
    for fit in (
        lambda: StandardScaler().fit(chunked(values)),
        lambda: Incremental(SGDClassifier()).fit(chunked(values), Y),
        lambda: StandardScaler().fit(chunked(values), sample_weight=np.ones(600)),
    ):
        with pytest.raises(DataError) as caught:
            fit()
        assert (caught.value.rows, caught.value.block, caught.value.column) == ((row, row + 1), block, 1)
    with pytest.raises(DataError, match="X has 600 rows and y has 599"):
        Incremental(SGDClassifier()).fit(chunked(values), Y[:-1])


def test_settings_are_carried_to_the_workers(client):
    class Seen(Moments):
        def of(self, rows, /):
            return {(sklearn.get_config()["assume_finite"], ooclearn.get_config()["block_bytes"])}

        def merge(self, a, b, /):
            return a | b

    table = Table(DASK.blocks(chunked(X)))
    with sklearn.config_context(assume_finite=True), ooclearn.config_context(block_bytes=12345):
        seen = DASK.fold(table, Seen(), work=WORK)
        seen |= set().union(*DASK.stream(table, [(0,), (1,)], lambda _, rows: Seen().of(rows), ahead=2, work=WORK))
    assert seen == {(True, 12345)}


def test_read_ahead_is_bounded_when_the_consumer_is_slow(client, tmp_path):
    made = Made(str(tmp_path))
    table = Table(DASK.blocks(made.array()))
    early = []
    with closing(DASK.stream(table, GROUPS, _number, ahead=2, work=WORK)) as stream:
        for i in stream:
            time.sleep(0.15)
            early.append(len(made.made()) - i)
    # The one that is held, and two ahead.
    assert max(early) <= 3
    assert made.made() == list(range(8))


def test_what_is_under_way_is_cancelled_when_the_consumer_stops(client, tmp_path):
    made = Made(str(tmp_path), pause=0.05)
    before = threading.active_count()
    stream = DASK.stream(Table(DASK.blocks(made.array())), GROUPS, _number, ahead=3, work=WORK)

    def consume():
        for i in stream:
            if i == 1:
                raise KeyboardInterrupt

    with closing(stream), pytest.raises(KeyboardInterrupt):
        consume()
    time.sleep(0.4)
    assert len(made.made()) < 8
    assert threading.active_count() <= before


def test_ctrl_c_in_a_fold_leaves_nothing_running(client, tmp_path):
    made = Made(str(tmp_path), pause=0.1)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    scaler = StandardScaler()
    x = made.array()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        scaler.fit(x)
    timer.join()
    time.sleep(0.3)
    count = len(made.made())
    time.sleep(0.3)
    assert len(made.made()) == count < 8
    assert not hasattr(scaler, "mean_")


def test_what_cannot_be_sent_works_here(client):
    lock = threading.Lock()
    pids = []

    def function(i, rows):
        with lock:
            pids.append(os.getpid())
        return i, rows.X.sum()

    table = Table(DASK.blocks(chunked(X)))
    got = list(DASK.stream(table, [(0,), (4,), (1, 7)], function, ahead=2, work=WORK))
    sums = [X[:100].sum(), X[151:300].sum(), np.concatenate([X[100:150], X[500:]]).sum()]
    assert [i for i, _ in got] == [0, 1, 2]
    np.testing.assert_allclose([value for _, value in got], sums)
    assert set(pids) == {os.getpid()}


def test_files_are_read_by_the_workers(client, tmp_path):
    np.save(tmp_path / "x.npy", X)
    blocks = ooclearn.scan(tmp_path / "x.npy", block_rows=70)
    with ooclearn.config_context(backend="dask"):
        fitted = StandardScaler().fit(blocks)
    assert np.array_equal(fitted.var_, StandardScaler().fit(blocks).var_)
    out = fitted.transform(blocks.to_dask())
    ooclearn.scan(out).to_npy(tmp_path / "out.npy")
    assert np.array_equal(np.load(tmp_path / "out.npy"), fitted.transform(X))


def test_what_was_persisted_is_used(client, tmp_path):
    made = Made(str(tmp_path))
    x = made.array().persist()
    distributed.wait(x)
    model = make_pipeline(StandardScaler(), Incremental(SGDRegressor(shuffle=False))).fit(x, X[:, 0])
    there = make_pipeline(StandardScaler(), Incremental(SGDRegressor(shuffle=False)))
    expected(there, X, X[:, 0])
    np.testing.assert_allclose(model[-1].coef_, there[-1].coef_, rtol=1e-12)
    assert made.made() == list(range(8))
    assert np.array_equal(ooclearn.scan(x).to_numpy(), X)


def test_a_mean_that_is_subtracted_is_computed_once_a_pass(client, tmp_path):
    made = Made(str(tmp_path))
    x = made.array()
    rows = list(
        DASK.stream(
            Table(DASK.blocks(x - x.mean(axis=0))),
            GROUPS,
            lambda _, rows: rows.X,
            ahead=2,
            work=WORK,
        )
    )
    np.testing.assert_allclose(np.concatenate(rows), X - X.mean(axis=0), atol=1e-13)
    assert len(made.made()) <= 16, "once for the mean, once for the rows"
    got = ooclearn.scan(x - x.mean(axis=0)).to_numpy()
    np.testing.assert_allclose(got, X - X.mean(axis=0), atol=1e-13)
    assert len(made.made()) <= 32


def test_events_count_the_rows_of_a_fold(client):
    class Watching(Observer):
        rows = 0

        def span(self, work, span, /):
            self.rows += span.rows

    with observe(Watching()) as watching:
        StandardScaler().fit(chunked(X))
    assert watching.rows == 600
