"""How many rows are worked on at a time."""

from __future__ import annotations

__all__ = ["TILE_BYTES", "run_of_rows"]

# Rows are worked on in runs of this many bytes. Smaller ones would stay in the second cache, but threads that hand the
# interpreter lock to one another between short NumPy calls lose more than that gains.
TILE_BYTES = 4 * 2**20


def run_of_rows(row_bytes: int, /) -> int:
    """Return how many rows of that size make a tile; a multiple of 64, so that narrow rows can be seen wide.

    Rounded up: a block of four times the bytes of a tile is then four tiles, not four and a short one.
    """
    return max(64, -(-(TILE_BYTES // max(1, row_bytes)) // 64) * 64)
