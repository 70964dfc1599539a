"""The paper's Online News by many draws of its random split: Tables 6 to 9, Figures 3, 9, 10, 11.

    python scripts/paper/draws.py --source FOLDER --work FOLDER [--draws 100] [--forests 25]

The paper drew 32,000 articles for training and does not say which. Here draw S is the split of
`dskrobust ingest online-news --seed S`. What is measured goes into the work folder, a line a draw:
what is interrupted goes on where it stopped, also on another machine, from the draws that are kept
in notebooks/results (draws-*.jsonl.gz). Writes there draws.csv.gz, draws-forests.csv.gz,
draws-curves.csv.gz, draws.json and draws.md; without a source the last two again, from the tables.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from draw_claims import BELOW
from draw_page import page
from draw_summary import COLUMNS, RULE, declared_distance, extremes_agree, summary
from numpy.typing import NDArray
from tables import NOTEBOOKS
from threadpoolctl import threadpool_limits

import dskrobust as dr
from dskrobust.datasets import ingest, restore_labels
from dskrobust.datasets.online_news import draw_split
from dskrobust.evaluation import read_experiment
from dskrobust.evaluation.measures import value_sums
from dskrobust.evaluation.models.knn import WEIGHTS, Votes
from dskrobust.evaluation.targets import targets_of

RESULTS = NOTEBOOKS / "results"
KNN = NOTEBOOKS / "experiments" / "tables6-7-online-news-knn.toml"
FOREST = NOTEBOOKS / "experiments" / "tables8-9-online-news-forest.toml"
CRITERIA = ("absolute_error", "squared_error")
GROUPS = ("train", "test")
SUBSETS = {  # all ten of Figure 3
    **read_experiment(KNN).train,
    "x_L2": "train:L2000",
    "x_M2": "train:M2000",
    **read_experiment(KNN).test,
}
TRAIN, TEST = tuple(read_experiment(KNN).train), tuple(read_experiment(KNN).test)
MOST = 15  # neighbours
LISTED = 200  # nearest articles of each, among all: those of any training subset are read off them
MANY_SHARES, UNSAFE = 10_000, 0.65  # the lines in Figures 3 and 9
THREADS: dict[str, Any] = {"scheduler": "threads", "num_workers": 1}


@dataclass(frozen=True)
class Articles:
    """All articles, as `dskrobust ingest` scales them.

    Attributes
    ----------
    X : ndarray (n, 58) float64
    y : ndarray (n,) float64
        Shares, from 0 to 1.
    shares : ndarray (n,) float64
    threshold : float
        From which y an article is popular.
    distance, index : ndarray (n, LISTED)
        The nearest other articles of each.
    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    shares: NDArray[np.float64]
    threshold: float
    distance: NDArray[np.float64]
    index: NDArray[np.int64]

    @classmethod
    def read(cls, source: Path, work: Path) -> Articles:
        """Read the file, by way of a store, and search the nearest articles once."""
        address = work / "online-news.zarr"
        if not address.exists():
            ingest("online-news", address, source=source)
        store, kept = dr.open_store(address), work / f"nearest-{LISTED}.npz"
        X, y = np.asarray(store.features[:]), np.asarray(store.labels[:])
        if not kept.exists():
            lists = dr.nearest_neighbours(X, LISTED).compute(**THREADS)
            np.savez(kept.with_suffix(".part.npz"), distance=lists.distance, index=lists.index)
            kept.with_suffix(".part.npz").rename(kept)
        with np.load(kept) as lists:
            distance, index = lists["distance"], lists["index"]
        asked = read_experiment(KNN).threshold
        threshold = targets_of(store, asked).threshold
        assert threshold is not None
        shares = np.rint(restore_labels(store.spec, y))
        return cls(X, y, shares, threshold, distance, index)

    def split(self, seed: int) -> NDArray[np.str_]:
        """Return the group of every article in a draw, (n,)."""
        return np.array(GROUPS)[draw_split(len(self.X), seed)]

    def scores(self, seed: int) -> dr.Scores:
        """Return R within x and within t."""
        made = dr.sample_robustness(self.X, self.y, self.split(seed), labels="real")
        return made.compute(**THREADS)

    def nearest_among(
        self, queries: NDArray[np.int64], references: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return distances and rows (q, MOST) of the nearest references, by the lists of all.

        They are in order, so the first ones that are references are the nearest; where a list has
        too few of them, they are searched.
        """
        among = np.zeros(len(self.X), np.bool_)
        among[references] = True
        there = among[self.index[queries]]
        first = np.argsort(~there, axis=1, kind="stable")[:, :MOST]
        distance = np.take_along_axis(self.distance[queries], first, axis=1)
        index = np.take_along_axis(self.index[queries], first, axis=1)
        short = np.flatnonzero(there.sum(axis=1) < MOST)
        if len(short):
            lists = dr.nearest_neighbours(
                self.X, MOST, queries=queries[short], references=np.sort(references)
            ).compute(**THREADS)
            distance[short], index[short] = lists.distance, lists.index
        return distance, index


# -- a draw ------------------------------------------------------------------------------------


def measured(articles: Articles, seed: int) -> dict[str, Any]:
    """Return all that is kept of a draw: plain values, and the trials of its models."""
    started, cpu = time.perf_counter(), time.process_time()
    scores = articles.scores(seed)
    rows = {n: np.sort(dr.select_subset(scores, s).compute().indices) for n, s in SUBSETS.items()}
    facts = {"seed": seed, **robustness_facts(articles, scores), **label_facts(articles, rows)}
    loss, acc = trials(articles, rows)
    return {
        **facts, "loss": loss.round(6).tolist(), "acc": acc.round(6).tolist(),
        "seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu,
    }  # fmt: skip


def robustness_facts(articles: Articles, scores: dr.Scores) -> dict[str, Any]:
    """Return E.1's extremes and Figure 9's counts, and on which side the most shared article is."""
    facts: dict[str, Any] = {}
    R = np.asarray(scores.robustness)
    codes = np.asarray(scores.split)
    most = int(codes[articles.shares.argmax()])
    facts["article"] = str(scores.groups[most]) == "train"
    for side, group in zip("xt", GROUPS, strict=True):
        own = np.flatnonzero(codes == scores.groups.index(group))
        low, high = own[R[own].argmin()], own[R[own].argmax()]
        counts = np.histogram(R[own], np.linspace(0, 1, 101))[0]
        facts |= {
            f"min_{side}": float(R[low]), f"max_{side}": float(R[high]),
            f"rows_{side}": [int(low), int(scores.witness[low]), int(high)],
            f"below_{side}": int((R[own] < UNSAFE).sum()),
            f"line_{side}": float(np.sort(R[own])[BELOW[side][0] * len(own) // BELOW[side][1]]),
            f"peak_{side}": float(counts.max() / len(own)),
        }  # fmt: skip
    return facts


def label_facts(articles: Articles, rows: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Return of every subset the share of articles above 10,000 shares, and of popular ones."""
    facts: dict[str, Any] = {}
    for name, chosen in rows.items():
        facts[f"above_{name}"] = float((articles.shares[chosen] > MANY_SHARES).mean())
        facts[f"popular_{name}"] = float((articles.y[chosen] >= articles.threshold).mean())
    return facts


def trials(
    articles: Articles, rows: Mapping[str, NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return LOSS and ACC, (weights, K, train, test): those of the experiment of Tables 6 and 7."""
    shape = len(WEIGHTS), MOST, len(TRAIN), len(TEST)
    loss, acc = np.empty(shape), np.empty(shape)
    tested = rows["t"]
    places = [np.searchsorted(tested, rows[name]) for name in TEST]
    true = articles.y[tested]
    for j, train in enumerate(TRAIN):
        distance, index = articles.nearest_among(tested, rows[train])
        for w, weights in enumerate(WEIGHTS):
            votes = Votes(articles.y[index], distance, weights)
            for k in range(MOST):
                said = votes.mean(k + 1)
                for i, place in enumerate(places):
                    sums = value_sums(true[place], said[place], articles.threshold).result()
                    loss[w, k, j, i], acc[w, k, j, i] = sums["loss"], sums["acc"]
    return loss, acc


# -- forests -----------------------------------------------------------------------------------


def forest(source: Path, work: Path, seed: int) -> dict[str, Any]:
    """Return a draw's forests, one trial: loss and acc (criteria, trees, train, test)."""
    address = work / f"draw-{seed}.zarr"
    started, cpu = time.perf_counter(), time.process_time()
    if not address.exists():
        ingest("online-news", address, source=source, seed=seed)
    dr.sample_robustness(address).write()
    asked = read_experiment(FOREST)
    found = dr.evaluate(address, train=asked.train, test=asked.test, models=asked.models,
                        seed=asked.seed, threshold=asked.threshold, trials=1,
                        name=asked.name)  # fmt: skip
    found.compute()
    if found.failures:
        raise SystemExit(f"draw {seed}: {found.failures[0]}")
    order = pd.MultiIndex.from_product([CRITERIA, range(1, 10), TRAIN, TEST])
    table = found.table.set_index(["criterion", "trees", "train", "test"]).loc[order]
    shape = len(CRITERIA), 9, len(TRAIN), len(TEST)
    return {
        "seed": seed,
        **{m: table[m].to_numpy(float).round(6).reshape(shape).tolist() for m in ("loss", "acc")},
        "seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu,
    }  # fmt: skip


# -- tables of draws ---------------------------------------------------------------------------


def table_of(records: Iterable[Mapping[str, Any]], kinds: Sequence[str], numbers: tuple[int, int]
             ) -> pd.DataFrame:  # fmt: skip
    """Return a row a draw: its facts, and the cells of two of the paper's tables.

    Columns of a cell are ``NUMBER|KIND|TRAIN|TEST|MEASURE``: with the hyper-parameter whose ACC is
    highest on t in the first table, on each test subset in the second; of equal ones the smallest.
    """
    lines = []
    for record in records:
        line = {k: v for k, v in record.items() if not isinstance(v, (list, dict))}
        loss, acc = np.array(record["loss"]), np.array(record["acc"])
        for w, j, i in np.ndindex(len(kinds), len(TRAIN), len(TEST)):
            for number, on in zip(numbers, (0, i), strict=True):
                best = int(acc[w, :, j, on].argmax())
                name = f"{number}|{kinds[w]}|{TRAIN[j]}|{TEST[i]}"
                line |= {f"{name}|value": best + 1, f"{name}|loss": loss[w, best, j, i],
                         f"{name}|acc": acc[w, best, j, i]}  # fmt: skip
        lines.append(line)
    return pd.DataFrame(lines).sort_values("seed", ignore_index=True)


def curves_of(records: Sequence[Mapping[str, Any]], kinds: Sequence[str], model: str
              ) -> pd.DataFrame:  # fmt: skip
    """Return Figure 10's or 11's curves: quantiles over the draws for every hyper-parameter."""
    parts = []
    for measure in ("loss", "acc"):
        values = np.array([record[measure] for record in records])
        found = np.quantile(values, COLUMNS, axis=0)
        names = [kinds, range(1, values.shape[2] + 1), TRAIN, TEST]
        index = pd.MultiIndex.from_product(names, names=["kind", "value", "train", "test"])
        flat = found.reshape(len(COLUMNS), -1).T.round(6)
        part = pd.DataFrame(flat, index, [f"q{100 * q:g}" for q in COLUMNS]).reset_index()
        parts.append(part.assign(model=model, measure=measure))
    return pd.concat(parts, ignore_index=True)


def kept(path: Path) -> dict[int, dict[str, Any]]:
    """Return the draws that a file has, by seed; a line that was cut off is none."""
    found = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            found[record["seed"]] = record
    return found


def unpack(path: Path) -> Path:
    """Fill a file of draws with those kept in the repository, where it is not there yet."""
    packed = RESULTS / f"draws-{path.name}.gz"
    if packed.exists() and not path.exists():
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


def pack(path: Path) -> None:
    """Keep a file of draws in the repository, sorted by seed: the same bytes however it grew."""
    if not path.exists():
        return
    lines = [json.dumps(record) for _, record in sorted(kept(path).items())]
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    (RESULTS / f"draws-{path.name}.gz").write_bytes(packed)


def missing(path: Path, seeds: Iterable[int]) -> Iterator[int]:
    """Yield the seeds that a file lacks."""
    there = kept(path)
    yield from (seed for seed in seeds if seed not in there)


def keep(path: Path, record: Mapping[str, Any]) -> None:
    """Add a draw to a file."""
    with path.open("a") as file:
        file.write("\n" * (path.stat().st_size > 0) + json.dumps(record))


# -- the declared draw -------------------------------------------------------------------------


def declared(articles: Articles, path: Path, seeds: int) -> list[dict[str, Any]]:
    """Return the candidates for the declared draw, by RULE, which reads no model's outcome.

    The robustness of most draws need not be computed: E.1's extremes are made by six articles,
    known from any draw that has all four.
    """
    if not seeds:
        return []
    known, first = kept(path), 2405
    if first not in known:
        keep(path, candidate(articles, first))
        known = kept(path)
    sides = {0: set(known[first]["rows_x"]), 1: set(known[first]["rows_t"])}
    for seed in range(seeds):
        codes = draw_split(len(articles.X), seed)
        fits = all((codes[list(rows)] == code).all() for code, rows in sides.items())
        if fits and seed not in known:
            keep(path, candidate(articles, seed))
    fit = [c for c in kept(path).values() if c["seed"] < seeds and extremes_agree(c)]
    return sorted(fit, key=lambda c: (declared_distance(c), c["seed"]))


def candidate(articles: Articles, seed: int) -> dict[str, Any]:
    """Return what the choice of a draw may look at: robustness and labels, no model."""
    scores = articles.scores(seed)
    rows = {n: dr.select_subset(scores, s).compute().indices for n, s in SUBSETS.items()}
    return {"seed": seed, **robustness_facts(articles, scores), **label_facts(articles, rows)}


# -- running -----------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    """Measure what is missing, and write the tables of draws."""
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    files = [unpack(work / f"{n}.jsonl") for n in ("knn", "forests", "candidates")]
    draws, forests, candidates = files
    with threadpool_limits(1):
        articles = Articles.read(options.source, work)
        for seed in missing(draws, range(options.draws)):
            record = measured(articles, seed)
            keep(draws, record)
            print(
                f"draw {seed}: {record['seconds']:.1f} s, {record['cpu']:.1f} s of it computing",
                flush=True,
            )
        fit = declared(articles, candidates, options.candidates)
        for one in fit[:1]:
            for seed in missing(draws, [one["seed"]]):
                keep(draws, measured(articles, seed))
        for seed in missing(forests, range(options.forests)):
            record = forest(options.source, work, seed)
            keep(forests, record)
            print(f"forests {seed}: {record['seconds']:.0f} s", flush=True)
    for path in files:
        pack(path)
    write_tables(kept(draws), kept(forests), fit, options)


def write_tables(
    draws: Mapping[int, Any],
    forests: Mapping[int, Any],
    fit: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
) -> None:
    """Write draws.csv.gz, draws-forests.csv.gz and draws-curves.csv.gz."""
    counted = [record for seed, record in draws.items() if seed < options.draws]
    table = table_of(draws.values(), WEIGHTS, (6, 7))
    table["drawn"] = table["seed"] < options.draws
    table["candidate"] = table["seed"].isin([c["seed"] for c in fit])
    write_csv(table, RESULTS / "draws.csv.gz")
    curves = [curves_of(counted, WEIGHTS, "knn")]
    if forests:
        records = list(forests.values())
        write_csv(table_of(records, CRITERIA, (8, 9)), RESULTS / "draws-forests.csv.gz")
        curves.append(curves_of(records, CRITERIA, "forest"))
    write_csv(pd.concat(curves), RESULTS / "draws-curves.csv.gz")
    chosen = [{k: v for k, v in c.items() if not isinstance(v, list)} for c in fit]
    (RESULTS / "draws-candidates.json").write_text(
        json.dumps({"rule": RULE, "seeds": options.candidates, "fit": chosen}, indent=1) + "\n"
    )


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table that is the same bytes whenever it is written."""
    table.round(6).to_csv(path, index=False, compression={"method": "gzip", "mtime": 0})


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, help="folder of OnlineNewsPopularity.csv")
    parser.add_argument("--work", type=Path, default=Path("draws"))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--forests", type=int, default=0)
    parser.add_argument(
        "--candidates", type=int, default=4_000, help="seeds to choose one of; 0 for no such choice"
    )
    options = parser.parse_args()
    if options.source:
        run(options)
    found = summary(RESULTS)
    (RESULTS / "draws.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "draws.md").write_text(page(found))
    print(f"written to {RESULTS / 'draws.md'}")


if __name__ == "__main__":
    main()
