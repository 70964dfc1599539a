"""Names that the command line completes, and what a misspelt one may have meant."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..paths import expand, is_remote

Names = Callable[[click.Context], Iterable[str]]
STORE_ENDING = ".zarr"
HEAD_BYTES = 2**20  # of a CSV file, in which its first line ends
PLAIN_MODELS = ("knn", "forest")  # of `bound`
NETWORKS = ("cnn", "resnet56", "torch:")  # of `susceptibility`


class Text(click.types.StringParamType):
    """Text that says something: an empty value is mostly a variable that is not set."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        text = str(super().convert(value, param, ctx))
        if not text.strip() or "\0" in text:
            self.fail(f"{text!r} says nothing; leave the option away", param, ctx)
        return text


class Named(Text):
    """Text that begins with one of some names, which the shell completes.

    Parameters
    ----------
    names : callable
        Returns the names, given the command's context.
    """

    def __init__(self, names: Names) -> None:
        self.names = names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, equals, begun = incomplete.rpartition("=")  # of NAME=SELECTION
        try:
            known = list(self.names(ctx))
        except Exception:  # a store or file that cannot be read has no names
            return []
        return [
            CompletionItem(f"{before}{equals}{name}") for name in known if name.startswith(begun)
        ]


class Choice(click.Choice[str]):
    """One of some values, told by the nearest one where it is misspelt."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        from ..display import meant

        said = super().get_invalid_choice_message(value, ctx).removesuffix(".")
        return f"{said}{meant(value, self.choices)}."


def complete_store(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete the name of a store, or of a folder on the way to one."""
    folder, slash, begun = incomplete.rpartition("/")
    place = Path(expand(f"{folder}{slash}" if slash else "."))
    if is_remote(incomplete) or not place.is_dir():
        return []
    stores = sorted(
        path.name
        for path in place.glob(f"*{STORE_ENDING}")
        if path.name.startswith(begun) and path.is_dir()
    )
    if stores:
        return [CompletionItem(f"{folder}{slash}{name}") for name in stores]
    return [CompletionItem(incomplete, type="dir")]


# -- names that there are ----------------------------------------------------------------------


def _argument(ctx: click.Context, name: str) -> str:
    """Return an argument as it was typed, "" where it was not.

    Where an option waits for the value that is completed, click leaves arguments unread.
    """
    if ctx.params.get(name):
        return str(ctx.params[name])
    names = [one.name for one in ctx.command.params if isinstance(one, click.Argument)]
    place = names.index(name) if name in names else len(ctx.args)
    return ctx.args[place] if place < len(ctx.args) else ""


def metrics(ctx: click.Context) -> Iterable[str]:
    """Return the names of metrics."""
    from ..metrics import METRIC_ALIASES, METRIC_NAMES

    return (*METRIC_NAMES, *METRIC_ALIASES)


def label_maps(ctx: click.Context) -> Iterable[str]:
    """Return the names of label maps."""
    from ..labels import LABEL_KINDS, LABEL_NORMS

    plain = (kind for kind in LABEL_KINDS if kind != "vector")
    return (*plain, *(f"vector-{norm}" for norm in LABEL_NORMS))


def groups(ctx: click.Context) -> Iterable[str]:
    """Return the names of the groups of the store that a command is given."""
    from ..store import open_store

    address = _argument(ctx, "store") or _argument(ctx, "before")
    return open_store(address).groups if address else ()


def models(ctx: click.Context) -> Iterable[str]:
    """Return the names of the models that a command knows."""
    if ctx.info_name == "embed":
        from ..embedding.naming import BEGINNINGS
        from ..embedding.paper_network import KIND

        return (KIND, *BEGINNINGS)
    if ctx.info_name == "bound":
        return PLAIN_MODELS
    if ctx.info_name == "susceptibility":
        return NETWORKS
    from ..evaluation.models.base import KINDS

    return sorted(KINDS)


def columns(ctx: click.Context) -> Iterable[str]:
    """Return the columns of the file that a command is given, of a CSV, Parquet or Feather file."""
    path = Path(expand(_argument(ctx, "what")))
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_schema

        return list(read_schema(path).names)
    if path.suffix == ".feather":
        from pyarrow.ipc import open_file

        return list(open_file(path).schema.names)
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline(HEAD_BYTES)
    dialect = csv.Sniffer().sniff(head, ",;|\t") if len(head) > 1 else csv.excel
    return next(csv.reader([head], dialect))


def figures(ctx: click.Context) -> Iterable[str]:
    """Return the numbers and names of figures."""
    from ..report.catalogue import paper_figures
    from ..report.drawing import FIGURES

    return (*map(str, paper_figures()), *FIGURES)


NAMES: dict[str, Names] = {  # by what an option or argument is called in its command's help
    "METRIC": metrics,
    "MAP": label_maps,
    "GROUP": groups,
    "GROUP[:L500]": groups,
    "SET": groups,
    "SELECTION": groups,
    "NAME=SELECTION": groups,
    "TRAIN": groups,
    "TEST": groups,
    "MODEL": models,
    "COLUMN": columns,
    "FIGURE": figures,
}
MAY_BE_EMPTY = ("thousands", "comment", "delimiter")  # none, or a blank


def with_names(command: click.Command) -> click.Command:
    """Let a command complete names, and refuse empty text wherever it has no meaning; return it."""
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice):
            parameter.type = Choice(parameter.type.choices)
        elif parameter.type is click.STRING and parameter.name not in MAY_BE_EMPTY:
            called = parameter.metavar or (parameter.name or "").upper()
            parameter.type = Named(NAMES[called]) if called in NAMES else Text()
    return command
