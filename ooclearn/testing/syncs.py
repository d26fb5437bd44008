"""Forbidding what makes a host wait for a device, on array-api-strict, which has devices and no hardware."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["SyncError", "no_synchronisation", "values_of"]

# What asks for values of an array: on a GPU each of them waits until all work given to it so far is done.
_ASKING = ("__float__", "__bool__", "__int__", "__index__", "__complex__", "__array__", "__buffer__", "__dlpack__")

_local = threading.local()


class SyncError(AssertionError):
    """Values of a device were asked for where only work may be given to it."""


def values_of(x: Any, /) -> np.ndarray[Any, Any]:
    """Return the values of an array-api-strict array as a new host array; inside :func:`no_synchronisation` too."""
    import array_api_strict

    _local.allowed = True
    try:
        return np.array(np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE"))))
    finally:
        _local.allowed = False


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Raise :class:`SyncError` inside the ``with`` block where values of an array-api-strict array are asked for."""
    import array_api_strict

    kind: Any = type(array_api_strict.asarray(0))
    before = {name: getattr(kind, name) for name in _ASKING if hasattr(kind, name)}

    def forbid(name: str) -> Any:
        def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(_local, "allowed", False):
                return before[name](self, *args, **kwargs)
            raise SyncError(
                f"{name}() of an array of shape {self.shape} on {self.device}: a device would be waited for"
            )

        return asked

    for name in before:
        setattr(kind, name, forbid(name))
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(kind, name, method)
