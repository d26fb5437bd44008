"""What the demo reports: what was measured, as a table, and what was promised, as claims that hold or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ooclearn.demo.job import Outcome, Step
from ooclearn.plan import Plan

__all__ = ["Claim", "claims", "table"]


@dataclass(frozen=True)
class Claim:
    """Something promised, and whether the run kept it."""

    kept: bool
    says: str

    def __str__(self) -> str:
        return f"  {'ok     ' if self.kept else 'BROKEN '} {self.says}"


def table(outcomes: Sequence[Outcome], held_out: int, measure: str) -> str:
    """Return the measured numbers, a column for each way to do the job; `measure` says which memory."""
    rows: list[tuple[str, Callable[[Outcome], str]]] = [
        ("rows trained on", lambda one: f"{one.fit.rows:,}"),
        ("fit: passes over the rows", lambda one: f"{one.fit.passes}"),
        ("     seconds", lambda one: f"{one.fit.seconds:,.2f}"),
        ("     GB/s, all passes", lambda one: f"{one.fit.rate / 1e9:.2f}"),
        (f"     peak {measure}", lambda one: _memory(one.fit)),
        ("predict: passes over the rows", lambda one: f"{one.predict.passes}"),
        ("     seconds", lambda one: f"{one.predict.seconds:,.2f}"),
        ("     GB/s", lambda one: f"{one.predict.rate / 1e9:.2f}"),
        (f"     peak {measure}", lambda one: _memory(one.predict)),
        (f"accuracy on {held_out:,} held-out rows", lambda one: f"{one.accuracy:.4f}"),
    ]
    cells = [["", *(one.name for one in outcomes)], *([name, *map(show, outcomes)] for name, show in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def claims(ours: Outcome, sample: Outcome, plan: Plan, table_bytes: int, right: float, limit: int) -> list[Claim]:
    """Return what was promised, judged by what was measured.

    Parameters
    ----------
    ours, sample : Outcome
        Out of core, and of scikit-learn on a sample.
    plan : Plan
        What ``explain`` said before the fit.
    table_bytes : int
        Bytes of X and y.
    right : float
        Share of the predictions in the file that are right.
    limit : int
        Bytes that the job may take beyond what the process held.
    """
    found = [
        Claim(
            ours.fit.passes == plan.n_passes,
            f"the fit made {ours.fit.passes} passes; the plan said {plan.n_passes}",
        )
    ]
    read = ours.fit.bytes_read
    if read is not None:
        promised = plan.n_passes * table_bytes
        # What else a process reads in that time (its own status, a module) is a matter of kilobytes.
        kept = 0.999 * promised <= read <= 1.01 * promised + 2**20
        found.append(Claim(kept, f"the fit read {read / 1e9:.3f} GB; the plan said {promised / 1e9:.3f}"))
    taken = [step.growth for step in (ours.fit, ours.predict) if step.growth is not None]
    if taken:
        says = f"fit and predict took {max(taken) / 1e6:,.0f} MB beyond the program itself"
        found.append(Claim(max(taken) <= limit, f"{says}; the limit was {limit / 1e6:,.0f}"))
    slack = accuracy_slack(ours.fit.rows)
    says = f"accuracy {ours.accuracy:.4f}; scikit-learn on a sample {sample.accuracy:.4f}"
    found.append(Claim(ours.accuracy >= sample.accuracy - slack, f"{says}, {slack:.3f} less is allowed"))
    says = f"every row has its prediction on disk, {right:.2%} of them right"
    found.append(Claim(abs(right - ours.accuracy) <= slack, says))
    return found


def accuracy_slack(rows: int) -> float:
    """Return how far one epoch over so many rows may end below several over a sample.

    Stochastic gradient descent stops at a random distance from the best model, which falls with the square
    root of the steps made; scikit-learn makes more of them on its sample.
    """
    return 0.005 + 10 / math.sqrt(rows)


def _memory(step: Step) -> str:
    return "not measured" if step.peak is None else f"{step.peak / 1e6:,.0f} MB"
