"""Performance matrices as plain text, Markdown and HTML. Computes nothing."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..display import escape, shown_name, visible

BETWEEN = " \\ "  # LOSS \ ACC, as the paper writes it
NOTHING = "–"
LEGEND = "* best of the row"
# What would end a cell, begin an element, a link or a picture, or make that of a backslash.
_MARKS = re.compile(r"[|<[]|\\(?=[\\|<[])")
SUBSCRIPTED = re.compile(r"([A-Za-z])_([A-Za-z0-9]{1,12})")  # x_L40

_STYLE = """
.dskrobust-sheet { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.dskrobust-sheet caption { text-align: left; padding: .3em .2em; font-weight: 600; }
.dskrobust-sheet th, .dskrobust-sheet td { padding: .25em .9em; text-align: right;
  white-space: nowrap; border: 0; }
.dskrobust-sheet tbody th { text-align: left; }
.dskrobust-sheet thead tr:last-child th { border-bottom: 1px solid currentColor; }
.dskrobust-sheet tbody tr:hover { background: rgba(127, 127, 127, .12); }
.dskrobust-sheet .group { text-align: center; }
.dskrobust-sheet .first { border-left: 1px solid rgba(127, 127, 127, .5); }
.dskrobust-sheet .note, .dskrobust-sheet .foot { opacity: .65; font-weight: 400; }
.dskrobust-sheet tfoot td.foot { text-align: left; font-size: .9em; white-space: normal; }
"""


@dataclass(frozen=True)
class Cell:
    """The text of a cell.

    Attributes
    ----------
    parts : tuple of (str, bool)
        Numbers, and whether each is the best of its row.
    note : str
        The hyper-parameter, where the cell has its own.
    """

    parts: tuple[tuple[str, bool], ...]
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """Everything a matrix shows, in words.

    Attributes
    ----------
    title, foot : str
    groups : tuple of (str, int)
        What stands above the columns, and how many columns that holds for; a single group without
        a name needs no line.
    heads : tuple of tuple of str
        Lines above the columns; the first text of each is the line's own name.
    rows : tuple of (str, tuple of Cell)
    """

    title: str
    groups: tuple[tuple[str, int], ...]
    heads: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    foot: str

    @property
    def has_groups(self) -> bool:
        """Whether the groups need a line."""
        return any(name for name, _ in self.groups)

    @property
    def starts(self) -> frozenset[int]:
        """Columns that a group starts with."""
        places, column = set(), 0
        for _, width in self.groups:
            places.add(column)
            column += width
        return frozenset(places)

    def named_columns(self) -> list[str]:
        """Return the first line of heads with the group's name in every column."""
        groups = [name for name, width in self.groups for _ in range(width)]
        names = self.heads[0][1:]
        return [f"{g}: {n}" if g else n for g, n in zip(groups, names, strict=True)]


class Shown(ABC):
    """What shows itself as a sheet: in a terminal, a notebook, a Markdown file."""

    @abstractmethod
    def sheet(self) -> Sheet:
        """Return what is shown, in words."""

    def to_markdown(self) -> str:
        """Return a table in Markdown, best values in bold, without title and foot."""
        return to_markdown(self.sheet())

    def __str__(self) -> str:
        return to_text(self.sheet())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return to_html(self.sheet())


def marked(cell: Cell) -> str:
    """Return a cell's text with an asterisk after best values, so that columns stay aligned."""
    text = BETWEEN.join(part + ("*" if best else " ") for part, best in cell.parts)
    return f"{text} ({cell.note})" if cell.note else text


def to_text(sheet: Sheet) -> str:
    """Return aligned lines."""
    body = [[shown_name(name), *map(marked, cells)] for name, cells in sheet.rows]
    # a head ends where the numbers end, not above the place of an asterisk
    heads = [[line[0], *(f"{shown_name(text)} " for text in line[1:])] for line in sheet.heads]
    widths = [max(map(len, column)) for column in zip(*heads, *body, strict=True)]
    lines = [sheet.title] if sheet.title else []
    if sheet.has_groups:
        lines.append(_group_line(sheet, widths))
    for k, line in enumerate([*heads, *body]):
        first, *rest = (t.ljust(w) if j == 0 else t.rjust(w)
                        for j, (t, w) in enumerate(zip(line, widths, strict=True)))  # fmt: skip
        cells = ["| " * (j in sheet.starts and len(sheet.groups) > 1) + t
                 for j, t in enumerate(rest)]  # fmt: skip
        lines.append("  ".join([first, *cells]).rstrip())
        if k == len(heads) - 1:
            lines.append("-" * max(map(len, lines[1 if sheet.title else 0 :])))
    return "\n".join([*lines, f"{sheet.foot} · {LEGEND}" if sheet.foot else LEGEND])


def _group_line(sheet: Sheet, widths: list[int]) -> str:
    line, column = " " * widths[0], 1
    for name, count in sheet.groups:
        width = sum(widths[column : column + count]) + 2 * (count - 1)
        line += "  " + ("| " if len(sheet.groups) > 1 else "") + name.ljust(width)
        column += count
    return line.rstrip()


def to_markdown(sheet: Sheet) -> str:
    """Return a table in GitHub's Markdown, best values in bold."""
    columns = sheet.named_columns()
    lines = [_markdown_line(sheet.heads[0][0], columns)]
    lines.append("|---|" + "---:|" * len(columns))
    lines += [_markdown_line(*_split(line)) for line in sheet.heads[1:]]
    for name, cells in sheet.rows:
        texts = []
        for cell in cells:
            text = BETWEEN.join(f"**{part}**" if best else part for part, best in cell.parts)
            texts.append(f"{text} ({cell.note})" if cell.note else text)
        lines.append(_markdown_line(name, texts))
    return "\n".join(lines)


def _split(line: tuple[str, ...]) -> tuple[str, list[str]]:
    return line[0], list(line[1:])


def _markdown_line(name: str, texts: list[str]) -> str:
    return "| " + " | ".join(markdown_text(t) for t in (name, *texts)) + " |"


def markdown_text(text: str) -> str:
    """Return a text as Markdown shows it as it is; stars and underscores may still stress it."""
    return _MARKS.sub(r"\\\g<0>", visible(text))


def to_html(sheet: Sheet) -> str:
    """Return a self-contained table; names such as t_L5 become t with a subscript."""
    parts = [f"<style>{_STYLE}</style>", '<table class="dskrobust-sheet">']
    if sheet.title:
        parts.append(f"<caption>{escape(sheet.title)}</caption>")
    parts.append("<thead>")
    if sheet.has_groups:
        cells = (f'<th class="group first" colspan="{width}">{escape(name)}</th>'
                 for name, width in sheet.groups)  # fmt: skip
        parts.append(f"<tr><th></th>{''.join(cells)}</tr>")
    for k, line in enumerate(sheet.heads):
        shown = [_subscript(text) if k == 0 else escape(text) for text in line[1:]]
        cells = (f"<th{_first(sheet, j, k > 0)}>{text}</th>" for j, text in enumerate(shown))
        parts.append(f"<tr><th>{escape(line[0])}</th>{''.join(cells)}</tr>")
    parts.append("</thead><tbody>")
    for name, row in sheet.rows:
        cells = (f"<td{_first(sheet, j)}>{_html_cell(cell)}</td>" for j, cell in enumerate(row))
        parts.append(f"<tr><th>{_subscript(name)}</th>{''.join(cells)}</tr>")
    parts.append("</tbody>")
    if sheet.foot:
        span = len(sheet.heads[0])
        foot = f'<td class="foot" colspan="{span}">{escape(sheet.foot)}</td>'
        parts.append(f"<tfoot><tr>{foot}</tr></tfoot>")
    return "\n".join([*parts, "</table>"])


def _first(sheet: Sheet, column: int, note: bool = False) -> str:
    kinds = ["first"] * (column in sheet.starts) + ["note"] * note
    return f' class="{" ".join(kinds)}"' if kinds else ""


def _html_cell(cell: Cell) -> str:
    parts = (f"<b>{escape(part)}</b>" if best else escape(part) for part, best in cell.parts)
    note = f' <span class="note">({escape(cell.note)})</span>' if cell.note else ""
    return BETWEEN.join(parts) + note


def subset_parts(name: str) -> tuple[str, str]:
    """Return a subset's name as the paper writes it: a letter, and what stands below the line."""
    match = SUBSCRIPTED.fullmatch(str(name))
    return (match[1], match[2]) if match else (shown_name(name), "")


def _subscript(name: str) -> str:
    head, below = subset_parts(name)
    return f"{head}<sub>{below}</sub>" if below else escape(head)
