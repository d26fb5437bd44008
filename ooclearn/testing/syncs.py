"""Forbidding what makes a host wait for a device, on array-api-strict, which has devices and no hardware."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["SyncError", "no_synchronisation"]

# What asks for values of an array: on a GPU each of them waits until all work given to it so far is done.
_ASKING = ("__float__", "__bool__", "__int__", "__index__", "__complex__", "__array__", "__buffer__", "__dlpack__")


class SyncError(AssertionError):
    """Values of a device were asked for where only work may be given to it."""


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Raise :class:`SyncError` inside the ``with`` block where values of an array-api-strict array are asked for."""
    import array_api_strict

    kind: Any = type(array_api_strict.asarray(0))
    before = {name: getattr(kind, name) for name in _ASKING if hasattr(kind, name)}

    def forbid(name: str) -> Any:
        def asked(self: Any, *_: Any, **__: Any) -> Any:
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
