"""Checks of values that lie on a device: counted there while work is only given to it, looked at by whoever asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ooclearn._namespace import float_dtype, namespace
from ooclearn.types import Array

__all__ = ["counting", "only_counted"]

_local = threading.local()


@contextmanager
def counting() -> Iterator[Callable[[], Any]]:
    """Have checks in the ``with`` block count what they refuse, and raise nothing; gives what returns their sum.

    The sum is an array of the device, or 0 where nothing was checked.
    """
    outer = getattr(_local, "found", None)
    found: list[Any] = []
    _local.found = found
    try:
        yield lambda: sum(found)
    finally:
        _local.found = outer


def only_counted(values: Array, /) -> bool:
    """Say whether the cells of `values` that are not finite are only counted now, so that they need not be looked at."""
    found: list[Any] | None = getattr(_local, "found", None)
    if found is None or isinstance(values, np.ndarray):
        return False
    xp = namespace(values)
    if xp.isdtype(values.dtype, "real floating"):
        found.append(xp.sum(xp.astype(xp.logical_not(xp.isfinite(values)), float_dtype(values))))
    return True
