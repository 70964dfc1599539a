"""The command line: parse, call the API, print, exit code."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from traceback import walk_tb
from typing import Any, TextIO

import click

from .. import __version__
from ..errors import DISK, DskrobustError, system_error, system_reason
from . import (
    adversarials,
    align,
    bound,
    compare,
    data,
    embed,
    evaluate,
    export,
    hardness,
    issues,
    neighbours,
    report,
    review,
    score,
    show,
    subsets,
    susceptibility,
    tailor,
    verify,
)
from . import compute as runs
from .completion import with_names
from .options import places

DEBUG = "DSKROBUST_DEBUG"
OUTPUT = "the standard output takes no more"
LOG = "DSKROBUST_LOG"  # a level of logging
COUNTS = "NUMBA_NUM_THREADS", "DASK_NUM_WORKERS"  # libraries end with less than a line

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Data": (data.ingest, data.link, data.append, embed.embed),
    "Robustness": (
        runs.plan,
        runs.compute,
        show.show,
        subsets.subsets,
        score.score,
        neighbours.neighbours,
    ),
    "Training and test set": (align.align, align.match, tailor.spectrum, tailor.tailor),
    "Models": (
        evaluate.evaluate,
        evaluate.run_experiment,
        bound.bound,
        adversarials.adversarials,
        susceptibility.susceptibility,
    ),
    "Label issues, reports, tables": (
        issues.issues,
        review.review,
        review.apply,
        hardness.hardness,
        report.report,
        compare.compare,
        export.export,
    ),
    "Checks and first steps": (verify.verify, runs.demo),
}


class Commands(click.Group):
    """Commands whose failures are one clear line, and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of a day's work, not of the alphabet

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, members in SECTIONS.items():
            rows = [(member.name or "", member.get_short_help_str(200)) for member in members]
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from ..display import meant

        name = args[0]
        if self.get_command(ctx, name) is None and name[:1] != "-" and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {name!r}{meant(name, self.commands)}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except OSError as error:  # of --help and --version, which no command prints
            if not _output_fails(error):
                raise
            _tell(f"Error: {OUTPUT}: {system_reason(error)}")
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        _show_log(os.environ.get(LOG, ""))
        _check_counts()
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)  # once each; ours are of this class
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except KeyboardInterrupt:
                _tell("Stopped.")
                ctx.exit(130)
            except BrokenPipeError:  # `dskrobust show | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.exit(1)
            except (Exception, SystemExit) as error:  # a model's code may call sys.exit
                if isinstance(error.__context__, BrokenPipeError):  # Rich found it, and ends
                    ctx.exit(1)
                if os.environ.get(DEBUG, "0") not in ("", "0"):
                    raise
                _tell(f"Error: {_message(error, places(ctx))}")
                ctx.exit(1)


def _message(error: BaseException, given: Sequence[str]) -> str:
    """Return an error in a line; given: the addresses on the command line."""
    if isinstance(error, DskrobustError):
        return " ".join(error.on_command_line.split())
    system = error if isinstance(error, OSError) else system_error(error)
    if system is not None:
        full = system.errno in DISK and not system.filename
        where = f"writing {' or '.join(given) or 'a file'}" if full else system.filename
        where = OUTPUT if _output_fails(system) else where
        return f"{where}: {system_reason(system)}" if where else system_reason(system)
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SystemExit):
        said = f"a model or metric ended Python ({said}); what is imported may not call sys.exit"
    elif isinstance(error, MemoryError):
        said = f"there is not enough memory ({said}); end other programs, or use a larger machine"
    return f"{said} (set {DEBUG}=1 to see where)"


def _output_fails(error: OSError) -> bool:
    """Tell whether it was the terminal's output that took no more, and let nothing else go there.

    The system names no file then: what printed is at the end of the traceback.
    """
    rooms = {frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)}
    if error.filename or not any(name.partition(".")[0] == "rich" or name == "click.utils"
                                 for name in rooms):  # fmt: skip
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _show_log(level: str) -> None:
    """Show what the library logs from a level on, such as info or debug, on the standard error."""
    if level.upper() in logging.getLevelNamesMapping():
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("dskrobust").setLevel(level.upper())
    elif level:
        known = "debug, info, warning or error"
        raise click.UsageError(f"{LOG}={level} is no level of logging; say {known}")


def _check_counts() -> None:
    """Refuse numbers of threads in the environment that are none, before libraries read them."""
    for name in COUNTS:
        said = os.environ.get(name, "1")
        if not said.strip().isdecimal() or not int(said):
            raise click.UsageError(
                f"{name}={said} is in the environment, but must be a whole number of at least 1; "
                "unset it"
            )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _tell(f"Warning: {' '.join(str(message).split())}")


def _tell(line: str) -> None:
    from ..show.terminal import say

    style = "red" if line.startswith("Error") else "yellow"
    say(line, style=style, stderr=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="dskrobust %(version)s")
def main() -> None:
    """Exact sample robustness for labelled data larger than memory.

    \b
    Try it in half a minute:
      dskrobust demo
    From official files to scores:
      dskrobust ingest mnist --source DIR
      dskrobust compute mnist.zarr
      dskrobust subsets mnist.zarr --least 48000 --most 48000
    What the subsets do to models, and which labels are suspicious:
      dskrobust evaluate mnist.zarr --model knn
      dskrobust issues mnist.zarr

    A STORE is a folder (or fsspec URL) that holds data, results and the finished parts of runs
    that were interrupted.
    """


for _command in itertools.chain.from_iterable(SECTIONS.values()):
    main.add_command(with_names(_command))
