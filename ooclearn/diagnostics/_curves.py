"""The curves below the lanes: memory and CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ooclearn.diagnostics._svg import LEFT, PLOT, number, steps, x_of
from ooclearn.diagnostics._units import as_bytes
from ooclearn.diagnostics.memory import MemorySampler

__all__ = ["Curves", "Drawn"]

_MEMORY = 92
_CPU = 64
_TITLE = 30  # for the line above a curve
_MOST_POINTS = 700


@dataclass(slots=True)
class Drawn:
    """Parts of the picture, by how zooming moves them."""

    beside: str = ""  # stays where it is
    inside: str = ""  # is stretched
    marks: str = ""  # moves, but is not stretched


@dataclass(frozen=True, slots=True)
class Curves:
    """What was sampled from `start` on (``perf_counter`` seconds), and what to compare it with."""

    sampler: MemorySampler
    start: float
    budget: int | None
    cores: int

    def draw(self, stop: float, y: float) -> tuple[Drawn, float, list[dict[str, Any]]]:
        """Draw the curves below `y`; return them, where they end, and their points."""
        drawn = Drawn()
        samples = self.sampler.samples
        if not samples:
            return drawn, y, []
        times = [min(max(sample.time - self.start, 0.0), stop) for sample in samples]
        panels = []
        memory = [sample.memory for sample in samples if sample.memory is not None]
        if memory:
            # The samples are those that were kept, so the greatest of them is the peak.
            most = max(memory)
            panel = _Panel("memory", y + _TITLE, _MEMORY, 1.12 * max(most, self.budget or 0), stop)
            points = _binned(times, memory, stop, max)
            title = f"Memory <tspan>{self.sampler.measure}, peak {as_bytes(most)}</tspan>"
            drawn.beside += panel.frame(title, [(mark, as_bytes(mark)) for mark in steps(panel.top, 3)])
            drawn.inside += panel.curve(points)
            if self.budget is not None:
                drawn.marks += panel.rule(self.budget, f"budget {as_bytes(self.budget)}")
            drawn.marks += panel.point(times[memory.index(most)], most)
            panels.append(panel.data(points, 1e6))
            y = panel.y + panel.height
        # The first sample is of the start: nothing is known of the CPU before.
        points = _binned(times[1:], [100 * sample.cpu for sample in samples[1:]], stop, _mean)
        if not points:
            return drawn, y, panels
        whole = 100.0 * self.cores
        panel = _Panel("cpu", y + _TITLE, _CPU, 1.08 * max(whole, *(v for _, v in points)), stop)
        title = f"CPU <tspan>mean {100 * self.sampler.cores:.0f} % of {whole:.0f} %</tspan>"
        marks = [0.0, whole] if self.cores == 1 else [0.0, whole / 2, whole]
        drawn.beside += panel.frame(title, [(mark, f"{mark:.0f} %") for mark in marks])
        drawn.inside += panel.curve(points)
        panels.append(panel.data(points, 1.0))
        return drawn, panel.y + panel.height, panels


@dataclass(frozen=True, slots=True)
class _Panel:
    name: str
    y: float
    height: float
    top: float  # the value at its upper edge
    stop: float

    def _at(self, value: float) -> str:
        return number(self.y + self.height * (1 - value / max(self.top, 1e-12)))

    def frame(self, title: str, marks: Iterable[tuple[float, str]]) -> str:
        lines = "".join(
            f'<line class="grid" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{self._at(v)}" y2="{self._at(v)}"/>'
            f'<text class="mark" x="{LEFT - 10}" y="{self._at(v)}" dy="3.5">{label}</text>'
            for v, label in marks
        )
        return f'<text class="title" x="{LEFT}" y="{number(self.y - 7)}">{title}</text>{lines}'

    def curve(self, points: Sequence[tuple[float, float]]) -> str:
        drawn = [f"{number(x_of(time, self.stop))} {self._at(value)}" for time, value in points]
        line = "M" + "L".join(drawn)
        first, last = drawn[0].split()[0], drawn[-1].split()[0]
        area = f'<path class="area {self.name}" d="{line}L{last} {self._at(0)}L{first} {self._at(0)}z"/>'
        return f'{area}<path class="line {self.name}" d="{line}"/>'

    def rule(self, value: float, label: str) -> str:
        y = self._at(value)
        return (
            f'<line class="budget" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{y}" y2="{y}"/>'
            f'<text class="budget" x="{LEFT + PLOT - 6}" y="{y}" dy="-5">{label}</text>'
        )

    def point(self, time: float, value: float) -> str:
        x = number(x_of(time, self.stop))
        return f'<circle class="peak" data-t="{time:.6f}" cx="{x}" cy="{self._at(value)}" r="3.2"/>'

    def data(self, points: Sequence[tuple[float, float]], unit: float) -> dict[str, Any]:
        return {
            "name": self.name,
            "t": [round(time, 4) for time, _ in points],
            "v": [round(value / unit, 1) for _, value in points],
        }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _binned(
    times: Sequence[float], values: Sequence[float], stop: float, of: Callable[[list[float]], float]
) -> list[tuple[float, float]]:
    """Return one point for each bin of time that has values."""
    bins: dict[int, list[int]] = {}
    for i, time in enumerate(times):
        bins.setdefault(int(_MOST_POINTS * time / stop), []).append(i)
    return [(times[held[-1]], float(of([values[i] for i in held]))) for held in bins.values()]
