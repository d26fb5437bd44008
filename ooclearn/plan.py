"""The plan of a fit, before any data is read: which passes, what each answers, what it reads, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ooclearn.feeds import Feed, Grouped
from ooclearn.folding import room_to_fold
from ooclearn.passes import Asked, Stage, feed_memory, refuse_over_limit, rounds
from ooclearn.sharing import sharing
from ooclearn.statistics.join import Join
from ooclearn.statistics.protocol import parts_of
from ooclearn.table import Rows, Table

__all__ = ["ROWS_IN_MEMORY", "PassPlan", "Plan", "Repeated", "planned"]

# What a pass reads that does not go back to the table.
ROWS_IN_MEMORY = "rows in memory"


@dataclass(frozen=True, eq=False)
class Repeated:
    """Stands in a plan for passes of which only a fit finds out how many it needs; no fit yields it.

    Parameters
    ----------
    request : Statistic
        What each of them asks for.
    at_most : int
        How many there are at most.
    """

    request: Any
    at_most: int

    @property
    def parts(self) -> frozenset[str]:
        """What is read."""
        return parts_of(self.request)

    def of(self, rows: Rows, /) -> Any:
        """Return the state of one block, of one of the passes."""
        return self.request.of(rows)

    def merge(self, a: Any, b: Any, /) -> Any:
        """Return the state of the rows of `a` followed by those of `b`."""
        return self.request.merge(a, b)


@dataclass(frozen=True)
class PassPlan:
    """One pass.

    Attributes
    ----------
    answers : tuple of (str, str)
        The stages it answers, and what they ask.
    parts : str
        What is read of the table, such as ``"X, y"``; `ROWS_IN_MEMORY` for what a step before has made.
    n_bytes : int or None
        How much that is; None where only reading tells.
    n_blocks : int
        Blocks read.
    memory : int
        Bytes that blocks and their temporary copies take at a time, an upper bound.
    reason : str
        Why the pass before could not answer this; empty for the first.
    at_most : int
        How often this is read at most: more than once where a fit goes on until it converges.
    device_memory : int
        Bytes that blocks take on a device that they are copied to, without those that stay there between passes.
    """

    answers: tuple[tuple[str, str], ...]
    parts: str
    n_bytes: int | None
    n_blocks: int
    memory: int
    reason: str = ""
    at_most: int = 1
    device_memory: int = 0


@dataclass(frozen=True)
class Plan:
    """The passes that a fit will make; prints itself, and shows as HTML in a notebook.

    Attributes
    ----------
    source : str
        What is read.
    passes : tuple of PassPlan
        In order.
    alone : tuple of str
        What is fitted before, by itself, to columns of its own of a data frame in memory, and why.
    note : str
        Why the steps are fitted one after the other, if they are.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import StandardScaler
    >>> plan = StandardScaler().explain(np.ones((1000, 20)))
    >>> plan.n_passes, plan.passes[0].parts, plan.passes[0].n_bytes
    (1, 'X', 160000)
    """

    source: str
    passes: tuple[PassPlan, ...]
    alone: tuple[str, ...] = ()
    note: str = ""

    @property
    def n_passes(self) -> int:
        """How often the rows X are read; the most, where a fit goes on until it converges."""
        return sum(one.at_most for one in self.passes if "X" in one.parts)

    @property
    def n_certain(self) -> int:
        """How often they are read at least."""
        return sum("X" in one.parts for one in self.passes)

    @property
    def memory(self) -> int:
        """Bytes that blocks take at a time, an upper bound."""
        return max((one.memory for one in self.passes), default=0)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return the plan as a table of text.

        Returns
        -------
        list of tuple of str
            For each pass its number, what it answers, what it reads, the memory it takes, and why it is needed.
        """
        out = []
        for number, one in enumerate(self.passes, 1):
            out.append(
                (
                    str(number) if one.at_most == 1 else f"{number}, and up to {one.at_most - 1:,} more",
                    "; ".join(f"{stage}: {what}" for stage, what in one.answers),
                    _read_of(one),
                    f"<= {one.memory / 2**20:,.0f} MiB"
                    + (f", <= {one.device_memory / 2**20:,.0f} MiB of the device" if one.device_memory else ""),
                    one.reason,
                )
            )
        return out

    def __str__(self) -> str:
        count = f"{self._count()} of {self.source}" + (f"; {self.note}" if self.note else "")
        lines = [count, *(f"  before  {text}" for text in self.alone)]
        for number, answers, reads, memory, reason in self.rows():
            lines.append(f"  pass {number}  {answers}")
            lines.append(f"          reads {reads}; memory for blocks {memory}")
            if reason:
                lines.append(f"          its own pass, since {reason}")
        return "\n".join(lines)

    __repr__ = __str__

    def _count(self) -> str:
        if self.n_certain < self.n_passes:
            return f"{self.n_certain} to {self.n_passes:,} readings"
        return f"{self.n_passes} reading{'s' if self.n_passes != 1 else ''}"

    def _repr_html_(self) -> str:
        heads = ("pass", "answers", "reads", "memory for blocks", "its own pass, since")
        head = "".join(f"<th>{text}</th>" for text in heads)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows()
        )
        caption = "<br>".join(
            [
                f"{self._count()} of {escape(self.source)}",
                *([escape(self.note)] if self.note else []),
                *(f"before: {escape(t)}" for t in self.alone),
            ]
        )
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"


