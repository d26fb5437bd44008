"""Which feeds of a pass are given the same rows, and which are fed as one."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ooclearn.feeds import Feed

__all__ = ["Sharing", "sharing"]


@dataclass(frozen=True)
class Sharing:
    """What feeds, which are known by their numbers, share.

    Attributes
    ----------
    prepared : list of int
        For each way in which rows are prepared, the first feed that wants them so.
    fed : list of (int, list of int)
        The feeds that are fed as one, and in which of those ways their rows are prepared.
    """

    prepared: list[int]
    fed: list[tuple[int, list[int]]]


def sharing(feeds: Sequence[Feed], maps: Sequence[Any], weighted: Sequence[bool], /) -> Sharing:
    """Return what feeds of one order share.

    Parameters
    ----------
    feeds : sequence of Feed
        Those of a pass.
    maps : sequence of row maps
        What is done to the rows of each; for a plan, what that will be made of. They are compared by their pickles.
    weighted : sequence of bool
        Whether sample weights are meant for each.
    """
    ways: dict[Hashable, int] = {}
    groups: dict[Hashable, tuple[int, list[int]]] = {}
    prepared: list[int] = []
    for k, (feed, row_map, weighs) in enumerate(zip(feeds, maps, weighted, strict=True)):
        own = None if feed.reads_only else k
        way = ways.setdefault((_pickled(row_map), feed.finite, feed.notices, feed.host, own), len(ways))
        if way == len(prepared):
            prepared.append(k)
        key = k if feed.joint is None else (feed.joint.key, weighs, way)
        groups.setdefault(key, (way, []))[1].append(k)
    return Sharing(prepared, list(groups.values()))


def _pickled(row_map: Any) -> Hashable:
    """Return what is equal for equal maps; of one that cannot be pickled, what is equal to nothing."""
    if row_map is None:
        return None
    try:
        return pickle.dumps(row_map)
    except Exception:  # noqa: BLE001  (whatever a stranger raises, it is not known to be like another)
        return object()
