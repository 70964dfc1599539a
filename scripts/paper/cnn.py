"""Run the paper's Tables 2 to 4 and write our matrices beside the paper's.

    python scripts/paper/cnn.py cifar10.zarr                 # on this machine's GPUs
    python scripts/paper/cnn.py cifar10.zarr --scheduler tcp://10.0.0.1:8786
    python scripts/paper/cnn.py cifar10.zarr --small         # a 100th of the images, on the CPU

The store needs results (`dskrobust ingest cifar10`, then `dskrobust compute`). The experiments are
the TOML files in notebooks/experiments, which `dskrobust run` takes too. Finished steps and
checkpoints are in the store: what is interrupted goes on where it stopped. Beside the page there
are the curves of Figures 6 and 7, and the samples of Figure 5 with their probabilities.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from tables import (
    LIBRARIES,
    NOTEBOOKS,
    Observation,
    acc,
    loss,
    our_matrices,
    page,
    read_paper,
    run,
    section,
    value,
)

import dskrobust as dr
from dskrobust.cli.outcome import session_lines
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.evaluation import Evaluation, read_experiment
from dskrobust.evaluation.protocol import trimmed_mean
from dskrobust.store import current_results

PAPER = "tables-cnn.toml"
SMALL = "cnn-small.toml"
EVERY = {"train": 100, "test": 10}  # which images a small store has
SHOWN = 5  # most and least robust samples of a class (Figure 5)

WORD = {
    False: """\
CIFAR-10 has an official split, so the samples are the paper's; models are random, so ACC is
compared by two standard errors of the difference of two test sets of that size. Smaller numbers of
epochs are read off the same training, where the paper trains new models. The paper's LOSS of
ResNet-56 may have Keras's L2 penalty in it, ours is the cross-entropy alone; what the penalty comes
to is said below.""",
    True: """\
This is no reproduction: it has every {train}th training image of CIFAR-10 and every {test}th test
image, with the robustness of this slice, and few trials, so that it runs on a CPU. Numbers are not
those of the paper's tables ({train} times the data); what can be looked at are its
observations.""",
}


OBSERVATIONS = (
    Observation(
        (2, 3),
        "ACC on t is highest, and LOSS lowest, with x",
        lambda m: acc(m, "t") == max(m.acc[0]) and loss(m, "t") == min(m.loss[0]),
    ),
    Observation(
        (4,),
        "LOSS is lowest and ACC highest with x, on every test subset",
        lambda m: all(acc(m, t) == max(m.acc[i]) and loss(m, t) == min(m.loss[i])
                      for i, t in enumerate(m.test)),
    ),
    Observation(
        (2, 3, 4),
        "fewer epochs are best for x_L25 and x_M25 than for x",
        lambda m: max(value(m, "t", x) for x in ("x_L25", "x_M25")) < value(m, "t"),
    ),
    Observation(
        (2, 3),
        "with x_L40, LOSS is lower on t_L5 and t_L2 than with x, and higher on t_M5 and t_M2",
        lambda m: all(loss(m, t, "x_L40") < loss(m, t) for t in ("t_L5", "t_L2"))
        and all(loss(m, t, "x_L40") > loss(m, t) for t in ("t_M5", "t_M2")),
    ),
    Observation(
        (2, 3),
        "with x_M40, LOSS is lower on t_M5 and t_M2 than with x, and higher on t_L5 and t_L2",
        lambda m: all(loss(m, t, "x_M40") < loss(m, t) for t in ("t_M5", "t_M2"))
        and all(loss(m, t, "x_M40") > loss(m, t) for t in ("t_L5", "t_L2")),
    ),
    Observation(
        (2, 3, 4),
        "ACC is higher on t_L2 than on t_M2 with x_L25, and the other way round with x_M25",
        lambda m: acc(m, "t_L2", "x_L25") > acc(m, "t_M2", "x_L25")
        and acc(m, "t_L2", "x_M25") < acc(m, "t_M2", "x_M25"),
    ),
    Observation(
        (3,),
        "re-weighted LOSS differs less between test subsets with x_M25 than with x_L25",
        lambda m: np.ptp(m.loss[:, m.train.index("x_M25")])
        < np.ptp(m.loss[:, m.train.index("x_L25")]),
    ),
)  # fmt: skip


# -- figures -----------------------------------------------------------------------------------


def prototype(evaluation: Evaluation) -> pd.DataFrame:
    """Return the curves of Figures 6 and 7: the trial on x that is nearest to the mean LOSS."""
    curves = evaluation.curves.query("train == 'x'")
    if curves.empty:
        return curves
    first, epochs = next(iter(evaluation.experiment.test)), int(evaluation.matrix().values[0, 0])
    last = curves[(curves["test"] == first) & (curves["epoch"] == epochs)].set_index("trial")
    nearest = (last["loss"] - trimmed_mean(last["loss"])).abs().idxmin()
    return curves[curves["trial"] == nearest].drop(columns=["train", "model"]).round(5)


def samples(evaluation: Evaluation) -> pd.DataFrame:
    """Return Figure 5: most and least robust training samples, R and mean probability."""
    p = evaluation.true_class_probability("x", of="train").set_index("row")
    r = dr.sample_robustness(evaluation.store).robustness
    shown = p.assign(robustness=np.asarray(r)[p.index]).sort_values(["robustness"], kind="stable")
    names = evaluation.store.spec.classes or ()
    parts = []
    for label, rows in shown.groupby("label"):
        least, most = rows.head(SHOWN), rows.tail(SHOWN)[::-1]
        for which, part in (("least", least), ("most", most)):
            parts.append(part.assign(which=which, label=names[label] if names else label))
    return pd.concat(parts).reset_index().round(5)


# -- running -----------------------------------------------------------------------------------


def slice_of(store: dr.Store, path: Path) -> dr.Store:
    """Return the small store with its own results; what is there already is not made again."""
    split = store.split
    rows = np.sort(np.concatenate([np.flatnonzero(split == g)[::k] for g, k in EVERY.items()]))
    if path.exists():
        small = dr.open_store(str(path))
        if small.rows != len(rows):
            raise SystemExit(f"{path} is another slice, of {small.rows:,} images; remove it")
    else:
        small = dr.create_store(
            str(path), store.features[rows], store.labels[rows], split[rows], spec=store.spec
        )
    dr.sample_robustness(small).write()
    return small


@contextmanager
def cluster(scheduler: str | None, small: bool) -> Iterator[Client]:
    """Yield a client: of a scheduler, of this machine's GPUs, or of its CPU."""
    if scheduler or small:
        with connect(ClusterOptions(scheduler=scheduler)) as client:
            yield client
        return
    with ExitStack() as stack:
        try:
            from dask_cuda import LocalCUDACluster
        except ImportError:  # the first GPU alone
            made = LocalCluster(n_workers=1, resources={"GPU": 1}, host="127.0.0.1")
        else:
            made = LocalCUDACluster(resources={"GPU": 1}, host="127.0.0.1")
        client = stack.enter_context(Client(stack.enter_context(made), set_as_default=False))
        print(f"dashboard {client.dashboard_link}", flush=True)
        yield client


