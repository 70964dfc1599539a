"""How figures look: colours that colour-blind people tell apart, fonts, sizes; saving them."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import pandas as pd

from ..display import shown_name
from ..errors import InvalidDataError, InvalidOptionError
from ..outputs import whole_file
from ..show.sheets import subset_parts
from ..user_warnings import warn

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, without the yellow, which is too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# For what DejaVu Sans, which comes with matplotlib, lacks: Chinese, Japanese, Korean, Indian …
OTHER_FONTS = ("Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Devanagari",
               "WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC", "Microsoft YaHei",
               "Malgun Gothic", "Arial Unicode MS", "Segoe UI Symbol")  # fmt: skip
LONG = 40  # characters of a name in a legend, at most
LINE = 120  # characters of a legend above the panels
WIDTH = 9.0  # inches: the width of a page's column on a laptop; in print it shrinks by a fifth
QUIET = "#595959"  # 7 : 1 on white

P = ParamSpec("P")

_RC: Any = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "text.parse_math": False,  # names are no formulas, whatever is in them
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "svg.hashsalt": "dskrobust",  # the same figure has the same bytes
    "svg.fonttype": "path",
}


def look() -> Any:
    """Return a context in which figures are made and drawn in our style.

    Raises
    ------
    InvalidOptionError
        Where matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise InvalidOptionError(
            f"figures need matplotlib: pip install 'dskrobust[report]' ({error})"
        ) from error
    return rc_context({**_RC, "font.family": _families()})


@functools.cache
def _families() -> list[str]:
    """Return DejaVu Sans and, for scripts that it lacks, what is installed of other fonts."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_FONTS if name in installed)]


def styled(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in our style; that matplotlib is not there is told when it is called."""

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with look():
            return make(*args, **kwargs)

    return made


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure, in inches, that no global state knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panels(
    blocks: Sequence[int], across: int, height: float, **shared: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its panels, in lines of `across`, each `height` inches high.

    Every block of panels starts a new line. Axes that are shared are labelled where no panel
    follows below.
    """
    across = max(1, min(across, max(blocks)))
    lines = [-(-count // across) for count in blocks]
    figure = new_figure(height * sum(lines) + 0.6)
    grid = figure.subplots(sum(lines), across, squeeze=False, **shared)
    rows, top = [], 0
    for count, down in zip(blocks, lines, strict=True):
        axes = list(grid[top : top + down].ravel())
        for rest in axes[count:]:
            rest.remove()
        for last in axes[max(0, count - across) : count]:
            last.tick_params(labelbottom=True)
        rows.append(axes[:count])
        top += down
    return figure, rows


def legend(
    where: Axes | Figure, entries: Iterable[tuple[Artist, str]], math: bool = False, **how: Any
) -> None:
    """Write a legend of these names, each as it is.

    matplotlib leaves out what begins with an underscore, so the names are put in afterwards.

    Parameters
    ----------
    where : Axes or Figure
    entries : iterable of (Artist, str)
    math : bool
        Whether names are made by `subset_name`.
    **how
        As of matplotlib's `legend`.
    """
    handles, names = zip(*entries, strict=True)
    made = where.legend(handles, [f"{k}" for k in range(len(names))], **how)
    for text, name in zip(made.get_texts(), names, strict=True):
        text.set_text(name)
        text.set_parse_math(math)


def legend_above(
    figure: Figure, entries: Mapping[Any, tuple[Artist, str]], math: bool = False
) -> None:
    """Put one legend for all panels above them."""
    if not entries:
        return
    longest = max(len(name) for _, name in entries.values())
    across = max(1, min(5, LINE // (longest + 6)))
    lines = -(-len(entries) // across)
    legend(figure, entries.values(), math, loc="outside upper center",
           ncols=-(-len(entries) // lines))  # fmt: skip


def look_of(names: Sequence[Any]) -> Mapping[Any, dict[str, Any]]:
    """Return colour, line and marker for every name, no two alike within the first 28."""
    return {
        name: {
            "color": COLOURS[k % len(COLOURS)],
            "linestyle": LINES[k % len(LINES)],
            "marker": MARKERS[k % len(MARKERS)],
        }
        for k, name in enumerate(names)
    }


def save(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file of a kind that matplotlib knows (svg, png, pdf)."""
    buffer = io.BytesIO()
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with look(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(buffer, format=kind, dpi=150, metadata=date)
    missing = [each for each in caught if str(each.message).startswith("Glyph ")]
    if missing:
        warn(
            f"{len({str(each.message) for each in missing})} characters of names are in no font "
            "that is installed, and drawn as boxes; install Noto Sans CJK or Noto Sans",
        )
    for each in caught:
        if each not in missing:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return buffer.getvalue()


def write(figure: Figure, path: str | Path) -> None:
    """Write a figure into a file, of the kind that its end says; an address of fsspec serves too.

    Raises
    ------
    InvalidOptionError, OutputError
        Where it cannot be written.
    """
    image = save(figure, str(path).rpartition(".")[2].lower())
    with whole_file(path) as part:
        part.write_bytes(image)


def values_of(table: pd.DataFrame, column: str) -> list[Any]:
    """Return the values of a column that occur, categories in their order, others as they appear.

    Raises
    ------
    InvalidDataError
        Where there is no such column, or nothing in it.
    """
    if column not in table:
        raise InvalidDataError(f"the table needs a column {column!r}; it has {', '.join(table)}")
    values = table[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories = list(values.cat.remove_unused_categories().cat.categories)
    else:
        categories = list(dict.fromkeys(values.dropna()))
    if not categories:
        raise InvalidDataError(f"the table has no {column}; there is nothing to draw")
    return categories


def short(name: Any, most: int = 18) -> str:
    """Return a name that fits above a panel, in one line."""
    return shown_name(name, most)


def subset_name(name: Any) -> str:
    """Return a subset's name as mathtext, as the paper writes it: x_L40 with a subscript."""
    head, below = subset_parts(name)
    if below:
        return f"{head}$_{{\\mathrm{{{below}}}}}$"
    return literal(short(name, LONG))


def literal(text: str) -> str:
    """Return a text that mathtext shows as it is."""
    return text.replace("$", r"\$")
