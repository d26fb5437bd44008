"""What of a table stays on a device from one pass of a fit to the next, and what a row takes there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Residents", "dtype_there", "row_bytes_of", "row_bytes_there"]


@dataclass(eq=False)
class Residents:
    """The first rows of a table, which stay on a device from one pass of a fit to the next.

    Each part of them lies in one piece of memory, so that later passes can work on long runs of them.

    Attributes
    ----------
    budget : int
        Bytes they may take.
    row_bytes : int
        Of a row with all parts of the table, as they lie on the device.
    """

    budget: int
    row_bytes: int
    memory: dict[str, Any] = field(default_factory=dict)
    _whole: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows may stay."""
        return self.budget // max(1, self.row_bytes)

    def has(self, role: str, part: Any, /) -> bool:
        """Say whether all of the rows that stay are there, of a part of the table."""
        return self._whole.get(role) is part

    def note(self, role: str, part: Any, /) -> None:
        """Take note that a part of the table is there now."""
        self._whole[role] = part


def row_bytes_there(X: Any, *beside: Any) -> int:
    """Return the bytes that a row takes on a device: of X, and of targets and weights beside it."""
    return row_bytes_of(X, "X") + sum(row_bytes_of(part, "beside") for part in beside)


def row_bytes_of(part: Any, role: str) -> int:
    """Return the bytes that a row of one part of a table takes on a device."""
    dtype = dtype_there(part, role)
    return 0 if dtype is None else int(np.prod(part.shape[1:], dtype=np.int64)) * dtype.itemsize


def dtype_there(part: Any, role: str) -> np.dtype[Any] | None:
    """Return the dtype in which a part of a table lies on a device; None for labels that are no numbers."""
    dtype: np.dtype[Any] = part.dtype
    if role != "X" and dtype.kind in "fiu":
        return np.dtype(np.float64 if dtype.kind == "f" else np.int64)
    return dtype if dtype.kind in "fiubc" else None
