"""Timelines of which every time is known."""

from __future__ import annotations

import pytest

from ooclearn.diagnostics import Timeline
from ooclearn.events import Span


def told(timeline, work, start, stop, spans, *, error=None):
    """Tell a pass from `start` to `stop`, its spans as (worker, kind, start, stop, block, rows, bytes)."""
    base = timeline.start
    timeline._recording.begin(work, base + start)
    for worker, kind, begin, end, *rest in spans:
        timeline.span(work, Span(worker, kind, base + begin, base + end, *rest))
    timeline._recording.end(work, base + stop, error)
    timeline._stop = base + max(stop, (timeline._stop or base) - base)


@pytest.fixture
def tell():
    return told


@pytest.fixture
def quiet():
    """A timeline that was never entered: it hears only what it is told, and samples nothing."""
    return Timeline()
