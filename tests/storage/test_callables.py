"""Callables that give blocks: run anew for each pass, held to what they gave the first time."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

import ooclearn
from ooclearn.exceptions import DataError, SourceChangedError
from ooclearn.linear_model import Ridge
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing.tables import uneven_cut

X = np.random.default_rng(0).normal(0, 10, (60, 3))


class Made:
    """Counts how often it is run, and changes what it gives from a run on."""

    def __init__(self, lengths, change=None, from_run=2):
        self.lengths = lengths
        self.change = change
        self.from_run = from_run
        self.runs = 0

    def __call__(self):
        self.runs += 1
        blocks = np.split(X, np.cumsum(self.lengths)[:-1])
        if self.change is not None and self.runs >= self.from_run:
            blocks = self.change(blocks)
        yield from blocks


@pytest.mark.parametrize("lengths", [(60,), (20, 0, 40), (1,) * 60, uneven_cut(60)])
@pytest.mark.parametrize("workers", [1, 3])
def test_one_run_to_count_and_one_for_each_pass(lengths, workers):
    made = Made(lengths)
    blocks = ooclearn.scan(made)
    assert made.runs == 1
    with ooclearn.config_context(workers=workers):
        scaler = StandardScaler().fit(blocks)
        assert made.runs == 2
        scaler.fit(blocks)
    assert made.runs == 3
    np.testing.assert_allclose(scaler.mean_, X.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("order", [[0, 3, 1, 2, 9, 0], list(range(29, -1, -1)), [5, 5, 4, 29, 0]])
def test_blocks_in_any_order(order):
    blocks = ooclearn.scan(Made((2,) * 30))
    for i in order:
        np.testing.assert_array_equal(blocks.read(i), X[2 * i : 2 * i + 2])


CHANGES = {
    "fewer blocks": lambda blocks: blocks[:-1],
    "nothing": lambda _: [],
    "a shorter block": lambda blocks: [*blocks[:3], blocks[3][:-1], *blocks[4:]],
    "a narrower block": lambda blocks: [*blocks[:3], blocks[3][:, :2], *blocks[4:]],
    "more blocks": lambda blocks: [*blocks, blocks[0]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_answer_than_the_first_is_refused(change):
    blocks = ooclearn.scan(Made((6,) * 10, CHANGES[change]))
    for _ in range(2):  # and stays refused
        with pytest.raises(SourceChangedError) as error:
            StandardScaler().fit(blocks)
        assert error.value.source == "Made"


def test_after_an_error_in_the_callable_a_pass_begins_anew():
    """A failed iterator gives nothing more; what comes next must not be taken for what is missing."""
    failing = [True]

    def gives():
        for i in range(0, 60, 6):
            if i == 18 and failing[0]:
                raise RuntimeError("the user's")
            yield X[i : i + 6]

    failing[0] = False
    blocks = ooclearn.scan(gives)
    failing[0] = True
    with pytest.raises(RuntimeError, match="the user's"):
        StandardScaler().fit(blocks)
    failing[0] = False
    np.testing.assert_array_equal(blocks.to_numpy(), X)


def test_what_is_no_iterable_of_blocks():
    for wrong, said in [
        (lambda: 3, "iterated over|iterable"),
        (list, "no block"),
        (lambda: [X, X[:, :2]], "same columns"),
        (lambda: [(X, X[:, 0])], "a tuple of arrays .* Scan X and y each by a callable of its own .*block 0"),
    ]:
        with pytest.raises(DataError, match=said):
            ooclearn.scan(wrong)


def test_lists_and_mixed_dtypes():
    blocks = ooclearn.scan(lambda: [[[1, 2]], np.array([[0.5, 1.5]], dtype=np.float32)])
    assert blocks.dtype == np.float64
    np.testing.assert_array_equal(blocks.to_numpy(), [[1, 2], [0.5, 1.5]])
    assert {block.dtype for block in blocks} == {np.dtype(np.float64)}


def test_the_iterator_is_let_go_when_a_pass_is_done():
    closed = []

    def gives():
        try:
            yield from np.split(X, 10)
        finally:
            closed.append(True)

    blocks = ooclearn.scan(gives)
    closed.clear()
    for i in range(3):
        blocks.read(i)
    assert not closed
    blocks.release()
    assert closed


def test_blocks_that_are_no_arrays_are_refused_with_what_to_do():
    pd = pytest.importorskip("pandas", reason="in the group `test`")
    frame = pd.DataFrame(X, columns=list("abc"))
    for block, kind in ((frame, "DataFrame"), (frame["a"], "Series")):
        with pytest.raises(DataError, match=rf"got a {kind} for a block; expected an array: .*to_numpy\(\).*block 1\)"):
            ooclearn.scan(lambda block=block: [X[:3, 0] if block.ndim == 1 else X[:3], block])
    blocks = ooclearn.scan(lambda: (part.to_numpy() for part in (frame[:20], frame[20:])))
    np.testing.assert_array_equal(blocks.to_numpy(), X)


GIVEN = [X]


def given():
    return iter(GIVEN)


def test_a_cache_takes_no_other_scan_for_this_one(tmp_path):
    """joblib knows a function by its name: what it gives by now would be answered with what it gave then."""
    for rows in (X, X + 100.0):
        GIVEN[:] = [rows]
        pipe = make_pipeline(StandardScaler(), Ridge(), memory=str(tmp_path))
        pipe.fit(ooclearn.scan(given), rows[:, 0])
        np.testing.assert_allclose(pipe[0].mean_, rows.mean(axis=0), rtol=1e-12)
