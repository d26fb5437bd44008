"""The statistic protocol: a question about a table with a mergeable answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from ooclearn.rowmaps import Kind, RowMap
    from ooclearn.table import Rows

__all__ = [
    "MergeTree",
    "Statistic",
    "Summed",
    "Sums",
    "after",
    "before",
    "contained",
    "is_summed",
    "merge_all",
    "parts_of",
]

S = TypeVar("S")
Sums: TypeAlias = dict[str, Any]


class Statistic(Protocol[S]):
    """A question about a table with a mergeable answer: two pure functions, ``of`` and ``merge``.

    ``of`` is array-API code. It is called with runs of rows of a few MiB, by several threads, and neither writes to
    them nor keeps them. ``merge`` is associative within a stated bound, and ``of(no rows)`` is its identity, so that
    the answer is the same within that bound however the rows are cut. A state is a small frozen dataclass of host
    arrays in float64, counts being integers. The optional methods let one question be answered by another's reading.

    Methods
    -------
    before(kind)
        Optional: return the statistic to ask of the *input* of a row map that is not fitted yet, of this
        :data:`~ooclearn.rowmaps.Kind`; None if nothing there tells the answer.
    after(state, row_map)
        Optional, with ``before``: return the answer behind the map from that state, once the map is fitted. The law is
        ``after(before(kind).of(X), T) == of(T(X))``.
    contains(other)
        Optional: return a function that takes the state of another statistic out of a state of this one, or None.
    within(other)
        Optional: the same, seen from the one that is contained.
    """

    @property
    def parts(self) -> frozenset[str]:
        """What is read of the table: of ``"X"``, ``"y"`` and ``"w"``.

        With ``"i"`` among them, ``rows.start`` is the number of the first row, where it is known without reading.
        """

    def of(self, rows: Rows, /) -> S:
        """Return the state of some consecutive rows.

        Parameters
        ----------
        rows : Rows
            X, y and w of the same rows, of any array library; y and w are None where there are none. May have no rows.

        Returns
        -------
        state
            On the host; for no rows the identity of ``merge``.

        Raises
        ------
        DataError
            A cell, label or weight will not do. Says the row, counted within these rows, and the column.
        """

    def merge(self, a: S, b: S, /) -> S:
        """Return the state of the rows of one state followed by those of another.

        Parameters
        ----------
        a, b : state
            Left as they are.

        Returns
        -------
        state
            A new one.
        """


class Summed(Statistic[S], Protocol[S]):
    """A statistic that is added up on a device: no number comes back before the end of a pass.

    ``origin``, ``sums`` and ``add`` only give work to the device. They look at shapes and dtypes and never at a value:
    no ``float()``, ``bool()`` or copy to the host, no result whose shape depends on values, and what they need of the
    host goes to the device once, in ``origin``. Their results are dictionaries of arrays on the device; other values in
    them (host arrays, numbers, None) stay as they are. Cells that spoil a sum (NaN, infinities, weights below 0) leave
    their mark in it; ``state`` then gives None, and the pass is made again block by block with ``of``, which names the
    cell or does without it.
    """

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by or compared with.

        Parameters
        ----------
        rows : Rows
            The first block that has rows, on the device.

        Returns
        -------
        dict of str to array
            On the device; other values in it (host arrays, numbers, None) stay as they are.
        """

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return what is to be added up, of one block.

        Parameters
        ----------
        rows : Rows
            One or more rows, on the device.
        origin : dict
            What ``origin`` has returned.

        Returns
        -------
        dict of str to array
            On the device.
        """

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks.

        Parameters
        ----------
        a, b : dict
            Results of ``sums`` or ``add``; those of `a` may be written to.

        Returns
        -------
        dict of str to array
            On the device.
        """

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> S | None:
        """Return the state of all rows, from sums that have been copied to the host.

        Parameters
        ----------
        origin, sums : dict of str to ndarray
            What ``origin`` and ``add`` have returned, in float64 and int64.
        rows : int
            How many rows there were.

        Returns
        -------
        state or None
            None where the sums do not tell it: a cell has spoilt them, or too many digits are lost. The pass is then
            made again with ``of``.
        """


