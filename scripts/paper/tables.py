"""Run the paper's Tables 5 to 9 and write our matrices beside the paper's.

    python scripts/paper/tables.py --cifar10 cifar10.zarr --online-news online-news.zarr
    python scripts/paper/tables.py        # the page again, from the trials in notebooks/results

The stores need results (`dskrobust ingest`, then `dskrobust compute`). The experiments are the
TOML files in notebooks/experiments, which `dskrobust run` takes too. Finished trials are in the
stores: what is interrupted goes on where it stopped. The trials are kept in notebooks/results, with
tables-5-9.json (what the stores and libraries were), and the page is made of these.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dask.utils import parse_bytes
from numpy.typing import NDArray

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.evaluation import Evaluation, Experiment, read_experiment
from dskrobust.evaluation.protocol import (
    Choice,
    PerformanceMatrix,
    performance_matrix,
    side_by_side,
)
from dskrobust.evaluation.targets import targets_of
from dskrobust.show import terminal

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RESULTS = NOTEBOOKS / "results"
FACTS = RESULTS / "tables-5-9.json"
LIBRARIES = ("dskrobust", "numpy", "scikit-learn", "dask")
LOSS_WITHIN = 0.1

WORD = {
    "cifar10": """\
CIFAR-10 has an official split and k nearest neighbours has no chance in it, so the same numbers
are due. What is left comes from neighbours at equal distances, and from equally robust samples at
the edge of a subset.""",
    "online-news": """\
Here the samples differ. The paper drew 32,000 of 39,644 articles at random for training and does
not say which; {name} has {train:,} of {rows:,} for training and {test:,} for testing, drawn with
seed {seed}. Robustness, the subsets and the best hyper-parameters follow the draw. So ACC is
compared by two standard errors of the difference of two test sets of the paper's size,
2·√(2·p·(1 − p) / n): about 0.016 on t, 0.023 on its halves and 0.06 on 500 samples. LOSS has no
such yardstick: a few articles with hundreds of thousands of shares make most of the sums, and
whether they are in a subset is a matter of the draw; it counts as close within {loss}. So what a
single draw can repeat, or not, are the paper's observations. They are listed below each table.
Forests of 1 to 9 trees are the first trees of one forest of 9 in every trial (the option `nested`
of the experiment; independent forests take five times as long), so they are not independent.""",
}


# -- the paper's side --------------------------------------------------------------------------


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: one matrix, or two side by side.

    Attributes
    ----------
    within : float, optional
        How far ACC may be; None stands for two standard errors.
    sizes : tuple of int
        Of the test subsets.
    by, measure : str
        What chose the hyper-parameter, and which LOSS is shown.
    """

    number: int
    title: str
    model: str
    data: str
    experiment: str
    best: str
    sweep: str | None
    within: float | None
    sizes: tuple[int, ...]
    matrices: tuple[PerformanceMatrix, ...]
    by: str = "acc"
    measure: str = "loss"


def read_paper(path: Path) -> list[PaperTable]:
    """Return the paper's tables."""
    return [_paper_table(made) for made in tomllib.loads(path.read_text())["tables"]]


def _paper_table(made: dict[str, Any]) -> PaperTable:
    matrices = []
    for side in made["sides"]:
        acc = np.array(side["acc"])
        values = np.full(acc.shape, None, dtype=object)
        if "values" in side:  # one for each column, or one for each cell
            values[:] = side["values"]
        loss = np.array(side["loss"]) if "loss" in side else np.full(acc.shape, np.nan)
        matrix = PerformanceMatrix(
            tuple(made["train"]), tuple(made["test"]), loss, acc, values, made["model"],
            made.get("sweep"), made["best"], made.get("loss_high", True), side["fixed"],
            by=made.get("by", "acc"),
        )  # fmt: skip
        matrices.append(matrix if "loss" in side else matrix.showing("acc"))
    names = ("number", "title", "model", "data", "experiment", "best")
    return PaperTable(
        **{name: made[name] for name in names},
        sweep=made.get("sweep"),
        within=made.get("within"),
        sizes=tuple(made["sizes"]),
        matrices=tuple(matrices),
        by=made.get("by", "acc"),
        measure=made.get("measure", "loss"),
    )


