"""Several questions in one reading, and questions about mapped rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ooclearn.rowmaps import Columns, Kind, RowMap, compose, launched, on_host
from ooclearn.statistics.protocol import Statistic, Sums, after, before, contained, is_summed, parts_of

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Join", "Through", "Unweighted"]


class Join:
    """Several statistics as one, so that each block is read once; the state is a dict of their states.

    Parameters
    ----------
    **statistics : Statistic
        What is asked, by names of your choice.

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

    def contains(self, other: Any, /) -> Callable[[dict[str, Any]], Any] | None:
        """Return how the state of `other` follows, if it is one of these or one of them contains it."""
        for name, statistic in self.statistics.items():
            taken = _itself if statistic == other else contained(statistic, other)
            if taken is not None:
                return partial(_taken, name=name, taken=taken)
        return None

    def before(self, kind: Kind, /) -> Join | None:
        """Return what to ask of the input of a map, for each of the statistics; None if one of them has nothing."""
        asked = {name: before(statistic, kind) for name, statistic in self.statistics.items()}
        return None if None in asked.values() else Join(**asked)

    def after(self, state: dict[str, Any], row_map: RowMap, /) -> dict[str, Any]:
        """Return the states behind a map."""
        return {name: after(statistic, state[name], row_map) for name, statistic in self.statistics.items()}

    @property
    def summable(self) -> bool:
        """Whether all of them can be added up on a device."""
        return all(is_summed(statistic) for statistic in self.statistics.values())

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by, from the first, for each of the statistics."""
        return _named({name: statistic.origin(rows) for name, statistic in self._summed.items()})

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return what is to be added up, of one block; what a statistic adds to its origin stays there."""
        found: dict[str, Sums] = {}
        for name, statistic in self._summed.items():
            own = _owned(origin, name)
            found[name] = statistic.sums(rows, own)
            origin.update(_named({name: own}))
        return _named(found)

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return _named({name: one.add(_owned(a, name), _owned(b, name)) for name, one in self._summed.items()})

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> dict[str, Any] | None:
        """Return the states; None where one of them is."""
        states = {name: one.state(_owned(origin, name), _owned(sums, name), rows) for name, one in self._summed.items()}
        return None if any(state is None for state in states.values()) else states

    @property
    def _summed(self) -> dict[str, Any]:
        return self.statistics

    def __repr__(self) -> str:
        return f"Join({', '.join(f'{name}={statistic!r}' for name, statistic in self.statistics.items())})"


# Between the name of a statistic and the name of a sum: no name has it.
_BEFORE_KEY = "\0"


def _named(parts: dict[str, Sums]) -> Sums:
    """Return several dictionaries as one, their keys behind the name of each."""
    return {f"{name}{_BEFORE_KEY}{key}": value for name, part in parts.items() for key, value in part.items()}


def _owned(sums: Sums, name: str) -> Sums:
    """Return the one of that name again."""
    start = f"{name}{_BEFORE_KEY}"
    return {key.removeprefix(start): value for key, value in sums.items() if key.startswith(start)}


def _itself(state: Any) -> Any:
    return state


def _taken(states: dict[str, Any], *, name: str, taken: Callable[[Any], Any]) -> Any:
    return taken(states[name])


class _Around:
    """A statistic of rows that another is asked of; what to do to the rows first is in :meth:`_given`."""

    statistic: Any

    def _given(self, rows: Rows, /) -> Rows:
        raise NotImplementedError  # a subclass's duty, not a path

    @property
    def summable(self) -> bool:
        """Whether it can be added up on a device."""
        return is_summed(self.statistic)

    def of(self, rows: Rows, /) -> Any:
        """Return the state of one block."""
        return self.statistic.of(self._given(rows))

    def merge(self, a: Any, b: Any, /) -> Any:
        """Return the state of the rows of `a` followed by those of `b`."""
        return self.statistic.merge(a, b)

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by, from the first."""
        origin: Sums = self.statistic.origin(self._given(rows))
        return origin

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return what is to be added up, of one block."""
        sums: Sums = self.statistic.sums(self._given(rows), origin)
        return sums

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        sums: Sums = self.statistic.add(a, b)
        return sums

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> Any:
        """Return the state of all rows, or None."""
        return self.statistic.state(origin, sums, rows)


