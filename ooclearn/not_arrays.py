"""What Blocks say to code that takes them for an array in memory: scikit-learn's meta-estimators, above all."""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn.config import get_config
from ooclearn.exceptions import PerformanceWarning, warn

if TYPE_CHECKING:
    from ooclearn.blocks import Blocks

__all__ = ["ARRAY_NAMES", "NoSubscript", "no_attribute", "warn_of_reading_whole"]

# What an array has, and code that was given Blocks in place of one asks for; not what Blocks have, and say in their repr.
ARRAY_NAMES = frozenset(name for name in dir(np.ndarray) if not name.startswith("_")) - {
    "shape",
    "dtype",
    "ndim",
    "nbytes",
}

_INSTEAD = (
    "Where a fitted estimator of scikit-learn asks for it, ooclearn.ParallelPostFit(estimator) predicts, transforms and "
    "scores by blocks; np.asarray(...) reads all rows into memory"
)


def no_attribute(blocks: Blocks, name: str, /) -> AttributeError:
    """Return the error for an attribute that arrays have and Blocks do not."""
    return AttributeError(
        f"{blocks!r} is read block by block and has no {name!r}, as an array in memory has. {_INSTEAD}",
        name=name,
        obj=blocks,
    )


class NoSubscript:
    """Stands where ``__getitem__`` would, and says why there is none.

    Looking it up raises an AttributeError, so that ``hasattr`` is False and scikit-learn picks nothing by it.
    """

    def __get__(self, blocks: Blocks | None, kind: type) -> Any:
        """Raise."""
        raise AttributeError(
            f"{kind.__name__ if blocks is None else repr(blocks)} is read block by block, and nothing is picked from it by "
            "[...]. Rows are picked by slicing a memory map, np.load(path, mmap_mode='r')[start:stop], and columns by "
            f"ooclearn.make_column_transformer. {_INSTEAD}",
            name="__getitem__",
            obj=blocks,
        )


# What scikit-learn calls to make arrays.
_BETWEEN = frozenset({"array_api_compat", "numpy", "scipy"})


def _library(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def warn_of_reading_whole(blocks: Blocks, /) -> None:
    """Warn if it is scikit-learn that makes one array of a large table, and not the user; called by ``__array__``."""
    if blocks.ndim < 2:
        return
    frame = sys._getframe(2)
    while frame.f_back is not None and _library(frame) in _BETWEEN:
        frame = frame.f_back
    if _library(frame) != "sklearn":
        return
    if blocks.nbytes is not None and blocks.nbytes <= get_config()["block_bytes"]:
        return
    size = "" if blocks.nbytes is None else f", {blocks.nbytes:,} bytes"
    warn(
        f"scikit-learn takes arrays here, so {blocks.name} is read into memory whole{size}. To compare models on a table "
        "larger than memory, fit them by ooclearn.fit_all and score them on held-out rows; let what is fitted predict by "
        "ooclearn.ParallelPostFit(estimator). np.asarray(...) says that it is meant, and memory_limit refuses it",
        PerformanceWarning,
    )
