"""The fixed tree of merging."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ooclearn.statistics import Join, MergeTree, Moments, merge_all
from ooclearn.statistics.protocol import parts_of


class Written:
    """Merging writes the tree down."""

    def of(self, rows):
        return rows

    def merge(self, a, b):
        return f"({a}{b})"


@pytest.mark.parametrize(
    ("n", "tree"),
    [
        (1, "a"),
        (2, "(ab)"),
        (3, "((ab)c)"),
        (4, "((ab)(cd))"),
        (6, "(((ab)(cd))(ef))"),
        (7, "(((ab)(cd))((ef)g))"),
    ],
)
def test_the_form_of_the_tree_depends_on_the_number_of_blocks_alone(n, tree):
    assert merge_all(Written(), "abcdefg"[:n]) == tree


def test_no_state_is_none():
    assert merge_all(Written(), []) is None


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 200), st.integers(0, 4))
def test_subtrees_may_be_merged_elsewhere(n, power):
    """Runs of 2**k blocks, merged by themselves and added as one, give the same tree."""
    blocks = [f"{i}." for i in range(n)]
    size = 2**power
    tree = MergeTree(Written())
    whole = n // size * size
    for start in range(0, whole, size):
        tree.add(merge_all(Written(), blocks[start : start + size]), blocks=size)
    for block in blocks[whole:]:
        tree.add(block)
    assert tree.result() == merge_all(Written(), blocks)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 3000))
def test_few_states_are_held(n):
    tree = MergeTree(Written())
    most = 0
    for _ in range(n):
        tree.add("")
        most = max(most, len(tree._stack))
    assert most <= n.bit_length() + 1


def test_what_a_statistic_reads():
    assert parts_of(Written()) == frozenset("Xyw")
    assert parts_of(Join(a=Moments())) == frozenset("Xw")
    assert parts_of(Join()) == frozenset()
