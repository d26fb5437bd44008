"""What a child of ``fork`` has to let go of: it has one of its parent's threads, and all of their locks."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["in_a_child"]


def in_a_child(forget: Callable[[], None], /) -> Callable[[], None]:
    """Have `forget` called in every child of ``fork``, where there is one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
    return forget
