"""What the measurements of a device say: tables, what was asked of them, and the section of a page in docs/."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from statistics import median
from typing import Any

from harness import markdown

__all__ = ["asked", "into_page", "measured_page", "summary", "tables_of"]

Numbers = dict[str, Any]
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PLACES = {
    "cpu": "CPU, s",
    "streamed": "device from the file, s",
    "resident": "from its own memory, s",
    "few": "hardly any rows, s",
}


def tables_of(numbers: Numbers) -> list[str]:
    """Return all tables, in Markdown."""
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers["about"].items())
    tables = [f"\n## The device: {numbers['bytes'] / 1e9:.2f} GB a table\n\n{about}", _limits(numbers)]
    tables += [_statistics(numbers), _fits(numbers), _results(numbers), _agreement(numbers)]
    rows = [[name, found, wanted, met] for name, found, wanted, met in asked(numbers)]
    return [*tables, markdown(["asked", "measured", "wanted", "met"], rows)]


def limit_rows(numbers: Numbers) -> list[tuple[str, str]]:
    """Return the limits of the device, each with its unit."""
    names = {
        "pinned": ("copy to the device, pinned memory", 1e9, "GB/s"),
        "pageable": ("the same, pageable memory", 1e9, "GB/s"),
        "back": ("copy back, pinned memory", 1e9, "GB/s"),
        "memory": ("the device's own memory", 1e12, "TB/s"),
        "float64": ("matrix product, float64", 1e12, "TFLOP/s"),
        "float32": ("matrix product, float32", 1e12, "TFLOP/s"),
    }
    found = numbers["limits"]
    return [
        (text, "not measured" if found[name] is None else f"{found[name] / unit:.2f} {per}")
        for name, (text, unit, per) in names.items()
    ]


def _limits(numbers: Numbers) -> str:
    return markdown(["limits of the device", "rate"], limit_rows(numbers))


def wall_of_limit(one: Numbers) -> tuple[float, str] | None:
    """Return a pass's time as a multiple of its limit, and what that is; None where it was not measured."""
    if not one["limits_s"]:
        return None
    name, least = max(one["limits_s"].items(), key=lambda item: item[1])
    return median(one["seconds"]) / least, name


def rate(one: Numbers) -> float:
    """Return the bytes a second of a pass."""
    return float(one["nbytes"] / median(one["seconds"]))


def _statistics(numbers: Numbers) -> str:
    rows = []
    for one in numbers["statistics"]:
        of_limit = wall_of_limit(one)
        over = one["over_the_bus"]
        cells = [f"{median(one['seconds']):.4f}", f"{rate(one) / 1e9:,.2f}"]
        cells += ["", ""] if of_limit is None else [f"{of_limit[0]:.2f} x", of_limit[1]]
        cells += [f"{over['up'] / one['nbytes']:.2f}", f"{over['down']:,}", str(over["waits"])]
        rows.append([f"{one['statistic']}, {one['columns']} columns, {one['source']}", *cells])
    heads = ["a pass", "s", "GB/s", "of its limit", "which is", "sent, of the table", "bytes back", "waits"]
    return markdown(heads, rows)


def _fits(numbers: Numbers) -> str:
    rows = []
    for one in sorted(numbers["fits"], key=lambda one: (one["job"], one["columns"])):
        seconds = {place: median(values) for place, values in one["seconds"].items()}
        ratios = [f"{seconds['cpu'] / seconds[place]:.2f} x" for place in ("streamed", "resident")]
        name = f"{one['job']}, {one['rows']:,} x {one['columns']}"
        rows.append([name, *(f"{seconds[place]:.3f}" for place in PLACES), *ratios])
    cores = numbers["machine"]["cores"]
    heads = [f"fit; the CPU has {cores} cores", *PLACES.values(), "faster, from the file", "faster, from its memory"]
    return markdown(heads, rows)


def _results(numbers: Numbers) -> str:
    rows = []
    for one in numbers["results"]:
        seconds = {place: median(values) for place, values in one["seconds"].items()}
        over = one["over_the_bus"]
        cells = [f"{seconds['cpu']:.3f}", f"{seconds['streamed']:.3f}", f"{seconds['cpu'] / seconds['streamed']:.2f} x"]
        cells += [f"{over['up'] / one['nbytes']:.2f}", f"{over['down'] / one['nbytes']:.2f}", str(over["waits"])]
        rows.append([f"{one['method']}, {one['rows']:,} x {one['columns']}", *cells])
    heads = [
        "from a file to a file",
        PLACES["cpu"],
        "through the device, s",
        "faster",
        "sent, of the table",
        "back",
        "waits",
    ]
    return markdown(heads, rows)


def _agreement(numbers: Numbers) -> str:
    rows = [
        [name, f"{one['worst']:.1e}", f"{one['most']:.0e}", "yes" if one["agrees"] else "NO"]
        for name, one in numbers["agreement"].items()
    ]
    return markdown(["the same numbers, relative to the greatest", "worst difference", "at most", "agrees"], rows)


def _overtaking(numbers: Numbers) -> list[str]:
    """Return a sentence for each job and place: from how many columns on the device is faster."""
    texts = []
    for job in sorted({one["job"] for one in numbers["fits"]}):
        fits = sorted((one for one in numbers["fits"] if one["job"] == job), key=lambda one: one["columns"])
        for place, where in (("streamed", "from the file"), ("resident", "from its own memory")):
            slower = [one["columns"] for one in fits if median(one["seconds"]["cpu"]) <= median(one["seconds"][place])]
            text = "the CPU is faster at " + ", ".join(map(str, slower)) if slower else "the device is always faster"
            texts.append(f"{job}, {where}: {text}{' columns' if slower else ''}.")
    return texts


