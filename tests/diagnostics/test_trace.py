from __future__ import annotations

import json
from itertools import pairwise

import pytest

from ooclearn.diagnostics import timeline
from ooclearn.events import Work


def trace_of(t, folder):
    return json.loads(t.to_chrome_trace(folder / "trace.json").read_text(encoding="utf-8"))


@pytest.fixture
def trace(tell, tmp_path):
    with timeline() as t:
        t.memory.sample()
    spans = [
        ("reader-0", "read", 0.0, 0.5, 0, 0, 800),
        ("reader-0", "transform", 0.5, 0.75, 0),
        ("MainThread", "fit", 0.75, 1.0, 0, 100),
    ]
    tell(t, Work("feed", 'say "hello"', 100), 0.0, 1.0, spans)
    tell(t, Work("fold", "beside it"), 0.5, 1.5, [], error=ValueError())
    return trace_of(t, tmp_path)


def test_every_event_is_as_the_format_has_it(trace):
    assert trace["displayTimeUnit"] == "ms"
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str)
        assert event["pid"] == 1
        assert event["ph"] in {"X", "M", "C"}
        assert isinstance(event["args"], dict)
        assert isinstance(event["ts"], int | float)
        if event["ph"] == "X":
            assert event["dur"] > 0
            assert isinstance(event["tid"], int)
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())


def test_tasks_stand_on_the_line_of_their_worker(trace):
    events = trace["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(names.values()) == ["passes", "passes 2", "main", "reader 0"]
    tasks = {event["name"]: event for event in events if event["ph"] == "X"}
    assert {name: names[event["tid"]] for name, event in tasks.items()} == {
        'say "hello"': "passes",
        "beside it": "passes 2",
        "fit": "main",
        "read": "reader 0",
        "transform": "reader 0",
    }
    assert (tasks["transform"]["ts"], tasks["transform"]["dur"]) == pytest.approx((500_000, 250_000))
    assert tasks["read"]["args"] == {"pass": 1, "block": 0, "rows": 0, "bytes": 800}
    assert tasks["fit"]["args"]["rows"] == 100
    assert tasks["beside it"]["args"]["error"] == "ValueError"


def test_memory_and_cpu_are_counters(trace):
    counters = {event["name"] for event in trace["traceEvents"] if event["ph"] == "C"}
    assert counters == {"memory, MB", "CPU, %"}


def test_tasks_of_one_line_do_not_overlap(tell, tmp_path):
    t = timeline()
    # One task inside another: the outer one is cut.
    tell(t, Work("write", ""), 0.0, 1.0, [("w", "read", 0.2, 0.4, 0), ("w", "write", 0.0, 1.0, 0, 5)])
    lines = {}
    for event in trace_of(t, tmp_path)["traceEvents"]:
        if event["ph"] == "X":
            lines.setdefault(event["tid"], []).append(event)
    assert [event["name"] for event in lines[1]] == ["write", "read", "write"]
    for line in lines.values():
        for before, after in pairwise(line):
            assert before["ts"] + before["dur"] <= after["ts"] + 0.01


def test_an_empty_timeline_has_a_trace(tmp_path):
    assert trace_of(timeline(), tmp_path)["traceEvents"]
