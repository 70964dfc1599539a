"""Run the paper's networks on CIFAR-10: Tables 2 to 4, Figures 5 to 7, beside the paper's.

    python scripts/paper/cnn.py cifar10.zarr                 # on this machine's GPUs
    python scripts/paper/cnn.py cifar10.zarr --scheduler tcp://10.0.0.1:8786
    python scripts/paper/cnn.py cifar10.zarr --small         # a 100th of the images, on the CPU

The store needs results (`dskrobust ingest cifar10`, then `dskrobust compute`); with --small the
slice gets its own. The experiments are the TOML files in notebooks/experiments, which `dskrobust
run` takes too. Finished steps and checkpoints are in the store: what is interrupted goes on where
it stopped. Beside the page there are all trials, what the paper observes as rows, the curves of
Figures 6 and 7, and the samples of Figure 5 with their probabilities.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cnn_claims import OBSERVATIONS, curve_rows, observation_row, prototype_row, table_rows
from cnn_runs import EVERY, cluster, experiment_of, size_words, slice_of
from probabilities import (
    RankCorrelation,
    asked_samples,
    correlations,
    extremes,
    relation_row,
)
from tables import (
    LIBRARIES,
    NOTEBOOKS,
    PaperTable,
    our_matrices,
    page,
    read_paper,
    run,
    section,
    versions,
)

import dskrobust as dr
from dskrobust.cli.outcome import session_lines
from dskrobust.evaluation import Evaluation, Experiment
from dskrobust.evaluation.protocol import PerformanceMatrix
from dskrobust.store import current_results

PAPER = "tables-cnn.toml"
EXPERIMENTS = {2: "cnn-table-2", 3: "cnn-table-3", 4: "cnn-table-4"}
PROTOTYPE = "cnn-prototype"
NAMED = ("bird", "frog")  # whose images D.2 compares
COMMAND = "python scripts/paper/cnn.py cifar10.zarr"

WORD = {
    False: """\
CIFAR-10 has an official split, so the samples are the paper's; models are random, so ACC is
compared by two standard errors of the difference of two test sets of that size. Smaller numbers of
epochs are read off the same training, where the paper trains new models. The paper's LOSS of
ResNet-56 may have Keras's L2 penalty in it, ours is the cross-entropy alone; what the penalty comes
to is said below.""",
    True: """\
This is no reproduction: it has {size}, with the robustness of this slice, and few trials, so that
it runs on a CPU. Numbers are not those of the paper's tables; what can be looked at are its
observations.""",
}


# -- running -----------------------------------------------------------------------------------


def with_epochs_of(experiment: Experiment, matrix: PerformanceMatrix) -> Experiment:
    """Return Table 3's experiment with the numbers of epochs that were found for Table 2."""
    (model,) = experiment.models
    epochs = [int(matrix.values[0, matrix.train.index(name)]) for name in experiment.train]
    own = replace(model, options={**model.options, "subset_epochs": epochs})
    return replace(experiment, models=[own])


def run_all(
    store: dr.Store, wanted: list[int], options: argparse.Namespace
) -> tuple[dict[int, Evaluation], Evaluation]:
    """Return the evaluations by their tables, and that of the prototype."""
    made: dict[int, Evaluation] = {}
    numbers = sorted({*wanted, *((2,) if 3 in wanted else ())})
    with cluster(options.scheduler, options.small) as client:
        for number in numbers:
            experiment = experiment_of(EXPERIMENTS[number], options.small)
            if number == 3:
                experiment = with_epochs_of(experiment, made[2].matrix())
            print(f"{experiment.name} on {store.url}", flush=True)
            made[number] = dr.evaluate(store, experiment, client=client)
            run(made[number])
        prototype = dr.evaluate(store, experiment_of(PROTOTYPE, options.small), client=client)
        run(prototype)
    return made, prototype


# -- what is said of it ------------------------------------------------------------------------


def run_words(number: int, experiment: Experiment) -> str:
    """Return how a table was run: "Table 4: 25 trials, 15 in the first session, …"."""
    options = experiment.models[0].options
    parts = [f"{experiment.trials} trials"]
    if "first" in options:
        parts.append(f"{options['first']} in the first session")
    if "max_epochs" in options:
        parts.append(f"{options['max_epochs']} epochs at most")
    return f"Table {number}: {', '.join(parts)}"


def session_words(number: int, evaluation: Evaluation) -> list[str]:
    """Return how long models were trained, where, and what the L2 penalty came to."""
    lines = []
    rows = evaluation.sessions.to_dict("records")
    for line, row in zip(session_lines(evaluation), rows, strict=True):
        penalty = "" if np.isnan(row["penalty"]) else f"; L2 penalty {row['penalty']:.4f}"
        lines.append(
            f"- Table {number}, epochs of {line}{penalty} ({row['seconds']:,.0f} s in all its "
            f"attempts, on {row['device']})"
        )
    return lines