# -- our side ----------------------------------------------------------------------------------


def our_matrices(
    paper: PaperTable, trials: pd.DataFrame, loss_high: bool
) -> tuple[PerformanceMatrix, ...]:
    """Return a table's matrices from our trials."""
    found = []
    for side in paper.matrices:
        made = performance_matrix(
            trials,
            loss_high=loss_high,
            model=paper.model,
            fixed=side.parameters,
            choice=Choice(paper.sweep, paper.best, paper.by),
            loss=paper.measure,
        )
        found.append(made.showing(*side.measures))
    return tuple(found)


def tolerance(paper: PaperTable, side: PerformanceMatrix) -> NDArray[np.float64]:
    """Return how far the ACC of every cell may be, shape (test, train)."""
    if paper.within is not None:
        return np.full(side.acc.shape, paper.within)
    rows = np.array(paper.sizes)[:, None]
    return 2 * np.sqrt(2 * side.acc * (1 - side.acc) / rows)


# -- what agrees -------------------------------------------------------------------------------


def agreement(paper: PaperTable, ours: Sequence[PerformanceMatrix]) -> list[str]:
    """Return lines on how many cells agree, and how far the others are."""
    pairs = list(zip(paper.matrices, ours, strict=True))
    off = np.stack([np.abs(a.acc - b.acc) for a, b in pairs])
    allowed = np.stack([tolerance(paper, a) for a, _ in pairs]) + 5e-5  # printed to 4 decimals
    words = "two standard errors" if paper.within is None else f"{paper.within:g}"
    lines = [f"ACC: {_close(off, off <= allowed, words)}"]
    if "loss" in paper.matrices[0].measures:
        loss = np.stack([np.abs(a.loss - b.loss) for a, b in pairs])
        lines.append(f"LOSS: {_close(loss, loss <= LOSS_WITHIN, f'{LOSS_WITHIN:g}')}")
    if paper.sweep is not None:
        rows = slice(0, 1) if paper.best != "each" else slice(None)
        far = np.stack([_distance(a.values[rows], b.values[rows]) for a, b in pairs])
        lines.append(
            f"{paper.sweep}: {int((far == 0).sum())} of {far.size} the same, mean absolute "
            f"difference {far.mean():.1f}"
        )
    for measure in paper.matrices[0].measures:
        name = f"best_{measure}"
        same = [(getattr(a, name) & getattr(b, name)).any(axis=1) for a, b in pairs]
        lines.append(
            f"best {measure.upper()} of a row on the same training subset: "
            f"{int(np.sum(same))} of {np.size(same)} rows"
        )
    return lines


def _close(off: NDArray[np.float64], close: NDArray[np.bool_], words: str) -> str:
    return (
        f"{int(close.sum())} of {close.size} cells within {words}; mean absolute difference "
        f"{np.nanmean(off):.4f}, largest {np.nanmax(off):.4f}"
    )


def _distance(a: NDArray[np.object_], b: NDArray[np.object_]) -> NDArray[np.float64]:
    return np.abs(a.astype(float) - b.astype(float))


@dataclass(frozen=True)
class Observation:
    """Something the paper says of some of its tables, as a check of one matrix."""

    tables: tuple[int, ...]
    words: str
    holds: Callable[[PerformanceMatrix], bool]


def acc(m: PerformanceMatrix, test: str, train: str = "x") -> float:
    """ACC in one cell."""
    return float(m.acc[m.test.index(test), m.train.index(train)])


def loss(m: PerformanceMatrix, test: str, train: str = "x") -> float:
    """LOSS in one cell."""
    return float(m.loss[m.test.index(test), m.train.index(train)])


def value(m: PerformanceMatrix, test: str, train: str = "x") -> float:
    """The hyper-parameter of one cell."""
    return float(m.values[m.test.index(test), m.train.index(train)])


