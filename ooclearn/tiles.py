"""How many rows are worked on at a time."""

from __future__ import annotations

__all__ = ["TILE_BYTES", "run_of_rows"]

# Rows are worked on in runs of this many bytes. Smaller ones would stay in the second cache, but threads that hand the
# interpreter lock to one another between short NumPy calls lose more than that gains.
TILE_BYTES = 4 * 2**20


def run_of_rows(row_bytes: int, /, tile_bytes: int = TILE_BYTES) -> int:
    """Return how many rows of that size make a tile; a multiple of 64, so that narrow rows can be seen wide.

    Rounded up: a block of four times the bytes of a tile is then four tiles, not four and a short one. A tile that is
    smaller than others, to keep to a limit, is not.
    """
    rows = tile_bytes // max(1, row_bytes)
    if tile_bytes < TILE_BYTES:
        return max(1, rows // 64 * 64 if rows >= 64 else rows)
    return max(64, -(-rows // 64) * 64)
