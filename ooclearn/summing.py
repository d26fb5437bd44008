"""Adding up statistics on a device: launches alone during a pass, and one small copy back at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import array_api_compat
import numpy as np

from ooclearn._namespace import device_of, float_dtype, namespace
from ooclearn.statistics.join import Join
from ooclearn.statistics.protocol import MergeTree, Statistic, Sums, is_summed
from ooclearn.table import Rows
from ooclearn.types import Array

__all__ = ["Summing", "brought_back", "for_the_host"]


class Summing:
    """The statistics of one pass over blocks of a device.

    Those that can be are added up there, by :class:`~ooclearn.statistics.protocol.Summed`; the others are computed
    block by block, and their states merged on the host.

    Parameters
    ----------
    statistic : Statistic
        One, or a :class:`Join` of several, or of such.
    """

    def __init__(self, statistic: Statistic[Any]) -> None:
        self._statistic = statistic
        parts = {f"s{k}": one for k, one in enumerate(_parts(statistic))}
        self.summed: dict[str, Any] = {name: one for name, one in parts.items() if is_summed(one)}
        self._others: dict[str, Any] = {name: one for name, one in parts.items() if name not in self.summed}
        self._trees: dict[str, MergeTree[Any]] = {name: MergeTree(one) for name, one in self._others.items()}
        self._origins: dict[str, Sums] = {}
        self._sums: dict[str, Sums] = {}
        self._rows = 0

    def take(self, rows: Rows, /) -> None:
        """Take one block in; empty ones too."""
        for name, one in self._others.items():
            self._trees[name].add(one.of(rows))
        if not rows.n:
            return
        self._rows += rows.n
        for name, one in self.summed.items():
            if name not in self._origins:
                self._origins[name] = one.origin(rows)
            sums = one.sums(rows, self._origins[name])
            self._sums[name] = one.add(self._sums[name], sums) if name in self._sums else sums

    def result(self, to_host: Callable[[Array], Array], /) -> tuple[dict[str, Any], Join | None]:
        """Return the states of the parts, and those parts whose sums do not tell their state; one copy to the host."""
        states = {name: tree.result() for name, tree in self._trees.items()}
        names = list(self._sums)
        held = brought_back([part for name in names for part in (self._origins[name], self._sums[name])], to_host)
        for k, name in enumerate(names):
            states[name] = self.summed[name].state(held[2 * k], held[2 * k + 1], self._rows)
        left = {name: one for name, one in self.summed.items() if states.get(name) is None}
        return states, Join(**left) if left else None

    def whole(self, states: Mapping[str, Any], /) -> Any:
        """Return the state of the statistic, put together from those of its parts."""
        numbers = count()

        def put_together(statistic: Statistic[Any]) -> Any:
            if isinstance(statistic, Join):
                return {name: put_together(one) for name, one in statistic.statistics.items()}
            return states[f"s{next(numbers)}"]

        return put_together(self._statistic)


def _parts(statistic: Statistic[Any]) -> Iterator[Statistic[Any]]:
    """Yield a statistic, or those of which it is made, at any depth."""
    if isinstance(statistic, Join):
        for one in statistic.statistics.values():
            yield from _parts(one)
    else:
        yield statistic


def for_the_host(statistic: Statistic[Any], /) -> bool:
    """Say whether all that is asked wants its rows on the host (``on_host`` of a statistic)."""
    return all(getattr(one, "on_host", False) for one in _parts(statistic))


def brought_back(sums: Sequence[Sums], to_host: Callable[[Array], Array], /) -> list[Sums]:
    """Return dictionaries of arrays of a device with host arrays in their place, by one copy for all."""
    floats: list[Array] = []
    integers: list[Array] = []
    for values in sums:
        for value in values.values():
            if _on_device(value):
                (integers if _kept_whole(value) else floats).append(value)
    came = {"float": _unpacked(floats, to_host, np.float64), "int": _unpacked(integers, to_host, np.int64)}
    return [
        {
            name: came["int" if _kept_whole(value) else "float"].pop(0) if _on_device(value) else value
            for name, value in values.items()
        }
        for values in sums
    ]


def _on_device(value: Any) -> bool:
    return array_api_compat.is_array_api_obj(value) and not isinstance(value, (np.ndarray, np.generic))


def _kept_whole(value: Array) -> bool:
    """Say whether whole numbers need a copy of their own: the widest float of the device cannot hold them."""
    xp = namespace(value)
    whole = bool(xp.isdtype(value.dtype, ("integral", "bool")))
    return whole and xp.finfo(float_dtype(value)).bits < 64


def _unpacked(arrays: list[Array], to_host: Callable[[Array], Array], dtype: Any) -> list[Array]:
    """Return arrays of one device on the host, copied as one."""
    if not arrays:
        return []
    xp = namespace(arrays[0])
    wide = float_dtype(arrays[0]) if dtype is np.float64 else xp.int32
    flat = [xp.astype(xp.reshape(one, (-1,)), wide, copy=False) for one in arrays]
    assert len({str(device_of(one)) for one in flat}) == 1
    host = np.asarray(to_host(xp.concat(flat)), dtype=dtype)
    ends = np.cumsum([int(np.prod(one.shape, dtype=np.int64)) for one in arrays])[:-1]
    return [part.reshape(tuple(one.shape)) for part, one in zip(np.split(host, ends), arrays, strict=True)]
