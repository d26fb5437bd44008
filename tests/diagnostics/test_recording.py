from __future__ import annotations

import gc
import pickle
import threading
import weakref
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ooclearn.diagnostics import Timeline, timeline
from ooclearn.diagnostics._lanes import lane_names, lane_order
from ooclearn.diagnostics._recording import Piece, coarse
from ooclearn.events import Span, Work, observers, record, working

KINDS = ("read", "transform", "fold")


def lanes_of(one):
    return one.recorded().lanes


def n_pieces(one):
    return sum(map(len, lanes_of(one).values()))


def assert_in_order(pieces):
    for before, after in pairwise(pieces):
        assert before.stop <= after.start + 1e-6
    assert all(piece.start < piece.stop for piece in pieces)


def test_what_the_core_tells_is_recorded():
    with timeline() as t, working(Work("fold", "moments", 40)) as work:
        for block in range(4):
            with record(work, "fold", block, rows=10, bytes=80):
                pass
    assert t not in observers()
    (one,) = t.passes
    assert (one.title, one.rows, one.totals["fold"].bytes, one.error) == ("moments", 40, 320, None)
    assert [piece.block for piece in lanes_of(t)["MainThread"]] == [0, 1, 2, 3]
    assert repr(t).startswith("Timeline(1 pass in ")