def _average(numbers: Iterable[float]) -> float:
    return float(np.mean(list(numbers)))


OBSERVATIONS = (
    Observation(
        (5,),
        "ACC on t is higher with x_M40 than with x",
        lambda m: acc(m, "t", "x_M40") > acc(m, "t"),
    ),
    Observation(
        (5,),
        "ACC on t_L2 does not fall when more robust samples are removed (x_L40, x_L25)",
        lambda m: min(acc(m, "t_L2", x) for x in ("x_L40", "x_L25")) >= acc(m, "t_L2") - 1e-3,
    ),
    Observation(
        (5,),
        "ACC on t_M5 and t_M2 is highest with x_M25",
        lambda m: all(acc(m, t, "x_M25") == max(acc(m, t, x) for x in m.train)
                      for t in ("t_M5", "t_M2")),
    ),
    Observation(
        (6,),
        "LOSS on t_M and t_m is better with x_M24 than with x",
        lambda m: all(loss(m, t, "x_M24") > loss(m, t) for t in ("t_M", "t_m")),
    ),
    Observation(
        (6,),
        "ACC on t_L and t_l is higher with x_L24 than with x",
        lambda m: all(acc(m, t, "x_L24") > acc(m, t) for t in ("t_L", "t_l")),
    ),
    Observation(
        (6, 7, 8, 9),
        "ACC on t_m is higher than on all other test subsets, with every training subset",
        lambda m: all(acc(m, "t_m", x) > max(acc(m, t, x) for t in m.test if t != "t_m")
                      for x in m.train),
    ),
    Observation(
        (7,),
        "the best K for t_m is at least 2.5 times the one for t, with every training subset",
        lambda m: all(value(m, "t_m", x) >= 2.5 * value(m, "t", x) for x in m.train),
    ),
    Observation(
        (8, 9),
        "LOSS on t_M is worse with x_L24 than with x",
        lambda m: loss(m, "t_M", "x_L24") < loss(m, "t_M"),
    ),
    Observation(
        (8,),
        "LOSS on t_M and t_m is worse with x_L24 than with x_M24",
        lambda m: all(loss(m, t, "x_L24") < loss(m, t, "x_M24") for t in ("t_M", "t_m")),
    ),
    Observation(
        (8,),
        "x_M24 needs fewer trees than x_L24",
        lambda m: value(m, "t", "x_M24") < value(m, "t", "x_L24"),
    ),
    Observation(
        (8,),
        "ACC on t is slightly lower with x_L24 and x_M24 than with x, by less than 0.01",
        lambda m: all(0 < acc(m, "t") - acc(m, "t", x) < 0.01 for x in ("x_L24", "x_M24")),
    ),
    Observation(
        (9,),
        "more trees are best for t_m than for t, on average",
        lambda m: _average(value(m, "t_m", x) for x in m.train)
        > _average(value(m, "t", x) for x in m.train),
    ),
)  # fmt: skip


def observations(
    paper: PaperTable,
    ours: Sequence[PerformanceMatrix],
    observed: Sequence[Observation] = OBSERVATIONS,
) -> list[str]:
    """Return which of the paper's observations on a table hold for our matrices."""
    lines = []
    for seen in observed:
        if paper.number in seen.tables:
            counts = [sum(map(seen.holds, side)) for side in (paper.matrices, ours)]
            if len(ours) == 1:
                lines.append(f"{seen.words}: {'yes' if counts[1] else 'no'}")
            else:
                lines.append(f"{seen.words}: {counts[1]} of {len(ours)} (paper {counts[0]})")
    return lines


# -- the page ----------------------------------------------------------------------------------


