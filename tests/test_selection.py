"""Selections in words: what they mean, what they are called, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dskrobust import selection
from dskrobust.errors import InvalidOptionError
from dskrobust.selection import Step, Term, named, parse_selection

GROUPS = ("train", "test", "a+b", "a", "b", "x:y", "L5", "t-1")


def words(text, **options):
    """Return a selection as (operator, group, steps as text) of every term."""
    terms = parse_selection(text, GROUPS, **options)
    return [(t.operator, t.group, ":".join(f"{a}{n}" for a, n in t.steps)) for t in terms]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("train", [("+", "train", "")]),
        ("all", [("+", "all", "")]),
        ("a+b", [("+", "a+b", "")]),  # a text that is a name
        ("x:y:L5", [("+", "x:y", "L5")]),
        ("t-1:l_5", [("+", "t-1", "L5")]),
        ("L5:L5", [("+", "L5", "L5")]),
        ("train:L500:M20", [("+", "train", "L500:M20")]),
        ("train:L3000+M45000", [("+", "train", "L3000"), ("+", "train", "M45000")]),
        ("train:L3+L100:M5", [("+", "train", "L3"), ("+", "train", "L100:M5")]),
        ("train-L3-M4", [("+", "train", ""), ("-", "train", "L3"), ("-", "train", "M4")]),
        ("train:L1+test:M5+M1", [("+", "train", "L1"), ("+", "test", "M5"), ("+", "test", "M1")]),
        ('"a"+b:L5', [("+", "a", ""), ("+", "b", "L5")]),
        ('"a+b":L5-M1', [("+", "a+b", "L5"), ("-", "a+b", "M1")]),
    ],
)
def test_terms(text, terms):
    assert words(text) == terms


def test_selections_within_another_name_no_group():
    assert words("L3+M4:L2", within=True) == [("+", None, "L3"), ("+", None, "M4:L2")]
    with pytest.raises(InvalidOptionError, match="'train' is no selection"):
        words("train:L3", within=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a+b:L5", r"""has 2 meanings; write "a"\+"b":L5 or "a\+b":L5"""),
        ("train:L9+L5", r'has 2 meanings; write .*"train":L9\+"train":L5'),
        ("M50", r"there is no group 'M50'; the groups are train, .* \(write train:M50\)"),
        ("nobody:L5", "there is no group 'nobody'"),
        ("", "there is no group ''"),
        ("train:K5", "'K5' is no selection; write GROUP:L500"),
        ("train:L5+K5", "'K5' is no selection; .* GROUP:L500-L100"),
        ("train:L5:", "'' is no selection"),
        ("train:L5+", "'' is no selection"),
        ("train:5", "'5' is no selection"),
        ("train:L5+M5 ", "' ' is no selection"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(InvalidOptionError, match=message):
        words(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("train:L3000+M45000", "train_L3000+M45000"),
        ("train:L500:M20", "train_L500_M20"),
        ("train:L9+L100:M5-M2", "train_L9+L100_M5-M2"),
        ("train:L100+test:M5", "train_L100+test_M5"),
        ("train-L5", "train-L5"),
    ],
)
def test_names(text, name):
    assert named(parse_selection(text, ("train", "test"))) == name


def test_names_within_another():
    both = (Term("+", None, (Step("L", 2),)), Term("+", None, (Step("M", 3),)))
    assert named(both, "train") == "train_L2+M3"
    assert named(both, "train_L9") == "train_L9_L2+train_L9_M3"
    assert named(both[:1], "train_L9+M9") == "(train_L9+M9)_L2"


@given(data=st.data())
def test_intervals_are_sets_of_ranks(data):
    def drawn():
        ends = sorted(data.draw(st.sets(st.integers(0, 30), max_size=8)))
        return tuple(zip(ends[::2], ends[1::2], strict=False))

    def ranks(intervals):
        return [k for start, stop in intervals for k in range(start, stop)]

    one, other = drawn(), drawn()
    assert ranks(selection.union(one, other)) == sorted({*ranks(one), *ranks(other)})
    assert ranks(selection.difference(one, other)) == sorted({*ranks(one)} - {*ranks(other)})
    size = data.draw(st.integers(0, selection.count_of(one)))
    assert ranks(selection.least(one, size)) == ranks(one)[:size]
    assert ranks(selection.most(one, size)) == ranks(one)[len(ranks(one)) - size :]
    merged = selection.union(one, other)
    assert np.all([a[1] < b[0] for a, b in pairwise(merged)])
