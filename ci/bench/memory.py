"""Peak memory of the pipeline's fit and predict against the number of rows, and the picture of it in docs/.

Anonymous memory (what a process holds and the system cannot take back) of a process for each way and size,
its imports included. A way that runs into the limit is drawn up to where it still ran.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness import markdown, options, report, scratch, size, whole
from ooclearn.demo.table import Recipe, StoredTable, stored
from processes import GIB, Rival, RivalError, available_memory
from rivals import NAMES

WAYS = ("ooclearn", "loop", "in-memory", "dask-ml", "dask-ml-from-array")
# Told apart by those who see few colours, and by their marks without any.
LOOKS = {
    "ooclearn": ("#0072b2", "o"),
    "loop": ("#009e73", "s"),
    "in-memory": ("#d55e00", "^"),
    "dask-ml": ("#cc79a7", "D"),
    "dask-ml-from-array": ("#999999", "v"),
}


def main() -> None:
    """Run the measurements."""
    parser = options(__doc__, rows=2_000_000, repeats=1)
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=whole,
        metavar="N",
        help="rows of each table (default: --rows and less by tens)",
    )
    parser.add_argument("--memory", type=size, default=8 * GIB, help="limit of each way")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds to wait for one step")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), help="the ways to run")
    parser.add_argument("--plot", type=Path, help="the picture to write, such as docs/memory.svg")
    given = parser.parse_args()
    sizes = sorted(given.sizes or {max(given.rows // 100, 10_000), max(given.rows // 10, 10_000), given.rows})
    limit = min(given.memory, int(0.8 * available_memory()))
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in given.only}
    for rows in sizes:
        with scratch() as folder:
            table, _ = stored(folder, Recipe(rows), more_bytes=8 * rows)
            for name in given.only:
                found[name][rows] = _measured(name, table, limit, given)
                print(".", end="", file=sys.stderr, flush=True)
    _report(given, sizes, limit, found)


def _measured(name: str, table: StoredTable, limit: int, given: Any) -> dict[str, Any]:
    """Return the peak of a process that fits and predicts, and what it held before."""
    try:
        peaks = []
        for _ in range(given.repeats):
            with Rival(name, table.folder, memory=limit, timeout=given.timeout) as rival:
                for step in ("load", "fit", "predict"):
                    rival.ask(step)
                peaks.append(rival.peak)
                before = rival.before
    except RivalError as error:
        return {"failed": str(error)}
    finally:
        for predictions in table.folder.glob("predictions-*"):
            predictions.unlink()
    return {"peak": max(peaks), "before": before}


def _report(given: Any, sizes: list[int], limit: int, found: dict[str, dict[int, dict[str, Any]]]) -> None:
    rows = []
    for name, by_rows in found.items():
        cells = [f"{one['peak'] / 1e6:,.0f}" if "peak" in one else one["failed"] for one in by_rows.values()]
        peaks = [one["peak"] for one in by_rows.values() if "peak" in one]
        growth = f"{peaks[-1] / peaks[0]:.2f} x" if len(peaks) == len(sizes) else ""
        rows.append([NAMES[name], *cells, growth])
    heads = ["peak anonymous memory, MB", *(f"{n:,} rows" for n in sizes), "last of first"]
    title = f"Memory: fit and predict, 20 float64 columns, at most {limit / GIB:.1f} GiB"
    report("memory", title, [markdown(heads, rows)], {"limit": limit, "ways": found}, given.out)
    if given.plot is not None:
        draw(found, sizes, given.plot)
        print(f"drawn: {given.plot}")


def draw(found: dict[str, dict[int, dict[str, Any]]], sizes: list[int], path: Path) -> None:
    """Draw peak memory against rows, both on logarithmic scales, beside the size of the table itself."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    # Text as text, so that it is sharp, searchable and small; ids that do not change from run to run.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "ooclearn", "font.size": 10}
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        sizes,
        [160 * n for n in sizes],
        color="#777777",
        linestyle=":",
        linewidth=1.2,
        label="the table itself",
    )
    for name, by_rows in found.items():
        color, mark = LOOKS[name]
        ran = [(n, one["peak"]) for n, one in by_rows.items() if "peak" in one]
        if not ran:
            continue
        width = 2.6 if name == "ooclearn" else 1.4
        axes.plot(
            *zip(*ran, strict=True),
            color=color,
            marker=mark,
            markersize=5,
            linewidth=width,
            label=NAMES[name],
        )
        if len(ran) < len(sizes):
            place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate("out of memory", ran[-1], color=color, fontsize=9, **place)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rows (of 20 float64 columns)")
    axes.set_ylabel("peak memory of the process")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 1e9:g} GB" if n >= 1e9 else f"{n / 1e6:g} MB"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, color="#cccccc")
    axes.margins(x=0.06)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No date: the same numbers give the same file.
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