def test_threads_lose_nothing():
    threads, tasks = 8, 3000
    work = Work("fold", "")

    def tell(t, k):
        for i in range(tasks):
            t.span(work, Span(f"worker-{k}", KINDS[i % 3], t.start + i, t.start + i + 0.5, i, 1, 2))

    with timeline() as t, working(work):
        running = [threading.Thread(target=tell, args=(t, k)) for k in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    (one,) = t.passes
    assert one.rows == threads * tasks
    assert {kind: total.tasks for kind, total in one.totals.items()} == dict.fromkeys(KINDS, 8000)
    assert one.totals["read"].seconds == pytest.approx(4000)
    assert one.totals["read"].blocks == 1000
    lanes = lanes_of(t)
    assert sorted(lanes) == [f"worker-{k}" for k in range(threads)]
    assert {len(pieces) for pieces in lanes.values()} == {tasks}


def test_memory_is_bounded_and_sums_stay_exact():
    t = Timeline(max_spans=500)
    work = Work("fold", "")
    t._recording.begin(work, t.start)
    n, told, largest = 30_000, [0.0] * 3, 0
    for i in range(n):
        begin, length = i * 0.01, 0.001 * (1 + i % 7)
        t.span(work, Span(f"w-{i % 2}", KINDS[i % 3], t.start + begin, t.start + begin + length, i, 1, 3))
        told[i % 3] += length
        largest = max(largest, t._recording._n_pieces + len(t._recording._raw))
    assert largest <= 500 + 2 * 4096
    assert n_pieces(t) <= 500
    assert t.recorded().resolution > 0
    (one,) = t.passes
    assert [one.totals[kind].seconds for kind in KINDS] == pytest.approx(told)
    assert (one.rows, one.totals["read"].bytes, one.totals["fold"].tasks) == (n, n, n // 3)
    for pieces in lanes_of(t).values():
        assert_in_order(pieces)
    pieces = [piece for lane in lanes_of(t).values() for piece in lane]
    assert sum(piece.stop - piece.start for piece in pieces) == pytest.approx(sum(told))
    assert sum(piece.rows for piece in pieces) == n
    assert sum(piece.tasks for piece in pieces) == n


@given(
    st.lists(
        st.tuples(st.floats(0, 0.5), st.floats(0.001, 0.5), st.sampled_from(KINDS), st.integers(0, 5)),
        max_size=60,
    ),
    st.floats(0.01, 5),
)
def test_coarser_pieces_have_the_same_sums(parts, width):
    pieces, at = [], 0.0
    for gap, length, kind, rows in parts:
        pieces.append(Piece(at + gap, at + gap + length, kind, 1, None, 1, rows, 10 * rows))
        at += gap + length
    fewer = list(coarse(pieces, width))

    def sums(some):
        return {
            kind: [
                sum(piece.stop - piece.start for piece in some if piece.kind == kind),
                sum(piece.rows for piece in some if piece.kind == kind),
                sum(piece.bytes for piece in some if piece.kind == kind),
                sum(piece.tasks for piece in some if piece.kind == kind),
            ]
            for kind in KINDS
        }

    before, after = sums(pieces), sums(fewer)
    assert all(after[kind] == pytest.approx(before[kind]) for kind in KINDS)
    assert_in_order(fewer)
    assert len(fewer) <= len(pieces)
    long = sum(piece.stop - piece.start >= width for piece in pieces)
    # What is shorter: at most a piece of each kind in every bin, once more around each long one.
    assert len(fewer) <= long + len(KINDS) * (at / width + 1 + long)


def test_two_threads_of_one_name_take_two_lanes(quiet, tell):
    spans = [("w", "read", 0.0, 1.0, 0), ("w", "fold", 0.5, 1.5, 1), ("w", "read", 2.0, 3.0, 2)]
    tell(quiet, Work("fold", ""), 0.0, 3.0, spans)
    lanes = lanes_of(quiet)
    assert {name: [piece.block for piece in lane] for name, lane in lanes.items()} == {
        "w": [0, 2],
        "w #2": [1],
    }
    assert quiet.passes[0].totals["read"].seconds == pytest.approx(2.0)


def test_rounding_is_no_overlap(quiet, tell):
    spans = [("w", "fold", 0.1 * i, 0.1 * i + 0.1 + 1e-12) for i in range(50)]
    tell(quiet, Work("fold", ""), 0.0, 5.0, spans)
    assert list(lanes_of(quiet)) == ["w"]


def test_spans_may_be_told_out_of_order(quiet, tell):
    spans = [("w", "fold", 2.0, 3.0, 2), ("w", "fold", 0.0, 1.0, 0), ("w", "fold", 1.0, 2.0, 1)]
    tell(quiet, Work("fold", ""), 0.0, 3.0, spans)
    assert [piece.block for piece in lanes_of(quiet)["w"]] == [0, 1, 2]


def test_spans_from_another_process_find_their_pass():
    work = Work("fold", "moments")
    with timeline() as t, working(work):
        t.span(pickle.loads(pickle.dumps(work)), Span("other", "fold", t.start, t.start + 1.0, 0, 5))
    assert [one.rows for one in t.passes] == [5]


def test_a_pass_that_began_unwatched_is_recorded():
    with working(Work("fold", "moments")) as work, timeline() as t, record(work, "fold", 0, 7):
        pass
    assert [(one.title, one.rows) for one in t.passes] == [("moments", 7)]


def test_passes_beyond_a_thousand_are_put_together(quiet, tell):
    for i in range(1100):
        tell(quiet, Work("fold", f"pass {i}"), float(i), i + 1.0, [("w", "fold", float(i), i + 0.5, 0, 1)])
    passes = quiet.passes
    assert len(passes) == 1001
    assert (passes[-1].title, passes[-1].rows, passes[-1].seconds) == ("further passes", 100, 100.0)


def test_workers_beyond_some_hundreds_are_summed_up(quiet, tell):
    tell(quiet, Work("fold", ""), 0.0, 1.0, [(f"w-{i}", "fold", 0.0, 0.5, i, 1) for i in range(300)])
    recorded = quiet.recorded()
    assert (len(recorded.lanes), recorded.not_placed) == (256, 44)
    assert recorded.passes[0].totals["fold"].seconds == pytest.approx(150.0)
    assert quiet.diagnosis().startswith("parallel and balanced")


def test_an_error_is_remembered_by_name_only():
    class LocalError(Exception):
        pass

    def fail():
        error = LocalError()
        with timeline() as t, pytest.raises(LocalError), working(Work("fold", "")):
            raise error
        return t, weakref.ref(error)

    t, error = fail()
    gc.collect()
    assert [one.error for one in t.passes] == ["LocalError"]
    assert error() is None


def test_a_timeline_can_be_recorded_again():
    t = timeline()
    for _ in range(2):
        with t:
            with pytest.raises(RuntimeError, match="recorded already"), t:
                pass
            with working(Work("fold", "")):
                pass
        assert len(t.passes) == 1


@pytest.mark.parametrize("wrong", [{"memory_budget": 0}, {"memory_budget": -5}, {"max_spans": 1}, {"interval": 0.0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        timeline(**wrong)


@pytest.mark.parametrize(
    ("worker", "name"),
    [
        ("MainThread", "main"),
        ("reader-3", "reader 3"),
        ("ThreadPoolExecutor-0_11", "pool 11"),
        ("ThreadPoolExecutor-2_1", "pool 2.1"),
        ("Thread-5 (_work)", "thread 5"),
        ("Dask-Default-Threads-4242-1", "dask 1"),
        ("tcp://127.0.0.1:40123", "port 40123"),
        ("reader-3 #2", "reader 3 #2"),
        ("", "worker"),
    ],
)
def test_workers_have_short_names(worker, name):
    assert lane_names([worker]) == {worker: name}


@given(st.lists(st.text(max_size=40), unique=True, max_size=20))
def test_short_names_are_short_and_different(workers):
    names = lane_names(workers)
    assert list(names) == workers
    assert len(set(names.values())) == len(workers)
    assert sorted(lane_order(workers)) == sorted(workers)
