"""Selections in words, and what they are: intervals of the ranks of groups.

::

    selection = term, {("+" | "-"), term}
    term      = group, [":", steps] | steps
    steps     = step, {":", step}
    step      = ("L" | "M"), number

``train:L500:M20`` are the 20 most robust of the 500 least robust samples of the group train: its
ranks 480 to 499. Terms are joined from left to right, ``+`` to their union, ``-`` to what is left
of the first. A term without a group is of the group of the term before it. A group's name in
double quotes is always read as one; a text that is a group's name is that group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .display import no_group
from .errors import InvalidOptionError

ALL = "all"  # every sample, whatever its group
_STEP = re.compile(r"([LMlm])_?(\d+)")
_STEPS = re.compile(rf"{_STEP.pattern}(?::{_STEP.pattern})*")
_STEP_IN_NAME = re.compile(r"_[LM]\d+(?=[_+)-]|$)")

Ranks = tuple[tuple[int, int], ...]  # intervals [start, stop) that rise and do not touch
Intervals = tuple[tuple[int | None, Ranks], ...]  # of several groups; None is all samples


class Step(NamedTuple):
    """The least (L) or most robust (M) samples, and how many."""

    letter: str
    size: int


class Term(NamedTuple):
    """Steps in a group, and whether they are added ("+") or taken away ("-").

    A group of None is what the whole selection is within.
    """

    operator: str
    group: str | None
    steps: tuple[Step, ...]


def parse_selection(text: str, groups: Sequence[str], *, within: bool = False) -> tuple[Term, ...]:
    """Return the terms of a selection.

    Parameters
    ----------
    text : str
    groups : sequence of str
        Known names, beside "all".
    within : bool
        Whether the selection is within another one, so that it names no group.

    Raises
    ------
    InvalidOptionError
        For an unknown group, a step that is no selection, or a text with two meanings.
    """
    if text in groups and not within:
        return (Term("+", text, ()),)
    names = () if within else tuple(dict.fromkeys((*groups, ALL)))
    readings: list[tuple[Term, ...]] = []
    furthest = 0
    waiting: list[tuple[int, tuple[Term, ...]]] = [(0, ())]
    while waiting:
        place, terms = waiting.pop()
        for end, group, steps in _terms_at(text, place, names, bool(terms) or within):
            furthest = max(furthest, end)
            if group is None and terms:
                group = terms[-1].group
            operator = text[place - 1] if terms else "+"
            read = (*terms, Term(operator, group, steps))
            if end == len(text):
                readings.append(read)
            elif text[end] in "+-":
                waiting.append((end + 1, read))
    if len(readings) == 1:
        return readings[0]
    if readings:
        ways = " or ".join(sorted(map(_in_full, readings)))
        raise InvalidOptionError(f"{text!r} has {len(readings)} meanings; write {ways}")
    raise _no_selection(text, furthest, groups, within)


def is_relative(text: str, groups: Sequence[str]) -> bool:
    """Whether a selection begins with a step, not with a group."""
    return _STEPS.match(text) is not None and text.split(":")[0] not in groups


def _terms_at(
    text: str, place: int, names: Sequence[str], bare: bool
) -> Iterator[tuple[int, str | None, tuple[Step, ...]]]:
    """Yield every way to read a term at a place: its end, group and steps.

    bare: whether it may have steps alone.
    """
    if bare and (match := _STEPS.match(text, place)):
        yield match.end(), None, _steps_in(match[0])
    for name in names:
        for written in (name, f'"{name}"'):
            if not text.startswith(written, place):
                continue
            end = place + len(written)
            match = _STEPS.match(text, end + 1) if text[end : end + 1] == ":" else None
            yield (match.end(), name, _steps_in(match[0])) if match else (end, name, ())


def _steps_in(text: str) -> tuple[Step, ...]:
    return tuple(Step(letter.upper(), int(size)) for letter, size in _STEP.findall(text))


def _in_full(terms: Sequence[Term]) -> str:
    """Return terms as they are written without a doubt."""
    parts = (f'{t.operator}"{t.group}"' + "".join(f":{a}{n}" for a, n in t.steps) for t in terms)
    return "".join(parts)[1:]


def _no_selection(
    text: str, furthest: int, groups: Sequence[str], within: bool
) -> InvalidOptionError:
    known = ", ".join(groups)
    if not furthest and not within:
        name = text.split(":")[0]
        hint = f" (write {groups[0]}:{text})" if _STEPS.match(text) else ""
        return InvalidOptionError(f"{no_group(name, groups)}{hint}")
    token = re.split("[:+-]", text[furthest:].lstrip(":+-"))[0]
    return InvalidOptionError(
        f"{text!r}: {token!r} is no selection; write GROUP:L500 for the 500 least or GROUP:M500 "
        "for the 500 most robust samples of the group, GROUP:L500+M500 for both and "
        f"GROUP:L500-L100 for a difference; the groups are {known}"
    )


def named(terms: Sequence[Term], within: str | None = None) -> str:
    """Return what a selection is called: as in the paper, ``train_L3000+M45000``."""
    name, before = "", object()
    nested = within is not None and _STEP_IN_NAME.search(within) is not None
    for operator, group, steps in terms:
        own = [f"{letter}{size}" for letter, size in steps]
        if group != before or not own or nested:
            own.insert(0, (_enclosed(within or "") if group is None else group))
        name += operator + "_".join(own)
        before = group
    return name[1:]


def _enclosed(name: str) -> str:
    """Return a name in brackets where it is that of several terms."""
    return f"({name})" if _STEP_IN_NAME.search(name) and re.search(r"\d[+-]", name) else name


# -- intervals --------------------------------------------------------------------------------


def count_of(ranks: Ranks) -> int:
    """Return how many ranks there are."""
    return sum(stop - start for start, stop in ranks)


def least(ranks: Ranks, size: int) -> Ranks:
    """Return the `size` lowest ranks."""
    found = []
    for start, stop in ranks:
        if size <= 0:
            break
        found.append((start, min(stop, start + size)))
        size -= stop - start
    return tuple(found)


def most(ranks: Ranks, size: int) -> Ranks:
    """Return the `size` highest ranks."""
    return difference(ranks, least(ranks, count_of(ranks) - size))


def union(one: Ranks, other: Ranks) -> Ranks:
    """Return the ranks in either."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted((*one, *other)):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return tuple(found)


def difference(one: Ranks, other: Ranks) -> Ranks:
    """Return the ranks in the one and not in the other."""
    found = []
    for start, stop in one:
        for first, end in other:
            if end <= start or first >= stop:
                continue
            if first > start:
                found.append((start, first))
            start = end
        if start < stop:
            found.append((start, stop))
    return tuple(found)


def joined(one: Intervals, other: Intervals, operator: str) -> Intervals:
    """Return the union ("+") or the difference ("-") of intervals, group by group."""
    join = union if operator == "+" else difference
    ranks, further = dict(one), dict(other)
    codes = {**ranks, **further} if operator == "+" else ranks
    found = {code: join(ranks.get(code, ()), further.get(code, ())) for code in codes}
    return tuple((code, found[code]) for code in sorted(found, key=_place) if found[code])


def _place(code: int | None) -> int:
    return -1 if code is None else code