# Beside what a statistic adds up: the cells that a row map refuses.
_REFUSED = "refused by the map"


@dataclass(frozen=True)
class Through(_Around):
    """A statistic of the rows that come out of a row map, computed while the table before it is read.

    Parameters
    ----------
    statistic : Statistic
        What is asked of the mapped rows.
    row_map : RowMap
        What is done to each block of X first.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.rowmaps import Affine
    >>> from ooclearn.statistics import Extrema, Through
    >>> from ooclearn.table import Rows
    >>> Through(Extrema(), Affine(np.array([-2.0]))).of(Rows(np.array([[1.0], [5.0]]))).least()
    array([-10.])
    """

    statistic: Any
    row_map: RowMap

    def __post_init__(self) -> None:
        if isinstance(self.statistic, Through):
            # Through one map and then another is through both as one.
            object.__setattr__(self, "row_map", compose(self.row_map, self.statistic.row_map))
            object.__setattr__(self, "statistic", self.statistic.statistic)

    def _given(self, rows: Rows, /) -> Rows:
        return replace(rows, X=self.row_map(rows.X))

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by, from the first."""
        origin: Sums = self.statistic.origin(replace(rows, X=launched(self.row_map, rows.X)[0]))
        return origin

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return what is to be added up, of one block, and how many of its cells the map refuses."""
        x, refused = launched(self.row_map, rows.X)
        sums: Sums = self.statistic.sums(replace(rows, X=x), origin)
        return {**sums, _REFUSED: refused}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        mine, theirs = ({name: value for name, value in one.items() if name != _REFUSED} for one in (a, b))
        return {**self.statistic.add(mine, theirs), _REFUSED: a[_REFUSED] + b[_REFUSED]}

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> Any:
        """Return the state of all rows, or None; also where the map refuses cells, which it names block by block."""
        found = {name: value for name, value in sums.items() if name != _REFUSED}
        return None if sums[_REFUSED] else self.statistic.state(origin, found, rows)

    def contains(self, other: Any, /) -> Callable[[Any], Any] | None:
        """Return how the state of `other` follows, if it is asked through the same map."""
        same = isinstance(other, Through) and (other.row_map is self.row_map or other.row_map == self.row_map)
        return contained(self.statistic, other.statistic) if same else None

    def within(self, other: Any, /) -> Callable[[Any], Any] | None:
        """Return how the state follows from one of `other`, if some of the columns are meant that `other` looks at."""
        if not isinstance(self.row_map, Columns):
            return None
        columns = self.row_map
        if isinstance(other, Through):
            if not isinstance(other.row_map, Columns) or not set(columns.positions) <= set(other.row_map.positions):
                return None
            columns = Columns(tuple(other.row_map.positions.index(at) for at in columns.positions))
            other = other.statistic
        question = before(self.statistic, "columns")
        taken = _itself if question == other else None if question is None else contained(other, question)
        return None if taken is None else lambda state: after(self.statistic, taken(state), columns)

    @property
    def parts(self) -> frozenset[str]:
        """What is read."""
        return parts_of(self.statistic)

    @property
    def summable(self) -> bool:
        """Whether it can be added up on a device; what goes through a function of the host cannot."""
        return is_summed(self.statistic) and not on_host(self.row_map)


@dataclass(frozen=True)
class Unweighted(_Around):
    """A statistic that leaves the table's sample weights out of account."""

    statistic: Statistic[Any]

    def _given(self, rows: Rows, /) -> Rows:
        return replace(rows, w=None)

    def contains(self, other: Any, /) -> Callable[[Any], Any] | None:
        """Return how the state of `other` follows, if that leaves weights out too."""
        return contained(self.statistic, other.statistic) if isinstance(other, Unweighted) else None

    def before(self, kind: Kind, /) -> Unweighted | None:
        """Return what to ask of the input of a map."""
        asked = before(self.statistic, kind)
        return None if asked is None else Unweighted(asked)

    def after(self, state: Any, row_map: RowMap, /) -> Any:
        """Return the state behind a map."""
        return after(self.statistic, state, row_map)

    @property
    def parts(self) -> frozenset[str]:
        """What is read."""
        return parts_of(self.statistic) - {"w"}
