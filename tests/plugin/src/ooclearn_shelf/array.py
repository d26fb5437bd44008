"""A small array library: rows on a shelf, which follow the array API standard as far as they are asked to.

A shelf is no NumPy array and does not turn into one by itself, so whoever forgets to ask its backend is found
out.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

__all__ = ["Shelf", "namespace"]


class Shelf:
    """An array; ``taken_down`` gives its values."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)

    def taken_down(self) -> np.ndarray:
        """Return the values as a NumPy array."""
        return self._values

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a shelf does not become a NumPy array unasked; use taken_down()")

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return namespace

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)

    @property
    def device(self) -> str:
        """The one device that there is."""
        return "cpu"

    def to_device(self, device: str, /, *, stream: Any = None) -> Shelf:
        """Return the shelf: there is one device."""
        return self

    def __getitem__(self, key: Any) -> Shelf:
        return Shelf(self._values[key])

    def __bool__(self) -> bool:
        return bool(self._values)

    def __float__(self) -> float:
        return float(self._values)


def _swapped(function: Any, a: Any, b: Any) -> Any:
    return function(b, a)


def _operator(name: str, function: Any) -> None:
    def method(self: Shelf, other: Any = None) -> Shelf:
        if isinstance(other, np.ndarray):
            return NotImplemented
        values = (self._values,) if other is None else (self._values, _values(other))
        return Shelf(function(*values))

    setattr(Shelf, f"__{name}__", method)


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "matmul",
    "pow",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "and_",
    "or_",
    "neg",
    "invert",
):
    _operator(_name.rstrip("_"), getattr(operator, _name))
for _name in ("add", "sub", "mul", "truediv"):
    _operator(f"r{_name}", functools.partial(_swapped, getattr(operator, _name)))


def _values(x: Any) -> Any:
    if isinstance(x, Shelf):
        return x.taken_down()
    if isinstance(x, np.ndarray):
        raise TypeError("a shelf and a NumPy array do not mix")
    return type(x)(_values(part) for part in x) if isinstance(x, (list, tuple)) else x


class _Namespace:
    """The functions of the standard, NumPy's, on shelves."""

    __name__ = "ooclearn_shelf"
    inf, nan = np.inf, np.nan

    def asarray(self, x: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Shelf:
        values = x.taken_down() if isinstance(x, Shelf) else x
        return Shelf(np.array(values, dtype=dtype) if copy else np.asarray(values, dtype=dtype))

    def astype(self, x: Shelf, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Shelf:
        return Shelf(x.taken_down().astype(dtype, copy=copy))

    def __array_namespace_info__(self) -> Any:
        return np.__array_namespace_info__()

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if isinstance(found, type) or name in {"isdtype", "finfo", "iinfo"}:
            return found

        @functools.wraps(found)
        def call(*args: Any, **kwargs: Any) -> Any:
            kwargs.pop("device", None)
            out = found(*(_values(arg) for arg in args), **{key: _values(value) for key, value in kwargs.items()})
            return Shelf(out) if isinstance(out, (np.ndarray, np.generic)) else out

        return call


namespace = _Namespace()
