from __future__ import annotations

import pytest

from ooclearn.diagnostics._diagnosis import diagnose
from ooclearn.events import Work


def feed(wall, *, fit, wait=None, readers=1, read=0.0, transform=0.0):
    """Spans of a feed of 10 blocks; the shares are of `wall` and of each reader."""
    step, spans = wall / 10, []
    for i in range(10):
        at = i * step
        if wait is not None:
            spans.append(("MainThread", "wait", at, at + wait * step, i))
        begin = at + (wait or 0.0) * step
        spans.append(("MainThread", "fit", begin, begin + fit * step, i, 100))
        for k in range(readers):
            middle = at + read * step
            spans += [
                (f"reader-{k}", "read", at, middle, i, 0, 1_000_000_000),
                (f"reader-{k}", "transform", middle, middle + transform * step, i),
            ]
    return spans


def share(kind, *shares, wall=10.0):
    """One task a worker, of that share of `wall`."""
    return [(f"worker-{k}", kind, 0.0, part * wall, k, 10, 1_000_000_000) for k, part in enumerate(shares)]


CASES = {
    "read-bound feed": (
        Work("feed", ""),
        feed(10.0, fit=0.2, wait=0.71, read=0.9, transform=0.05),
        "read-bound: fit waited 71 % of the feed pass for blocks (reading gave 1.00 GB/s)",
    ),
    "read-bound feed whose waiting was not told": (
        Work("feed", ""),
        feed(10.0, fit=0.29, read=0.9, transform=0.05),
        "read-bound: fit waited 71 % of the feed pass for blocks (reading gave 1.00 GB/s)",
    ),
    "transform-bound feed": (
        Work("feed", ""),
        feed(10.0, fit=0.3, wait=0.64, read=0.1, transform=0.85),
        "transform-bound: fit waited 64 % of the feed pass while blocks were transformed",
    ),
    "fit-bound feed": (
        Work("feed", ""),
        feed(10.0, fit=0.94, wait=0.05, readers=3, read=0.2, transform=0.1),
        "fit-bound: the serial partial_fit was busy 94 % of the feed pass; more workers cannot help",
    ),
    "balanced feed": (
        Work("feed", ""),
        feed(10.0, fit=0.65, wait=0.2, readers=2, read=0.35, transform=0.4),
        "parallel and balanced: 3 workers were busy 72 % of the feed pass; fit was busy 65 % of it",
    ),
    "read-bound on one worker": (
        Work("feed", ""),
        [("MainThread", "read", 0.0, 6.0, 0, 0, 3_000_000_000), ("MainThread", "fit", 6.0, 10.0, 0, 5)],
        ("read-bound: reading took 60 % of the feed pass, in turn with fit on one worker (reading gave 0.30 GB/s)"),
    ),
    "fit-bound on one worker": (
        Work("feed", ""),
        [("MainThread", "read", 0.0, 4.0, 0), ("MainThread", "fit", 4.0, 10.0, 0, 5)],
        "fit-bound: fitting took 60 % of the feed pass, in turn with reading on one worker",
    ),
    "write-bound": (
        Work("write", ""),
        [*share("write", 0.9, 0.8), ("worker-0", "transform", 9.0, 10.0)],
        "write-bound: writing took 94 % of the workers' time in the write pass (writing gave 0.20 GB/s)",
    ),
    "transform-bound write": (
        Work("write", ""),
        [*share("transform", 0.9, 0.9), ("worker-0", "write", 9.0, 10.0, 0, 0, 10)],
        "transform-bound: transforming took 95 % of the workers' time in the write pass",
    ),
    "read-bound fold": (
        Work("fold", ""),
        [*share("read", 0.8, 0.8), ("worker-0", "fold", 8.0, 10.0)],
        "read-bound: reading took 89 % of the workers' time in the fold pass (reading gave 0.20 GB/s)",
    ),
    "parallel fold": (
        Work("fold", ""),
        # The main thread merges: no worker, so its idleness counts for nothing.
        [*share("fold", 0.95, 0.9, 0.9, 0.93), ("MainThread", "merge", 0.0, 0.3)],
        "parallel and balanced: 4 workers were busy 92 % of the fold pass",
    ),
    "map that transforms": (
        Work("map", ""),
        share("transform", 0.9, 0.9),
        "parallel and balanced: 2 workers were busy 90 % of the map pass",
    ),
    "one worker": (
        Work("fold", ""),
        share("fold", 0.9),
        "balanced on one worker: 1 worker was busy 90 % of the fold pass",
    ),
    "underused": (
        Work("fold", ""),
        share("fold", 0.3, 0.2),
        "underused: 2 workers were busy only 25 % of the fold pass",
    ),
    "only waited": (
        Work("fold", ""),
        share("wait", 0.9),
        "nothing was recorded in the fold pass: no task was told",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_known_answers(quiet, tell, case):
    work, spans, sentence = CASES[case]
    tell(quiet, work, 0.0, 10.0, spans)
    assert diagnose(quiet.passes).sentence == sentence
    # Nothing was sampled, so the timeline says the same.
    assert quiet.diagnosis() == sentence


def test_nothing_recorded(quiet):
    assert quiet.diagnosis() == "nothing was recorded: no pass ran"


def test_the_kind_of_pass_that_took_longest_is_told(quiet, tell):
    tell(quiet, Work("feed", ""), 0.0, 10.0, feed(10.0, fit=0.94, wait=0.05, read=0.2))
    for i in range(3):
        spans = [("w", "read", 10.0 + 5 * i, 14.0 + 5 * i, 0, 0, 10**9)]
        tell(quiet, Work("fold", f"iteration {i}"), 10.0 + 5 * i, 15.0 + 5 * i, spans)
    assert quiet.diagnosis() == (
        "read-bound: reading took 100 % of the workers' time in the 3 fold passes (reading gave 0.20 GB/s)"
    )


@pytest.mark.parametrize(
    ("cpu", "cores", "kind"),
    [(2.0, 2, "balanced"), (1.1, 2, "balanced"), (0.6, 2, "waiting"), (0.6, 1, "balanced")],
)
def test_workers_that_wait_for_storage_are_told_by_the_cpu(quiet, tell, cpu, cores, kind):
    tell(quiet, Work("fold", ""), 0.0, 10.0, share("fold", 0.9, 0.9))
    told = diagnose(quiet.passes, lambda one: cpu * one.seconds, cores)
    assert told.kind == kind
    if kind == "waiting":
        assert told.sentence == (
            "waiting: 2 workers were at it 90 % of the fold pass, but used 60 % CPU: "
            "the rest was spent on storage, or outside this process"
        )
