"""The article's job on a warm table: pipeline fit and predict, side by side, with the limits of the machine.

Every way runs in a process of its own, and they take turns. What runs out of memory or time is said, not left
out.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from harness import Timings, markdown, options, report, scratch, size
from ooclearn.demo.table import Recipe, stored
from processes import GIB, Rival, RivalError, available_memory
from rivals import NAMES


def main() -> None:
    """Run the comparison."""
    parser = options(__doc__, rows=2_000_000)
    parser.add_argument("--memory", type=size, default=4 * GIB, help="limit of each way, in-memory excepted")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds to wait for one step")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="the ways to run")
    given = parser.parse_args()
    with scratch() as folder:
        table, _ = stored(folder, Recipe(given.rows), more_bytes=8 * given.rows * len(given.only))
        rates, found = _run(table.folder, given)
    _report(given, rates, found)


def _run(folder: Path, given: Any) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Return the seconds of the limits, and of each way what it took and gave."""
    limits: dict[str, list[float]] = {"read": [], "memory": [], "training": []}
    found: dict[str, dict[str, Any]] = {name: {"timings": Timings()} for name in given.only}
    with ExitStack() as stack:
        machine = stack.enter_context(Rival("limits", folder, timeout=given.timeout))
        machine.ask("load")
        running: dict[str, Rival] = {}
        for name in given.only:
            try:
                memory = int(0.8 * available_memory()) if name == "in-memory" else given.memory
                rival = stack.enter_context(Rival(name, folder, memory=memory, timeout=given.timeout))
                rival.ask("load")
                running[name] = rival
            except RivalError as error:
                found[name]["failed"] = str(error)
        for repeat in range(given.repeats + 1):
            for name, values in limits.items():
                values.append(machine.ask(name)["value"])
            for name, rival in list(running.items()):
                try:
                    for step in ("fit", "predict"):
                        os.sync()  # what others have left to be written to disk would be timed too
                        seconds = rival.ask(step)["seconds"]
                        if repeat:  # the first is for warming up
                            found[name]["timings"].add(step, seconds)
                    found[name]["accuracy"] = rival.ask("score")["value"]
                    found[name]["memory"] = rival.peak
                except RivalError as error:
                    found[name]["failed"] = str(error)
                    del running[name]
                    rival.close()
            print(".", end="", file=sys.stderr, flush=True)
    return limits, found


def _report(given: Any, rates: dict[str, list[float]], found: dict[str, dict[str, Any]]) -> None:
    n_bytes = given.rows * 160
    read, training = median(rates["read"]), median(rates["training"])
    through_memory = n_bytes / median(rates["memory"])
    limits = {"fit": max(2 * read, training), "predict": max(read, through_memory)}
    ours = found.get("ooclearn", {}).get("timings", Timings())
    rows = []
    for name in given.only:
        one, timings = found[name], found[name]["timings"]
        if "fit" not in timings or "predict" not in timings:
            rows.append([NAMES[name], one["failed"], *[""] * 5])
            continue
        cells = [NAMES[name]]
        for step in ("fit", "predict"):
            times = f"{timings[step] / ours[step]:.2f} x" if step in ours else ""
            cells += [f"{timings[step]:.2f}", times]
        rows.append([*cells, f"{one['memory'] / 1e6:,.0f}", f"{one['accuracy']:.4f}"])
    heads = ["", "fit, s", "of ooclearn", "predict, s", "of ooclearn", "peak memory, MB", "accuracy"]
    bounds = [
        ["read the rows twice / once", f"{2 * read:.2f}", f"{read:.2f}", f"{n_bytes / read / 1e9:.2f} GB/s"],
        ["serial training, blocks ready", f"{training:.2f}", "", f"{n_bytes / training / 1e9:.2f} GB/s"],
        ["once through memory", "", f"{through_memory:.2f}", f"{n_bytes / through_memory / 1e9:.2f} GB/s"],
        ["the limit: the greatest of these", f"{limits['fit']:.2f}", f"{limits['predict']:.2f}", ""],
    ]
    if "fit" in ours and "predict" in ours:
        bounds.append(["ooclearn, of the limit", *(f"{ours[step] / limits[step]:.2f} x" for step in limits), ""])
    title = f"The pipeline: {given.rows:,} x 20 float64, {n_bytes / 1e9:.2f} GB, warm"
    tables = [
        markdown(heads, rows),
        markdown(["limits of the machine", "fit, s", "predict, s", "rate"], bounds),
    ]
    numbers = {
        "rows": given.rows,
        "memory_limit": given.memory,
        "limits": {
            "read_s": rates["read"],
            "memory_bytes_per_s": rates["memory"],
            "training_s": rates["training"],
        },
        "ways": {
            name: {**{k: v for k, v in one.items() if k != "timings"}, "seconds": one["timings"].seconds}
            for name, one in found.items()
        },
    }
    report("pipeline", title, tables, numbers, given.out)


if __name__ == "__main__":
    main()
