"""What a fit does while it runs: progress bars, a timeline of every worker, memory."""

from __future__ import annotations

from ooclearn.diagnostics.memory import MemorySampler, limit_memory, peak_memory
from ooclearn.diagnostics.progress import Progress, progress
from ooclearn.diagnostics.timeline import Timeline, timeline

__all__ = [
    "MemorySampler",
    "Progress",
    "Timeline",
    "limit_memory",
    "peak_memory",
    "progress",
    "timeline",
]
