"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidOptionError
from ..outputs import check_folder
from ..paths import behind_links, expand, is_remote, local_path, special_kind
from .completion import complete_store

if TYPE_CHECKING:
    from contextlib import ExitStack

    from ..cluster import ClusterOptions
    from ..engine.spec import PairSpec
    from ..labels import LabelMap
    from ..store import ResultTables, Store

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]
PLACES = "dskrobust.places"
MOST_SEED = 2**32 - 1  # that scikit-learn and NumPy's older generators take


def together(*options: Decorator) -> Decorator:
    """Return a decorator that adds several options, in the order in which help lists them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


class Bytes(click.ParamType):
    """A number of bytes: 1GiB, 512MB."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        from dask.utils import parse_bytes

        try:
            count = parse_bytes(value)
        except ValueError:
            count = 0
        if count < 2**20:  # no worker is that small: the unit is missing, or a wrong one
            self.fail(f"{value!r} is no size; write 1GiB or 512MB", param, ctx)
        return int(count)


class Duration(click.ParamType):
    """Seconds, or a duration: 90, 5min, 2h; infinite where it is 0 or "never"."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        from dask.utils import parse_timedelta

        if str(value).strip().lower() in ("0", "never"):
            return math.inf
        try:
            seconds = float(parse_timedelta(re.sub(r"min$", "m", str(value).strip())))
        except (ValueError, KeyError):
            seconds = 0.0
        if not seconds > 0:
            self.fail(f"{value!r} is no duration; write 90, 5min, 2h or never", param, ctx)
        return seconds


class Address(click.ParamType):
    """The address of a store or array, in which ~ is the home folder."""

    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        address = _noted(_named(self, value, param, ctx), ctx)
        if is_remote(address):
            _check_protocol(self, address, param, ctx)
        return address


class NewStore(Address):
    """The address of a store that a command makes; never a folder that it stands in."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        address = super().convert(value, param, ctx)
        path = local_path(address)
        if path is not None and behind_links(path) in (here := Path.cwd(), *here.parents):
            self.fail(f"{value!r} is the working folder or one above it; name a new one")
        if path is not None and not path.is_dir():
            check_folder(path.parent)
        return address


class File(click.Path):
    """A path in which ~ is the home folder, also where no shell has seen to it (``--out=~/x``).

    Only files, folders where they may be some, and what is not there yet.
    """

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        address = _noted(_named(self, value, param, ctx), ctx)
        path = local_path(address)
        if path is not None and path.exists() and not path.is_dir():
            special = special_kind(path.stat().st_mode)
            if special:
                self.fail(f"{value!r} is {special[0]}, not a file; {special[1]}", param, ctx)
        return super().convert(address, param, ctx)


class Number(click.FloatRange):
    """A finite number."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


def _named(kind: click.ParamType, value: Any, param: Any, ctx: Any) -> str:
    """Return a path or address with ~ expanded; refuse what can be none where it is written."""
    try:
        return expand(value)
    except InvalidOptionError as error:
        kind.fail(error.on_command_line, param, ctx)


def _check_protocol(kind: click.ParamType, address: str, param: Any, ctx: Any) -> None:
    from fsspec.core import split_protocol
    from fsspec.registry import get_filesystem_class

    try:
        get_filesystem_class(split_protocol(address.split("::")[0])[0])
    except (ValueError, ImportError) as error:
        kind.fail(f"{address!r} is at no place that fsspec knows: {error}", param, ctx)


def _noted(address: str, ctx: click.Context | None) -> str:
    """Keep an address for messages on what the system says without a name (`places`)."""
    if ctx is not None:
        ctx.meta.setdefault(PLACES, []).append(address)
    return address


def places(ctx: click.Context) -> list[str]:
    """Return the addresses that a command was given, in its order."""
    return list(ctx.meta.get(PLACES, ()))


store_argument = click.argument(
    "store", type=Address(), metavar="STORE", shell_complete=complete_store
)
wait_option = click.option(
    "--wait/--no-wait", default=True, show_default=True,
    help="Whether to wait where another process is at the same work; its results are taken over.",
)  # fmt: skip


def opened_store(address: str) -> Store:
    """Open a command's store and say in it, as long as the command runs, that it is in use.

    Who leaves last clears up what was replaced meanwhile.
    """
    from ..store import at_work, clear_up, open_store

    store = open_store(address)  # of what is no store nothing is said
    command = click.get_current_context()
    command.call_on_close(lambda: clear_up(store.objects))
    command.with_resource(at_work(store.address, f"`{command.info_name}` runs"))
    return open_store(address)


anonymous_option = click.option(
    "--anonymous",
    is_flag=True,
    help="Leave folders, hosts and users out of the page: of addresses the last part stays.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
metric_option = click.option(
    "--metric",
    "-m",
    metavar="METRIC",
    help="euclidean (default), cityblock, chebyshev, minkowski(p), angular, hamming or "
    "mahalanobis.",
)


label_bound_option = click.option(
    "--label-bound",
    type=Number(0, min_open=True),
    metavar="B",
    help="‖y‖∞, where it should be more than the largest label.",
)
metric_options = together(  # what chooses a computation
    metric_option,
    click.option(
        "--labels",
        metavar="MAP",
        help="categorical, real, vector-l1, vector-l2, vector-linf, or vector- and the import "
        "path of a norm of your own; as the store says by default.",
    ),
    label_bound_option,
)


local_options = together(  # the size of a local cluster
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="Worker processes; one for every core of up to four, else one for every four.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="T",
        help="Of each worker; so many that all cores are used by default.",
    ),
    click.option(
        "--memory-limit",
        type=Bytes(),
        metavar="SIZE",
        help="Of each worker, such as 1GiB; 80 % of the free memory over all by default.",
    ),
)


where_options = together(  # a running scheduler, or the local cluster that is started
    click.option("--scheduler", metavar="ADDRESS", help="A running scheduler: tcp://HOST:8786."),
    click.option(
        "--scheduler-file",
        type=File(),
        metavar="FILE",
        help="Where a scheduler wrote its address.",
    ),
    click.option(
        "--wait-for",
        type=click.IntRange(1),
        metavar="N",
        help="Workers that must have come to the scheduler before a plan is made for them.",
    ),
    click.option(
        "--no-workers-timeout",
        type=Duration(),
        metavar="TIME",
        help="For how long a scheduler without workers, or without an answer, is waited for: "
        "90 (seconds), 5min, 2h, never or 0; 10min by default.",
    ),
    click.option(
        "--tls-ca",
        type=File(),
        metavar="FILE",
        help="Of the authority that signed the scheduler's certificate; without these three, "
        "what Dask's configuration says.",
    ),
    click.option(
        "--tls-cert",
        type=File(),
        metavar="FILE",
        help="Our certificate, for tls:// schedulers.",
    ),
    click.option("--tls-key", type=File(), metavar="FILE", help="Private key of that certificate."),
    local_options,
    click.option("--no-dashboard", is_flag=True, help="No dashboard for the local cluster."),
)


def cluster_options(
    *, no_dashboard: bool = False, no_workers_timeout: float | None = None, **options: Any
) -> ClusterOptions:
    """Return what `where_options` ask for, or a usage error where they exclude each other."""
    from ..cluster import ClusterOptions
    from ..cluster.options import Patience
    from ..errors import ClusterError

    patience = {} if no_workers_timeout is None else {"no_workers": no_workers_timeout}
    try:
        return ClusterOptions(dashboard=not no_dashboard, patience=Patience(**patience), **options)
    except ClusterError as error:
        raise click.UsageError(error.on_command_line) from error


WHERE = (
    "scheduler", "scheduler_file", "wait_for", "no_workers_timeout", "tls_ca", "tls_cert",
    "tls_key", "workers", "threads", "memory_limit", "no_dashboard",
)  # fmt: skip


def asked_cluster(options: dict[str, Any]) -> ClusterOptions | None:
    """Take what `where_options` ask for out of a command's options; None where they ask nothing."""
    where = {name: options.pop(name) for name in WHERE}
    asked = any(where[name] is not None for name in WHERE if name != "no_dashboard")
    return cluster_options(**where) if asked else None


