"""Several questions in one reading, and questions about mapped rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ooclearn.rowmaps import Kind, RowMap
from ooclearn.statistics.protocol import Statistic, after, before, contained, parts_of

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Join", "Through", "Unweighted"]


class Join:
    """Several statistics as one: each block is read once. The state is a dict of their states.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Extrema, Join, Moments
    >>> from ooclearn.table import Rows
    >>> both = Join(moments=Moments(), extrema=Extrema())
    >>> sorted(both.of(Rows(np.ones((3, 2)))))
    ['extrema', 'moments']
    """

    def __init__(self, **statistics: Statistic[Any]) -> None:
        self.statistics = statistics
        self.parts: frozenset[str] = frozenset().union(*(parts_of(s) for s in statistics.values()))

    def of(self, rows: Rows, /) -> dict[str, Any]:
        """Return the states of one block."""
        return {name: statistic.of(rows) for name, statistic in self.statistics.items()}

    def merge(self, a: dict[str, Any], b: dict[str, Any], /) -> dict[str, Any]:
        """Return the states of the rows of `a` followed by those of `b`."""
        return {name: statistic.merge(a[name], b[name]) for name, statistic in self.statistics.items()}

    def before(self, kind: Kind, /) -> Join | None:
        """Return what to ask of the input of a map, for each of the statistics; None if one of them has nothing."""
        asked = {name: before(statistic, kind) for name, statistic in self.statistics.items()}
        return None if None in asked.values() else Join(**asked)

    def after(self, state: dict[str, Any], row_map: RowMap, /) -> dict[str, Any]:
        """Return the states behind a map."""
        return {name: after(statistic, state[name], row_map) for name, statistic in self.statistics.items()}

    def __repr__(self) -> str:
        return f"Join({', '.join(f'{name}={statistic!r}' for name, statistic in self.statistics.items())})"


@dataclass(frozen=True)
class Through:
    """A statistic of the rows that come out of a row map, computed while the table before it is read."""

    statistic: Statistic[Any]
    row_map: RowMap

    def contains(self, other: Any, /) -> Callable[[Any], Any] | None:
        """Return how the state of `other` follows, if it is asked through the same map."""
        same = isinstance(other, Through) and (other.row_map is self.row_map or other.row_map == self.row_map)
        return contained(self.statistic, other.statistic) if same else None

    @property
    def parts(self) -> frozenset[str]:
        """What is read."""
        return parts_of(self.statistic)

    def of(self, rows: Rows, /) -> Any:
        """Return the state of one block."""
        return self.statistic.of(type(rows)(self.row_map(rows.X), rows.y, rows.w))

    def merge(self, a: Any, b: Any, /) -> Any:
        """Return the state of the rows of `a` followed by those of `b`."""
        return self.statistic.merge(a, b)


@dataclass(frozen=True)
class Unweighted:
    """A statistic that leaves the table's sample weights out of account."""

    statistic: Statistic[Any]

    def contains(self, other: Any, /) -> Callable[[Any], Any] | None:
        """Return how the state of `other` follows, if that leaves weights out too."""
        return contained(self.statistic, other.statistic) if isinstance(other, Unweighted) else None

    @property
    def parts(self) -> frozenset[str]:
        """What is read."""
        return parts_of(self.statistic) - {"w"}

    def of(self, rows: Rows, /) -> Any:
        """Return the state of one block."""
        return self.statistic.of(type(rows)(rows.X, rows.y))

    def merge(self, a: Any, b: Any, /) -> Any:
        """Return the state of the rows of `a` followed by those of `b`."""
        return self.statistic.merge(a, b)
