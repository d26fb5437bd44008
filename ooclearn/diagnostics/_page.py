"""The page around the picture: the diagnosis, the passes in figures, the legend; all in one file."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

import joblib

from ooclearn.diagnostics._curves import Curves
from ooclearn.diagnostics._diagnosis import Diagnosis, diagnose, diagnose_passes
from ooclearn.diagnostics._picture import Picture, draw, kind_class
from ooclearn.diagnostics._recording import KINDS, Pass, Recorded
from ooclearn.diagnostics._summary import cells, summarise
from ooclearn.diagnostics._units import as_bytes, as_count, as_seconds

if TYPE_CHECKING:
    from ooclearn.diagnostics.timeline import Timeline

__all__ = ["page"]

_MOST_CARDS = 40
_GOOD = {"balanced"}
_HEADS = ("", "blocks", "time", "rows", "GB/s", "% of wall")


def page(timeline: Timeline, title: str) -> str:
    """Return the page as text."""
    recorded = timeline.recorded()
    cores = int(joblib.cpu_count())
    curves = Curves(timeline.memory, timeline.start, timeline.memory_budget, cores)
    picture = draw(recorded, curves)
    style, script = (
        files("ooclearn.diagnostics").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    # A title may hold anything; "</script>" in it must not end the script.
    data = json.dumps(picture.data, separators=(",", ":")).replace("<", "\\u003c")
    when = timeline.started.strftime("%Y-%m-%d %H:%M") if timeline.started is not None else ""
    verdict = diagnose(recorded.passes, timeline.cpu_seconds, cores)
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8"/>',
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head>",
            "<body><main>",
            f'<header><h1>{escape(title)}</h1><p class="when">{when}</p></header>',
            _verdict(verdict),
            _tiles(timeline, recorded),
            _cards(recorded.passes, timeline, cores),
            _figure(picture, timeline),
            f'</main><div id="tip" role="status"></div><script>const DATA={data};\n{script}</script>',
            "</body></html>",
            "",
        )
    )


def _verdict(verdict: Diagnosis) -> str:
    head, colon, rest = verdict.sentence.partition(":")
    state = "good" if verdict.kind in _GOOD else "bound"
    kind = kind_class(verdict.kind.removesuffix("-bound"))
    return f'<p class="verdict {state} {kind}"><strong>{escape(head)}</strong>{colon}{escape(rest)}</p>'


def _tiles(timeline: Timeline, recorded: Recorded) -> str:
    passes = recorded.passes
    wall = sum(one.seconds for one in passes)
    n_bytes = sum(one.n_bytes for one in passes)
    tiles = [
        ("time", as_seconds(recorded.stop), f"{as_seconds(wall)} in passes"),
        ("passes", as_count(len(passes)), f"{as_count(sum(one.rows for one in passes))} rows"),
    ]
    if n_bytes and wall > 0:
        tiles.append(("throughput", f"{n_bytes / wall / 1e9:.2f} GB/s", f"{as_bytes(n_bytes)} in all"))
    memory = timeline.memory
    if memory.measure is not None and timeline.started is not None:
        budget = timeline.memory_budget
        of = f"of {as_bytes(budget)}" if budget else f"+{as_bytes(memory.growth)} over the start"
        tiles.append(("peak memory", as_bytes(memory.peak), of))
    else:
        tiles.append(("peak memory", "\N{EN DASH}", "not measured: no /proc here, and no psutil"))
    tiles.append(("CPU", f"{100 * memory.cores:.0f} %", f"of {100 * joblib.cpu_count()} %"))
    inner = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return f'<dl class="tiles">{inner}</dl>'


def _cards(passes: list[Pass], timeline: Timeline, cores: int) -> str:
    shown = passes
    if len(passes) > _MOST_CARDS:
        longest = sorted(passes, key=lambda one: one.seconds, reverse=True)[:_MOST_CARDS]
        shown = sorted(longest, key=lambda one: one.number)
    cards = [_card(one, diagnose_passes([one], timeline.cpu_seconds, cores)) for one in shown]
    if len(shown) < len(passes):
        n = len(passes) - len(shown)
        cards.append(f'<p class="note">and {n} shorter pass{"es" * (n > 1)}: see Timeline.summary()</p>')
    return f'<section class="cards">{"".join(cards)}</section>' if cards else ""


def _card(one: Pass, verdict: Diagnosis) -> str:
    state = "good" if verdict.kind in _GOOD else "bound"
    badge = one.error or verdict.kind
    if one.error:
        state = "failed"
    rows = summarise([one]).rows
    spent = sum(row.seconds for row in rows if row.kind != "total") or 1.0
    bar = "".join(
        f'<i class="{kind_class(row.kind)}" style="width:{100 * row.seconds / spent:.2f}%"></i>'
        for row in rows
        if row.kind != "total"
    )
    body = []
    for row in rows:
        name = f'<i class="{kind_class(row.kind)}"></i>{escape(row.kind)}' if row.kind != "total" else "total"
        figures = "".join(f"<td>{cell}</td>" for cell in cells(row))
        body.append(f'<tr class="{"sum" if row.kind == "total" else ""}"><th>{name}</th>{figures}</tr>')
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    return (
        f"<article><h2><b>{one.number}</b> <strong>{escape(one.title)}</strong> "
        f"<span>{escape(one.work.kind)}</span>"
        f'<em class="{state}" title="{escape(verdict.sentence)}">{escape(badge)}</em></h2>'
        f'<div class="bar" aria-hidden="true">{bar}</div>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></article>"
    )


def _figure(picture: Picture, timeline: Timeline) -> str:
    keys = "".join(
        f'<button type="button" class="{kind_class(kind)}" data-kind="{escape(kind)}" aria-pressed="true">'
        f"<i></i>{escape(kind)} <small>{as_seconds(seconds)}</small></button>"
        for kind, seconds in sorted(
            picture.seconds.items(),
            key=lambda item: KINDS.index(item[0]) if item[0] in KINDS else len(KINDS),
        )
    )
    notes = []
    if picture.resolution:
        notes.append(f"Tasks shorter than {as_seconds(picture.resolution)} are drawn together, by kind.")
    if picture.left_out:
        notes.append(f"{picture.left_out} workers that did less are not drawn.")
    if timeline.memory.measure is None:
        notes.append("Memory was not measured: there is no /proc here, and psutil is not installed.")
    elif timeline.memory.measure != "anonymous memory":
        notes.append(f"Memory is {timeline.memory.measure}.")
    note = f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""
    return (
        f'<figure><div class="bar-above"><div class="legend">{keys}</div><div class="tools">'
        "<span>drag to zoom, double-click to go back</span>"
        '<button type="button" id="whole" hidden="hidden">whole picture</button></div></div>'
        f"{picture.svg}{note}</figure>"
    )
