"""Train xgboost's forests from external memory on Tables 8 and 9's data, beside scikit-learn's.

    python scripts/paper/external_memory.py online-news.zarr [--workers N] [--memory-limit SIZE]

The store needs results (`dskrobust compute`). scikit-learn's trials are the committed ones of
`paper/tables.py`, which also says how to make that store.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import tables
from dask.utils import parse_bytes

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.datasets import restore_labels
from dskrobust.evaluation import read_experiment

EXPERIMENT = "tables8-9-online-news-xgboost.toml"
OTHERS = tables.NOTEBOOKS / "results" / "trials-online-news-forest.csv.gz"
TREES = 9
CELL = ["criterion", "train", "test"]
LIBRARIES = (*tables.LIBRARIES, "xgboost")
PAGE = """\
# Forests from external memory, on the data of the paper's Tables 8 and 9

Written by `scripts/paper/external_memory.py` from the experiment
`notebooks/experiments/{experiment}` and the committed trials of
`scripts/paper/tables.py`. {libraries}.

Means over trials of forests of {trees} trees: first scikit-learn's, whose training rows lie in a
worker's memory ({trials[0]} trials), then xgboost's, which reads the store part by part and keeps
quantised rows on its disk ({trials[1]} trials). They are different models, so the columns
are not due to be equal: xgboost draws rows without replacement, takes second-order steps and
stops at a depth of 6, scikit-learn's trees grow until leaves are pure. Always
answering "popular" has an ACC of {popular:.4f} on t.

{table}
"""


def means(trials: pd.DataFrame) -> pd.DataFrame:
    """Return mean LOSS and ACC of forests of TREES trees by criterion, training and test subset."""
    chosen = trials[trials["trees"] == TREES]
    made: pd.DataFrame = chosen.groupby(CELL, sort=False)[["loss", "acc"]].mean()
    return made


def table(forest: pd.DataFrame, boosted: pd.DataFrame) -> str:
    """Return both models' means side by side, as Markdown."""
    other = means(boosted).add_suffix(" of xgboost")
    both = means(forest).join(other, how="inner").reset_index()
    head = [*CELL, "LOSS", "ACC", "LOSS xgboost", "ACC xgboost"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for *names, loss, acc, other_loss, other_acc in both.itertuples(index=False):
        cells = [*names, *(f"{v:.4f}" for v in (loss, acc, other_loss, other_acc))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--memory-limit", metavar="SIZE")
    results = tables.NOTEBOOKS / "results"
    parser.add_argument("--out", type=Path, default=results / "tables-8-9-external-memory.md")
    return parser.parse_args()


def main() -> None:
    """Run the experiment and write the page."""
    options = parse()
    limit = parse_bytes(options.memory_limit) if options.memory_limit else None
    cluster = ClusterOptions(
        workers=options.workers, threads=1, memory_limit=limit, dashboard=False
    )
    with connect(cluster) as client:
        experiment = read_experiment(tables.NOTEBOOKS / "experiments" / EXPERIMENT)
        store = dr.open_store(options.store)
        boosted = tables.run(dr.evaluate(store, experiment, client=client))
    forest = pd.read_csv(OTHERS)
    labels = store.labels[:][store.split == "test"]
    text = PAGE.format(
        experiment=EXPERIMENT,
        libraries=", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        trees=TREES,
        trials=[int(made["trial"].max()) for made in (forest, boosted)],
        popular=(restore_labels(store.spec, labels) >= experiment.threshold).mean(),
        table=table(forest, boosted),
    )
    options.out.write_text(text)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
