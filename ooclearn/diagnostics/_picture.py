"""The picture of a timeline: lanes of workers, bands of passes, curves of memory and CPU, as one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ooclearn.diagnostics._curves import Curves, Drawn
from ooclearn.diagnostics._lanes import lane_names, lane_order
from ooclearn.diagnostics._recording import KINDS, Pass, Piece, Recorded, coarse, rows_of_intervals
from ooclearn.diagnostics._svg import LEFT, PLOT, WIDTH, fitted, number, ticks, x_of
from ooclearn.diagnostics._units import as_seconds

__all__ = ["Picture", "draw", "kind_class"]

_BAND = 24
_MOST_BAND_ROWS = 3
_MOST_LANES = 48
_MOST_PIECES = 8000
# Outlines part the blocks from one another, where they do not hide what they are around: tasks of so many
# pixels, and those that get as wide by zooming.
_OUTLINES = ((5.0, "outlined"), (0.8, "near"), (0.0, "bare"))


@dataclass(slots=True)
class Picture:
    """A drawing, and what the script of the page needs to zoom and to answer the pointer."""

    svg: str
    data: dict[str, Any]
    resolution: float  # seconds below which tasks were put together; 0 where none were
    left_out: int  # workers that were not drawn
    seconds: dict[str, float]  # by kind of task, of all workers


def kind_class(kind: str) -> str:
    """Return the class that gives a kind of task its colour."""
    return f"k-{kind}" if kind in KINDS else "k-other"


def draw(recorded: Recorded, curves: Curves) -> Picture:
    """Draw what was recorded."""
    stop = max(recorded.stop, 1e-6)
    lanes, left_out = _chosen(recorded.lanes)
    lanes, resolution = _thinned(lanes, stop)
    rows = rows_of_intervals((one.start, one.start + one.seconds) for one in recorded.passes)
    top = min(max(rows, default=0) + 1, _MOST_BAND_ROWS) * _BAND + 6
    pitch = 30 if len(lanes) <= 8 else 22 if len(lanes) <= 16 else 13
    below, bottom, panels = curves.draw(stop, top + pitch * max(1, len(lanes)))
    bottom += 8
    tasks, lane_data = _lanes(lanes, stop, top, pitch)
    bands, band_data = _bands(recorded.passes, rows, stop, bottom)
    across = f'x="{LEFT}" y="0" width="{PLOT}" height="{number(bottom)}"'
    height = f'y1="{number(bottom)}" y2="{number(bottom)}"'
    svg = (
        f'<svg id="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {number(bottom + 26)}" '
        'role="img" aria-label="What each worker did when, with memory and CPU below">'
        f'<defs><clipPath id="inside"><rect {across}/></clipPath></defs>'
        f'<g clip-path="url(#inside)">{bands}</g>{tasks.beside}{below.beside}'
        f'<g clip-path="url(#inside)"><g class="zoom">{tasks.inside}{below.inside}</g>{below.marks}'
        '<rect id="chosen" width="0" height="0"/><line id="cross"/></g>'
        f'<line class="axis" x1="{LEFT}" x2="{LEFT + PLOT}" {height}/><g id="ticks">{ticks(stop, bottom)}</g>'
        f'<rect id="surface" {across}/></svg>'
    )
    data = {
        "stop": stop,
        "left": LEFT,
        "width": PLOT,
        "bottom": round(bottom, 2),
        "kinds": list(KINDS),
        "lanes": lane_data,
        "passes": band_data,
        "panels": panels,
    }
    seconds: dict[str, float] = {}
    for one in recorded.passes:
        for kind, total in one.totals.items():
            seconds[kind] = seconds.get(kind, 0.0) + total.seconds
    return Picture(svg, data, max(resolution, recorded.resolution), left_out, seconds)


def _chosen(lanes: dict[str, list[Piece]]) -> tuple[dict[str, list[Piece]], int]:
    """Return the lanes in order, the busiest ones where there are too many."""

    def busy(name: str) -> float:
        return sum(piece.stop - piece.start for piece in lanes[name] if piece.kind != "wait")

    names = [name for name in lanes if lanes[name]]
    kept = set(sorted(names, key=busy, reverse=True)[:_MOST_LANES])
    return {name: lanes[name] for name in lane_order(kept)}, len(names) - len(kept)


def _thinned(lanes: dict[str, list[Piece]], stop: float) -> tuple[dict[str, list[Piece]], float]:
    """Put pieces together that are too short to be seen, in as narrow bins of time as the size allows."""
    width = stop / (4 * PLOT)
    resolution = 0.0
    while sum(map(len, lanes.values())) > _MOST_PIECES and width < 2 * stop:
        lanes = {name: list(coarse(pieces, width)) for name, pieces in lanes.items()}
        resolution = width
        width *= 2
    return lanes, resolution


def _lanes(lanes: dict[str, list[Piece]], stop: float, top: float, pitch: float) -> tuple[Drawn, list[dict[str, Any]]]:
    drawn = Drawn()
    data = []
    names = lane_names(lanes)
    height = pitch - max(3, pitch // 5)
    # One path for each kind and outline: few elements, however many tasks.
    paths: dict[tuple[str, str], list[str]] = {}
    for i, (worker, pieces) in enumerate(lanes.items()):
        y = top + i * pitch
        drawn.beside += (
            f'<rect class="rail" x="{LEFT}" y="{number(y)}" width="{PLOT}" height="{number(height)}"/>'
            f'<text class="lane" x="{LEFT - 10}" y="{number(y + height / 2)}" dy="4">{escape(names[worker])}'
            f"<title>{escape(worker)}</title></text>"
        )
        flat: list[int] = []
        for piece in pieces:
            width = max(PLOT * (piece.stop - piece.start) / stop, 0.05)
            thin = piece.kind == "wait"
            at, h = (y + height * 0.4, height * 0.2) if thin else (y, height)
            w = number(width)
            outline = "bare" if thin else next(name for least, name in _OUTLINES if width >= least)
            path = paths.setdefault((piece.kind, outline), [])
            path.append(f"M{number(x_of(piece.start, stop))} {number(at)}h{w}v{number(h)}h-{w}z")
            place = KINDS.index(piece.kind) if piece.kind in KINDS else len(KINDS)
            block = piece.block if piece.block is not None else -1
            times = round(1e6 * piece.start), max(1, round(1e6 * (piece.stop - piece.start)))
            flat += [*times, place, block, piece.tasks, piece.rows, piece.bytes]
        data.append({"name": worker, "y": round(y, 2), "h": round(height, 2), "p": flat})
    order = [*KINDS, *sorted({kind for kind, _ in paths} - set(KINDS))]
    for kind, outline in sorted(paths, key=lambda key: (order.index(key[0]), key[1])):
        shape = "".join(paths[kind, outline])
        classes = f"task {kind_class(kind)} {outline}"
        drawn.inside += f'<path class="{classes}" data-kind="{escape(kind)}" d="{shape}"/>'
    return drawn, data


def _bands(passes: Sequence[Pass], rows: Sequence[int], stop: float, bottom: float) -> tuple[str, list[dict[str, Any]]]:
    parts = []
    data = []
    for one, row in zip(passes, rows, strict=True):
        if row >= _MOST_BAND_ROWS:
            continue
        label = f"{one.number}. {one.work.kind} {as_seconds(one.seconds)} \N{MIDDLE DOT} {one.title}"
        classes = "band odd" if one.number % 2 else "band"
        if one.error is not None:
            label = f"{one.number}. {one.error} \N{MIDDLE DOT} {one.title}"
            classes += " failed"
        x, width, y = x_of(one.start, stop), PLOT * one.seconds / stop, row * _BAND
        sides = f'x="{number(x)}" width="{number(max(width, 0.5))}"'
        shade = f'<rect class="shade" y="0" {sides} height="{number(bottom)}"/>' if row == 0 else ""
        parts.append(
            f'<g class="{classes}">{shade}<rect class="head" y="{y}" {sides} height="{_BAND - 4}" rx="3"/>'
            f'<text x="{number(x + 7)}" y="{y + 14}">{escape(fitted(label, width - 14))}</text></g>'
        )
        data.append({"a": round(one.start, 6), "b": round(one.start + one.seconds, 6), "label": label})
    return "".join(parts), data
