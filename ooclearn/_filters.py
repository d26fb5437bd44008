"""Filters of warnings, which are the process's: what threads do to them at a time is undone.

``warnings.catch_warnings`` notes down the list of filters and puts it back. Of two threads that are in it at a time, the
one that leaves last puts back the list of the other, with what that one has added: for good. scikit-learn enters it in
every validation of rows.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ooclearn._forking import in_a_child

__all__ = ["filters_kept", "quietly"]

# Held again by who holds it: a method that is tried quietly may try another.
_lock = threading.RLock()


@in_a_child
def _forget_holder() -> None:
    """Forget the thread of the parent that may have held the lock."""
    global _lock
    _lock = threading.RLock()


@contextmanager
def quietly(category: type[Warning] = Warning) -> Iterator[None]:
    """Give no warnings of a category, for the length of a ``with`` block that one thread is in at a time."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield


@contextmanager
def filters_kept() -> Iterator[None]:
    """Put the list of filters back if threads that live no longer than this ``with`` block leave another.

    Filters that are added meanwhile, as modules do that are imported, stay. In the main thread alone: beside another,
    that one may be in ``catch_warnings``, for reasons of its own.
    """
    before = warnings.filters
    try:
        yield
    finally:
        if warnings.filters is not before and threading.current_thread() is threading.main_thread():
            warnings.filters = before
