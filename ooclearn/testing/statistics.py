"""The laws of a statistic, as one check."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ooclearn.backend import get_backend
from ooclearn.config import config_context
from ooclearn.events import Work
from ooclearn.exceptions import DataError
from ooclearn.sources import SourceBlocks
from ooclearn.statistics.protocol import Statistic, is_summed, merge_all, parts_of
from ooclearn.storage.arrays import ArraySource
from ooclearn.table import Rows, Table
from ooclearn.testing.comparing import CELL_ROUNDINGS, assert_close, assert_identical, leaves, sway
from ooclearn.testing.tables import part_of, uneven_cut
from ooclearn.types import Array

__all__ = ["check_statistic"]


def check_statistic(
    statistic: Statistic[Any],
    /,
    *,
    rows: Any = None,
    answer: Callable[[Any], Any] | None = None,
    allowance: Callable[[Any], Any] | None = None,
    roundings: float = CELL_ROUNDINGS,
    examples: int = 60,
) -> None:
    """Check that a statistic keeps the laws: however a table is cut, the same answer.

    On each table: no rows give the identity of ``merge``; ``merge`` is associative; any cut into blocks gives
    the answer of the whole table, blocks of one row and of none included; ``of`` and ``merge`` change nothing
    that they are given and give the same bits twice, from read-only arrays too; several workers give the bits
    of one, merged in the fixed tree; a state survives pickling, is made of plain arrays and numbers, and
    prints itself in one line; NaN and infinities are either taken or refused with the row and the column.

    A statistic that is added up on devices (:class:`~ooclearn.statistics.protocol.Summed`) gives that answer too:
    ``state(origin, sums, n)``, of the origin of the first block that has rows and the sums of all blocks added in
    order, is the answer of the whole table. As all blocks are centred by one origin, it may be off by more than
    elsewhere: by the weight of the table over that of its lightest row, which for rows without weights is their
    number. It is None for what ``of`` refuses; for other tables only where they hold NaN or infinities, or where the
    first block has no weight.

    Parameters
    ----------
    statistic : Statistic
        What is checked.
    rows : hypothesis strategy or iterable of Rows, optional
        The tables. By default :func:`ooclearn.testing.strategies.tables`, which needs hypothesis.
    answer : callable, optional
        Takes a state, returns what must not depend on the cut, where a state holds more than that (what
        rounding has left out, a random sample). By default the whole state.
    allowance : callable, optional
        Takes an answer, returns one of the same form: by how much each number in it may be off for one rounding,
        besides what moving the cells does to it. The element (i, j) of a scatter matrix S may be off by
        ``sqrt(S_ii * S_jj)``, for instance, however near to 0 it is itself.
    roundings : float
        How exact the answers must be: as if each cell had moved by so many roundings. 0 for answers that must
        not depend on the cut by one bit, such as counts.
    examples : int
        How many tables are drawn from a strategy. The same each time.

    Raises
    ------
    AssertionError
        A law does not hold; says which, and what differs.

    Examples
    --------
    >>> from ooclearn.statistics import Extrema
    >>> from ooclearn.testing import check_statistic
    >>> from ooclearn.testing.tables import hostile_tables
    >>> check_statistic(Extrema(), rows=hostile_tables(), roundings=0)
    """
    if rows is None:
        from ooclearn.testing.strategies import tables

        rows = tables()
    taken = 0

    def check(table: Rows, cut: tuple[int, ...]) -> None:
        nonlocal taken
        taken += _check_table(statistic, table, cut, answer or _itself, roundings, allowance)

    if hasattr(rows, "example"):  # a strategy
        from ooclearn.testing.strategies import run_on

        run_on(check, rows, examples=examples)
    else:
        for k, table in enumerate(_tables(rows)):
            check(table, uneven_cut(table.n, k))
    assert taken, f"{statistic!r} refused every table that it was tried on; pass rows= that it takes"


def _tables(rows: Iterable[Rows] | Rows) -> Iterable[Rows]:
    return [rows] if isinstance(rows, Rows) else rows


def _itself(state: Any) -> Any:
    return state


def _check_table(
    statistic: Statistic[Any],
    rows: Rows,
    cut: tuple[int, ...],
    answer: Callable[[Any], Any],
    roundings: float,
    allowance: Callable[[Any], Any] | None,
) -> bool:
    """Check the laws on one table; return False where the statistic refuses it, whole and cut alike."""
    parts = _pieces(rows, cut)
    try:
        whole = statistic.of(rows)
    except DataError as error:
        _check_refusal(statistic, parts, error)
        _check_not_added_up(statistic, parts, str(error))
        return False
    states = [statistic.of(part) for part in parts]
    slack = sway(lambda moved: answer(statistic.of(moved)), rows, roundings, allowance=allowance)

    def close(a: Any, b: Any, law: str) -> None:
        assert_close(answer(a), answer(b), law, slack)

    _check_no_writing(statistic, rows, whole)
    _check_state(whole)
    _check_identity(statistic, rows, whole)
    _check_merge_pure(statistic, states)
    _check_associative(statistic, states, close)
    close(merge_all(statistic, states), whole, f"cut into blocks of {cut} rows")
    if rows.n <= 64:
        single = [statistic.of(part_of(rows, i, i + 1)) for i in range(rows.n)] or [whole]
        close(merge_all(statistic, single), whole, "cut into blocks of one row")
    close(_check_bits(statistic, rows, cut), whole, "folded by a backend")
    _check_not_finite(statistic, rows, cut)
    if is_summed(statistic):
        for pieces in (parts, [rows]):
            _check_added_up(statistic, pieces, answer(whole), answer, slack)
        _check_spoilt(statistic, rows, cut, lambda moved: answer(statistic.of(moved)), answer, roundings, allowance)
    return True


def _pieces(rows: Rows, cut: Sequence[int]) -> list[Rows]:
    stops = np.cumsum(cut)
    return [part_of(rows, int(stop) - length, int(stop)) for stop, length in zip(stops, cut, strict=True)]


def _check_refusal(statistic: Statistic[Any], parts: Sequence[Rows], error: DataError) -> None:
    """Check that what is refused whole is refused cut, in a block or when blocks are merged."""
    try:
        merge_all(statistic, [statistic.of(part) for part in parts])
    except DataError:
        return
    raise AssertionError(f"the whole table is refused ({error}), and cut into blocks it is not")


def _check_no_writing(statistic: Statistic[Any], rows: Rows, whole: Any) -> None:
    seen, before = _copied(rows), _copied(rows)
    for part in (seen.X, seen.y, seen.w):
        if part is not None:
            part.flags.writeable = False
    again = statistic.of(seen)
    assert_identical(again, whole, "of() called twice on the same rows")
    for role in ("X", "y", "w"):
        assert _same(getattr(seen, role), getattr(before, role)), f"of() has written into {role}"


def _copied(rows: Rows) -> Rows:
    X, y, w = (None if part is None else np.array(part) for part in (rows.X, rows.y, rows.w))
    return replace(rows, X=X, y=y, w=w)


def _same(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _check_state(state: Any) -> None:
    found = list(leaves(state))
    assert found, f"the state {state!r} holds nothing"
    assert_identical(pickle.loads(pickle.dumps(state)), state, "a state pickled and loaded")  # noqa: S301  (our own)
    text = repr(state)
    assert "\n" not in text, f"a state prints itself in one line, this one in several: {text}"


def _check_identity(statistic: Statistic[Any], rows: Rows, whole: Any) -> None:
    none = statistic.of(part_of(rows, 0, 0))
    assert_identical(statistic.merge(none, whole), whole, "no rows merged with a state")
    assert_identical(statistic.merge(whole, none), whole, "a state merged with no rows")
    assert_identical(statistic.merge(none, none), none, "no rows merged with no rows")


def _check_merge_pure(statistic: Statistic[Any], states: Sequence[Any]) -> None:
    for a, b in pairwise(states):
        before = copy.deepcopy((a, b))
        locked = [
            leaf
            for state in (a, b)
            for _, leaf in leaves(state)
            if isinstance(leaf, np.ndarray) and leaf.flags.writeable
        ]
        for leaf in locked:
            leaf.flags.writeable = False
        try:
            first, second = statistic.merge(a, b), statistic.merge(a, b)
        finally:
            for leaf in locked:
                leaf.flags.writeable = True
        assert_identical(second, first, "merge called twice")
        assert_identical((a, b), before, "what merge was given, after it")


def _check_associative(
    statistic: Statistic[Any], states: Sequence[Any], close: Callable[[Any, Any, str], None]
) -> None:
    merge = statistic.merge
    third = max(1, len(states) // 3)
    runs = [states[:third], states[third : 2 * third], states[2 * third :]]
    if not all(runs):
        return
    a, b, c = (merge_all(statistic, run) for run in runs)
    close(merge(merge(a, b), c), merge(a, merge(b, c)), "merge(merge(a, b), c) and merge(a, merge(b, c))")


def _added_up(statistic: Any, parts: Sequence[Rows]) -> Any:
    """Return the state that the parts come to when they are added up in order, as on a device; the host plays it."""
    origin: dict[str, Any] = {}
    sums: dict[str, Any] | None = None
    n = 0
    with np.errstate(all="ignore"):  # a device does not warn
        for part in parts:
            seen = _copied(part)
            for given in (seen.X, seen.y, seen.w):
                if given is not None:
                    given.flags.writeable = False
            if sums is None:
                origin = statistic.origin(seen)
            more = statistic.sums(seen, origin)
            before = copy.deepcopy(more)
            sums = more if sums is None else statistic.add(sums, more)
            assert_identical(more, before, "what is added to sums, after it")
            n += part.n
        return None if sums is None else statistic.state(_as_brought_back(origin), _as_brought_back(sums), n)


def _as_brought_back(values: dict[str, Any]) -> dict[str, Any]:
    """Return float64 and int64 in the place of the arrays of the device."""
    return {
        name: np.asarray(value, dtype=np.float64 if value.dtype.kind == "f" else np.int64)
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub"
        else value
        for name, value in values.items()
    }


def _check_added_up(
    statistic: Any, parts: Sequence[Rows], expected: Any, answer: Callable[[Any], Any], slack: dict[str, Array]
) -> None:
    """Check that what is added up about one origin is the answer; None only where nothing tells it."""
    parts = [part for part in parts if part.n]
    if not parts:
        return
    cut = tuple(part.n for part in parts)
    law = f"added up over blocks of {cut} rows"
    state = _added_up(statistic, parts)
    weights = np.ones(sum(cut)) if parts[0].w is None else np.concatenate([part.w for part in parts])
    if state is None:
        finite = all(_finite(getattr(part, role)) for part in parts for role in ("X", "y", "w"))
        assert not (finite and np.any(weights[: cut[0]] > 0)), f"{law}: None, where all cells are finite"
        return
    lightest = np.min(weights[weights > 0], initial=np.inf)
    # One block may lie far from all others, and its mean is what they are centred by.
    room = max(1.0, float(np.sum(weights) / lightest))
    assert_close(answer(state), expected, law, {path: room * value for path, value in slack.items()})


def _finite(part: Array | None) -> bool:
    return part is None or part.dtype.kind != "f" or bool(np.isfinite(part).all())


def _check_not_added_up(statistic: Any, parts: Sequence[Rows], why: str) -> None:
    """Check that the sums of what is refused tell nothing; they may be refused themselves."""
    parts = [part for part in parts if part.n]
    if not is_summed(statistic) or not parts:
        return
    try:
        state = _added_up(statistic, parts)
    except DataError:
        return
    assert state is None, f"added up: {state!r}, where of() refuses the table: {why}"


def _check_spoilt(
    statistic: Any,
    rows: Rows,
    cut: Sequence[int],
    of: Callable[[Rows], Any],
    answer: Callable[[Any], Any],
    roundings: float,
    allowance: Callable[[Any], Any] | None,
) -> None:
    """Put what spoils sums into one cell: they tell it, or hold the answer all the same."""
    rng = np.random.default_rng(rows.n)
    for role, part in (("X", rows.X), ("w", rows.w), ("y", rows.y)):
        if role not in parts_of(statistic) or part is None or part.dtype.kind != "f" or not part.size:
            continue
        for bad in (np.nan, np.inf, -np.inf, *((-1.0,) if role == "w" else ())):
            values = np.array(part)
            values[tuple(int(rng.integers(n)) for n in part.shape)] = bad
            given: dict[str, Any] = {role: values}
            spoilt = replace(rows, **given)
            pieces = _pieces(spoilt, cut)
            try:
                expected = of(spoilt)
            except DataError as error:
                _check_not_added_up(statistic, pieces, str(error))
                continue
            if _added_up(statistic, [piece for piece in pieces if piece.n]) is not None:
                slack = sway(of, spoilt, roundings, allowance=allowance)
                _check_added_up(statistic, pieces, expected, answer, slack)


def _table(rows: Rows, cut: Sequence[int]) -> Table:
    parts = [
        None if part is None else SourceBlocks(ArraySource(part, name=f"the {role} of the check"), cut)
        for role, part in (("X", rows.X), ("y", rows.y), ("w", rows.w))
    ]
    X, y, w = parts
    assert X is not None, "a table to check a statistic on has an X"
    return Table(X, y, w)


def _folded(statistic: Statistic[Any], table: Table, workers: int) -> Any:
    with config_context(workers=workers):
        return get_backend("numpy").fold(table, statistic, work=Work("fold", "check"))


def _check_bits(statistic: Statistic[Any], rows: Rows, cut: Sequence[int]) -> Any:
    """Return the state, the same with any number of workers."""
    table = _table(rows, cut)
    one = _folded(statistic, table, 1)
    for workers in (2, 3):
        assert_identical(_folded(statistic, table, workers), one, f"{workers} workers and one")
    return one


def _check_not_finite(statistic: Statistic[Any], rows: Rows, cut: Sequence[int]) -> None:
    """Put what is not finite into one cell: it is taken, or refused with the place."""
    rng = np.random.default_rng(rows.n)
    for role, part in (("X", rows.X), ("y", rows.y), ("w", rows.w)):
        if role not in parts_of(statistic) or part is None or part.dtype.kind != "f" or not part.size:
            continue
        for bad in (np.nan, np.inf, -np.inf):
            cell = tuple(int(rng.integers(n)) for n in part.shape)
            values = np.array(part)
            values[cell] = bad
            given: dict[str, Any] = {role: values}
            spoilt = replace(rows, **given)
            where = f"{bad} in row {cell[0]} of {role}"
            found = _refused(partial(statistic.of, spoilt))
            if found is None:
                continue
            column = cell[1] if len(cell) > 1 and role == "X" else found.column
            _check_place(found, where, rows=cell[0], column=column)
            found = _refused(partial(_folded, statistic, _table(spoilt, cut), 2))
            assert found is not None, f"{where} is refused in the whole table and not in a block"
            block = int(np.searchsorted(np.cumsum(cut), cell[0], side="right"))
            _check_place(found, f"{where}, folded,", rows=cell[0], column=column, block=block)
            assert found.source, f"{where} is refused without the name of the source: {found}"


def _refused(call: Callable[[], Any]) -> DataError | None:
    try:
        call()
    except DataError as error:
        return error
    return None


def _check_place(
    found: DataError, where: str, *, rows: int, column: int | str | None, block: int | None = None
) -> None:
    assert found.rows == (rows, rows + 1), f"{where} is refused at rows {found.rows}: {found}"
    assert found.column == column, f"{where} is refused at column {found.column}, expected {column}: {found}"
    if block is not None:
        assert found.block == block, f"{where} is refused in block {found.block}, expected {block}: {found}"
