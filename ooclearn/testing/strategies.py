"""Tables and cuts for hypothesis to draw. Needs hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ooclearn.table import Rows
from ooclearn.testing.tables import DTYPES, KINDS, LABELS, OFFSETS, WEIGHTS, Column, made_rows

__all__ = ["columns", "cuts", "run_on", "seeds", "tables"]


def _hypothesis() -> Any:
    try:
        import hypothesis
        import hypothesis.strategies
    except ImportError as error:
        raise ImportError(
            "drawing tables needs hypothesis (pip install hypothesis); without it, pass tables of your own, "
            "such as rows=ooclearn.testing.tables.hostile_tables()"
        ) from error
    return hypothesis


def columns(kinds: tuple[str, ...] = KINDS) -> Any:
    """Return a strategy for :class:`~ooclearn.testing.tables.Column`: every kind, offsets up to 1e8.

    Parameters
    ----------
    kinds : tuple
        What to draw from; see :class:`ooclearn.testing.tables.Column`.
    """
    st = _hypothesis().strategies
    return st.builds(Column, st.sampled_from(kinds), st.sampled_from(OFFSETS))


def tables(
    *,
    max_rows: int = 50,
    max_columns: int = 4,
    kinds: tuple[str, ...] = KINDS,
    dtypes: tuple[str, ...] = DTYPES,
    weights: tuple[str | None, ...] = WEIGHTS,
    labels: tuple[str, ...] = LABELS,
) -> Any:
    """Return a strategy for :class:`~ooclearn.table.Rows` that are hard on statistics.

    Offsets to 1e8, constant and missing columns, one row, no rows, every dtype, weights of zero.

    Parameters
    ----------
    max_rows, max_columns : int
        Bounds of the size.
    kinds, dtypes, weights, labels : tuple
        What to draw from; see :func:`ooclearn.testing.tables.made_rows`.

    Examples
    --------
    >>> from hypothesis import given
    >>> from ooclearn.testing.strategies import tables
    >>> @given(tables(max_rows=5))
    ... def test(rows):
    ...     assert rows.n <= 5
    >>> test()
    """
    st = _hypothesis().strategies
    size = st.one_of(st.sampled_from([0, 1, 2]), st.integers(0, max_rows))

    def made(n: int, drawn: list[Column], dtype: str, weight: str | None, label: str, seed: int) -> Rows:
        return made_rows(n, drawn, dtype=dtype, weights=weight, labels=label, seed=seed)

    return st.builds(
        made,
        size,
        st.lists(columns(kinds), min_size=1, max_size=max_columns),
        st.sampled_from(dtypes),
        st.sampled_from(weights),
        st.sampled_from(labels),
        st.integers(0, 2**16),
    )


def cuts(n: int, /) -> Any:
    """Return a strategy for lengths of blocks that add up to `n`: of one row, of none, of all.

    Parameters
    ----------
    n : int
        Rows.
    """
    st = _hypothesis().strategies
    places = st.lists(st.integers(0, n), max_size=12).map(sorted)

    def lengths(at: list[int]) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip([0, *at], [*at, n], strict=True))

    return st.one_of(st.just((n,)), places.map(lengths), st.just((0, *(1,) * n)))


def seeds() -> Any:
    """Return a strategy for seeds of generators, where what is made with them has no smallest case worth finding."""
    return _hypothesis().strategies.integers(0, 2**32)


def run_on(
    check: Callable[[Rows, Any], None], rows: Any, /, *, examples: int, beside: Callable[[Rows], Any] | None = None
) -> None:
    """Call `check` with tables drawn from the strategy `rows`, each with something beside it; the same each time.

    Parameters
    ----------
    check : callable
        Takes a table and what was drawn beside it.
    rows : hypothesis strategy
        The tables.
    examples : int
        How many.
    beside : callable, optional
        Takes a table, returns the strategy of what is drawn beside it; by default a cut.
    """
    hypothesis = _hypothesis()

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(rows, hypothesis.strategies.data())
    def drawn(table: Rows, data: Any) -> None:
        check(table, data.draw(cuts(table.n) if beside is None else beside(table), label="beside"))

    drawn()
