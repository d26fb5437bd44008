"""The law of seeing through: what is asked of a map's input tells what its output would have answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Affine, Columns, Kind, RowMap
from ooclearn.statistics.protocol import after, before, contained, parts_of
from ooclearn.table import Rows
from ooclearn.testing.comparing import CELL_ROUNDINGS, DEGREES, assert_close, leaves, sway
from ooclearn.testing.tables import MAP_KINDS
from ooclearn.types import Array

__all__ = ["check_contained", "check_naturality"]

# Chains of maps for each table of a list.
_CHAINS = 6


def check_naturality(
    statistic: Any,
    /,
    *,
    rows: Any = None,
    answer: Callable[[Any], Any] | None = None,
    allowance: Callable[[Any], Any] | None = None,
    roundings: float = CELL_ROUNDINGS,
    examples: int = 80,
) -> None:
    """Check that a statistic is seen through row maps as if they had been applied.

    That is ``after(before(kind).of(X), T) == of(T(X))``, for each kind of map that the statistic offers: maps by
    column that multiply and divide, full affine maps, which change the number of columns, selections of columns,
    the map that does nothing, and up to three of these one after the other; with centres near the mean, however far
    that lies from 0, with offsets, with factors of either sign and of 0.

    Where the rows are refused, whichever way they are asked, nothing is compared: a refusal is no wrong answer.

    Parameters
    ----------
    statistic : Statistic
        What is checked; it has ``before`` and ``after``.
    rows : hypothesis strategy or iterable of Rows, optional
        The tables. By default :func:`ooclearn.testing.strategies.tables`, which needs hypothesis.
    answer : callable, optional
        Takes a state, returns what must agree. By default the whole state.
    allowance : callable, optional
        Takes an answer, returns one of the same form: how far each number may be off besides, for one rounding;
        see :func:`check_statistic`.
    roundings : float
        How exact: as if each cell, wherever a step of a map rounds, had moved by so many roundings.
    examples : int
        How many tables are drawn from a strategy, each with a chain of maps. The same each time.

    Raises
    ------
    AssertionError
        The law does not hold; says for which maps, and what differs.

    Examples
    --------
    >>> from ooclearn.statistics import Extrema
    >>> from ooclearn.testing import check_naturality
    >>> from ooclearn.testing.tables import hostile_tables
    >>> check_naturality(Extrema(), rows=hostile_tables())
    """
    if rows is None:
        from ooclearn.testing.strategies import tables

        rows = tables()
    seen: set[str] = set()

    def check(table: Rows, seed: int) -> None:
        kinds = _check_chain(statistic, table, seed, answer or _itself, allowance, roundings)
        seen.update(kinds)

    if hasattr(rows, "example"):  # a strategy
        from ooclearn.testing.strategies import run_on, seeds

        run_on(check, rows, examples=examples, beside=lambda _: seeds())
    else:
        for k, table in enumerate(_tables(rows)):
            for j in range(_CHAINS):
                check(table, _CHAINS * k + j)
    offered = set(_offered(statistic))
    assert offered <= seen, f"{statistic!r} was not tried behind {sorted(offered - seen)}; pass rows= that it takes"


def check_contained(
    statistic: Any,
    other: Any,
    /,
    *,
    rows: Any = None,
    answer: Callable[[Any], Any] | None = None,
    allowance: Callable[[Any], Any] | None = None,
    roundings: float = CELL_ROUNDINGS,
    examples: int = 40,
) -> None:
    """Check that the answer of `other` that one statistic contains is what asking `other` gives.

    Parameters
    ----------
    statistic : Statistic
        What is checked; its ``contains(other)`` is not None.
    other : Statistic
        What it contains.
    rows : hypothesis strategy or iterable of Rows, optional
        The tables. By default :func:`ooclearn.testing.strategies.tables`, which needs hypothesis.
    answer : callable, optional
        Takes a state of `other`, returns what must agree. By default the whole state.
    allowance : callable, optional
        Takes an answer, returns how far each number may be off besides, for one rounding; see :func:`check_statistic`.
    roundings : float
        How exact: as if each cell had moved by so many roundings.
    examples : int
        How many tables are drawn from a strategy. The same each time.

    Raises
    ------
    AssertionError
        It is another answer, or none.

    Examples
    --------
    >>> from ooclearn.statistics import Moments, Scatter
    >>> from ooclearn.testing import check_contained
    >>> from ooclearn.testing.tables import Column, made_rows
    >>> check_contained(Scatter(), Moments(), rows=made_rows(1, [Column()]))
    """
    if rows is None:
        from ooclearn.testing.strategies import tables

        rows = tables()
    taken = contained(statistic, other)
    assert taken is not None, f"{statistic!r} does not contain {other!r}"
    answer = answer or _itself
    compared = 0

    def check(table: Rows, _: Any) -> None:
        nonlocal compared
        try:
            state = statistic.of(table)
        except DataError:
            return
        slack = sway(lambda moved: answer(other.of(moved)), table, roundings, allowance=allowance)
        assert_close(answer(taken(state)), answer(other.of(table)), f"{other!r} out of {statistic!r}", slack)
        compared += 1

    if hasattr(rows, "example"):  # a strategy
        from ooclearn.testing.strategies import run_on

        run_on(check, rows, examples=examples)
    else:
        for table in _tables(rows):
            check(table, None)
    assert compared, f"{statistic!r} refused every table that it was tried on; pass rows= that it takes"


def _tables(rows: Iterable[Rows] | Rows) -> Iterable[Rows]:
    return [rows] if isinstance(rows, Rows) else rows


def _itself(state: Any) -> Any:
    return state


def _offered(statistic: Any) -> list[Kind]:
    return [kind for kind in MAP_KINDS if before(statistic, kind) is not None]


def _check_chain(
    statistic: Any,
    rows: Rows,
    seed: int,
    answer: Callable[[Any], Any],
    allowance: Callable[[Any], Any] | None,
    roundings: float,
) -> list[Kind]:
    """Check the law for one table and one chain of maps; return their kinds, none where nothing was compared."""
    rng = np.random.default_rng(seed)
    asked: list[Any] = [statistic]
    kinds: list[Kind] = []
    for _ in range(rng.integers(1, 4)):
        offered = _offered(asked[-1])
        if not offered:
            break
        kinds.insert(0, offered[rng.integers(len(offered))])
        asked.append(before(asked[-1], kinds[0]))
    wide = replace(rows, X=np.asarray(rows.X, dtype=np.float64))
    stages: list[Rows] = [wide]
    maps: list[RowMap] = []
    for kind in kinds:
        row_map = _made(kind, stages[-1].X, rng)
        maps.append(row_map)
        stages.append(replace(rows, X=row_map(stages[-1].X)))
    law = f"{statistic!r} through {maps!r}"
    try:
        state = asked[-1].of(rows)
        direct = answer(statistic.of(stages[-1]))
    except DataError:
        return []
    for row_map, one in zip(maps, reversed(asked[:-1]), strict=True):
        state = after(one, state, row_map)
    slack = sway(lambda moved: answer(statistic.of(moved)), stages[-1], roundings, allowance=allowance)
    for row_map, stage in zip(maps, stages, strict=False):
        _add_roundings(slack, statistic, answer, row_map, stage, maps, roundings)
    _add_least(slack, stages)
    assert_close(answer(state), direct, law, slack)
    return kinds


def _add_least(slack: dict[str, Array], stages: Sequence[Rows]) -> None:
    """Add what no sum of products is free of: the squares of the roundings of the largest cell on the way.

    A column that a map takes to 0 has none left behind it, and had some before.
    """
    eps = np.finfo(np.float64).eps
    parts = [stage.X for stage in stages]
    y = stages[0].y
    if y is not None and y.dtype.kind == "f":
        parts.append(y)
    cells = [np.abs(part[np.isfinite(part)]) for part in parts]
    rounding = 4 * eps * max((float(one.max()) for one in cells if one.size), default=0.0)
    weight = max(1.0, float(stages[0].n if stages[0].w is None else np.sum(stages[0].w)))
    for path, off in slack.items():
        name = path.rpartition(".")[2]
        if name in DEGREES:
            slack[path] = off + weight * rounding ** DEGREES[name]
        elif name == "mean":
            slack[path] = off + 4 * eps * rounding


def _add_roundings(
    slack: dict[str, Array],
    statistic: Any,
    answer: Callable[[Any], Any],
    row_map: RowMap,
    rows: Rows,
    maps: Sequence[RowMap],
    roundings: float,
) -> None:
    """Add what the roundings within one map of a chain do to the answer.

    A step by column rounds its result, a product with a matrix as if its input had moved. What a centre takes away has
    no rounding: the bound stays as tight as the rows are about their centre, however far from 0 that lies.
    """
    rest = maps[next(k for k, one in enumerate(maps) if one is row_map) + 1 :]
    steps = _steps(row_map)
    for k, step in enumerate(steps):
        x = step(rows.X)
        moved, left = (rows, steps[k:]) if not _by_column(step) else (replace(rows, X=x), steps[k + 1 :])

        def through(these: Rows, left: Sequence[RowMap] = left) -> Any:
            x = these.X
            for one in (*left, *rest):
                x = one(x)
            return answer(statistic.of(replace(these, X=x)))

        for moves in (sway(through, moved, roundings), _parted(statistic, through, moved, roundings)):
            for path, more in moves.items():
                slack[path] = slack[path] + more
        rows = replace(rows, X=x)


def _parted(statistic: Any, answer: Callable[[Rows], Any], rows: Rows, roundings: float) -> dict[str, Array]:
    """Return how an answer moves when each row becomes two of half its weight, moved apart.

    Rounding leaves of a single row of weight a spread that is not quite 0, which moving it does not show.
    """
    if not roundings or not rows.n or "w" not in parts_of(statistic):
        return {}
    step = roundings * np.finfo(np.float64).eps
    w = np.full(rows.n, 0.5) if rows.w is None else rows.w / 2
    X = np.asarray(rows.X, dtype=np.float64)
    y = None if rows.y is None else np.concatenate([rows.y, rows.y])
    parted = Rows(np.concatenate([X * (1 + step), X * (1 - step)]), y, np.concatenate([w, w]))
    base, other = dict(leaves(answer(rows))), dict(leaves(answer(parted)))
    with np.errstate(invalid="ignore"):
        return {
            path: np.nan_to_num(np.abs(np.asarray(other[path]) - value), nan=0.0, posinf=0.0)
            for path, value in base.items()
            if np.asarray(value).dtype.kind == "f" and path in other and np.shape(other[path]) == np.shape(value)
        }


def _by_column(step: RowMap) -> bool:
    return not isinstance(step, Affine) or step.diagonal


def _steps(row_map: RowMap) -> list[RowMap]:
    """Return a map as maps that round once each."""
    if not isinstance(row_map, Affine):
        return []
    parts = [
        Affine(center=row_map.center),
        Affine(row_map.scale, divide=row_map.divide),
        Affine(offset=row_map.offset),
    ]
    values = (row_map.center, row_map.scale, row_map.offset)
    return [part for part, value in zip(parts, values, strict=True) if value is not None]


def _made(kind: str, x: Array, rng: np.random.Generator) -> RowMap:
    """Return a map of that kind for these rows; now and then one that does less, as a fit may find."""
    d = x.shape[1]
    if kind == "columns":
        return Columns(tuple(int(at) for at in rng.integers(0, d, rng.integers(1, 5))))
    if kind == "same" or rng.random() < 0.1:
        return Affine()
    finite = np.where(np.isfinite(x), x, 0.0)
    middle = finite.mean(axis=0) if len(x) else np.zeros(d)
    center = None if rng.random() < 0.4 else middle + rng.choice([0.0, 1.0]) * rng.standard_normal(d)
    if kind == "diagonal" or rng.random() < 0.1:
        divide = bool(rng.random() < 0.5)
        factors = rng.choice([1.0, -0.7, 3.0, 1e-3, 1e3, 1.0 if divide else 0.0], d)
        scale = None if rng.random() < 0.2 else factors
        offset = None if rng.random() < 0.4 else rng.choice([0.0, 1.0, -1e4], d) + rng.standard_normal(d)
        return Affine(scale, center, offset, divide=divide and scale is not None)
    k = int(rng.integers(1, 5))
    offset = None if rng.random() < 0.5 else rng.standard_normal(k)
    return Affine(rng.standard_normal((d, k)), center, offset)