def local_gpu_worker(stack: ExitStack, options: ClusterOptions) -> ClusterOptions:
    """Give a local cluster this machine's GPU while the stack lasts: then it is one worker."""
    from dataclasses import replace

    import dask

    from ..evaluation.models.base import GPU

    if options.workers not in (None, 1):  # which of several has it?
        return options
    stack.enter_context(dask.config.set({"distributed.worker.resources": {GPU: 1}}))
    return replace(options, workers=1)


def say_next(store: Store, address: str, remark: str = "") -> None:
    """Name the command that computes a store, or say why there is none."""
    from ..show import terminal
    from ..store import one_label

    flat = store.uniform_groups
    terminal.fact(
        "next", one_label(flat) if flat else f"dskrobust compute {quote(address)}{remark}"
    )


def label_map(store: Store, labels: str | None, bound: float | None) -> LabelMap:
    """Return the label map that the options ask for."""
    from dataclasses import replace

    from ..labels import LabelMap, resolve_labels

    row, dtype = store.row_shape("labels")
    asked, _, path = (labels or "").partition("-")
    if asked == "vector" and "." in path:
        return LabelMap("vector", _own_norm(path), bound)
    kind = resolve_labels(labels, dtype, 1 + len(row), store.spec.label_map)
    return kind if bound is None else replace(kind, bound=bound)


def _own_norm(path: str) -> Callable[..., float]:
    """Return the norm that an import path leads to: the user has typed it, so its code may run.

    Raises
    ------
    InvalidOptionError
        Where it leads to nothing that can be called.
    """
    from ..display import error_line
    from ..own_code import imported

    module, _, name = path.rpartition(".")
    try:
        norm = imported(module, name)
    except Exception as error:  # whatever the module raises
        raise InvalidOptionError(f"label norm {path}: {error_line(error)}") from error
    if not callable(norm) or isinstance(norm, type):
        raise InvalidOptionError(f"label norm {path} is no function of a vector")
    return norm


def asked_spec(
    store: Store, metric: str | None, labels: str | None, bound: float | None
) -> PairSpec:
    """Return what is to be computed."""
    from ..runs import pair_spec

    return pair_spec(store, metric or "euclidean", label_map(store, labels, bound))


def asked_result(
    store: Store, metric: str | None, labels: str | None, bound: float | None
) -> ResultTables:
    """Return the stored result that the options name; the newest one without them.

    Raises
    ------
    StaleResultsError
        Where there is none for the store's data.
    """
    from ..store import current_results

    if metric is None and labels is None and bound is None:
        return current_results(store)
    return current_results(store, asked_spec(store, metric, labels, bound).parameters())


def result_spec(store: Store, result: ResultTables) -> PairSpec:
    """Return what a stored result was computed by, its metric and label map."""
    from ..labels import LabelMap
    from ..runs import pair_spec

    name = str(result.parameters["metric"])
    metric = "mahalanobis" if name.startswith("mahalanobis") else name
    return pair_spec(store, metric, LabelMap.of(result.parameters))


def done_segments(store: Store, spec: PairSpec) -> int:
    """Return how many of the store's leading segments have results with these parameters."""
    from ..store import matching

    known = (r for r in matching(store, spec.parameters()) if r.is_prefix_of(store))
    return max((len(r.segments) for r in known), default=0)
