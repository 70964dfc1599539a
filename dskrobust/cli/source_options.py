"""Options of commands that read a source: how it is read, prepared and split."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.shell_completion import CompletionItem

from .options import MOST_SEED, File, together

if TYPE_CHECKING:
    from ..datasets import ReaderKeywords


csv_options = together(  # how a CSV file may be written, which its first lines tell
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="Between the columns of a CSV file: , ; | or tab. Told from its first lines by "
        "default, as all of these are.",
    ),
    click.option("--decimal", type=click.Choice([".", ","]), help="Mark in a CSV file."),
    click.option(
        "--thousands",
        metavar="CHARACTER",
        help="Between groups of three digits, as , or space; in a CSV file.",
    ),
    click.option("--encoding", metavar="NAME", help="Of a CSV file: utf-8, utf-16, cp1252 …"),
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first line of a CSV file holds the columns' names; without it they "
        "are c0, c1 and so on.",
    ),
    click.option("--comment", metavar="TEXT", help="Lines that start with it are left out."),
)


kind_option = click.option(
    "--labels",
    type=click.Choice(["categorical", "real", "vector"]),
    help="What labels mean; told by their type by default.",
)
reader_options = together(  # what readers may be told
    click.option(
        "--gray",
        is_flag=True,
        default=None,
        help="Read images of a folder as grey ones; where all are grey by default.",
    ),
    click.option(
        "--resize",
        metavar="WIDTHxHEIGHT",
        help="Pixels that all images of a folder are brought to; of one size by default.",
    ),
    click.option(
        "--source",
        type=File(path_type=Path),
        metavar="DIR",
        help="Folder of the official files, or one above it.",
    ),
    click.option(
        "--drop",
        multiple=True,
        metavar="COLUMN",
        help="Column of a table to leave out; may be given several times.",
    ),
    click.option("--id", metavar="COLUMN", help="Column of a table that names the rows."),
    kind_option,
    click.option("--x", metavar="NAME", help="Feature array in a file (X), or in .h5ad matrix."),
    click.option("--y", default=None, metavar="NAME", help="Label array in a file (y)."),
    click.option(
        "--split",
        metavar="NAME",
        help="Array, file or column with the group of every row; as the data set has it, or "
        "one group, by default.",
    ),
    click.option(
        "--target",
        metavar="COLUMN",
        help="Label column of a table; the one called y, label, target or class by default.",
    ),
    csv_options,
)


def keywords(options: dict[str, Any]) -> ReaderKeywords:
    """Return the options that the command line gives."""
    given: Any = {name: value for name, value in options.items() if value not in (None, ())}
    return cast("ReaderKeywords", given)


class Scale(click.ParamType):
    """A factor on all features, or how the columns of a table are scaled."""

    name = "factor"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        """Return a number, or one of the words."""
        from ..datasets.preparation import SCALE

        if value in SCALE:
            return str(value)
        try:
            factor = float(value)
        except ValueError:
            from ..display import meant

            near = meant(value, SCALE)
            self.fail(
                f"{value!r} is neither a number nor one of {', '.join(SCALE)}{near}", param, ctx
            )
        if not math.isfinite(factor) or not factor:
            self.fail(f"{value!r} is no factor; give a finite number that is not 0", param, ctx)
        return factor

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words that begin so."""
        from ..datasets.preparation import SCALE

        return [CompletionItem(word) for word in SCALE if word.startswith(incomplete)]


class TestSize(click.ParamType):
    """A share of the rows, or how many."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | int:
        """Return a whole number where one is written, else a float."""
        try:
            return int(value) if str(value).isdecimal() else float(value)
        except ValueError:
            self.fail(f"{value!r} is no number", param, ctx)


split_options = together(  # how a split is drawn
    click.option(
        "--test-size",
        type=TestSize(),
        metavar="SHARE|N",
        help="Draw a share of the rows (0.2), or so many, as the group test, of data without a "
        "split; the others are train.",
    ),
    click.option(
        "--folds",
        type=int,
        metavar="K",
        help="Draw K groups of about the same size, fold-1 to fold-K, of data without a split.",
    ),
    click.option(
        "--stratify", is_flag=True, default=None, help="Split every class alike, to one row."
    ),
    click.option(
        "--group",
        metavar="COLUMN",
        help="Of rows that have the same value in it, such as those of one patient, all are "
        "drawn or none; it is no feature.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, MOST_SEED),
        help="Of random train/test splits; 0 by default.",
    ),
)


preparation_options = together(  # what may be asked of the columns of a table
    click.option(
        "--prepare",
        type=click.Choice(["auto", "none"]),
        help="With none nothing is done to columns that was not asked for.",
    ),
    click.option(
        "--scale",
        type=Scale(),
        metavar="standard|minmax|robust|none|FACTOR",
        help="How the columns of a table are scaled (standard by default where their spreads "
        "are unequal or they stand beside categories), or a factor on all features before any "
        "distance (1/255 for images of bytes, 1 for other data by default).",
    ),
    click.option(
        "--encode",
        type=click.Choice(["onehot", "ordinal"]),
        help="How text becomes numbers; a column a category by default.",
    ),
    click.option(
        "--impute",
        type=click.Choice(["median", "most-frequent", "error"]),
        help="What stands for missing values; the median by default, and missing text is a "
        "category of its own.",
    ),
    click.option(
        "--task",
        type=click.Choice(["classification", "regression"]),
        help="What the labels are for: classes, or numbers (as --labels real).",
    ),
)
