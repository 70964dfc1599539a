"""The commands `evaluate` and `run`: models on subsets, and the paper's performance matrices."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from .memory import say_memory
from .options import (
    Address,
    File,
    Number,
    cluster_options,
    json_option,
    local_gpu_worker,
    opened_store,
    store_argument,
    together,
    where_options,
)
from .outcome import report, write

if TYPE_CHECKING:
    from ..cluster import ClusterOptions
    from ..evaluation import CrossValidation, Evaluation, Model
    from ..store import Store


STEPS_HERE = 200  # that this process runs, of small stores, rather than start a cluster
FEWER = Hint("sweep fewer values", "give --grid fewer values, or fewer --trials and subsets")
MOST_VALUES = 10_000  # of a range that is swept
balanced_option = click.option(
    "--balanced",
    is_flag=True,
    help="Show LOSS re-weighted by class too, as the paper's Table 3.",
)
model_option = click.option(
    "--model",
    "kinds",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="knn, forest, xgboost, xgboost-forest, cnn, resnet56, the import path of a scikit-learn "
    "estimator, incremental: and that of one with partial_fit, or torch: and that of a torch "
    "module; may be given several times.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of everything random; the same seed gives the same table.",
)
test_option = click.option(
    "--test",
    multiple=True,
    metavar="NAME=SELECTION",
    help="A test subset; test and its halves by default.",
)
training_options = together(  # how models are trained: grids, trials, seed
    click.option(
        "--grid",
        multiple=True,
        metavar="KEY=VALUES",
        help="A hyper-parameter to sweep: trees=1:9, epochs=5:90:5, alpha=1,10 or "
        "sizes=[5],[5,5]; the paper's by default. Of one of several models: forest.trees=1:9; "
        "without its name, of all.",
    ),
    click.option(
        "--set",
        "fixed",
        multiple=True,
        metavar="KEY=VALUE",
        help="A hyper-parameter that stays as it is; of one model as for --grid.",
    ),
    click.option(
        "--option",
        "options",
        multiple=True,
        metavar="KEY=VALUE",
        help="How the model is run: nested=true reads small forests off large ones, device=cpu "
        "trains networks without a GPU; of one model as for --grid.",
    ),
    click.option(
        "--trials",
        type=click.IntRange(1, 1_000_000),
        default=25,
        show_default=True,
        help="Trainings of a model that is not deterministic.",
    ),
    seed_option,
    click.option(
        "--threshold",
        type=Number(),
        metavar="Y",
        help="For real labels: from here on they are popular; the median by default.",
    ),
)


@click.command()
@store_argument
@model_option
@click.option(
    "--train",
    multiple=True,
    metavar="NAME=SELECTION",
    help="A training subset: GROUP[:L500[:M20]], or several as in GROUP:L500+M500; train and its "
    "halves by default.",
)
@test_option
@training_options
@click.option(
    "--folds",
    type=click.IntRange(2, 1_000),
    metavar="N",
    help="Test each of N folds, and train on the others: in selections, test and train. Folds of "
    "the split, or drawn by the seed.",
)
@click.option(
    "--metric",
    "-m",
    metavar="METRIC",
    help="Of the results that select; the newest by default.",
)
@where_options
@click.option(
    "--out",
    "-o",
    metavar="FILE.csv",
    type=File(dir_okay=False),
    help="Write the table of all trials.",
)
@balanced_option
@json_option
def evaluate(
    store: str,
    kinds: tuple[str, ...],
    train: tuple[str, ...],
    test: tuple[str, ...],
    grid: tuple[str, ...],
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    folds: int | None,
    trials: int,
    seed: int,
    threshold: float | None,
    metric: str | None,
    out: str | None,
    balanced: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Train models on subsets, test them on others, and print performance matrices.

    LOSS and ACC are those of the paper, averaged over trials by the trimmed mean. Finished steps
    are kept in the store: a run that was interrupted goes on where it stopped. Of up to 5,000 rows
    this process runs up to 200 steps of all but networks, unless workers, threads, a memory limit
    or a scheduler are named.

    \b
    Examples:
      dskrobust evaluate digits.zarr --model forest
      dskrobust evaluate mnist.zarr --model knn --test t=test:L5000
      dskrobust evaluate mnist.zarr --model knn --folds 5
      dskrobust evaluate news.zarr --model sklearn.svm.SVR --grid C=1,10
      dskrobust evaluate mnist.zarr --model cnn --scheduler tcp://10.0.0.1:8786
      dskrobust evaluate mnist.zarr --model cnn --option device=cpu --trials 5
    """
    from ..evaluation import Experiment
    from ..evaluation import evaluate as make
    from ..export import write_csv
    from ..outputs import check_output

    cluster = cluster_options(**where)
    opened = opened_store(store)
    _check_balanced(opened, balanced)
    chosen = _chosen(opened, named(train), named(test), (folds, seed, metric))
    experiment = Experiment(
        train=chosen[0],
        test=chosen[1],
        models=asked_models(kinds, grid, fixed, options),
        trials=trials,
        seed=seed,
        threshold=threshold,
        metric=metric,
        folds=folds,
        name=f"{', '.join(kinds)} on {opened.spec.name}",
    )
    if out:
        check_output(out)
    evaluation = make(opened, experiment)
    projected = run_steps(evaluation, cluster, quiet=as_json)
    if out:
        write_csv(evaluation.table, out)
    report(evaluation, as_json, [("table", out)] if out else [], balanced)
    if not as_json:
        say_memory(projected)


