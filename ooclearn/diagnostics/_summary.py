"""What each pass spent its time on, as a table."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from ooclearn.diagnostics._recording import KINDS, Pass
from ooclearn.diagnostics._units import as_count, as_seconds

__all__ = ["Summary", "SummaryRow", "summarise"]


class SummaryRow(NamedTuple):
    """What one pass spent on one kind of task; ``kind`` is ``"total"`` for the pass itself.

    ``seconds`` are summed over workers (of the total: the length of the pass), ``gb_per_s`` is per worker
    while at it (of the total: of the table, through the pass; None where no bytes were told). ``share`` is
    seconds by the length of the pass: above 1 where several workers do it at once. Rows are counted where
    they are done with, by the last task on a block.
    """

    number: int
    title: str
    pass_kind: str
    kind: str
    blocks: int
    seconds: float
    rows: int
    bytes: int
    gb_per_s: float | None
    share: float


class Summary:
    """A printable table of :class:`SummaryRow`; ``rows`` has them as plain tuples.

    Examples
    --------
    >>> from ooclearn.diagnostics import timeline
    >>> with timeline() as t:
    ...     pass
    >>> t.summary()
    nothing was recorded
    >>> t.summary().rows
    []
    """

    def __init__(self, rows: list[SummaryRow], errors: dict[int, str]) -> None:
        self.rows = rows
        self.errors = errors

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if not self.rows:
            return "nothing was recorded"
        lines: list[str] = []
        width = max(9, *(len(row.kind) for row in self.rows))
        number = None
        for row in self.rows:
            if row.number != number:
                number = row.number
                error = f", ended by {self.errors[number]}" if number in self.errors else ""
                lines += [""] if lines else []
                lines.append(f"pass {number}: {row.title} ({row.pass_kind}{error})")
                heads = ("blocks", "time", "rows", "GB/s", "% of wall")
                lines.append("  ".join([f"  {'kind':<{width}}", *(f"{head:>9}" for head in heads)]))
            lines.append("  ".join([f"  {row.kind:<{width}}", *(f"{cell:>9}" for cell in cells(row))]))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        out = ["<table>"]
        number = None
        for row in self.rows:
            if row.number != number:
                number = row.number
                heads = ("blocks", "time", "rows", "GB/s", "% of wall")
                title = escape(f"{number}. {row.title} ({row.pass_kind})")
                out.append(f"<tr><th style='text-align:left'>{title}</th>" + "".join(f"<th>{h}</th>" for h in heads))
                out.append("</tr>")
            out.append(f"<tr><td style='text-align:left'>{escape(row.kind)}</td>")
            out.append("".join(f"<td>{cell}</td>" for cell in cells(row)) + "</tr>")
        return "".join([*out, "</table>"])


def cells(row: SummaryRow, /) -> tuple[str, str, str, str, str]:
    """Return the numbers of a row as they are shown: blocks, time, rows, GB/s, % of wall."""
    return (
        as_count(row.blocks),
        as_seconds(row.seconds),
        as_count(row.rows) if row.rows else "-",
        f"{row.gb_per_s:.2f}" if row.gb_per_s is not None else "-",
        f"{100 * row.share:.0f} %",
    )


def summarise(passes: list[Pass]) -> Summary:
    """Return the table of some passes."""
    rows = []
    for one in passes:
        wall = one.seconds
        known = {kind: place for place, kind in enumerate(KINDS)}
        for kind in sorted(one.totals, key=lambda kind: (known.get(kind, len(known)), kind)):
            total = one.totals[kind]
            rate = total.bytes / total.seconds / 1e9 if total.bytes and total.seconds > 0 else None
            share = total.seconds / wall if wall > 0 else 0.0
            figures = (total.blocks, total.seconds, total.rows, total.bytes, rate, share)
            rows.append(SummaryRow(one.number, one.title, one.work.kind, kind, *figures))
        n_bytes = one.n_bytes
        rate = n_bytes / wall / 1e9 if n_bytes and wall > 0 else None
        blocks = max((total.blocks for kind, total in one.totals.items() if kind != "wait"), default=0)
        figures = (blocks, wall, one.rows, n_bytes, rate, 1.0 if wall > 0 else 0.0)
        rows.append(SummaryRow(one.number, one.title, one.work.kind, "total", *figures))
    return Summary(rows, {one.number: one.error for one in passes if one.error is not None})
