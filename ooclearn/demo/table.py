"""The table of the demo: some rows of scikit-learn's ``make_classification``, repeated with fresh noise."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.datasets import make_classification

from ooclearn.blocks import Blocks
from ooclearn.sources import SourceBlocks
from ooclearn.types import Array

__all__ = ["NoRoomError", "Recipe", "StoredTable", "stored"]

# A power of two, so that any odd step walks through all of the base.
_BASE_ROWS = 2**16
# Of the same distribution, and in no row of the base: the model cannot have seen them, whatever the noise.
_HELD_OUT_BASE_ROWS = 2**13
# Of a column's standard deviation in the base.
_NOISE = 0.2
# Noise is drawn in runs of this many rows, each with a seed of its own: any row can be made without those
# before it.
_RUN = 2**10
# Raised with any change of what is written, so that no table of another recipe is used.
_VERSION = 1


class NoRoomError(OSError):
    """There is not enough free space for the table and the predictions."""


@dataclass(frozen=True)
class Recipe:
    """What determines every number of the table.

    Attributes
    ----------
    rows : int
        Rows to train on.
    seed : int
        Of the base, the order of its repetitions and the noise.
    columns : int
        Columns of X.
    """

    rows: int
    seed: int = 0
    columns: int = 20

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of X."""
        return 8 * self.columns

    @property
    def held_out(self) -> int:
        """Rows to measure accuracy on, beside those to train on: one for every hundred, within bounds."""
        return min(max(self.rows // 100, 10_000), 1_000_000)

    @property
    def nbytes(self) -> int:
        """Bytes of the files, to some kilobytes."""
        return (self.rows + self.held_out) * (self.row_bytes + 8)

    def generated(self) -> tuple[tuple[Blocks, Blocks], tuple[Blocks, Blocks]]:
        """Return X and y, to train on and held out, as Blocks whose rows are made when they are read."""
        n = _BASE_ROWS + _HELD_OUT_BASE_ROWS
        # shift and scale None: columns of different means and spreads, so that scaling them matters.
        X, y = make_classification(
            n, self.columns, n_clusters_per_class=1, shift=None, scale=None, random_state=self.seed
        )
        noise = _NOISE * X[:_BASE_ROWS].std(axis=0)
        first, second = slice(_BASE_ROWS), slice(_BASE_ROWS, n)
        train = _Base(X[first], y[first], noise, (self.seed, 1), self.rows)
        held_out = _Base(X[second], y[second], noise, (self.seed, 2), self.held_out)
        return train.blocks(), held_out.blocks()


@dataclass(frozen=True)
class StoredTable:
    """The files of a table in a folder of its own."""

    folder: Path
    recipe: Recipe

    @classmethod
    def within(cls, folder: Path, recipe: Recipe) -> Self:
        """Return the table of `recipe` in a folder for it inside `folder`; the files need not exist."""
        return cls(folder / f"ooclearn-demo-{recipe.rows}x{recipe.columns}-seed{recipe.seed}", recipe)

    @property
    def rows(self) -> Path:
        """Rows to train on."""
        return self.folder / "X.npy"

    @property
    def labels(self) -> Path:
        """Their labels."""
        return self.folder / "y.npy"

    @property
    def held_out_rows(self) -> Path:
        """Rows that are not trained on."""
        return self.folder / "X_held_out.npy"

    @property
    def held_out_labels(self) -> Path:
        """Their labels."""
        return self.folder / "y_held_out.npy"

    @property
    def note(self) -> Path:
        """The recipe; written last, so it is there only where the files are whole."""
        return self.folder / "table.json"

    def complete(self) -> bool:
        """Say whether all files are there, of this recipe."""
        try:
            written = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        files = (self.rows, self.labels, self.held_out_rows, self.held_out_labels)
        return bool(written == _note(self.recipe)) and all(file.exists() for file in files)

    def write(self) -> None:
        """Make all files, in parallel and bounded memory: some megabytes a worker."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.note.unlink(missing_ok=True)
        (X, y), (held_out_X, held_out_y) = self.recipe.generated()
        X.to_npy(self.rows)
        y.to_npy(self.labels)
        held_out_X.to_npy(self.held_out_rows)
        held_out_y.to_npy(self.held_out_labels)
        self.note.write_text(json.dumps(_note(self.recipe), indent=2) + "\n", encoding="utf-8")


def stored(folder: Path, recipe: Recipe, *, more_bytes: int = 0) -> tuple[StoredTable, bool]:
    """Return the table of `recipe` inside `folder`, written unless it is there, and whether it was written.

    Parameters
    ----------
    folder : Path
        Where the table's own folder stands.
    recipe : Recipe
        What to write.
    more_bytes : int
        Free space that is needed beside the table.

    Raises
    ------
    NoRoomError
        Before anything is written.
    """
    table = StoredTable.within(folder, recipe)
    there = table.complete()
    needed = more_bytes + (0 if there else recipe.nbytes)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoRoomError(
            f"{needed / 1e9:,.2f} GB are needed in {folder} and {free / 1e9:,.2f} GB are free; "
            "name a folder on a larger disk with --dir, or ask for fewer rows with --rows"
        )
    if not there:
        table.write()
    return table, not there


def _note(recipe: Recipe) -> dict[str, Any]:
    return {**asdict(recipe), "version": _VERSION}


@dataclass(frozen=True, eq=False)
class _Base:
    """Rows that are repeated: each time all of them, in another order, with fresh noise."""

    X: Array
    y: Array
    noise: Array
    seed: tuple[int, int]
    rows: int

    def blocks(self) -> tuple[Blocks, Blocks]:
        """Return X and y."""
        return SourceBlocks(_Rows(self)), SourceBlocks(_Labels(self))

    @cached_property
    def orders(self) -> tuple[Array, Array]:
        """Where each repetition starts, and in which steps it goes on."""
        n = len(self.y)
        first, steps = np.random.default_rng([*self.seed, 0]).integers(0, n, (2, -(-self.rows // n)))
        # An odd step comes by every row of the base once, since their number is a power of two.
        return first, steps | 1

    def places(self, start: int, stop: int) -> Array:
        """Return which rows of the base the rows `start` to `stop` of the table come from."""
        n = len(self.y)
        first, steps = self.orders
        row = np.arange(start, stop)
        return (first[row // n] + row % n * steps[row // n]) % n


class _Generated(ABC):
    """A source whose rows are made when they are read."""

    name = "the demo's table"
    in_memory = False
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, base: _Base) -> None:
        self.base = base

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`."""
        if out is None:
            out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        self._fill(start, stop, out)
        return out

    @abstractmethod
    def _fill(self, start: int, stop: int, out: Array) -> None:
        """Put rows `start` to `stop` in `out`."""


class _Rows(_Generated):
    """X."""

    def __init__(self, base: _Base) -> None:
        super().__init__(base)
        self.shape = (base.rows, base.X.shape[1])
        self.dtype = base.X.dtype

    def _fill(self, start: int, stop: int, out: Array) -> None:
        for run in range(start // _RUN, -(-stop // _RUN)):
            first, last = max(start, run * _RUN), min(stop, (run + 1) * _RUN)
            noise = np.random.default_rng([*self.base.seed, 1, run]).standard_normal((_RUN, self.shape[1]))
            part = out[first - start : last - start]
            np.multiply(noise[first - run * _RUN : last - run * _RUN], self.base.noise, out=part)
            part += self.base.X[self.base.places(first, last)]


class _Labels(_Generated):
    """y, from the same places."""

    def __init__(self, base: _Base) -> None:
        super().__init__(base)
        self.shape = (base.rows,)
        self.dtype = base.y.dtype

    def _fill(self, start: int, stop: int, out: Array) -> None:
        np.take(self.base.y, self.base.places(start, stop), out=out, mode="clip")