@click.command("run")
@click.argument("experiment", metavar="EXPERIMENT.toml", type=File(dir_okay=False))
@click.argument("store", type=Address(), metavar="[STORE]", required=False)
@where_options
@click.option(
    "--out",
    "-o",
    metavar="DIR",
    type=File(file_okay=False),
    help="Write the table of all trials, the matrices and how they came about.",
)
@click.option(
    "--allow-import",
    is_flag=True,
    help="Run the code that models name by import paths, also where the file is not your own.",
)
@balanced_option
@json_option
def run_experiment(
    experiment: str,
    store: str | None,
    out: str | None,
    allow_import: bool,
    balanced: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Run an experiment that a TOML file describes; a second run does only what is missing.

    One of the paper's goes by its name, such as table5-cifar10-knn.

    \b
    Example:
      dskrobust run forest.toml news.zarr --out results
    with forest.toml such as
      trials = 25
      threshold = 1400
      [train]
      x = "train"
      x_L24 = "train:L24000"
      [test]
      t = "test"
      [[models]]
      kind = "forest"
      [models.grid]
      trees = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    from ..errors import InvalidOptionError
    from ..evaluation import evaluate as make
    from ..evaluation import read_experiment
    from ..outputs import check_folder

    cluster = cluster_options(**where)
    described = read_experiment(experiment, allow_import=allow_import)
    address = store or described.store
    if address is None:
        raise InvalidOptionError(f"{experiment} names no store; give one after it")
    opened = opened_store(address)
    _check_balanced(opened, balanced)
    if out:
        check_folder(out)
    evaluation = make(opened, described)
    projected = run_steps(evaluation, cluster, quiet=as_json)
    written = [("written", path) for path in write(evaluation, Path(out), balanced)] if out else []
    report(evaluation, as_json, written, balanced)
    if not as_json:
        say_memory(projected)


# -- what is asked for -----------------------------------------------------------------------


def asked_models(
    kinds: Sequence[str], grid: Iterable[str], fixed: Iterable[str], options: Iterable[str]
) -> list[Model]:
    """Return the models that --model, --grid, --set and --option ask for."""
    from ..evaluation import Model

    swept = _values(grid, _swept)
    parameters, how = (_values(part, _value) for part in (fixed, options))
    return [
        Model(k, _own(swept, k, kinds), _own(parameters, k, kinds), _own(how, k, kinds))
        for k in kinds
    ]


def _check_balanced(store: Store, balanced: bool) -> None:
    from ..errors import InvalidOptionError

    if balanced and store.spec.label_kind != "categorical":
        raise InvalidOptionError("--balanced is for classes; the labels of this store are numbers")


def _chosen(
    store: Store,
    train: dict[str, str],
    test: dict[str, str],
    about: tuple[int | None, int, str | None],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return training and test subsets: those that are named, else all and the halves.

    about: folds, their seed and the metric.
    """
    from ..evaluation.commands import default_subsets
    from ..evaluation.folds import fold_subsets
    from ..folds import make_folds

    folds, seed, metric = about
    if folds is None:
        return train or default_subsets(store, "train"), test or default_subsets(store, "test")
    if not (train and test):
        usual = fold_subsets(make_folds(store, folds, seed=seed), metric)
        train, test = train or usual[0], test or usual[1]
    return train, test


def named(texts: Iterable[str]) -> dict[str, str]:
    """Return NAME=SELECTION by name; a selection without a name is its own."""
    named: dict[str, str] = {}
    for text in texts:
        name, equals, selection = text.partition("=")
        if name in named:
            raise click.UsageError(f"subset {name!r} is given twice")
        named[name] = selection if equals else text
    return named


def _values(texts: Iterable[str], read: Callable[[str], Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise click.UsageError(f"{text!r} gives no value; write KEY=VALUE")
        if name in values:
            raise click.UsageError(f"{name} is given twice")
        values[name] = read(value)
    return values


def _own(values: dict[str, Any], kind: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Return what is given for all models, then for this one: MODEL.KEY=VALUE."""
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, value in values.items():
        model, dot, key = name.rpartition(".")
        if dot and model not in kinds:
            raise click.UsageError(f"{name} is of no --model; there are {', '.join(kinds)}")
        if not dot:
            shared[key] = value
        elif model == kind:
            own[key] = value
    return {**shared, **own}


def _swept(text: str) -> list[Any]:
    """Return the values of a list or a range: 1:9 is 1, 2, … 9, 5:90:5 is 5, 10, … 90.

    Values that are lists themselves: [5],[5,5].
    """
    if "[" in text:
        try:
            return list(tomllib.loads(f"values = [{text}]")["values"])
        except (ValueError, RecursionError) as error:
            raise click.UsageError(
                f'{text!r} is no list of values; write [5],[5,5] or ["a","b"],["c"]'
            ) from error
    ends = text.split(":")
    if len(ends) in (2, 3) and all(map(_is_count, ends)):
        first, last, step = (*map(int, ends), 1)[:3]
        if step and last // step - first // step > MOST_VALUES:
            raise click.UsageError(f"{text!r} are more than {MOST_VALUES:,} values")
        if step:
            return list(range(first, last + 1, step))
    return [_value(part) for part in text.split(",")]


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _value(text: str) -> Any:
    """Return a value as TOML has it: number, true, false; text without quotes too."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return None if text == "None" else text


# -- running ---------------------------------------------------------------------------------


def steps_here(
    made: Evaluation | CrossValidation, options: ClusterOptions, repeats: int = 1
) -> bool:
    """Tell whether threads of this process run the steps: no cluster is worth its start for them.

    repeats: how often as many steps are run.
    """
    from ..compute import stays_here

    long = any(model.lockstep for model in made.models)  # networks
    few = repeats * (len(made.jobs) - made.finished()) <= STEPS_HERE
    return few and not long and stays_here(made.store, options)


def project_steps(made: Evaluation | CrossValidation, *, here: bool, more: int = 0) -> int:
    """Return how many bytes this process holds at most while steps run and a table is shown.

    here: whether its threads run them. more: bytes that are held besides.
    """
    from ..cluster import connect as connect  # imported by now, and so counted
    from ..evaluation.jobs import records_memory
    from ..memory import CLUSTER, projected_peak

    needed = CLUSTER + records_memory(made.jobs) + more
    if here:
        needed += made.training_memory()
    return projected_peak(f"an evaluation of {len(made.jobs):,} steps", needed, FEWER)


def run_steps(
    made: Evaluation | CrossValidation, options: ClusterOptions, *, quiet: bool, more: int = 0
) -> int:
    """Run what is missing and show how far it is; return this process's peak as projected.

    more: bytes that this process holds besides.
    """
    from ..cluster.workers import cores_here
    from ..evaluation import Failure
    from ..show import terminal
    from .compute import check_scheduler
    from .run_view import connected, threads_line

    here = steps_here(made, options)
    projected = project_steps(made, here=here, more=more)
    total, finished = len(made.jobs), made.finished()
    with ExitStack() as stack:
        client = None
        if finished == total:
            check_scheduler(options)
        else:
            client = stack.enter_context(connected(_with_gpu(stack, made, options), here=here))
            if here and not quiet:
                terminal.fact("workers", threads_line(cores_here()))
            elif not quiet and (options.is_remote or options.dashboard):
                terminal.fact("dashboard", client.dashboard_link)
        if not quiet:
            resumed = f", {finished:,} of them finished earlier" if finished else ""
            terminal.fact("plan", f"{terminal.counted(total, 'step')}{resumed}")
        bar = stack.enter_context(terminal.progress("Evaluating", total, unit="steps"))

        def tell(job: Any, record: Any, was_found: bool) -> None:
            bar.note = job.model.name if not isinstance(record, Failure) else "a step failed"
            bar.add(1, found=was_found)

        def watch(job: Any, event: dict[str, Any]) -> None:
            loss = "" if event["loss"] is None else f", LOSS {event['loss']:.4f}"
            at = f"{event['session']} session, epoch {event['epoch']} of {event['until']}"
            bar.remark(f"{job}: {at}{loss}")

        try:
            made.compute(client, tell, watch)
        except KeyboardInterrupt:
            terminal.say(
                "Stopped. Finished steps are kept in the store: run the same command again to go "
                "on.",
                style="yellow",
                stderr=True,
            )
            raise click.exceptions.Exit(130) from None
    return projected


def _with_gpu(
    stack: ExitStack, made: Evaluation | CrossValidation, options: ClusterOptions
) -> ClusterOptions:
    """Give a local cluster this machine's GPU, where a model needs it."""
    from ..evaluation.checks import local_gpu

    if options.is_remote or not local_gpu(made.models):
        return options
    return local_gpu_worker(stack, options)
