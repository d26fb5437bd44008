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
    """Two pure functions.

    ``of`` is array-API code; for no rows it returns the identity of ``merge``. ``merge`` is associative within
    a stated bound, and returns a new state. ``parts`` names what is read: of ``"X"``, ``"y"`` and ``"w"``. With ``"i"``
    among them, ``rows.start`` is the number of the first row, where it is known without reading.

    A statistic that can be seen through maps that are not fitted yet has two more: ``before(kind)`` returns the
    statistic to ask of the map's input instead (None if there is none), and ``after(state, row_map)`` how the
    answer follows from it: ``after(before(kind).of(X), T) == of(T(X))``. One whose state holds the answer of
    another has ``contains(other)``, which returns a function that takes it out of the state, or None.
    """

    @property
    def parts(self) -> frozenset[str]:
        """What is read: of ``"X"``, ``"y"`` and ``"w"``."""

    def of(self, rows: Rows, /) -> S:
        """Return the state of one block."""

    def merge(self, a: S, b: S, /) -> S:
        """Return the state of the rows of `a` followed by those of `b`."""


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
        """Return what all blocks are centred by or compared with, from the first block, which has rows."""

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return what is to be added up, of one block, which has rows."""

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks; may write to those of `a`."""

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> S | None:
        """Return the state of all rows from host arrays, float64 and int64; None where they do not tell it."""


def is_summed(statistic: Any, /) -> bool:
    """Say whether a statistic can be added up on a device."""
    return hasattr(statistic, "sums") and bool(getattr(statistic, "summable", True))


class MergeTree(Generic[S]):
    """Merges states, given in block order, in a tree whose form depends on their number alone.

    It is the tree of a binary counter: neighbours are merged when they stand for equally many blocks, and what
    is left at the end is merged from the right. At most ``log2(blocks) + 1`` states are held. A run of
    ``2**k`` blocks that starts at a multiple of ``2**k`` is a subtree, so parts of the tree can be merged
    elsewhere (in a Dask graph) to the same bits.
    """

    def __init__(self, statistic: Statistic[S]) -> None:
        self._statistic = statistic
        self._stack: list[tuple[int, S]] = []

    def add(self, state: S, /, *, blocks: int = 1) -> None:
        """Add the state of the next block, or of the next `blocks` (a power of 2) merged already."""
        weight = blocks
        while self._stack and self._stack[-1][0] == weight:
            state = self._statistic.merge(self._stack.pop()[1], state)
            weight *= 2
        self._stack.append((weight, state))

    def result(self) -> S | None:
        """Return the state of all blocks, or None if there were none."""
        if not self._stack:
            return None
        state = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            state = self._statistic.merge(left, state)
        return state


def merge_all(statistic: Statistic[S], states: Iterable[S], /) -> S | None:
    """Merge states in the fixed tree."""
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