def page_text(
    tables: list[PaperTable], trials: pd.DataFrame, words: list[str], *, comparable: bool
) -> str:
    """Return the page of some tables from all trials, of which column table says whose they are."""
    sections = [
        section(table, matrices_of(table, trials), OBSERVATIONS, comparable=comparable)
        for table in tables
    ]
    numbers = ", ".join(str(table.number) for table in tables)
    return page(sections, words, numbers, "paper/cnn.py", PAPER, (*LIBRARIES, "torch"))


def matrices_of(table: PaperTable, trials: pd.DataFrame) -> tuple[PerformanceMatrix, ...]:
    """Return a table's matrices from all trials."""
    own = trials[trials["table"] == table.number].drop(columns="table")
    return our_matrices(table, own, loss_high=False)


@dataclass(frozen=True)
class Runs:
    """What was run.

    Attributes
    ----------
    tables : list of PaperTable
    made : mapping of int to Evaluation
        By table.
    trials : DataFrame
        All trials, with a column table.
    curves : DataFrame
        Of the prototype.
    samples : DataFrame
        Training images with R and probability; empty without Table 2.
    size, command : str
        Of which images, and by which command.
    """

    tables: list[PaperTable]
    made: Mapping[int, Evaluation]
    trials: pd.DataFrame
    curves: pd.DataFrame
    samples: pd.DataFrame
    size: str
    command: str

    def correlations(self) -> dict[str, RankCorrelation]:
        """Return the rank correlations of R and probability."""
        return correlations(self.samples, NAMED) if len(self.samples) else {}

    def observations(self) -> list[dict[str, Any]]:
        """Return what the paper says as rows."""
        said = []
        for table in self.tables:
            size = f"{self.size}; {run_words(table.number, self.made[table.number].experiment)}"
            own = table_rows(table, matrices_of(table, self.trials), size)
            said += [(row, f"4.2.1, Table {table.number}") for row in own]
        for name, found in self.correlations().items():
            size = f"{self.size}; {self.made[2].experiment.trials} networks, trimmed mean"
            said.append((relation_row(found, name, size), "D.2, Figure 5"))
        seen = curve_rows(self.curves, self.size)
        if 2 in self.made:
            average = float(self.made[2].matrix().loss[0, 0])
            seen.append(prototype_row(self.curves, average, self.size))
        said += [(row, "D.3, Figures 6 and 7") for row in seen]
        return [observation_row(row, where, self.command) for row, where in said]

    def facts(self) -> dict[str, Any]:
        """Return sessions, correlations and observations as plain values."""
        return {
            "size": self.size,
            "versions": versions((*LIBRARIES, "torch")),
            "sessions": {
                f"Table {number}": json.loads(one.sessions.to_json(orient="records"))
                for number, one in self.made.items()
            },
            "rank_correlations": {n: one._asdict() for n, one in self.correlations().items()},
            "observations": self.observations(),
        }


def main() -> None:
    """Run what the options ask for."""
    options = parse()
    store = dr.open_store(options.store)
    if options.small:
        store = slice_of(store, options.slice, EVERY["cifar10"])
    current_results(store)  # an error that says how to make them
    size = size_words(store, EVERY["cifar10"] if options.small else None)
    tables = [t for t in read_paper(NOTEBOOKS / "paper" / PAPER) if t.number in options.tables]
    made, prototype = run_all(store, [table.number for table in tables], options)
    trials = pd.concat([made[t.number].table.assign(table=t.number) for t in tables])
    curves = prototype.curves.drop(columns=["train", "model"]).round(5)
    samples = asked_samples(made[2]) if 2 in made else pd.DataFrame()
    words = [" ".join(WORD[options.small].format(size=size).split())]
    words.append("\n".join(f"- {run_words(n, one.experiment)}" for n, one in made.items()))
    words.append("\n".join(line for n, one in made.items() for line in session_words(n, one)))
    command = f"{COMMAND}{' --small' * options.small}"
    out = options.out or NOTEBOOKS / "results" / f"tables-2-4{'-small' * options.small}.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page_text(tables, trials, words, comparable=not options.small))
    facts = Runs(tables, made, trials, curves, samples, size, command).facts()
    out.with_suffix(".json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    trials.to_csv(out.with_name(f"{out.stem}-trials.csv.gz"), index=False,
                  compression={"method": "gzip", "mtime": 0})  # fmt: skip
    curves.to_csv(out.with_name(f"{out.stem}-figures-6-7.csv"), index=False)
    if len(samples):
        extremes(samples).to_csv(out.with_name(f"{out.stem}-figure-5.csv"), index=False)
    print(f"written to {out} and beside it")


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", help="of CIFAR-10, with results")
    parser.add_argument("--tables", type=int, nargs="+", default=[2, 3, 4], choices=(2, 3, 4))
    parser.add_argument("--scheduler", metavar="ADDRESS")
    parser.add_argument("--small", action="store_true", help="on the CPU, with a 100th of the data")
    parser.add_argument("--slice", type=Path, default=Path("cifar10-small.zarr"), metavar="STORE",
                        help="where --small keeps its data")  # fmt: skip
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