def main() -> None:
    """Run what the options ask for."""
    options = parse()
    store = dr.open_store(options.store)
    current_results(store)  # an error that says how to make them
    if options.small:
        store = slice_of(store, options.slice)
    wanted = [n for n in options.tables if n in ((2, 3) if options.small else (2, 3, 4))]
    if not wanted:
        raise SystemExit("with --small there are Tables 2 and 3 only")
    tables = [t for t in read_paper(NOTEBOOKS / "paper" / PAPER) if t.number in wanted]
    out = options.out or NOTEBOOKS / "results" / f"tables-2-4{'-small' * options.small}.md"
    made: dict[str, Evaluation] = {}
    with cluster(options.scheduler, options.small) as client:
        for name in {t.experiment: None for t in tables}:
            described = read_experiment(
                NOTEBOOKS / "experiments" / (SMALL if options.small else name)
            )
            print(f"{described.name} on {store.url}", flush=True)
            made[name] = dr.evaluate(store, described, client=client)
            run(made[name])
    sections = [
        section(
            table,
            our_matrices(table, made[table.experiment].table, loss_high=False),
            OBSERVATIONS,
            comparable=not options.small,
        )
        for table in tables
    ]
    words = [" ".join(WORD[options.small].format(**EVERY).split()), *map(sessions, made.values())]
    numbers = [t.number for t in tables]
    text = page(
        sections, words, " and ".join(map(str, numbers)), "paper/cnn.py", PAPER,
        (*LIBRARIES, "torch"),
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(f"written to {out}")
    if small_cnn := made.get("cnn-table-2.toml"):
        write_figures(small_cnn, out)


def sessions(evaluation: Evaluation) -> str:
    """Return a list of how long models were trained, where, and what the L2 penalty came to."""
    lines = []
    rows = evaluation.sessions.to_dict("records")
    for line, row in zip(session_lines(evaluation), rows, strict=True):
        penalty = "" if np.isnan(row["penalty"]) else f"; L2 penalty {row['penalty']:.4f}"
        lines.append(f"- epochs of {line}{penalty} ({row['seconds']:,.0f} s on {row['device']})")
    return "\n".join(lines)


def write_figures(evaluation: Evaluation, page: Path) -> None:
    """Write the data of Figures 5 to 7 beside the page."""
    found = {"figures-6-7": prototype(evaluation)}
    if evaluation.models[0].spec.options.get("train_probabilities"):
        found["figure-5"] = samples(evaluation)
    for name, frame in found.items():
        path = page.with_name(f"{page.stem}-{name}.csv")
        frame.to_csv(path, index=False)
        print(f"written to {path}")


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
