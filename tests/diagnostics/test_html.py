from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from ooclearn.diagnostics import memory, timeline
from ooclearn.diagnostics._recording import KINDS
from ooclearn.events import Work

VOID = {"meta", "br", "hr", "img", "input", "link"}
SVG = "{http://www.w3.org/2000/svg}"


class Tags(HTMLParser):
    """Checks that every tag that is opened is closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.seen = []
        self.attributes = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(t, folder, **options):
    return t.to_html(folder / "timeline.html", **options).read_text(encoding="utf-8")


def svg_of(page):
    (svg,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    return ET.fromstring(svg)


def data_of(page):
    return json.loads(re.search(r"const DATA=(.*);\n", page)[1])


def spans(n, workers=4, kinds=("read", "transform", "fold"), step=0.01):
    for i in range(n):
        at = i // workers * step * len(kinds)
        for k, kind in enumerate(kinds):
            rows = 1000 if kind == kinds[-1] else 0
            yield f"worker-{i % workers}", kind, at + k * step, at + (k + 0.9) * step, i, rows, 160_000


@pytest.fixture
def recorded(tell):
    """Two passes of 200 blocks on 4 workers, with samples of memory and CPU."""
    t = timeline(memory_budget=10**9)
    with t:
        t.memory.sample()
    tell(t, Work("fold", "StandardScaler", 200_000, 32_000_000, 200), 0.0, 1.5, spans(200))
    feed = [
        (worker, kind, start + 1.6, stop + 1.6, *rest)
        for worker, kind, start, stop, *rest in spans(200, 1, ("wait", "read", "fit"))
    ]
    tell(t, Work("feed", "SGDClassifier", 200_000, 32_000_000, 200), 1.6, 7.6, feed)
    return t


def test_the_page_is_well_formed_and_whole(recorded, tmp_path):
    page = page_of(recorded, tmp_path, title="Fit & predict")
    tags = Tags(page)
    for tag, n in {"html": 1, "svg": 1, "script": 1, "style": 1, "table": 2, "article": 2}.items():
        assert tags.seen.count(tag) == n
    assert "<h1>Fit &amp; predict</h1>" in page
    head, _, rest = recorded.diagnosis().partition(":")
    assert f"<strong>{head}</strong>:{rest}" in page
    assert "prefers-color-scheme: dark" in page
    for row in recorded.summary().rows:
        assert f"<td>{row.blocks}</td>" in page


def test_nothing_outside_the_file_is_referred_to(recorded, tmp_path):
    page = page_of(recorded, tmp_path)
    assert re.findall(r"\w+://[^\s\"'<]*", page) == ["http://www.w3.org/2000/svg"]
    names = {name for name, _ in Tags(page).attributes}
    assert names.isdisjoint({"src", "srcset", "action", "data"})
    assert "href" not in names
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", page)


def test_the_picture_shows_lanes_passes_curves_and_the_budget(recorded, tmp_path):
    page = page_of(recorded, tmp_path)
    svg = svg_of(page)
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert [text for text in texts if text and text.startswith("worker ")] == [f"worker {k}" for k in range(4)]
    assert {"1. fold 1.50 s", "2. feed 6.00 s"} <= {(text or "").partition(" \N{MIDDLE DOT}")[0] for text in texts}
    assert "budget 1.00 GB" in texts
    assert {"Memory", "CPU"} <= {(text or "").strip() for text in texts}
    drawn = {path.get("data-kind") for path in svg.iter(f"{SVG}path")} - {None}
    assert drawn == {"read", "transform", "fold", "fit", "wait"}
    keys = re.findall(r'<button type="button" class="k-(\w+)" data-kind="(\w+)"', page)
    assert keys == [(kind, kind) for kind in ("read", "transform", "fold", "fit", "wait")]
    for element in svg.iter(f"{SVG}rect"):
        assert float(element.get("width")) >= 0


def test_the_tasks_are_where_they_were(tmp_path, tell):
    t = timeline()
    tell(t, Work("fold", "x"), 0.0, 4.0, [("w", "fold", 1.0, 2.0, 7, 30, 800)])
    page = page_of(t, tmp_path)
    data = data_of(page)
    (lane,) = data["lanes"]
    assert lane["p"] == [1_000_000, 1_000_000, KINDS.index("fold"), 7, 1, 30, 800]
    (path,) = [path for path in svg_of(page).iter(f"{SVG}path") if path.get("data-kind") == "fold"]
    x, width = map(float, re.match(r"M([\d.]+) [\d.]+h([\d.]+)v", path.get("d")).groups())
    assert x == pytest.approx(data["left"] + data["width"] / 4, abs=0.01)
    assert width == pytest.approx(data["width"] / 4, abs=0.01)
    assert data["passes"] == [{"a": 0.0, "b": 4.0, "label": "1. fold 4.00 s \N{MIDDLE DOT} x"}]


@pytest.mark.parametrize(("workers", "blocks"), [(1, 20_000), (64, 20_000)])
def test_thousands_of_blocks_make_a_small_page(tmp_path, tell, workers, blocks):
    t = timeline()
    tell(t, Work("fold", "x", blocks * 1000), 0.0, 600.0, spans(blocks, workers))
    page = page_of(t, tmp_path)
    assert len(page) < 1_200_000
    assert "are drawn together" in page
    data = data_of(page)
    assert len(data["lanes"]) == min(workers, 48)
    assert ("16 workers that did less are not drawn" in page) == (workers == 64)
    # Nothing is lost by drawing together: all tasks of the lanes drawn, all their time.
    tasks = sum(sum(lane["p"][4::7]) for lane in data["lanes"])
    assert tasks == pytest.approx(3 * blocks * len(data["lanes"]) / workers, rel=0.01)


def test_many_passes_make_a_small_page(tmp_path, tell):
    t = timeline()
    for i in range(500):
        tell(t, Work("fold", f"iteration {i}"), i, i + 1.0, [("w", "fold", i, i + 0.1 + i / 1000, 0)])
    page = page_of(t, tmp_path)
    assert Tags(page).seen.count("article") == 40
    assert "and 460 shorter passes" in page
    assert len(page) < 500_000


def test_overlapping_passes_have_rows_of_their_own(tmp_path, tell):
    t = timeline()
    for start in (0.0, 1.0, 2.0, 3.0, 4.0):
        tell(t, Work("fold", f"from {start}"), start, start + 10.0, [])
    svg = svg_of(page_of(t, tmp_path))
    heads = [rect.get("y") for rect in svg.iter(f"{SVG}rect") if rect.get("class") == "head"]
    assert heads == ["0", "24", "48"]


def test_titles_and_names_are_only_text(tmp_path, tell):
    t = timeline()
    evil = "</script><script>alert('x')</script><b>&"
    tell(t, Work("fold", evil), 0.0, 1.0, [(evil, evil, 0.0, 0.9, 0, 1)], error=ValueError(evil))
    page = page_of(t, tmp_path, title=evil)
    tags = Tags(page)
    assert tags.seen.count("script") == 1
    assert "b" not in tags.seen[: tags.seen.index("main")]
    assert data_of(page)["lanes"][0]["name"] == evil
    svg_of(page)


def test_an_empty_timeline_has_a_page(tmp_path):
    with timeline() as t:
        pass
    page = page_of(t, tmp_path)
    Tags(page)
    svg_of(page)
    assert "no pass ran" in page


def test_a_page_says_that_memory_was_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_measure", lambda: (None, None))
    with timeline() as t:
        pass
    page = page_of(t, tmp_path)
    assert "Memory was not measured" in page
    assert ">Memory <" not in page
    assert ">CPU <" in page


def test_a_notebook_shows_the_page_in_a_frame(recorded):
    frame = recorded._repr_html_()
    tags = Tags(frame)
    assert tags.seen == ["iframe"]
    Tags(dict(tags.attributes)["srcdoc"])


def colours():
    """The colours of the kinds, light and dark, as the style sheet has them."""
    style = files("ooclearn.diagnostics").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for sheet in (light, dark):
        found = {kind: re.search(rf"--{kind}: #(\w{{6}})", sheet)[1] for kind in KINDS}
        yield {kind: [int(hexa[i : i + 2], 16) / 255 for i in (0, 2, 4)] for kind, hexa in found.items()}


# What remains of linear RGB without one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "full": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(rgb, sight):
    rgb = np.asarray(rgb)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(SIGHT[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.asarray(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_kinds_can_be_told_apart_however_one_sees_colours(scheme, sight):
    colour = dict(zip(("light", "dark"), colours(), strict=True))[scheme]
    # Waiting has a shape of its own.
    apart = {
        (a, b): float(np.linalg.norm(lab(colour[a], sight) - lab(colour[b], sight)))
        for a, b in combinations(KINDS[:-1], 2)
    }
    closest = min(apart, key=apart.get)
    assert apart[closest] > 11, (closest, apart[closest])  # 2.3 is the least that one notices