def is_summed(statistic: Any, /) -> bool:
    """Say whether a statistic can be added up on a device."""
    return hasattr(statistic, "sums") and bool(getattr(statistic, "summable", True))


class MergeTree(Generic[S]):
    """Merges states, given in block order, in a tree whose form depends on their number alone.

    It is the tree of a binary counter: neighbours are merged when they stand for equally many blocks, and what
    is left at the end is merged from the right. At most ``log2(blocks) + 1`` states are held. A run of
    ``2**k`` blocks that starts at a multiple of ``2**k`` is a subtree, so parts of the tree can be merged
    elsewhere (in a Dask graph) to the same bits.

    Parameters
    ----------
    statistic : Statistic
        Whose states they are; its ``merge`` is called.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Extrema, MergeTree
    >>> from ooclearn.table import Rows
    >>> tree = MergeTree(Extrema())
    >>> tree.add(Extrema().of(Rows(np.array([[1.0]]))))
    >>> tree.add(Extrema().of(Rows(np.array([[5.0]]))))
    >>> tree.result().least(), tree.result().greatest()
    (array([1.]), array([5.]))
    """

    def __init__(self, statistic: Statistic[S]) -> None:
        self._statistic = statistic
        self._stack: list[tuple[int, S]] = []

    def add(self, state: S, /, *, blocks: int = 1) -> None:
        """Add the state of the next block or blocks.

        Parameters
        ----------
        state : state
            Of the rows that follow those added before.
        blocks : int, default=1
            How many blocks it stands for, merged already: a power of 2.
        """
        weight = blocks
        while self._stack and self._stack[-1][0] == weight:
            state = self._statistic.merge(self._stack.pop()[1], state)
            weight *= 2
        self._stack.append((weight, state))

    def result(self) -> S | None:
        """Return the state of all blocks added so far; more can be added afterwards.

        Returns
        -------
        state or None
            None if there were none.
        """
        if not self._stack:
            return None
        state = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            state = self._statistic.merge(left, state)
        return state


def merge_all(statistic: Statistic[S], states: Iterable[S], /) -> S | None:
    """Merge states in the tree of :class:`MergeTree`.

    Parameters
    ----------
    statistic : Statistic
        Whose states they are.
    states : iterable
        The state of each block, in order.

    Returns
    -------
    state or None
        That of all blocks; None if there were none.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Extrema, merge_all
    >>> from ooclearn.table import Rows
    >>> extrema = Extrema()
    >>> blocks = [np.array([[1.0]]), np.array([[5.0]]), np.array([[3.0]])]
    >>> merge_all(extrema, (extrema.of(Rows(block)) for block in blocks)).greatest()
    array([5.])
    """
    tree = MergeTree(statistic)
    for state in states:
        tree.add(state)
    return tree.result()


def parts_of(statistic: Any, /) -> frozenset[str]:
    """Return what a statistic reads; one that does not say reads everything."""
    parts: frozenset[str] = getattr(statistic, "parts", frozenset("Xyw"))
    return parts


def before(statistic: Any, kind: Kind | None, /) -> Any:
    """Return the statistic to ask of the input of a map of that kind, so that `statistic` follows; None if there is none."""
    if kind == "same" or "X" not in parts_of(statistic):
        return statistic
    ask = getattr(statistic, "before", None)
    if ask is None or kind is None:
        return None
    if kind == "mixed" and not hasattr(statistic, "statistics"):
        # The scatter of all columns refuses missing values, which columns beside a matrix may well have: only what
        # looks at products of columns anyway is asked so.
        question = ask("affine")
        return question if question == statistic else None
    return ask(kind)


def after(statistic: Any, state: Any, row_map: RowMap, /) -> Any:
    """Return the state of `statistic` behind a map, from that of what was asked of its input."""
    if "X" not in parts_of(statistic):
        return state
    return statistic.after(state, row_map)


def contained(statistic: Any, other: Any, /) -> Callable[[Any], Any] | None:
    """Return how the state of `other` follows from one of `statistic`; None if it does not."""
    contains = getattr(statistic, "contains", None)
    taken: Callable[[Any], Any] | None = None if contains is None else contains(other)
    within = getattr(other, "within", None)
    return within(statistic) if taken is None and within is not None else taken
