"""The Python blocks of README.md and docs/ run, in order, as a reader would paste them.

The blocks of one page share their names and a temporary directory. A block whose first line is a prompt
(``>>>``) is checked as a doctest. A block is left out by ``<!-- not run: reason -->`` on the line above it.
A block inside an HTML comment runs too, so a page can prepare what its reader would have.
"""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import ooclearn

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\w.*?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, code without indentation, number of its first line, reason not to run it."""

    language: str
    code: str
    line: int
    not_run: str | None


def blocks_of(text):
    found = []
    for match in FENCE.finditer(text):
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        reason = NOT_RUN.search(text, 0, match.start())
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(match["language"], code, line, reason["reason"] if reason else None))
    return found


def run(block, page, names):
    if block.code.startswith(">>>"):
        flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        test = doctest.DocTestParser().get_doctest(block.code, names, page.name, str(page), block.line - 1)
        report = []
        doctest.DocTestRunner(optionflags=flags).run(test, out=report.append, clear_globs=False)
        names.update(test.globs)
        assert not report, "".join(report)
    else:
        # Empty lines before it: a traceback then names the line of the page.
        code = compile("\n" * (block.line - 1) + block.code, page, "exec", dont_inherit=True)
        exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = ooclearn.get_config()
    names = {"__name__": "__main__"}
    try:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            if block.language == "python" and block.not_run is None:
                run(block, page, names)
    finally:
        ooclearn.set_config(**before)


def test_the_readme_has_an_example_that_runs():
    blocks = blocks_of((ROOT / "README.md").read_text(encoding="utf-8"))
    assert any(block.language == "python" and block.not_run is None for block in blocks)


def test_blocks_are_found_with_their_lines_and_reasons():
    page = """\
One:
```python
x = 1
```
```bash
ci/test
```
<!-- not run: needs a GPU -->

```python
import cupy
```
<!-- not run: -->
- item
  ```python
  if x:
      y = 2
  ```
"""
    assert blocks_of(page) == [
        Block("python", "x = 1\n", 3, None),
        Block("bash", "ci/test\n", 6, None),
        Block("python", "import cupy\n", 11, "needs a GPU"),
        Block("python", "if x:\n    y = 2\n", 16, None),
    ]


def test_a_wrong_block_fails_at_its_line(tmp_path):
    page = tmp_path / "page.md"
    with pytest.raises(ZeroDivisionError) as error:
        run(Block("python", "x = 0\n1 / x\n", 7, None), page, {})
    assert error.traceback[-1].lineno + 1 == 8
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        run(Block("python", ">>> 1 + 1\n3\n", 7, None), page, {})