def section(
    paper: PaperTable,
    ours: Sequence[PerformanceMatrix],
    observed: Sequence[Observation] = OBSERVATIONS,
    *,
    comparable: bool = True,
    majority: Mapping[str, float] | None = None,
) -> str:
    """Return one table's part of the page: the paper's matrices, ours, and what agrees.

    How far single cells are off is left out where the data is not `comparable`. Majority-class
    rates of the test subsets, where they are given, stand below the matrices.
    """
    sides = [m[0] if len(m) == 1 else side_by_side(m) for m in (paper.matrices, ours)]
    foot = sides[1].sheet().foot
    return "\n\n".join(
        [
            f"## Table {paper.number}: {paper.title}",
            f"The paper ({foot.split(' · ')[0]}):",
            sides[0].to_markdown(),
            f"dskrobust ({foot}):",
            sides[1].to_markdown(),
            *([_majority(majority)] if majority else []),
            *([_listed(agreement(paper, ours))] if comparable else []),
            "What the paper observes, here:",
            _listed(observations(paper, ours, observed)),
        ]
    )


def _majority(rates: Mapping[str, float]) -> str:
    said = ", ".join(f"{name} {rate:.4f}" for name, rate in rates.items())
    return f"ACC of whoever says the more frequent class for every article: {said}."


def majorities(store: dr.Store, data: str) -> dict[str, dict[str, float]]:
    """Return the majority rates that stand below the tables of a data set of numbers."""
    for table in read_paper(NOTEBOOKS / "paper" / "tables.toml"):
        experiment = read_experiment(NOTEBOOKS / "experiments" / table.experiment)
        if table.data == data and experiment.threshold is not None:
            return {"majority": majority_rates(store, experiment)}
    return {}


