"""The commands `evaluate` and `run`: models on subsets, and the paper's performance matrices."""

from __future__ import annotations

import json
import tomllib
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import absolute, cluster_options, json_option, store_argument, where_options

if TYPE_CHECKING:
    from ..cluster import ClusterOptions
    from ..evaluation import Evaluation, Experiment
    from ..store import Store


@click.command()
@store_argument
@click.option(
    "--model",
    "-m",
    "kinds",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="knn, forest, xgboost, xgboost-forest, or the import path of a scikit-learn "
    "estimator; may be given several times.",
)
@click.option(
    "--train",
    multiple=True,
    metavar="NAME=SELECTION",
    help="A training subset: GROUP[:L500[:M20]]; train and its halves by default.",
)
@click.option(
    "--test",
    multiple=True,
    metavar="NAME=SELECTION",
    help="A test subset; test and its halves by default.",
)
@click.option(
    "--grid",
    multiple=True,
    metavar="KEY=VALUES",
    help="A hyper-parameter to sweep: trees=1:9, alpha=1,10 or sizes=[5],[5,5]; the paper's by "
    "default. Of one of several models: forest.trees=1:9; without its name, of all.",
)
@click.option(
    "--set",
    "fixed",
    multiple=True,
    metavar="KEY=VALUE",
    help="A hyper-parameter that stays as it is; of one model as for --grid.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="How the model is run: nested=true reads small forests off large ones; of one model as "
    "for --grid.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=25,
    show_default=True,
    help="Trainings of a model that is not deterministic.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--threshold",
    type=float,
    metavar="Y",
    help="For real labels: from here on they are popular; the median by default.",
)
@click.option(
    "--metric", metavar="METRIC", help="Of the results that select; the newest by default."
)
@where_options
@click.option(
    "--out",
    "-o",
    metavar="FILE.csv",
    type=click.Path(dir_okay=False),
    help="Write the table of all trials.",
)
@json_option
def evaluate(
    store: str,
    kinds: tuple[str, ...],
    train: tuple[str, ...],
    test: tuple[str, ...],
    grid: tuple[str, ...],
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    trials: int,
    seed: int,
    threshold: float | None,
    metric: str | None,
    out: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Train models on subsets, test them on others, and print performance matrices.

    LOSS and ACC are those of the paper, averaged over trials by the trimmed mean. Finished steps
    are kept in the store: a run that was interrupted goes on where it stopped.

    \b
    Examples:
      dskrobust evaluate digits.zarr --model forest
      dskrobust evaluate mnist.zarr -m knn --train x=train --test t=test:L5000
      dskrobust evaluate news.zarr -m sklearn.linear_model.Ridge --grid alpha=1,10
    """
    from ..evaluation import Experiment, Model
    from ..store import open_store

    cluster = cluster_options(**where)
    opened = open_store(absolute(store))
    swept = _values(grid, _swept)
    parameters, how = (_values(part, _value) for part in (fixed, options))
    experiment = Experiment(
        train=_named(train) or default_subsets(opened, "train", "x"),
        test=_named(test) or default_subsets(opened, "test", "t"),
        models=[
            Model(k, _own(swept, k, kinds), _own(parameters, k, kinds), _own(how, k, kinds))
            for k in kinds
        ],
        trials=trials,
        seed=seed,
        threshold=threshold,
        metric=metric,
        name=f"{', '.join(kinds)} on {opened.spec.name}",
    )
    found = _run(opened, experiment, cluster, quiet=as_json)
    if out:
        found.table.to_csv(out, index=False)
    _report(found, as_json, [("table", out)] if out else [])


@click.command("run")
@click.argument("experiment", metavar="EXPERIMENT.toml", type=click.Path(dir_okay=False))
@click.argument("store", metavar="[STORE]", required=False)
@where_options
@click.option(
    "--out",
    "-o",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write the table of all trials, the matrices and how they came about.",
)
@json_option
def run_experiment(
    experiment: str, store: str | None, out: str | None, as_json: bool, **where: Any
) -> None:
    """Run an experiment that a TOML file describes; a second run does only what is missing.

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
    from ..evaluation import read_experiment
    from ..store import open_store

    cluster = cluster_options(**where)
    described = read_experiment(experiment)
    address = store or described.store
    if address is None:
        raise InvalidOptionError(f"{experiment} names no store; give one after it")
    opened = open_store(absolute(address))
    found = _run(opened, described, cluster, quiet=as_json)
    written = [("written", path) for path in _write(found, Path(out))] if out else []
    _report(found, as_json, written)


# -- what is asked for -----------------------------------------------------------------------


def default_subsets(store: Store, group: str, letter: str) -> dict[str, str]:
    """Return a group and, where the store has results, its least and most robust halves.

    Raises
    ------
    InvalidOptionError
        Where there is no group of that name.
    """
    from ..errors import InvalidOptionError, StaleResultsError
    from ..store import current_results

    if group not in store.groups:
        raise InvalidOptionError(
            f"there is no group {group!r}, the groups are {', '.join(store.groups)}; say what to "
            f"take with --{group} {letter}=SELECTION"
        )
    known = store.summary.groups.get(store.groups.index(group))
    half = known.rows // 2 if known else 0
    try:
        current_results(store)
    except StaleResultsError:
        return {letter: group}
    if not half or known is None:
        return {letter: group}
    return {
        letter: group,
        f"{letter}_L": f"{group}:L{half}",
        f"{letter}_M": f"{group}:M{known.rows - half}",
    }


def _named(given: Iterable[str]) -> dict[str, str]:
    """Return NAME=SELECTION by name; a selection without a name is its own."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, selection = text.partition("=")
        if name in found:
            raise click.UsageError(f"subset {name!r} is given twice")
        found[name] = selection if equals else text
    return found


def _values(given: Iterable[str], read: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise click.UsageError(f"{text!r} gives no value; write KEY=VALUE")
        if name in found:
            raise click.UsageError(f"{name} is given twice")
        found[name] = read(value)
    return found


def _own(given: dict[str, Any], kind: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Return what is given for all models, then for this one: MODEL.KEY=VALUE."""
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, value in given.items():
        model, dot, key = name.rpartition(".")
        if dot and model not in kinds:
            raise click.UsageError(f"{name} is of no --model; there are {', '.join(kinds)}")
        if not dot:
            shared[key] = value
        elif model == kind:
            own[key] = value
    return {**shared, **own}


def _swept(text: str) -> list[Any]:
    """Return the values of a list or a range: 1:9 is 1, 2, … 9; [5],[5,5] are two lists."""
    if "[" in text:
        try:
            return list(tomllib.loads(f"values = [{text}]")["values"])
        except tomllib.TOMLDecodeError as error:
            raise click.UsageError(
                f'{text!r} is no list of values; write [5],[5,5] or ["a","b"],["c"]'
            ) from error
    first, colon, last = text.partition(":")
    if colon and first.isdigit() and last.isdigit():
        return list(range(int(first), int(last) + 1))
    return [_value(part) for part in text.split(",")]


def _value(text: str) -> Any:
    """Return a value as TOML has it: number, true, false; text without quotes too."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None if text == "None" else text


# -- running ---------------------------------------------------------------------------------


def _run(
    store: Store, experiment: Experiment, options: ClusterOptions, *, quiet: bool
) -> Evaluation:
    """Run what is missing on a cluster and show how far it is."""
    from .. import terminal
    from ..cluster import connect
    from ..evaluation import Evaluation, Failure

    made = Evaluation(store, experiment)
    total, found = len(made.jobs), made.finished()
    with ExitStack() as stack:
        client = None
        if found < total:
            client = stack.enter_context(connect(options))
            if not quiet and (options.is_remote or options.dashboard):
                terminal.fact("dashboard", client.dashboard_link)
        if not quiet:
            resumed = f", {found:,} of them finished earlier" if found else ""
            terminal.fact("plan", f"{terminal.counted(total, 'step')}{resumed}")
        bar = stack.enter_context(terminal.progress("Evaluating", total, unit="steps"))

        def tell(job: Any, record: Any, was_found: bool) -> None:
            bar.note = job.model.name if not isinstance(record, Failure) else "a step failed"
            bar.add(1, found=was_found)

        try:
            made.compute(client, tell)
        except KeyboardInterrupt:
            terminal.say(
                "Stopped. Finished steps are kept in the store: run the same command again to go "
                "on.",
                style="yellow",
                stderr=True,
            )
            raise click.exceptions.Exit(130) from None
    return made


def _report(found: Evaluation, as_json: bool, written: Sequence[tuple[str, Any]]) -> None:
    """Print what came out; fail where steps failed, with a line for each."""
    from .. import terminal

    if as_json:
        click.echo(json.dumps(evaluation_facts(found), indent=2))
    else:
        _print(found, written)
    mixed = [f"{name} {' and '.join(v)}" for name, v in found.versions().items() if len(v) > 1]
    if mixed:
        warnings.warn(
            f"the steps were made with different versions: {', '.join(mixed)}", stacklevel=2
        )
    for failure in found.failures:
        terminal.say(f"Failed: {failure}", style="red", stderr=True)
    if found.failures:
        from ..evaluation import summary_of

        raise summary_of(found.failures, len(found.jobs))


def evaluation_facts(found: Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain values; LOSS and ACC that are not there are null."""
    table = found.table.astype(object)
    return {
        **found.facts(),
        "versions": found.versions(),
        "records": found.records.path,
        "table": table.where(table.notna(), None).to_dict("records"),
        "failures": [str(failure) for failure in found.failures],
    }


def _print(found: Evaluation, written: Sequence[tuple[str, Any]]) -> None:
    from .. import terminal

    for matrix in _matrices(found):
        terminal.say()
        for line in str(matrix).splitlines():
            terminal.say(line)
    terminal.say()
    for name, path in written:
        terminal.fact(name, str(path))
    terminal.fact("records", f"{found.store.url}/{found.records.path}")


def _matrices(found: Evaluation) -> list[Any]:
    """Return matrices as Tables 6 and 8 have them, then, where there is a choice, 7 and 9."""
    chosen = any(model.sweep in model.spec.grid for model in found.models)
    return [matrix for best in (None, "each")[: 1 + chosen] for matrix in found.matrices(best)]


def _write(found: Evaluation, folder: Path) -> list[Path]:
    """Write the table, the matrices and the provenance."""
    folder.mkdir(parents=True, exist_ok=True)
    table, text, facts = (folder / name for name in ("table.csv", "matrices.md", "facts.json"))
    found.table.to_csv(table, index=False)
    text.write_text("\n\n".join(map(_markdown, _matrices(found))) + "\n", encoding="utf-8")
    kept = {k: v for k, v in evaluation_facts(found).items() if k != "table"}
    facts.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return [table, text, facts]


def _markdown(matrix: Any) -> str:
    sheet = matrix.sheet()
    return f"**{sheet.title}**\n\n{matrix.to_markdown()}\n\n{sheet.foot}"
