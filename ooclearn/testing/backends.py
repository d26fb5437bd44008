"""The duties of a backend, as one check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from time import monotonic, sleep
from typing import Any

import numpy as np

from ooclearn.backend import Backend, get_backend, owner_of
from ooclearn.blocks import Blocks
from ooclearn.config import config_context
from ooclearn.events import Work
from ooclearn.exceptions import BackendError, DataError
from ooclearn.rowmaps import Affine, Columns, RowMap, Rowwise, compose
from ooclearn.statistics import Extrema, Join, Moments
from ooclearn.statistics.protocol import merge_all
from ooclearn.storage import scan
from ooclearn.table import Rows, Table
from ooclearn.testing.comparing import CELL_ROUNDINGS, assert_close, sway
from ooclearn.testing.leftovers import nothing_left
from ooclearn.testing.probes import (
    Beside,
    Count,
    Odd,
    Refusing,
    RefusingMap,
    Seen,
    Timed,
    Tree,
    reversed_columns,
)
from ooclearn.types import Array
from ooclearn.validation import is_lazy

__all__ = ["check_backend"]

Make = Callable[[Array], Any]

_ROWS = 41
_WORK = Work("fold", "check")
_AHEAD = 2
# How long the consumer is slow for each block, so that a stream without bound would run away from it.
_SLOW = 0.01


def check_backend(backend: Backend, make: Make, /) -> None:
    """Check that an adapter does all that a backend has to.

    It owns its containers and nothing else; cuts them into blocks that can be read again; folds each row
    once, in block order, in the fixed tree, to the answer of the merged tree on the host; streams groups of
    blocks in order and no more than `ahead` of a slow consumer; maps a container to the same kind of
    container, as lazy as it was; moves blocks to the host and back; names the place of an error in the table;
    and leaves no thread when a consumer stops early or an error comes in the middle.

    Parameters
    ----------
    backend : Backend
        The adapter. It must be registered: by entry point, or with :func:`ooclearn.backend.register`.
    make : callable
        Takes a host array of numbers of one or two dimensions, returns a container of the library with these
        rows. Where a container is cut into blocks, let it be cut unevenly.

    Raises
    ------
    AssertionError
        A duty is not done; says which.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.backend import get_backend
    >>> from ooclearn.testing import check_backend
    >>> check_backend(get_backend("numpy"), np.asarray)
    """
    X, y, w = _numbers()
    before = X.copy()
    _check_owns(backend, make(X))
    _check_blocks(backend, make(X), X)
    _check_host(backend, make)
    with config_context(workers=2):
        _check_fold(
            backend,
            Table(*(backend.blocks(make(part), name=role) for part, role in ((X, "X"), (y, "y"), (w, "w")))),
        )
        _check_fold_errors(backend, _cut_up(backend.blocks(make(X), name="rows")))
        _check_stream(backend, _cut_up(backend.blocks(make(X), name="rows"), y, w))
        _check_map(backend, make(X), X)
        _check_map_errors(backend, make(X))
        _check_adopt(backend, X)
    assert np.array_equal(X, before), "the array that the container was made of has been written into"


def _numbers() -> tuple[Array, Array, Array]:
    """Return X whose first column numbers the rows, y and w: numbers that float32 holds exactly."""
    rng = np.random.default_rng(41)
    X = np.round(rng.normal(0, 100, (_ROWS, 4))) / 4
    X[:, 0] = np.arange(_ROWS)
    return X, np.arange(_ROWS) % 5, np.arange(_ROWS) / 2


def _cut_up(X: Blocks, y: Array | None = None, w: Array | None = None) -> Table:
    """Return a table of several blocks: the container's own, or, where it has but one, blocks of 7 rows."""
    if X.n_blocks < 3:
        X = X.recut([7] * (_ROWS // 7) + [_ROWS % 7])
    return Table(X, *(None if part is None else scan(part) for part in (y, w)))


def _check_owns(backend: Backend, container: Any) -> None:
    name = backend.name
    try:
        registered = get_backend(name)
    except BackendError:
        registered = None
    assert registered is backend, (
        f"get_backend({name!r}) gives {registered!r}; the entry point in the group ooclearn.backends must "
        "have the backend's own name and lead to it"
    )
    owner = owner_of(container)
    assert owner is backend, f"the container is owned by {owner.name if owner else 'nobody'}, expected {name}"
    for other in (object(), None, "text", 3.5, {"a": 1}):
        assert not backend.owns(other), f"{name} owns a {type(other).__name__}, which is no array"
    if name != "numpy":
        assert not backend.owns(np.ones(3)), f"{name} owns NumPy arrays, which are the NumPy backend's"


def _check_blocks(backend: Backend, container: Any, X: Array) -> None:
    blocks = backend.blocks(container, name="rows")
    assert isinstance(blocks, Blocks), f"blocks() gives a {type(blocks).__name__}, expected Blocks"
    assert blocks.backend is backend, f"the blocks say that their backend is {blocks.backend_name}"
    assert backend.owns(blocks), "the backend does not own the Blocks that it made"
    assert backend.blocks(blocks) is blocks, "blocks() of Blocks is those Blocks"
    assert blocks.shape == X.shape, f"the blocks have shape {blocks.shape}, the rows {X.shape}"
    assert blocks.lengths is not None and len(blocks.lengths) == blocks.n_blocks, "blocks of known lengths"  # noqa: PT018  (one fact)
    for reading in ("read", "read again"):
        read = [backend.to_host(blocks.read(i)) for i in range(blocks.n_blocks)]
        assert tuple(len(block) for block in read) == blocks.lengths, f"blocks {reading} have other lengths than stated"
        _assert_rows(np.concatenate(read), X, f"the blocks, {reading}, one after the other")
    cut = blocks.recut([0, 1, 11, _ROWS - 12])
    assert cut.lengths == (0, 1, 11, _ROWS - 12), f"recut gives lengths {cut.lengths}"
    _assert_rows(np.concatenate([backend.to_host(cut.read(i)) for i in range(4)]), X, "blocks cut again")
    tiles = [backend.to_host(tile).copy() for tile in cut.tiles(2, 4)]
    assert [len(tile) for tile in tiles] == [4, 4, 3], (
        f"11 rows in tiles of 4 have {[len(tile) for tile in tiles]} rows"
    )
    _assert_rows(np.concatenate(tiles), X[1:12], "a block in tiles")
    gathered = backend.to_host(cut.gather([3, 1]))
    _assert_rows(gathered, np.concatenate([X[12:], X[:1]]), "gathered blocks")
    _assert_rows(blocks.to_numpy(), X, "to_numpy()")


def _assert_rows(got: Array, expected: Array, what: str) -> None:
    assert got.shape == expected.shape, f"{what} have shape {got.shape}, expected {expected.shape}"
    assert np.array_equal(got, expected, equal_nan=True), f"{what} are not the rows that went in"


def _check_host(backend: Backend, make: Make) -> None:
    block = backend.blocks(make(np.ones((3, 2)))).read(0)
    for dtype in ("float32", "float64", "int32", "bool"):
        values = np.array([[0, 1], [1, 0]]).astype(dtype)
        there = backend.from_host(values, like=block)
        assert type(there) is type(block), (
            f"from_host gives a {type(there).__name__} for {dtype}, expected a {type(block).__name__}"
        )
        back = backend.to_host(there)
        assert isinstance(back, np.ndarray), f"to_host gives a {type(back).__name__}"
        assert np.array_equal(back, values), f"{dtype} values are others after from_host and to_host"


def _check_fold(backend: Backend, table: Table) -> None:
    n = tuple(range(_ROWS))
    cut = _cut_up(table.X)
    assert cut.X.lengths is not None
    for one in (table.only(frozenset("X")), cut):
        seen = backend.fold(one, Seen(), work=_WORK)
        assert seen == n, f"fold must see each row once and merge blocks in order; rows came as {seen}"
    X, y, w = _numbers()
    beside = backend.fold(table, Beside(), work=_WORK)
    expected = tuple(zip(n, y.astype(float).tolist(), w.tolist(), strict=True))
    assert beside == expected, "fold must give each row the y and the weight beside it"
    targets = backend.fold(table.only(frozenset("y")), Count(), work=_WORK)
    assert targets == _ROWS, f"fold over the targets alone counts {targets} rows"

    blocks = [Rows(backend.to_host(cut.X.read(i))) for i in range(cut.n_blocks)]
    tree = backend.fold(cut, Tree(), work=_WORK)
    fixed = merge_all(Tree(), [Tree().of(block) for block in blocks])
    assert tree == fixed, f"blocks must be merged in the fixed tree {fixed}, got {tree}"

    both: Join = Join(moments=Moments(), extrema=Extrema())
    host = [Rows(X[i:j], None, w[i:j]) for i, j in _ranges(table.X.lengths or ())]
    oracle = merge_all(both, [both.of(block) for block in host])
    got = backend.fold(table.only(frozenset("Xw")), both, work=_WORK)
    moments = got["moments"]
    slack = sway(both.of, Rows(X, None, w), CELL_ROUNDINGS * max(1.0, moments.rounding / np.finfo(np.float64).eps))
    # A device may round more coarsely, and the rest of a mean is what rounding has left.
    slack |= dict.fromkeys(("state['moments'].rounding", "state['moments'].rest"), np.asarray(np.inf))
    assert_close(got, oracle, "folded by the backend and on the host", slack)


def _ranges(lengths: Sequence[int]) -> list[tuple[int, int]]:
    stops = np.cumsum(lengths).tolist()
    return [(stop - length, stop) for length, stop in zip(lengths, stops, strict=True)]


def _check_fold_errors(backend: Backend, table: Table) -> None:
    backend.fold(table, Seen(), work=_WORK)  # what a library keeps for good, it has now
    for row in (0, 17, _ROWS - 1):
        with nothing_left():
            _refused_at(row, partial(backend.fold, table, Refusing(row), work=_WORK), table, "fold")
            error = _raised(partial(backend.fold, table, Refusing(row, odd=True), work=_WORK))
            assert isinstance(error, Odd), f"an error in a statistic comes out of fold as {error!r}"
            del error


def _raised(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  (whatever comes is looked at)
        return error.with_traceback(None)
    return None


def _refused_at(row: int, call: Callable[[], Any], table: Table, verb: str) -> None:
    error = _raised(call)
    assert isinstance(error, DataError), f"bad data in row {row} come out of {verb} as {error!r}, expected a DataError"
    assert error.rows == (row, row + 1), f"bad data in row {row} of the table are said to be in {error.rows}: {error}"
    lengths = table.X.lengths or ()
    block = next(i for i, (start, stop) in enumerate(_ranges(lengths)) if start <= row < stop)
    assert error.block == block, f"bad data in block {block} are said to be in block {error.block}: {error}"
    assert error.column == 2, f"bad data in column 2 are said to be in column {error.column}: {error}"
    assert error.source == table.X.name, f"the source is said to be {error.source!r}, expected {table.X.name!r}"


def _check_stream(backend: Backend, table: Table) -> None:
    groups = [(i,) for i in reversed(range(table.n_blocks))] + [(1, 0), (0, 2)] * 4
    ranges = _ranges(table.X.lengths or ())
    _, y, _ = _numbers()

    def stream(function: Timed, ahead: int = _AHEAD) -> Any:
        items: Any = backend.stream(table, groups, function, ahead=ahead, work=_WORK)
        return closing(items)

    received: list[float] = []
    begun: list[float] = []
    with stream(Timed()) as items:
        for k, (i, rows, targets, when) in enumerate(items):
            received.append(monotonic())
            begun.append(when)
            expected = [row for block in groups[k] for row in range(*ranges[block])]
            assert i == k, f"stream gives group {i} where {k} is next"
            assert rows == expected, f"group {k} has the rows {rows}, expected {expected}"
            assert targets == y[expected].tolist(), f"group {k} has other targets than its rows"
            sleep(_SLOW)
    assert len(received) == len(groups), f"stream gives {len(received)} of {len(groups)} groups"
    early = max(i - int(np.searchsorted(received, when)) for i, when in enumerate(begun))
    # One more than `ahead`: what is being handed over was taken, and its receipt is not yet noted.
    assert early <= _AHEAD + 1, f"a group was begun {early} groups before it was asked for, `ahead` is {_AHEAD}"

    with nothing_left():
        with stream(Timed(), 4) as items:
            next(items)
            next(items)
        with stream(Timed()) as items:
            assert [item[0] for item in items] == list(range(len(groups)))
    taken: list[int] = []
    with nothing_left():
        with stream(Timed(fails=3)) as items:
            error = _raised(partial(_take_all, items, taken))
        assert isinstance(error, Odd), f"an error in a group comes out of stream as {error!r}"
        assert taken == [0, 1, 2], f"the error of group 3 comes after the groups {taken}"
        del error
    assert not list(backend.stream(table, [], Timed(), ahead=_AHEAD, work=_WORK)), "no groups, no items"


def _take_all(items: Iterator[Any], taken: list[int]) -> None:
    for item in items:
        taken.append(item[0])  # noqa: PERF401  (what came before an error counts)


def _check_map(backend: Backend, container: Any, X: Array) -> None:
    maps: dict[str, RowMap] = {
        "a diagonal map": Affine(
            np.array([1.0, 2.0, 4.0, 8.0]), center=X.mean(axis=0), offset=np.arange(4.0), divide=True
        ),
        "a matrix": Affine(np.arange(8.0).reshape(4, 2), offset=np.array([1.0, 2.0])),
        "a matrix of one column, squeezed": Affine(np.ones((4, 1)), center=X.mean(axis=0), squeeze=True),
        "some columns": Columns((3, 1)),
        "a function of host arrays": Rowwise(reversed_columns, host=True),
        "a chain": compose(Columns((0, 2)), Rowwise(reversed_columns, host=True), Affine(np.array([2.0, 3.0]))),
    }
    for what, row_map in maps.items():
        out = backend.map(row_map, container)
        # A memory map is a host array to look at and Blocks to work with.
        alike = type(out) is type(container) or (isinstance(out, Blocks) and isinstance(container, (Blocks, np.memmap)))
        assert alike, f"{what} makes a {type(out).__name__} of a {type(container).__name__}"
        blocks = backend.blocks(out)
        columns = row_map.columns(4)
        shape = (_ROWS,) if columns is None else (_ROWS, columns)
        assert tuple(blocks.shape) == shape, f"{what} gives the shape {blocks.shape}, expected {shape}"
        values = blocks.to_numpy()
        assert values.dtype == blocks.dtype, f"{what} gives {values.dtype} where {blocks.dtype} was stated"
        eps = np.finfo(values.dtype).eps
        expected = row_map(X)
        room = 64 * eps * np.max(np.abs(expected))
        assert values.shape == shape, f"{what} gives the shape {values.shape} where {shape} was stated"
        assert np.allclose(values, expected, rtol=64 * eps, atol=room), f"{what} gives other values than on the host"
    _assert_rows(backend.blocks(container).to_numpy(), X, "the container, after it was mapped,")


def _check_map_errors(backend: Backend, container: Any) -> None:
    row = 29

    def call() -> Any:
        return backend.map(RefusingMap(row), container)

    lazy = is_lazy(container)
    if lazy:
        out = call()  # reads nothing, so nothing can be wrong yet
        error = _raised(lambda: backend.blocks(out).to_numpy())
    else:
        error = _raised(call)
    assert isinstance(error, DataError), f"bad data in a row come out of map as {error!r}, expected a DataError"
    assert error.rows == (row, row + 1), f"bad data in row {row} are said to be in {error.rows}: {error}"


def _check_adopt(backend: Backend, X: Array) -> None:
    blocks = scan(X, block_rows=9)
    try:
        adopted = backend.adopt(blocks)
    except ValueError:
        return  # not every library has a lazy container
    assert backend.owns(adopted), f"adopt() gives a {type(adopted).__name__} that {backend.name} does not own"
    again = backend.blocks(adopted)
    assert again.lengths == blocks.lengths, (
        f"adopted blocks have the lengths {again.lengths}, expected {blocks.lengths}"
    )
    _assert_rows(again.to_numpy(), X, "adopted blocks")
