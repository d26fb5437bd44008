"""Passes over Dask arrays: what is computed, how often, in which order, and what is left behind."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.backend import get_backend
from ooclearn.events import Observer, Work, observe
from ooclearn.exceptions import BlockMemoryError, DataError, PerformanceWarning
from ooclearn.feeds import Feed
from ooclearn.passes import Stage, read_ahead, run
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.rowmaps import Affine, Rowwise
from ooclearn.statistics import Extrema, Join, Moments
from ooclearn.statistics.protocol import merge_all
from ooclearn.table import Table
from ooclearn.testing import nothing_left
from ooclearn.testing.tables import uneven_cut

dask = pytest.importorskip("dask", reason="the extra `dask` is not installed")
da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
pd = pytest.importorskip("pandas", reason="data frames need pandas")
dd = pytest.importorskip("dask.dataframe", reason="data frames need pandas and PyArrow")

from dask_arrays import chunked, unknown  # noqa: E402  (it needs Dask, too)

DASK = get_backend("dask")
NUMPY = get_backend("numpy")
WORK = Work("fold", "test")
RNG = np.random.default_rng(7)
X = RNG.normal(3.0, 2.0, (97, 4))
Y = (X[:, 0] + X[:, 1] > 6).astype(int)


class Source:
    """Rows that count how often each chunk is made, and how many chunks there are at a time."""

    def __init__(self, values, lengths, *, pause=0.0, hook=None):
        self.values = values
        self.lengths = tuple(lengths)
        self.starts = np.cumsum([0, *lengths])
        self.pause = pause
        self.hook = hook
        self.reads = []
        self.alive = self.most = 0
        self._lock = threading.Lock()

    def _gone(self):
        with self._lock:
            self.alive -= 1

    def __call__(self, block_id=None):
        i = block_id[0]
        with self._lock:
            self.reads.append(i)
            self.alive += 1
            self.most = max(self.most, self.alive)
        if self.hook is not None:
            self.hook(i)
        time.sleep(self.pause)
        chunk = self.values[self.starts[i] : self.starts[i + 1]].copy()
        weakref.finalize(chunk, self._gone)
        return chunk

    def array(self):
        chunks = (self.lengths, *((n,) for n in self.values.shape[1:]))
        meta = np.empty((0,) * self.values.ndim, self.values.dtype)
        return da.map_blocks(self, chunks=chunks, dtype=self.values.dtype, meta=meta, name=f"source-{id(self)}")


# Laziness, and how much is read.


class Counting:
    """A scheduler that counts what it is asked to compute."""

    def __init__(self):
        self.calls = 0

    def __call__(self, graph, keys, **kwargs):
        self.calls += 1
        return dask.get(graph, keys, **kwargs)


def test_a_fit_of_one_statistic_is_one_graph_and_one_computation():
    source = Source(X, (10,) * 9 + (7,))
    scheduler = Counting()
    with dask.config.set(scheduler=scheduler):
        fitted = StandardScaler().fit(source.array())
        assert scheduler.calls == 1
        assert sorted(source.reads) == list(range(10))
        out = fitted.transform(source.array())
        lazy = ooclearn.scan(source.array()).map(Affine(np.ones(4)))
        text = repr(lazy) + repr(out) + str(fitted.explain(source.array()))
        assert "97" in text
        assert scheduler.calls == 1
        out.compute()
        assert scheduler.calls == 2


def test_a_pipeline_reads_each_chunk_as_often_as_explain_says():
    source = Source(X, uneven_cut(97, 3))
    pipe = make_pipeline(StandardScaler(), MinMaxScaler(), Incremental(SGDClassifier(), epochs=2))
    plan = pipe.explain(source.array(), Y)
    assert not source.reads
    pipe.fit(source.array(), Y)
    filled = [i for i, length in enumerate(source.lengths) if length]
    for i in filled:
        assert source.reads.count(i) == plan.n_passes == 3


# Folding.


@dataclass(frozen=True)
class Written:
    """The tree in which blocks are merged, written out."""

    parts: frozenset[str] = frozenset("X")

    def of(self, rows):
        return str(rows.X[:, 0].tolist())

    def merge(self, a, b):
        return f"({a}{b})"


@pytest.mark.parametrize("n", [1, 2, 3, 15, 16, 17, 31, 33, 47, 256, 257, 300])
def test_law_of_bits_the_tree_in_the_graph_is_the_fixed_one(n):
    x = da.from_array(np.arange(n)[:, None], chunks=(1, 1))
    table = Table(DASK.blocks(x))
    expected = merge_all(Written(), [f"[{i}]" for i in range(n)])
    assert DASK.fold(table, Written(), work=WORK) == expected


def _bits(state):
    return pickle.dumps(
        {name: {k: np.asarray(v).tobytes() for k, v in vars(one).items()} for name, one in state.items()}
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4000), st.booleans())
def test_law_of_bits_one_cut_gives_the_bits_of_the_numpy_backend_for_any_number_of_workers(seed, n, weighted):
    rng = np.random.default_rng(seed)
    values = rng.normal(1e3, 1.0, (n, 3))
    weights = rng.uniform(size=n) if weighted else None
    lengths = uneven_cut(n, seed)
    join = Join(moments=Moments(), extrema=Extrema())
    host = Table(
        ooclearn.scan(values).recut(lengths),
        None,
        None if weights is None else ooclearn.scan(weights).recut(lengths),
    )
    lazy = Table(
        DASK.blocks(chunked(values, lengths)),
        None,
        None if weights is None else DASK.blocks(chunked(weights, (n,))),
    )
    expected = _bits(NUMPY.fold(host, join, work=WORK))
    for workers in (1, 2):
        with ooclearn.config_context(workers=workers):
            assert _bits(DASK.fold(lazy, join, work=WORK)) == expected
    with dask.config.set(scheduler="sync"):
        assert _bits(DASK.fold(lazy, join, work=WORK)) == expected


SCHEDULERS = {
    "threads": "threads",
    "sync": "sync",
    "processes": "processes",
    "a pool": ThreadPoolExecutor,
    "a function": lambda: dask.get,
}


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_chunks_over_the_memory_limit_are_refused_before_any_is_computed(scheduler):
    made = []

    def chunk(block_id):
        made.append(block_id)
        return np.ones((1000, 10))

    x = da.map_blocks(chunk, chunks=((1000,) * 4, (10,)), dtype=float, meta=np.empty((0, 0)), name="limited")
    at_a_time = 1 if scheduler == "sync" else 2
    with dask.config.set(scheduler=scheduler):
        with (
            ooclearn.config_context(memory_limit=at_a_time * 80_000 - 1, workers=2),
            pytest.raises(BlockMemoryError, match=f"take {at_a_time * 80_000:,} bytes .* memory_limit is") as caught,
        ):
            StandardScaler().fit(x)
        assert "999 rows or fewer" in str(caught.value)
        assert made == []
        with ooclearn.config_context(memory_limit=at_a_time * 80_000, workers=2):
            assert StandardScaler().fit(x).mean_.tolist() == [1.0] * 10
    with (
        ooclearn.config_context(memory_limit=79, workers=1),
        pytest.raises(BlockMemoryError, match="not even one row at a time"),
    ):
        StandardScaler().fit(x)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_scheduler_of_the_user_is_used(kind):
    x = da.from_array(X, chunks=(20, -1))
    bad = da.concatenate([x[:50], da.full((1, 4), np.inf), x[50:]])
    expected = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(x, Y)
    chosen = SCHEDULERS[kind] if isinstance(SCHEDULERS[kind], str) else SCHEDULERS[kind]()
    with dask.config.set(scheduler=chosen):
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(x, Y)
        predicted = ooclearn.scan(pipe.predict(x)).to_numpy()
        with pytest.raises(DataError, match="infinity") as caught:
            StandardScaler().fit(bad)
    if isinstance(chosen, ThreadPoolExecutor):
        chosen.shutdown()
    assert np.array_equal(pipe[-1].coef_, expected[-1].coef_)
    assert np.array_equal(predicted, expected.predict(X))
    assert caught.value.rows == (50, 51)


def test_a_pool_that_the_user_has_set_is_left_to_the_user():
    x = da.from_array(X, chunks=(20, -1))
    with ThreadPoolExecutor(2) as pool:
        with dask.config.set(pool=pool):
            fitted = StandardScaler().fit(x)
        assert pool.submit(int, "3").result() == 3
    np.testing.assert_allclose(fitted.mean_, X.mean(axis=0))


@pytest.mark.parametrize("row", [0, 20, 96])
def test_errors_say_where(row):
    values = X.copy()
    values[row, 1] = np.inf
    x = chunked(values, (20, 0, 70, 7))
    block = {0: 0, 20: 2, 96: 3}[row]
    for fit in (
        lambda: StandardScaler().fit(x),
        lambda: Incremental(SGDClassifier(), block_rows=10).fit(x, Y),
        lambda: Incremental(SGDClassifier(), shuffle=True).fit(x, Y),
    ):
        with pytest.raises(DataError) as caught:
            fit()
        assert (caught.value.rows, caught.value.block, caught.value.column) == ((row, row + 1), block, 1)
    model = Incremental(SGDClassifier()).fit(X, Y)
    with pytest.raises(DataError) as caught:
        model.predict(x).compute()
    assert (caught.value.rows, caught.value.block) == ((row, row + 1), block)


def test_errors_in_chunks_of_unknown_length_count_rows_in_the_block():
    values = X.copy()
    values[50, 1] = np.inf
    with pytest.raises(DataError, match=r"\(row 30 of that block\)") as caught:
        StandardScaler().fit(unknown(values, (20, 77)))
    assert (caught.value.block, caught.value.rows) == (1, None)


# Streams.


def _nothing(_):
    """Take a block, and do nothing with it."""


def _fed(x, consume, y=None, **config):
    def fit():
        yield Feed(consume)

    with ooclearn.config_context(**config):
        return run([Stage("fed", fit())], Table(DASK.blocks(x), None if y is None else ooclearn.scan(y)))


def test_read_ahead_is_bounded_when_the_consumer_is_slow():
    values = np.arange(60 * 100.0).reshape(-1, 1)
    source = Source(values, (100,) * 60)
    seen, early = [], []

    def consume(rows):
        early.append(len(source.reads) - len(seen))
        time.sleep(0.005)
        seen.append(rows.X[0, 0])

    # Groups are single chunks: a block holds no two.
    _fed(source.array(), consume, workers=2, block_bytes=1000)
    assert seen == values[::100, 0].tolist()
    with ooclearn.config_context(workers=2):
        ahead = read_ahead()
    # Those ahead, and the one that is fed.
    assert max(early) <= ahead + 1
    assert source.most <= ahead + 1 < 60


def test_read_ahead_is_bounded_for_incremental():
    class Slow(SGDClassifier):
        def partial_fit(self, X, y, classes=None, sample_weight=None):
            time.sleep(0.005)
            return super().partial_fit(X, y, classes=classes, sample_weight=sample_weight)

    values = RNG.normal(size=(6000, 2))
    source = Source(values, (100,) * 60)
    with ooclearn.config_context(workers=2, block_bytes=2500):
        Incremental(Slow(random_state=0), classes=[0, 1]).fit(source.array(), (values[:, 0] > 0).astype(int))
        assert len(source.reads) == 60
        assert source.most <= read_ahead() + 1


def test_chunks_are_let_go_when_used():
    source = Source(np.ones((600, 2)), (20,) * 30)
    StandardScaler().fit(source.array())
    assert source.alive == 0
    assert source.most < 30
    _fed(source.array(), _nothing, workers=2, block_bytes=300)
    assert source.alive == 0


def _interrupt(source):
    """Return whether chunks are still made, a moment after an interrupt."""
    before = len(source.reads)
    time.sleep(0.2)
    return len(source.reads) != before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_in_a_feed_leaves_nothing_running(error):
    source = Source(np.ones((600, 2)), (20,) * 30, pause=0.01)
    fed = []

    def consume(rows):
        fed.append(rows.n)
        if len(fed) == 3:
            raise error

    with nothing_left(), pytest.raises(error):
        _fed(source.array(), consume, workers=2, block_bytes=300)
    assert not _interrupt(source)
    assert len(source.reads) < 30


def test_ctrl_c_in_a_fold_leaves_nothing_running():
    def hook(i):
        if i == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    source = Source(np.ones((600, 2)), (20,) * 30, pause=0.02, hook=hook)
    scaler = StandardScaler()
    with nothing_left(), pytest.raises(KeyboardInterrupt):
        scaler.fit(source.array())
    assert not _interrupt(source)
    assert len(source.reads) < 30
    assert not hasattr(scaler, "mean_")


def test_an_error_in_a_fold_leaves_nothing_running():
    def hook(i):
        if i == 3:
            raise RuntimeError("as anybody's code may")

    source = Source(np.ones((600, 2)), (20,) * 30, pause=0.01, hook=hook)
    with nothing_left(), pytest.raises(RuntimeError, match="anybody"):
        StandardScaler().fit(source.array())
    assert not _interrupt(source)
    source = Source(np.ones((600, 2)), (20,) * 30, pause=0.01, hook=hook)
    with nothing_left(), pytest.raises(RuntimeError, match="anybody"):
        _fed(source.array(), _nothing, workers=2, block_bytes=300)
    assert not _interrupt(source)


def test_a_stream_that_is_closed_early_stops_reading():
    source = Source(np.ones((600, 2)), (20,) * 30, pause=0.01)
    table = Table(DASK.blocks(source.array()))
    with nothing_left():
        groups = [(i,) for i in range(30)]
        with closing(DASK.stream(table, groups, lambda _, rows: rows.n, ahead=3, work=WORK)) as stream:
            assert next(stream) == 20
    assert len(source.reads) <= 5
    assert not _interrupt(source)


# Chunks that depend on one another.


def test_a_mean_that_is_subtracted_is_computed_once_a_pass():
    source = Source(X, (10,) * 9 + (7,))
    x = source.array()
    rows = []
    _fed(x - x.mean(axis=0), lambda part: rows.append(part.X.copy()), workers=2, block_bytes=350)
    np.testing.assert_allclose(np.concatenate(rows), X - X.mean(axis=0), atol=1e-14)
    assert len(source.reads) == 20, "once for the mean, once for the rows"
    source.reads.clear()
    np.testing.assert_allclose(ooclearn.scan(x - x.mean(axis=0)).to_numpy(), X - X.mean(axis=0), atol=1e-14)
    assert len(source.reads) == 20


def test_chunks_that_were_cut_in_two_are_read_once():
    source = Source(X, (10,) * 9 + (7,))
    rows = []
    _fed(source.array().rechunk((15, 4)), lambda part: rows.append(part.X.copy()), workers=2, block_bytes=500)
    assert np.array_equal(np.concatenate(rows), X)
    assert sorted(source.reads) == list(range(10))


def test_chunks_that_all_depend_on_all_are_warned_of_when_there_is_no_room():
    source = Source(np.arange(40_000.0).reshape(4, 10_000), (1,) * 4)
    x = source.array().T.rechunk((200, 4))
    rows = []
    with pytest.warns(PerformanceWarning, match="depend on one another"):
        _fed(x, lambda part: rows.append(part.X.copy()), workers=2, block_bytes=7000)
    assert np.array_equal(np.concatenate(rows), source.values.T)
    source.reads.clear()
    rows.clear()
    _fed(x, lambda part: rows.append(part.X.copy()), workers=2, block_bytes=200_000)
    assert np.array_equal(np.concatenate(rows), source.values.T)
    assert sorted(source.reads) == [0, 1, 2, 3]


# Settings, events, installation.


def test_settings_are_carried_into_tasks():
    seen = []

    def look(block):
        seen.append((sklearn.get_config()["assume_finite"], ooclearn.get_config()["block_bytes"]))
        return block

    class Looking(Moments):
        def of(self, rows, /):
            look(rows.X)
            return super().of(rows)

    x = da.from_array(X, chunks=(50, -1))
    with sklearn.config_context(assume_finite=True), ooclearn.config_context(block_bytes=12345, workers=2):
        DASK.fold(Table(DASK.blocks(x)), Looking(), work=WORK)
        list(DASK.stream(Table(DASK.blocks(x)), [(0,), (1,)], lambda _, rows: look(rows.X), ahead=2, work=WORK))
        out = DASK.map(Rowwise(look), x)
    out.compute()
    assert seen == [(True, 12345)] * 6


class Watching(Observer):
    def __init__(self):
        self.spans = []
        self.ended = []

    def span(self, work, span, /):
        self.spans.append(span)

    def end(self, work, /, error=None):
        self.ended.append(work.kind)


def test_events_tell_what_was_done():
    x = da.from_array(X, chunks=(20, -1))
    with observe(Watching()) as watching:
        StandardScaler().fit(x)
    folds = [span for span in watching.spans if span.kind == "fold" and span.block is not None]
    assert sorted(span.block for span in folds) == [0, 1, 2, 3, 4]
    assert sum(span.rows for span in watching.spans) == 97
    assert sum(span.bytes for span in folds) == X.nbytes
    with observe(Watching()) as watching:
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(), block_rows=20)).fit(x, Y)
    assert {"fold", "read", "transform", "wait", "fit"} <= {span.kind for span in watching.spans}
    assert sum(span.bytes for span in watching.spans if span.kind == "read") == X.nbytes + Y.nbytes
    assert watching.ended == ["fold", "feed"]
