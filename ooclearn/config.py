"""Configuration in scikit-learn's manner: global defaults, and a context manager for one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import joblib

from ooclearn._forking import in_a_child

__all__ = ["Config", "config_context", "get_config", "n_workers", "set_config"]


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of this library.

    Attributes
    ----------
    workers : int or None
        Threads that read, transform and fold blocks. ``None``: the cores this process may use
        (affinity and container limits counted).
    memory_limit : int or None
        Bytes that blocks may take at a time. Blocks for training are made small enough to keep to it; a ``block_rows``,
        or chunks of a Dask array, that do not are refused before any data is read. Statistics over files and arrays
        take their few tiles of 4 MiB a worker even under a smaller limit. ``None``: no limit beyond `block_bytes`.
    block_bytes : int
        Size at which arrays and files are cut into blocks.
    resident_bytes : int or None
        Bytes of a device's memory that the first blocks of a table may take from one pass of a fit to the next, so that
        later passes copy only the rest. ``None``: six tenths of what is free when the fit begins. 0: none stay.
    backend : str or None
        Name of the backend that works on host blocks, such as ``"dask"`` or ``"cupy"``. That of a device is also asked
        for what ``transform`` and ``predict`` give; it is answered in the container that was given. ``None``: the backend
        of that container.
    progress : bool
        Show a progress bar for every pass, in a terminal or a notebook (needs the extra ``progress``; a notebook,
        ipywidgets too). Elsewhere it is silent; :func:`ooclearn.diagnostics.progress` writes lines to a log.
    """

    workers: int | None = None
    memory_limit: int | None = None
    block_bytes: int = 16 * 2**20
    resident_bytes: int | None = None
    backend: str | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("workers", "memory_limit", "block_bytes", "resident_bytes"):
            value = getattr(self, name)
            optional = name != "block_bytes"
            least = 0 if name == "resident_bytes" else 1
            if value is None and optional:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                unit = "" if name == "workers" else " of bytes"
                example = ", such as 2 * 2**30 (2 GiB)," if name == "memory_limit" else ""
                raise ValueError(
                    f"{name} must be a whole number{unit}{' above 0' if least else ', 0 or more,'}{example}"
                    f"{' or None' if optional else ''}, got {value!r}"
                )
        if self.backend is not None and not isinstance(self.backend, str):
            raise ValueError(f"backend must be the name of a backend or None, got {self.backend!r}")
        if self.progress not in (True, False):
            raise ValueError(f"progress must be True or False, got {self.progress!r}")


_default = Config()
_lock = threading.Lock()
_local = threading.local()


@in_a_child
def _nobody_sets() -> None:
    """Let go of the lock: the thread that held it is not there in a child of ``fork``."""
    global _lock
    _lock = threading.Lock()


def _current() -> Config:
    config: Config = getattr(_local, "config", None) or _default
    return config


def _changed(config: Config, settings: dict[str, Any]) -> Config:
    known = {f.name for f in fields(Config)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise TypeError(f"unknown setting {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return replace(config, **settings)


def get_config() -> dict[str, Any]:
    """Return the settings in force in this thread.

    Returns
    -------
    dict of str to object
        By the names of the attributes of :class:`ooclearn.config.Config`; a copy.

    Examples
    --------
    >>> import ooclearn
    >>> ooclearn.get_config()["block_bytes"]
    16777216
    """
    config = _current()
    return {f.name: getattr(config, f.name) for f in fields(Config)}


def set_config(**settings: Any) -> None:
    """Change the settings of this process; threads inside a :func:`config_context` keep theirs.

    Processes and threads that others start, such as joblib's for the ``n_jobs`` of a search, do not know the settings
    of a :func:`config_context`, and new processes do not know those that are set here.

    Parameters
    ----------
    **settings : dict
        ``workers``, ``memory_limit``, ``block_bytes``, ``resident_bytes``, ``backend``, ``progress``: see
        :class:`ooclearn.config.Config`. What is not given stays as it is.

    Examples
    --------
    >>> import ooclearn
    >>> ooclearn.set_config(workers=2)
    >>> ooclearn.get_config()["workers"]
    2
    >>> ooclearn.set_config(workers=None)
    """
    global _default
    with _lock:
        _default = _changed(_default, settings)
        if getattr(_local, "config", None) is not None:
            _local.config = _changed(_local.config, settings)


@contextmanager
def config_context(**settings: Any) -> Iterator[None]:
    """Use other settings inside a ``with`` block, in this thread and the workers it starts.

    Parameters
    ----------
    **settings : dict
        As for :func:`set_config`.

    Yields
    ------
    None
        The settings before are in force again afterwards.

    Examples
    --------
    >>> import ooclearn
    >>> with ooclearn.config_context(workers=1):
    ...     ooclearn.get_config()["workers"]
    1
    """
    before = getattr(_local, "config", None)
    _local.config = _changed(_current(), settings)
    try:
        yield
    finally:
        _local.config = before


def n_workers() -> int:
    """Return how many threads to use: the setting ``workers``, or else the cores this process may use.

    Returns
    -------
    int
        At least 1.
    """
    workers = _current().workers
    return workers if workers is not None else int(joblib.cpu_count())