def majority_rates(store: dr.Store, experiment: Experiment) -> dict[str, float]:
    """Return how frequent the more frequent class is in every test subset, by the threshold."""
    scores, rates = dr.sample_robustness(store), {}
    least = targets_of(store, experiment.threshold).threshold
    labels = np.asarray(store.labels[:])
    for name, text in experiment.test.items():
        popular = (labels[dr.select_subset(scores, str(text)).compute().indices] >= least).mean()
        rates[name] = float(max(popular, 1 - popular))
    return rates


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def page(
    sections: Sequence[str],
    words: Sequence[str],
    tables: str = "5 to 9",
    script: str = "paper/tables.py",
    paper: str = "tables.toml",
    libraries: Sequence[str] | Mapping[str, str] = LIBRARIES,
) -> str:
    """Return the whole page; libraries are named, or given with their versions."""
    known = libraries if isinstance(libraries, Mapping) else versions(libraries)
    used = ", ".join(f"{name} {number}" for name, number in known.items())
    head = [
        f"# The paper's Tables {tables}, run again",
        f"Written by `scripts/{script}` from the experiments in `notebooks/experiments`; the "
        f"paper's numbers are in `notebooks/paper/{paper}`. Best values of a row are bold, in "
        f"both by the printed digits. {used}.",
    ]
    return "\n\n".join([*head, *words, *sections]) + "\n"


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Return the versions that are installed."""
    return {name: version(name) for name in libraries}


def store_facts(store: dr.Store) -> dict[str, Any]:
    """Return what a page says of a store."""
    counts = {g: store.summary.groups[k].rows for k, g in enumerate(store.groups)}
    return {
        "name": store.spec.name,
        "train": counts.get("train", 0),
        "test": counts.get("test", 0),
        "rows": store.rows,
        "seed": (store.spec.provenance or {}).get("seed", "unknown"),
    }


def word(data: str, facts: Mapping[str, Any]) -> str:
    """Return what to know of a data set when comparing."""
    return textwrap.fill(WORD[data].format(**facts, loss=LOSS_WITHIN), 100)


def best_k_section(table: PaperTable, trials: pd.DataFrame) -> str:
    """Return Table 5 where K and weights are the best of every cell, beside its K = 1."""
    made = [
        performance_matrix(trials, loss_high=False, model=table.model, fixed={"weights": weights},
                           choice=Choice("neighbors", "each", "acc")).showing("acc")
        for weights in ("uniform", "distance")
    ]  # fmt: skip
    (one,) = our_matrices(table, trials, loss_high=False)
    highest = [int((m.acc <= one.acc).sum()) for m in made]
    gain = made[0].acc - one.acc
    i, j = np.unravel_index(gain.argmax(), gain.shape)
    cell = f"{one.train[j]} → {one.test[i]}"
    lines = (
        f"K = 1 has the highest ACC (the paper: in every case) in {highest[0]} of {one.acc.size} "
        f"cells with uniform weights and in {highest[1]} with weights by distance",
        f"largest gain with uniform weights: {cell}, {one.acc[i, j]:.4f} for K = 1 and "
        f"{made[0].acc[i, j]:.4f} for K = {made[0].values[i, j]}",
    )
    both = side_by_side(made)
    return "\n\n".join(["### Table 5 at its best K", f"dskrobust ({both.sheet().foot}):",
                        both.to_markdown(), _listed(lines)])  # fmt: skip


def whole_page(facts: Mapping[str, Any]) -> str:
    """Return the page of the trials that are kept in notebooks/results."""
    sections, trials = [], {}
    for table in read_paper(NOTEBOOKS / "paper" / "tables.toml"):
        if table.data not in facts["stores"]:
            continue
        name = read_experiment(NOTEBOOKS / "experiments" / table.experiment).name
        if name not in trials:
            trials[name] = pd.read_csv(RESULTS / f"trials-{name}.csv.gz")
        ours = our_matrices(table, trials[name], table.data != "cifar10")
        majority = facts["stores"][table.data].get("majority")
        sections.append(section(table, ours, majority=majority))
        if table.number == 5:
            sections.append(best_k_section(table, trials[name]))
    words = [word(data, known) for data, known in facts["stores"].items()]
    return page(sections, words, libraries=facts["libraries"])


def main() -> None:
    """Run what the options ask for, and write the page."""
    options = parse()
    addresses = {"cifar10": options.cifar10, "online-news": options.online_news}
    facts = json.loads(FACTS.read_text())
    for data, address in addresses.items():
        if address:
            store = dr.open_store(address)
            train_models(store, data, options)
            facts["stores"][data] = store_facts(store) | majorities(store, data)
            facts["libraries"] = versions(LIBRARIES)
    FACTS.write_text(json.dumps(facts, indent=1) + "\n")
    options.out.write_text(whole_page(facts))
    print(f"written to {options.out}")


def train_models(store: dr.Store, data: str, options: argparse.Namespace) -> None:
    """Run the experiments of a data set's tables and keep their trials in notebooks/results."""
    tables = [t for t in read_paper(NOTEBOOKS / "paper" / "tables.toml")
              if t.data == data and t.number in options.tables]  # fmt: skip
    limit = parse_bytes(options.memory_limit) if options.memory_limit else None
    cluster = ClusterOptions(
        workers=options.workers, threads=1, memory_limit=limit, dashboard=False
    )
    trials = {}
    with connect(cluster) as client:
        for name in {t.experiment: None for t in tables}:
            print(f"{name} on {store.url}", flush=True)
            experiment = read_experiment(NOTEBOOKS / "experiments" / name)
            trials = run(dr.evaluate(store, experiment, client=client))
            trials.to_csv(RESULTS / f"trials-{experiment.name}.csv.gz", index=False)


def run(evaluation: Evaluation) -> pd.DataFrame:
    """Return the table of trials, after running those that the store does not have."""
    with terminal.progress(evaluation.experiment.name, len(evaluation.jobs), "steps") as shown:
        evaluation.compute(
            tell=lambda job, record, found: shown.add(1, found=found),
            watch=lambda job, event: shown.remark(f"{job}, {event['session']}: {event['epoch']}"),
        )
    if evaluation.failures:
        first = evaluation.failures[0]
        raise SystemExit(f"{len(evaluation.failures)} steps failed, the first was {first}")
    return evaluation.table


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cifar10", metavar="STORE")
    parser.add_argument("--online-news", metavar="STORE")
    parser.add_argument("--tables", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--memory-limit", metavar="SIZE")
    parser.add_argument("--out", type=Path, default=FACTS.with_suffix(".md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