# What was asked.


def asked(numbers: Numbers) -> list[tuple[str, str, str, str]]:
    """Return what the project asks of a device: the name, what was measured (the worst), what is wanted, whether met."""
    found: list[tuple[str, float | None, str, float, bool]] = []
    passes = numbers["statistics"] if numbers["limits"]["pinned"] else []
    for source, least in (("file", 25), ("pinned", 45)):
        rates = [rate(one) / 1e9 for one in passes if one["source"] == source]
        found.append((f"statistics streamed from {_source(source)}, GB/s", _worst(rates, min), ">=", least, True))
    walls = [wall_of_limit(one) for one in passes if one["source"] != "resident"]
    found.append(("a streamed pass, of its limit", _worst([wall[0] for wall in walls if wall], max), "<=", 1.1, False))
    # Where arithmetic takes longer than reading, the memory's rate cannot be had.
    rates = [rate(one) / 1e12 for one in passes if one["source"] == "resident" and _reading_rules(one)]
    found.append(("a resident pass, TB/s", _worst(rates, min), ">=", 2.5, True))
    wide = [one for one in numbers["fits"] if one["columns"] == 1000 and "PCA" in one["job"] and passes]
    ratios = [median(one["seconds"]["cpu"]) / median(one["seconds"]["streamed"]) for one in wide]
    cores = numbers["machine"]["cores"]
    name = f"StandardScaler -> PCA -> Ridge, 1,000 columns, times faster than {cores} cores"
    found.append((name, _worst(ratios, min), ">=", 10, True))
    rows = []
    for name, value, sign, wanted, more in found:
        if value is None:
            rows.append((name, "not measured", f"{sign} {wanted}", ""))
            continue
        met = value >= wanted if more else value <= wanted
        rows.append((name, f"{value:.2f}", f"{sign} {wanted}", "yes" if met else "no"))
    for name, one in numbers["agreement"].items():
        rows.append((name, f"{one['worst']:.1e}", f"<= {one['most']:.0e}", "yes" if one["agrees"] else "no"))
    return rows


def _source(source: str) -> str:
    return {"file": "a file in the page cache", "pinned": "pinned memory"}[source]


def _worst(values: list[float], of: Any) -> float | None:
    return of(values) if values else None


def _reading_rules(one: Numbers) -> bool:
    limits = one["limits_s"]
    return bool(limits.get("memory", 0) >= limits.get("arithmetic", 0))


# What ci/gpu prints, and what docs/ shows.


def summary(folder: Path) -> str:
    """Return one table of the suite's reports and the benchmark's numbers in a folder."""
    rows: list[list[object]] = []
    for report in sorted(folder.glob("tests*.xml")):
        total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        for suite in ET.parse(report).iter("testsuite"):  # noqa: S314  (pytest wrote it a moment ago)
            for key in total:
                total[key] += int(suite.get(key, 0))
        failed = total["failures"] + total["errors"]
        passed = total["tests"] - failed - total["skipped"]
        name = f"{report.stem.replace('-', ', ')}: passed, failed, skipped"
        met = "yes" if passed and not failed else "no"
        rows.append([name, f"{passed:,}, {failed:,}, {total['skipped']:,}", "none failed", met])
    if not rows:
        rows.append(["tests", "not run, or not to the end", "none failed", ""])
    file = folder / "gpu.json"
    if not file.exists():
        return markdown(["", "measured", "wanted", "met"], [*rows, ["benchmark", "not run", "", ""]])
    numbers = json.loads(file.read_text(encoding="utf-8"))
    about = [[name.replace("_", " "), str(value), "", ""] for name, value in numbers["about"].items()]
    limits = [[f"limit: {name}", value, "", ""] for name, value in limit_rows(numbers)]
    ended = [] if numbers["finished"] else [["benchmark", "stopped before its end", "", "no"]]
    found = [list(row) for row in asked(numbers)]
    return markdown(["", "measured", "wanted", "met"], [*about, *rows, *limits, *found, *ended])


def measured_page(file: Path) -> str:
    """Return the section of docs/gpu.md that shows what was measured on hardware.

    Raises
    ------
    SystemExit
        The numbers are not of hardware, or not all there.
    """
    numbers = json.loads(file.read_text(encoding="utf-8"))
    if not numbers["limits"]["pinned"] or not numbers["finished"]:
        raise SystemExit(f"{file}: these are not the numbers of a whole run on hardware; docs/ shows no others")
    device, system = numbers["about"], numbers["machine"]
    text = (
        f"Measured by `ci/gpu` on one {device['device']} (driver {device['driver']}, CUDA {device['runtime_cuda']}, CuPy "
        f"{device['cupy']}) beside {system['cores']} cores of a {system['processor']}; tables of "
        f"{numbers['bytes'] / 1e9:.1f} GB, float64, files in the page cache."
    )
    text += "\n\n" + " ".join(_overtaking(numbers))
    rows = [list(row) for row in asked(numbers)]
    wanted = markdown(["the worst of all tables", "measured", "wanted", "met"], rows)
    return "\n\n".join([text, _limits(numbers), _fits(numbers), _results(numbers), _statistics(numbers), wanted])


def into_page(page: Path, text: str) -> None:
    """Put `text` between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{page}: expected the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