def _read_of(one: PassPlan) -> str:
    if one.parts == ROWS_IN_MEMORY:
        return one.parts
    size = "size unknown" if one.n_bytes is None else f"{one.n_bytes / 1e9:.3g} GB"
    return f"{one.parts}: {size}, {one.n_blocks:,} block{'s' if one.n_blocks != 1 else ''}"


def planned(stages: Sequence[Stage], table: Table, /) -> Plan:
    """Return the plan of a fit whose stages yield their requests whatever they are sent."""
    passes: list[PassPlan] = []
    driver = rounds(stages)
    waiting: dict[Stage, str] = {}
    try:
        asked = next(driver)
        while True:
            passes.append(_planned(asked, table, waiting))
            waiting = _waiting(stages, asked)
            asked = driver.send([None] * len(asked))
    except StopIteration:
        return Plan(table.X.name, tuple(passes))


def _waiting(stages: Sequence[Stage], asked: Sequence[Asked]) -> dict[Stage, str]:
    """Return why stages that this pass does not answer, or not to the end, must wait for the next."""
    reasons = {}
    answered = {one.stage for one in asked}
    for stage in stages:
        above = stage.waits_for()
        if above is not None:
            reasons[stage] = f"{stage.name} gets its rows through {_unfitted(above)}, which is fitted only then"
            if stage.pending is not None and stage not in answered and not isinstance(stage.pending, Feed):
                reasons[stage] += f" and through which {_what(stage.pending)} cannot be seen"
        elif stage in answered:
            reasons[stage] = f"{stage.name} asks for it after the answer before"
        elif stage.pending is not None:
            reasons[stage] = f"{stage.name} wants the rows in another order"
    return reasons


def _unfitted(stage: Stage) -> str:
    """Name a stage that is not fitted; of one that puts branches side by side, those of its stages that are not."""
    inside = [part.name for part in stage.parts if not part.done and not part.parts]
    return f"{stage.name} (there {', '.join(inside)})" if inside else stage.name


def _planned(asked: Sequence[Asked], table: Table, waiting: dict[Stage, str]) -> PassPlan:
    parts = frozenset[str]().union(*(parts_of(one.request) for one in asked))
    table = table.only(parts)
    fed = [one for one in asked if isinstance(one.request, Feed)]
    feeds: list[Any] = [one.request for one in fed]
    n_blocks = table.n_blocks
    memory, on_device = room_to_fold(table).memory, 0
    if not feeds and hasattr(table.backend, "ring_memory"):
        memory, on_device = table.backend.ring_memory(table) or (memory, 0)
    answers = {one.stage: (one.stage.name, _what(one.request) + _where(one.request, table)) for one in asked}
    if feeds:
        shared = sharing(feeds, [one.stage.expected() for one in fed], [one.stage.weighted for one in fed])
        _put_together(answers, [[fed[k].stage for k in members] for _, members in shared.fed])
        grouped = Grouped(table, feeds[0].order, len(shared.prepared))
        n_blocks = len(grouped.groups)
        refuse_over_limit(grouped)
        memory = feed_memory(grouped) or memory
    names = {"X": table.X if "X" in parts else None, "y": table.y, "sample_weight": table.w}
    return PassPlan(
        tuple(answers.values()),
        ", ".join(name for name, part in names.items() if part is not None),
        table.nbytes,
        n_blocks,
        memory,
        "; ".join(dict.fromkeys(waiting[one.stage] for one in asked if one.stage in waiting)),
        max((one.request.at_most for one in asked if isinstance(one.request, Repeated)), default=1),
        on_device,
    )


def _put_together(answers: dict[Stage, tuple[str, str]], groups: Sequence[Sequence[Stage]]) -> None:
    """Make one answer of those of stages that are fed as one."""
    for group in groups:
        if len(group) > 1:
            names, titles = zip(*(answers[stage] for stage in group), strict=True)
            answers[group[0]] = ", ".join(names), f"{' / '.join(dict.fromkeys(titles))}, {len(group)} trained as one"
            for stage in group[1:]:
                del answers[stage]


def _where(request: Any, table: Table) -> str:
    """Say what a feed is given, where blocks lie on a device."""
    if not isinstance(request, Feed) or not hasattr(table.backend, "deliver"):
        return ""
    return " (is fed host arrays)" if request.host else f" (is fed arrays of {table.backend.name})"


def _what(request: Any) -> str:
    if isinstance(request, Repeated):
        return f"{_what(request.request)} until it converges"
    if isinstance(request, Join):
        return ", ".join(dict.fromkeys(map(_what, request.statistics.values())))
    return request.title if isinstance(request, Feed) else type(request).__name__
