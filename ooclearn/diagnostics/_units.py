"""Numbers as people read them: bytes, seconds, counts, rates."""

from __future__ import annotations

__all__ = ["as_bytes", "as_clock", "as_count", "as_seconds", "of_passes"]


def _scaled(value: float, units: tuple[str, ...], gap: str) -> str:
    sign, value = ("-", -value) if value < 0 else ("", value)
    unit = 0
    # 999.5 would print as 1000 of the smaller unit.
    while value >= 999.5 and unit < len(units) - 1:
        value /= 1000
        unit += 1
    digits = 0 if unit == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{sign}{value:.{digits}f}{gap if units[unit] else ''}{units[unit]}"


def as_bytes(n: float, /) -> str:
    """Return a size in decimal units.

    Examples
    --------
    >>> as_bytes(512), as_bytes(16_800_000_000)
    ('512 B', '16.8 GB')
    """
    return _scaled(n, ("B", "kB", "MB", "GB", "TB", "PB"), " ")


def as_count(n: float, /) -> str:
    """Return a number of rows or blocks, exact where it is short.

    Examples
    --------
    >>> as_count(2500), as_count(12_345_678)
    ('2,500', '12.3M')
    """
    return f"{n:,.0f}" if abs(n) < 9_999.5 else _scaled(n, ("", "k", "M", "G", "T"), "")


def as_seconds(seconds: float, /) -> str:
    """Return a length of time.

    Examples
    --------
    >>> as_seconds(0.00321), as_seconds(9.87), as_seconds(107)
    ('3.21 ms', '9.87 s', '1 min 47 s')
    """
    if seconds < 0.9995e-3:
        # Not with the micro sign: many encodings of consoles and log files, ASCII among them, do not have it.
        return f"{max(seconds, 0.0) * 1e6:.0f} us"
    if seconds < 0.9995:
        return _scaled(seconds * 1e6, ("", "ms"), " ")
    if seconds < 99.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def as_clock(seconds: float, /) -> str:
    """Return a length of time of fixed form, for lines that are written again and again.

    Examples
    --------
    >>> as_clock(7), as_clock(3725)
    ('0:07', '1:02:05')
    """
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def of_passes(n: int, kind: str, /) -> str:
    """Return ``"the fold pass"`` or ``"3 fold passes"``.

    Examples
    --------
    >>> of_passes(1, "feed"), of_passes(3, "fold")
    ('the feed pass', 'the 3 fold passes')
    """
    return f"the {kind} pass" if n == 1 else f"the {n} {kind} passes"
