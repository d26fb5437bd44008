"""The command line: ``python -m ooclearn demo | info | versions``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import threadpoolctl

import ooclearn
from ooclearn.backend import backends
from ooclearn.blocks import Blocks
from ooclearn.config import get_config, n_workers
from ooclearn.demo import command as demo
from ooclearn.exceptions import DataError
from ooclearn.preprocessing import StandardScaler

__all__ = ["main"]

_CORE = ("numpy", "scikit-learn", "scipy", "joblib", "threadpoolctl", "array-api-compat")
_OPTIONAL = (
    "dask",
    "distributed",
    "cupy",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "rich",
    "pandas",
    "polars",
    "torch",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process, if not given.
    """
    parser = argparse.ArgumentParser(prog="python -m ooclearn", description=ooclearn.__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo_parser = commands.add_parser(
        "demo",
        help="fit and predict on a table larger than memory, and report what it took",
        description="Write a table, fit a pipeline and predict from disk to disk within a memory limit, and "
        "report passes, seconds, memory and accuracy beside scikit-learn on a sample.",
    )
    demo.add_options(demo_parser)
    info_parser = commands.add_parser("info", help="show what a file or folder holds and how it is cut into blocks")
    info_parser.add_argument("path", metavar="PATH", help="a .npy file, or a folder of them")
    info_parser.add_argument("--block-rows", type=demo.whole, metavar="N", help="rows of a block")
    commands.add_parser("versions", help="show the versions to name in a bug report")
    options = parser.parse_args(arguments)
    try:
        if options.command == "demo":
            return demo.run(options, sys.stdout)
        if options.command == "info":
            print(info(options.path, options.block_rows))
        else:
            print(versions())
    except (OSError, DataError) as error:
        print(f"ooclearn {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"ooclearn {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def info(path: str, block_rows: int | None = None) -> str:
    """Return what `path` holds and how it is cut into blocks, without reading its rows.

    Parameters
    ----------
    path : str
        A file or folder that :func:`ooclearn.scan` takes.
    block_rows : int, optional
        Rows of a block; by default blocks have ``block_bytes`` bytes.
    """
    blocks = ooclearn.scan(path, block_rows=block_rows)
    rows = "?" if blocks.n_rows is None else f"{blocks.n_rows:,}"
    columns = "" if blocks.n_columns is None else f" x {blocks.n_columns:,} columns"
    size = "of unknown size" if blocks.nbytes is None else f"{blocks.nbytes / 1e9:.3g} GB"
    lines = [
        blocks.name,
        f"  table    {rows} rows{columns}, {blocks.dtype}, {size}",
        f"  blocks   {_block_plan(blocks)}",
        f"  a pass   reads {size}{_memory(blocks)}",
    ]
    return "\n".join(lines)


def _block_plan(blocks: Blocks) -> str:
    if not blocks.lengths:
        return f"{blocks.n_blocks:,}, of rows that only reading tells"
    longest = max(blocks.lengths)
    last = f", the last of {blocks.lengths[-1]:,}" if blocks.lengths[-1] != longest else ""
    each = f"{longest:,} rows, {longest * blocks.row_bytes / 2**20:.3g} MiB each"
    return f"{blocks.n_blocks:,} of {each}{last} (block_bytes is {get_config()['block_bytes'] / 2**20:g} MiB)"


def _memory(blocks: Blocks) -> str:
    if blocks.ndim != 2 or blocks.dtype.kind not in "fiub":
        return ""
    # Any statistic will do: what blocks take does not depend on it.
    taken = StandardScaler().explain(blocks).memory / 2**20
    return f"; blocks take at most {taken:,.0f} MiB with {n_workers()} workers"


def versions() -> str:
    """Return the versions of everything that a result may depend on."""
    rows = [
        ("ooclearn", ooclearn.__version__),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("system", f"{platform.platform()}, {os.cpu_count()} cores, {n_workers()} workers"),
        *((name, _version(name) or "not installed") for name in _CORE),
        *((name, found) for name in _OPTIONAL if (found := _version(name))),
        ("backends", ", ".join(backends())),
    ]
    for pool in threadpoolctl.threadpool_info():
        parts = (pool["internal_api"], pool["version"], f"with {pool['num_threads']} threads")
        rows.append((pool["user_api"], " ".join(part for part in parts if part)))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
