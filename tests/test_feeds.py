"""Feeds: every row fed exactly once, with its own target and weight, in an order that a seed decides."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ooclearn
from ooclearn import feeds, preparation
from ooclearn.buffers import Buffers
from ooclearn.exceptions import BlockMemoryError, NonFiniteError
from ooclearn.feeds import Feed, Grouped, Order, blocks_at_a_time
from ooclearn.passes import Stage, read_ahead, run
from ooclearn.preparation import Preparation, Prepare
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Affine, Rowwise
from ooclearn.statistics import Moments
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.join import Join
from ooclearn.table import Table
from ooclearn.testing import CountingBlocks, nothing_left
from ooclearn.testing.strategies import cuts

N = 53


def numbers(n=N):
    """X whose first column numbers the rows, and y and w that follow from it; exact in float32."""
    X = np.stack([np.arange(n), np.arange(n) % 7], axis=1).astype(np.float32)
    return X, np.arange(n) * 2, np.arange(n, dtype=np.float32) / 4


class Fed:
    """Remembers what it was fed."""

    def __init__(self, **settings):
        self.blocks = []
        self.feed = Feed(self.consume, **settings)

    def consume(self, rows):
        self.blocks.append([None if part is None else to_numpy(part) for part in (rows.X, rows.y, rows.w)])

    @property
    def lengths(self):
        return [len(X) for X, _, _ in self.blocks]

    def rows(self):
        return np.concatenate([X[:, 0] for X, _, _ in self.blocks]).astype(int)

    def fit(self):
        yield self.feed


def to_numpy(part):
    from ooclearn.backend import backend_of

    return np.array(backend_of(part).to_host(part))


def fed(table, **settings):
    consumer = Fed(**settings)
    assert run([Stage("fed", consumer.fit())], table) == 1
    return consumer


def assert_whole(consumer, n=N):
    assert sorted(consumer.rows()) == list(range(n))
    for X, y, w in consumer.blocks:
        np.testing.assert_array_equal(y, X[:, 0] * 2)
        np.testing.assert_array_equal(w, X[:, 0] / 4)


@settings(deadline=None, derandomize=True, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.data(),
    cuts(N),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, N + 5)),
    st.booleans(),
    st.integers(1, 3),
)
def test_every_row_once_whatever_the_cut_and_the_order(data, cut, free, block_rows, shuffle, workers):
    X, y, w = numbers()
    made = np.split(X, np.cumsum(cut)[:-1])
    rows = ooclearn.scan(X).recut(cut) if free else ooclearn.scan(lambda: made)
    table = Table(rows, ooclearn.scan(y), ooclearn.scan(w))
    order = Order(block_rows, shuffle, data.draw(st.integers(0, 9), label="seed"))
    with ooclearn.config_context(workers=workers, block_bytes=200):
        consumer = fed(table, order=order)
    assert_whole(consumer)
    assert 0 not in consumer.lengths
    if block_rows is not None and (free or max(cut) <= block_rows):
        assert max(consumer.lengths) <= block_rows
    if not shuffle:
        assert consumer.rows().tolist() == list(range(N))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("block_rows", [1, 7, 100, None])
def test_on_every_container(backend, block_rows, shuffle):
    X, y, w = numbers()
    blocks = [backend.backend.blocks(backend.make(part)) for part in (X, y, w)]
    consumer = fed(Table(*blocks), order=Order(block_rows, shuffle, 3))
    assert_whole(consumer)
    if block_rows is not None:
        assert max(consumer.lengths) <= block_rows
    if not shuffle:
        assert consumer.rows().tolist() == list(range(N))


def table_of(n=N, **lengths):
    X, y, w = numbers(n)
    return Table(CountingBlocks(X, **lengths), ooclearn.scan(y), ooclearn.scan(w))


def test_a_seed_decides_the_order_and_workers_do_not():
    def rows(seed, workers):
        with ooclearn.config_context(workers=workers):
            return fed(table_of(500), order=Order(64, True, seed)).rows().tolist()

    first = rows(1, 1)
    assert first == rows(1, 1) == rows(1, 4)
    assert first != rows(2, 1)
    assert first != list(range(500))


def test_shuffled_blocks_hold_rows_from_all_over():
    consumer = fed(table_of(4000), order=Order(400, True, 0))
    for X, _, _ in consumer.blocks:
        assert np.ptp(X[:, 0]) > 2000
        assert abs(np.corrcoef(np.arange(len(X)), X[:, 0])[0, 1]) < 0.25, "mixed within the block"


def test_each_row_is_read_once():
    for shuffle in (False, True):
        table = table_of(500)
        fed(table, order=Order(30, shuffle))
        assert table.X.passes == 1


def test_through_a_map():
    X, _, _ = numbers()
    scaled = Affine(np.array([0.5, 1.0]), center=np.array([4.0, 0.0]))
    consumer = Fed(order=Order(7, shuffle=True))
    above = Stage("above", iter_nothing(), lambda: scaled)
    run([above, Stage("fed", consumer.fit(), above=above)], Table(CountingBlocks(X)))
    got = np.concatenate([block for block, _, _ in consumer.blocks])
    np.testing.assert_array_equal(np.sort(got[:, 0]), np.sort(scaled(X)[:, 0]))


def refused(block):
    refuse_nonfinite(block)
    return block


def iter_nothing():
    yield from ()


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 20, 52])
def test_what_is_not_finite_is_named_with_its_place_in_the_table(backend, row, bad, shuffle):
    X, _, _ = numbers()
    X[row, 1] = bad
    blocks = backend.backend.blocks(backend.make(X))
    with nothing_left(pools=("ThreadPoolExecutor", "Dask")), pytest.raises(NonFiniteError) as error:
        fed(Table(blocks), order=Order(9, shuffle, 5), finite=True)
    found = error.value
    assert (found.rows, found.column, found.source) == ((row, row + 1), 1, blocks.name)
    starts = blocks.starts()
    assert starts[found.block] <= row < starts[found.block + 1]


@pytest.mark.parametrize("row_map", [None, Affine(center=np.ones(2)), Rowwise(refused)], ids=["", "affine", "rowwise"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("row", [5, 2000, 4999])
@pytest.mark.parametrize("whole", [False, True])
def test_rows_of_many_tiles_are_counted_over_all_of_them(whole, row, shuffle, row_map, monkeypatch):
    """Whoever sees the bad cell, a map or what comes after it, and whether rows are read bit by bit or as one."""
    monkeypatch.setattr(preparation, "run_of_rows", lambda row_bytes: 256)
    monkeypatch.setattr(feeds, "run_of_rows", lambda row_bytes: 1024)
    X = np.random.default_rng(0).normal(size=(5000, 2))
    X[row, 1] = np.nan
    table = Table(CountingBlocks(X, (5000,)))
    grouped = Grouped(table, Order(2500, shuffle, 3))
    prepare = Prepare(grouped, (), Join(), [Preparation(row_map, True, Buffers())])
    errors = []
    for i, group in enumerate(grouped.groups):
        _, _, error = prepare(i, grouped.table.gather(group)) if whole else prepare.by_tiles(i, grouped.table, group)
        errors += [grouped.located(error, i)] if error is not None else []
    assert [(error.rows, error.column) for error in errors] == [((row, row + 1), 1)]


def test_what_is_not_finite_is_fed_where_nobody_minds(backend):
    X, _, _ = numbers()
    X[20, 1] = np.nan
    consumer = fed(Table(backend.backend.blocks(backend.make(X))))
    assert np.isnan(np.concatenate([x for x, _, _ in consumer.blocks])[20, 1])


def test_read_ahead_is_bounded_when_the_consumer_is_slow():
    table = table_of(2000, lengths=(20,) * 100)
    reads = []

    class Slow(Fed):
        def consume(self, rows):
            time.sleep(0.001)
            reads.append(sum(stop - start for start, stop in table.X.reads))
            super().consume(rows)

    with ooclearn.config_context(workers=2):
        consumer = Slow(order=Order(20))
        run([Stage("slow", consumer.fit())], table)
        most = max(read - 20 * (k + 1) for k, read in enumerate(reads))
        assert most <= 20 * (read_ahead() + 1)
        # What blocks are sized by, and memory is refused by: those ahead and the one being fed, as read and as prepared.
        assert most + 20 <= 20 * blocks_at_a_time() // 2


def test_several_feeds_of_one_order_see_the_same_blocks_and_others_get_their_own_pass():
    first, second, other = Fed(order=Order(9)), Fed(order=Order(9)), Fed(order=Order(4, shuffle=True))
    table = table_of()
    stages = [Stage(name, one.fit()) for name, one in (("a", first), ("b", second), ("c", other))]
    assert run(stages, table) == 2
    assert table.X.passes == 2
    assert first.lengths == second.lengths == [9] * 5 + [8]
    for consumer in (first, second, other):
        assert_whole(consumer)


@pytest.mark.parametrize("tile", [4, 1024])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_statistic_rides_along(shuffle, tile, monkeypatch):
    for module in (feeds, preparation):
        monkeypatch.setattr(module, "run_of_rows", lambda row_bytes: tile)
    answers = []

    def moments():
        answers.append((yield Moments()))

    table = table_of()
    consumer = Fed(order=Order(9, shuffle))
    assert run([Stage("moments", moments()), Stage("fed", consumer.fit())], table) == 1
    assert table.X.passes == 1
    assert answers[0].rows == N
    X, _, w = numbers()
    np.testing.assert_allclose(answers[0].mean, np.average(X.astype(float), axis=0, weights=w), rtol=1e-12)


def test_an_error_of_the_consumer_comes_out_with_its_block(tmp_path):
    class Fails(Fed):
        def consume(self, rows):
            if len(self.blocks) == 3:
                raise ZeroDivisionError("the consumer's")
            super().consume(rows)

    consumer = Fails(order=Order(9))
    with nothing_left(tmp_path), pytest.raises(ZeroDivisionError, match="the consumer's") as error:
        run([Stage("fails", consumer.fit())], table_of())
    assert any("block 3 of counted" in note for note in error.value.__notes__)


def test_blocks_that_do_not_fit_the_memory_limit_are_refused_before_reading():
    table = table_of()
    with (
        ooclearn.config_context(memory_limit=100),
        pytest.raises(BlockMemoryError, match=r"set block_rows to|not even one row"),
    ):
        fed(table, order=Order(50))
    assert table.X.reads == []


def test_rows_may_be_kept_by_the_consumer():
    """Buffers are used again only when nobody looks at them any more."""
    X, y, w = numbers(3000)
    kept = []
    table = Table(CountingBlocks(X), ooclearn.scan(y), ooclearn.scan(w))
    scaler = StandardScaler(with_mean=False, with_std=False).fit(X)
    above = Stage("above", iter_nothing(), scaler._row_map)
    feed = Feed(kept.append, order=Order(50, shuffle=True))

    def fit():
        yield feed

    run([above, Stage("keeps", fit(), above=above)], table)
    assert sorted(np.concatenate([rows.X[:, 0] for rows in kept])) == list(range(3000))
    for rows in kept:
        np.testing.assert_array_equal(rows.y, rows.X[:, 0] * 2)


@pytest.mark.parametrize("n", [170, 310, 1610, 1700, 2010])
def test_no_block_is_short_and_each_is_from_all_over(n):
    """Rows sorted by class: a short last block from one end of the table would hold one class alone."""
    table = Table(ooclearn.scan(np.zeros((n, 2))))
    grouped = Grouped(table, Order(block_rows=160, shuffle=True, seed=0))
    lengths = grouped.table.X.lengths
    rows = [sum(lengths[k] for k in group) for group in grouped.groups]
    assert sum(rows) == n
    assert max(rows) <= 160
    assert min(rows) >= 0.9 * max(rows)
    starts = grouped.table.X.starts()
    for group in grouped.groups:
        assert 0.3 < np.mean([starts[k] < n / 2 for k in group]) < 0.7


@pytest.mark.parametrize("n", range(11, 120, 12))
def test_no_block_is_longer_than_asked_for(n):
    """Strips differ by a row, which counts where they are short."""
    for block_rows in (3, 8, 10, 13):
        grouped = Grouped(Table(ooclearn.scan(np.zeros((n, 2)))), Order(block_rows, shuffle=True, seed=0))
        assert grouped.largest <= block_rows


@pytest.mark.parametrize("blocks", [5, 25])
def test_a_short_block_of_a_table_that_cannot_be_cut_is_not_fed_last(blocks):
    scanned = ooclearn.scan(lambda: [np.zeros((64, 2))] * blocks + [np.zeros((10, 2))])
    grouped = Grouped(Table(scanned), Order(block_rows=160, shuffle=True, seed=0))
    lengths = grouped.table.X.lengths
    rows = [sum(lengths[k] for k in group) for group in grouped.groups]
    assert sum(rows) == 64 * blocks + 10
    assert len(rows) > 2
    assert rows[-1] >= 128


@pytest.mark.parametrize("shuffle", [False, True])
def test_blocks_of_a_table_that_cannot_be_cut_are_joined_to_the_length_asked_for(shuffle):
    blocks = ooclearn.scan(lambda: [np.zeros((5, 2))] * 8)
    grouped = Grouped(Table(blocks), Order(10, shuffle=shuffle))
    assert [len(group) for group in grouped.groups] == [2] * 4


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_of_one_dimension(shuffle):
    consumer = fed(Table(ooclearn.scan(np.arange(N))), order=Order(9, shuffle), finite=True)
    rows = np.concatenate([X for X, _, _ in consumer.blocks])
    assert sorted(rows) == list(range(N))
    assert (rows.tolist() == list(range(N))) is not shuffle


def test_rows_longer_than_a_block_of_bytes_are_fed_one_by_one():
    with ooclearn.config_context(block_bytes=1):
        assert fed(table_of()).lengths == [1] * N


@pytest.mark.parametrize("classes", [2, 5])
def test_windows_of_sorted_rows_hold_all_classes(classes):
    """A block is mixed within windows; each is from all over the table, so none lacks a class."""
    n = 200_000
    table = Table(ooclearn.scan(np.broadcast_to(np.arange(n, dtype=float)[:, None], (n, 20))))
    grouped = Grouped(table, Order(block_rows=100_000, shuffle=True, seed=0))
    starts, lengths = np.array(grouped.table.X.starts()), grouped.table.X.lengths
    for block in grouped.windows:
        assert len(block) > 1
        for window in block:
            rows = np.concatenate([np.arange(starts[k], starts[k] + lengths[k]) for k in window])
            shares = np.bincount(rows * classes // n, minlength=classes) / len(rows)
            assert shares.min() > 0.5 / classes


@pytest.mark.parametrize("shuffle", [False, True])
def test_one_order_whether_rows_are_read_by_windows_or_as_one_block(shuffle):
    """Backends that read a block as one must feed the same rows in the same order."""
    n = 60_000
    X = np.stack([np.arange(n)] * 20, axis=1).astype(float)
    table = Table(ooclearn.scan(X), ooclearn.scan(np.arange(n)))
    grouped = Grouped(table, Order(block_rows=40_000, shuffle=shuffle, seed=3))
    pool = Buffers(keep=4)
    prepare = Prepare(grouped, [], Join(), [Preparation(Affine(center=np.ones(20)), True, pool)])
    for i, group in enumerate(grouped.groups):
        (by_bits,), _, _ = prepare.by_tiles(i, grouped.table, group)
        (whole,), _, _ = prepare(i, grouped.table.gather(group))
        np.testing.assert_array_equal(by_bits.X, whole.X)
        np.testing.assert_array_equal(by_bits.y, whole.y)
        np.testing.assert_array_equal(by_bits.X[:, 0] + 1, by_bits.y)


class TestReadIntoMemoryThatIsWrittenTo:
    """Rows from a file are mapped where they were read to, and read again where that shows what they should not be."""

    MAP = Affine(center=np.full(20, 3.0), scale=np.full(20, 7.0), divide=True)

    def grouped(self, X, tmp_path, block_rows=9_000):
        np.save(tmp_path / "X.npy", X)
        table = Table(CountingBlocks(ooclearn.scan(tmp_path / "X.npy")), ooclearn.scan(np.arange(len(X))))
        return Grouped(table, Order(block_rows=block_rows, shuffle=True, seed=3))

    def prepared(self, grouped, *preparations, join=None):
        prepare = Prepare(grouped, [], join or Join(), preparations)
        return [prepare.by_tiles(i, grouped.table, group) for i, group in enumerate(grouped.groups)]

    def test_every_consumer_gets_what_is_its(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(30_000, 20))
        grouped = self.grouped(X, tmp_path)
        pool = Buffers(keep=4)
        plain, mapped = Preparation(None, True, pool), Preparation(self.MAP, True, pool)
        seen = []
        for fed, state, error in self.prepared(grouped, mapped, plain, mapped, join=Join(moments=Moments())):
            assert error is None
            first, second, third = fed
            np.testing.assert_array_equal(second.X, X[second.y])
            np.testing.assert_array_equal(first.X, self.MAP(X)[first.y])
            np.testing.assert_array_equal(third.X, first.X)
            np.testing.assert_allclose(state["moments"].mean, X[first.y].mean(axis=0), rtol=1e-12, atol=1e-14)
            seen += first.y.tolist()
        assert sorted(seen) == list(range(len(X)))
        assert grouped.given.X.passes == 1

    def test_numbers_whose_sum_overflows_are_numbers(self, tmp_path):
        X = np.random.default_rng(0).normal(size=(30_000, 20))
        X[::5] = 1e306
        grouped = self.grouped(X, tmp_path)
        for (rows,), _, error in self.prepared(grouped, Preparation(self.MAP, True, Buffers(keep=4))):
            assert error is None
            np.testing.assert_array_equal(rows.X, self.MAP(X)[rows.y])

    @pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity")])
    def test_the_first_bad_cell_is_named(self, tmp_path, value, what):
        X = np.random.default_rng(0).normal(size=(30_000, 20))
        X[[12_345, 12_346], [7, 2]] = value
        grouped = self.grouped(X, tmp_path)
        (error,) = (
            error for _, _, error in self.prepared(grouped, Preparation(self.MAP, True, Buffers(keep=4))) if error
        )
        assert isinstance(error, NonFiniteError)
        assert error.column == 7
        assert what in str(error)


def test_what_a_worker_of_a_cluster_is_told_is_the_mixing_alone():
    table = Table(ooclearn.scan(np.zeros((20_000, 2))))
    grouped = Grouped(table, Order(block_rows=100, shuffle=True, seed=0))
    told = pickle.loads(pickle.dumps(grouped))
    for mine, its in zip(grouped.orders(7, 100), told.orders(7, 100), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert not {"table", "given", "groups", "windows"} & set(vars(told)), "these stay where the table is"
