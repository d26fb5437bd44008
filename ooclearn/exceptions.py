"""Errors and warnings: what came, what was expected, what to do, and where."""

from __future__ import annotations

import sys
import warnings
from typing import Any, Self

__all__ = [
    "BackendError",
    "BlockMemoryError",
    "BusyError",
    "DataError",
    "DataWarning",
    "NonFiniteError",
    "OoclearnWarning",
    "PerformanceWarning",
    "ReadError",
    "SourceChangedError",
    "warn",
]


class DataError(ValueError):
    """A table cannot be used as it is; says where.

    Parameters
    ----------
    message : str
        What came, what was expected and what to do. Never a cell's value.
    source : str, optional
        The file or array that the rows come from.
    block : int, optional
        Number of the block within the table.
    rows : (int, int), optional
        First row concerned and the one after the last, counted over the whole table once `source` is known, and
        before that within what the raiser was given.
    column : int or str, optional
        The column concerned, by name where it has one.
    part : str
        What of the table is concerned: ``"X"``, ``"y"`` or ``"sample_weight"``.
    """

    def __init__(
        self,
        message: str,
        *,
        source: str | None = None,
        block: int | None = None,
        rows: tuple[int, int] | None = None,
        column: int | str | None = None,
        part: str = "X",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.block = block
        self.rows = rows
        self.column = column
        self.part = part

    def __str__(self) -> str:
        where = []
        if self.source is not None:
            where.append(f"in {self.source}")
        if self.block is not None:
            where.append(f"block {self.block}")
        if self.rows is not None:
            start, stop = self.rows
            where.append(f"row {start}" if stop == start + 1 else f"rows {start} to {stop - 1}")
        if self.column is not None:
            where.append(f"column {self.column!r}" if isinstance(self.column, str) else f"column {self.column}")
        return f"{self.message} ({', '.join(where)})" if where else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions with keyword-only arguments do not survive pickling by themselves, and a Dask
        # worker sends them pickled.
        return _rebuild, (type(self), self.message), self.__dict__

    def located(
        self,
        *,
        source: str | None = None,
        block: int | None = None,
        first_row: int | None = None,
        names: Any = None,
    ) -> Self:
        """Return the same error with what the caller knows of the place.

        What is known already stays: the innermost caller is the nearest.

        Parameters
        ----------
        source : str, optional
            The file or array that the rows come from.
        block : int, optional
            Number of the block within the table.
        first_row : int, optional
            What is added to `rows`, where these are not yet counted over the whole table.
        names : sequence of str, optional
            Names of the columns of X, which take the place of their numbers.

        Returns
        -------
        DataError
            A new error of the same class and with the same cause.
        """
        out: Self = _rebuild(type(self), self.message)
        vars(out).update(vars(self))
        if self.source is None:
            out.source = source
            if self.rows is not None and first_row is not None:
                out.rows = (self.rows[0] + first_row, self.rows[1] + first_row)
        if self.block is None:
            out.block = block
        if isinstance(self.column, int) and names is not None and self.part == "X":
            out.column = str(names[self.column])
        out.__cause__ = self.__cause__
        return out


def _rebuild(cls: type[Any], message: str) -> Any:
    return cls(message)


class NonFiniteError(DataError):
    """NaN or infinity where finite numbers are needed.

    Attributes
    ----------
    missing_allowed : bool
        Infinities alone were looked for: NaN may be there.
    """

    missing_allowed = False


class SourceChangedError(DataError):
    """A file is not the one that was scanned: its size, time or identity differs."""


class ReadError(DataError, OSError):
    """The system could not read a block, though it was asked again; the cause is its own error."""


class BlockMemoryError(ValueError, MemoryError):
    """What was asked for cannot be done within the memory limit; says the numbers."""


class BackendError(ImportError):
    """No backend owns this container, or its library is not installed; says what to install."""


class BusyError(RuntimeError):
    """An estimator is being fitted by another thread."""


class OoclearnWarning(UserWarning):
    """Base class of this library's warnings."""


class DataWarning(OoclearnWarning):
    """The data look as if they would give a poor result; says why and what to do."""


class PerformanceWarning(OoclearnWarning):
    """The result is right but slower, or larger in memory, than it need be; says what to do."""


def warn(message: str, category: type[OoclearnWarning], /) -> None:
    """Warn, pointing at the line of the user's that led here, however deep in this library it arose.

    Parameters
    ----------
    message : str
        What is not as it could be, and what to do.
    category : type of OoclearnWarning
        What kind of warning it is.
    """
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


# scikit-learn's own frames lie between where its pipelines call ours; joblib's where it runs them.
_INSIDE = frozenset({"ooclearn", "ooclearn_backends", "sklearn", "joblib"})
