"""A timeline in the Trace Event Format, which Perfetto opens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from ooclearn.diagnostics._lanes import lane_names, lane_order
from ooclearn.diagnostics._recording import rows_of_intervals

if TYPE_CHECKING:
    from ooclearn.diagnostics.timeline import Timeline

__all__ = ["write_trace"]


def write_trace(timeline: Timeline, file: TextIO) -> None:
    """Write the trace, one event a line, without holding it in memory."""
    file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
    file.writelines(
        (",\n" if i else "") + json.dumps(event, ensure_ascii=False) for i, event in enumerate(_events(timeline))
    )
    file.write("\n]}\n")


def _events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    recorded = timeline.recorded()
    yield _about(0, "process_name", name="ooclearn")
    # Passes may overlap; each line of them is a thread of its own, above the workers.
    rows = rows_of_intervals((one.start, one.start + one.seconds) for one in recorded.passes)
    n_rows = max(rows, default=0) + 1
    for row in range(n_rows):
        yield _about(row, "thread_name", name="passes" if row == 0 else f"passes {row + 1}")
        yield _about(row, "thread_sort_index", sort_index=row)
    for one, row in zip(recorded.passes, rows, strict=True):
        told = {"pass": one.number, "kind": one.work.kind, "rows": one.rows, "bytes": one.n_bytes}
        if one.error is not None:
            told["error"] = one.error
        yield _task(one.title, one.work.kind, row, one.start, one.seconds, told)
    names = lane_names(recorded.lanes)
    for thread, worker in enumerate(lane_order(recorded.lanes), n_rows):
        yield _about(thread, "thread_name", name=names[worker])
        yield _about(thread, "thread_sort_index", sort_index=thread)
        for piece in recorded.lanes[worker]:
            told = {"pass": piece.number, "block": piece.block, "rows": piece.rows, "bytes": piece.bytes}
            if piece.tasks != 1:
                told["tasks"] = piece.tasks
            yield _task(piece.kind, piece.kind, thread, piece.start, piece.stop - piece.start, told)
    for sample in timeline.memory.samples:
        at = _microseconds(sample.time - timeline.start)
        if sample.memory is not None:
            yield {"name": "memory, MB", "ph": "C", "ts": at, "pid": 1, "args": {"MB": sample.memory / 1e6}}
        yield {"name": "CPU, %", "ph": "C", "ts": at, "pid": 1, "args": {"%": round(100 * sample.cpu, 1)}}


def _task(name: str, category: str, thread: int, start: float, seconds: float, told: dict[str, Any]) -> dict[str, Any]:
    times = {"ts": _microseconds(start), "dur": _microseconds(seconds)}
    return {"name": name, "cat": category, "ph": "X", **times, "pid": 1, "tid": thread, "args": told}


def _about(thread: int, what: str, **told: object) -> dict[str, Any]:
    return {"name": what, "ph": "M", "ts": 0, "pid": 1, "tid": thread, "args": told}


def _microseconds(seconds: float) -> float:
    return round(1e6 * seconds, 3)
