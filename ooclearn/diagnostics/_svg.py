"""Measures of the picture, and numbers as SVG has them."""

from __future__ import annotations

import math

__all__ = ["LEFT", "PLOT", "WIDTH", "fitted", "number", "steps", "ticks", "x_of"]

WIDTH = 1160
LEFT = 104
RIGHT = 14
PLOT = WIDTH - LEFT - RIGHT
_LETTER = 6.1  # about the width of a letter at 11 px; page.js has the same


def x_of(time: float, stop: float) -> float:
    """Return where a time stands."""
    return LEFT + PLOT * time / stop


def number(value: float) -> str:
    """Return a coordinate: hundredths are enough, however far one zooms in.

    Examples
    --------
    >>> number(3.14159), number(20.0)
    ('3.14', '20')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def fitted(label: str, width: float) -> str:
    """Return as much of a label as `width` pixels hold, or nothing where that would tell nothing.

    Examples
    --------
    >>> fitted("StandardScaler", 200), fitted("StandardScaler", 10)
    ('StandardScaler', '')
    """
    letters = int(width / _LETTER)
    if letters >= len(label):
        return label
    return f"{label[: letters - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}" if letters >= 6 else ""


def steps(top: float, most: int) -> list[float]:
    """Return round values from 0 to `top`, at most about `most` of them above 0.

    Examples
    --------
    >>> steps(9.0, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    if top <= 0:
        return [0.0]
    raw = top / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(f for f in (1, 2, 2.5, 5, 10) if f * unit >= raw * 0.999)
    return [step * i for i in range(int(top / step * (1 + 1e-12)) + 1)]


def ticks(stop: float, y: float) -> str:
    """Return the axis of time; page.js draws it again when one zooms."""
    times = steps(stop, 10)
    step = times[1] if len(times) > 1 else stop
    digits = next((d for d in range(7) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 7)
    drawn = []
    for time in times:
        x = number(x_of(time, stop))
        drawn.append(
            f'<line x1="{x}" x2="{x}" y1="{number(y)}" y2="{number(y + 5)}"/>'
            f'<text x="{x}" y="{number(y + 18)}">{time:.{digits}f} s</text>'
        )
    return "".join(drawn)
