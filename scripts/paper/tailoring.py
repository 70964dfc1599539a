"""Do training sets tailored to parts of the robustness spectrum beat one model on everything?

    python scripts/paper/tailoring.py --work FOLDER

Each data set is split into training and test rows several times. On the training rows a choice is
made, by folds of them; on the test rows it is compared to the one model, trained on all training
rows with the hyper-parameters that are best for all of them. Stores and what is measured go into
the folder: what is interrupted goes on where it stopped, and several data sets may be measured at
once. CIFAR-10, MNIST and Online News are read from DSKROBUST_DATA, and left out without it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import minmax_scale

import dskrobust as dr
from dskrobust.evaluation.rows import read_features
from dskrobust.part_choice import corrected_interval

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TEST = 0.3  # share of the rows
NEIGHBOURS = [1, 3, 5, 9, 15]
POPULAR = 1400  # shares, as in the paper (4.1)
SINGLE = "one window for everything"
PREDICTED, LABEL = "tailored, by predicted labels", "tailored, by own labels"
ROUTED, SETTINGS = "router", "router, hyper-parameters only"
TABLES: Mapping[str, Callable[..., Any]] = {  # of scikit-learn; every column from 0 to 1
    "digits": load_digits,
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
}
EMBEDDED = "cifar10-cnn"  # what the paper's small network makes of CIFAR-10
TRAINED = 20_000  # images that it is trained on, which are in no comparison
EMBEDDED_WORDS = (
    f"*{EMBEDDED}* is what the paper's small network makes of images that it never saw; it was "
    f"trained on {TRAINED:,} others in 20 epochs."
)
LARGE = ("online-news", "mnist", "cifar10", EMBEDDED)
WAYS = {
    PREDICTED: "`tailor`, test rows placed by the label that their nearest training row predicts",
    SINGLE: "`tailor`: the one training set and hyper-parameters that are best for all parts, "
    "whatever the set; no choice by part",
    LABEL: "`tailor`, test rows placed by their own labels, as the paper's test subsets are; "
    "impossible for new rows",
    ROUTED: "`RobustnessRouter`, test rows placed by what the one model predicts",
    SETTINGS: "the same with `windows=None`: every part has all training rows",
}


@dataclass(frozen=True)
class Data:
    """A data set: features (n, d) and what they are multiplied by, labels (n,), of which kind."""

    name: str
    X: NDArray[Any]
    y: NDArray[Any]
    classes: bool = True
    scale: float = 1.0

    def split(self, seed: int) -> NDArray[Any]:
        """Return train or test of every row."""
        rows = np.arange(len(self.y))
        kept = self.y if self.classes else None
        _, test = train_test_split(rows, test_size=TEST, random_state=seed, stratify=kept)
        return np.where(np.isin(rows, test), "test", "train")


# -- data ----------------------------------------------------------------------------------------


def chosen(options: argparse.Namespace) -> Iterator[Data]:
    """Yield the data sets that are asked for."""
    for name in options.data:
        if name in TABLES:
            X, y = TABLES[name](return_X_y=True)
            yield Data(name, minmax_scale(X), y, classes=name != "diabetes")
        elif os.environ.get("DSKROBUST_DATA"):
            yield from large(name, options.work, options.rows)


def large(name: str, work: Path, rows: int) -> Iterator[Data]:
    """Yield a sample of one of the paper's data sets, without replacement, for every task on it."""
    store, among = embedded(work) if name == EMBEDDED else official(name, work)
    rng = np.random.default_rng(0)
    picked = np.sort(rng.choice(among, min(rows, len(among)), replace=False))
    X = read_features(store, picked, None)
    y = store.read("labels", 0, store.rows).ravel()[picked]
    if name != "online-news":
        yield Data(name, X, y, scale=store.spec.scale)
        return
    yield Data(f"{name} (popular or not)", X, (shares_of(store, y) >= POPULAR).astype(np.int64))
    yield Data(f"{name} (shares)", X, y.astype(np.float64), classes=False)


def official(name: str, work: Path) -> tuple[dr.Store, NDArray[np.int64]]:
    """Return one of the paper's data sets, and its rows."""
    path = work / f"{name}.zarr"
    source = os.environ["DSKROBUST_DATA"]
    store = dr.open_store(path) if path.exists() else dr.ingest(name, str(path), source)
    return store, np.arange(store.rows)


def embedded(work: Path) -> tuple[dr.Store, NDArray[np.int64]]:
    """Return what the small network makes of all images, and the rows that it never saw."""
    path, (store, rows) = work / f"{EMBEDDED}.zarr", official("cifar10", work)
    seen = np.isin(rows, np.random.default_rng(1).choice(rows, TRAINED, replace=False))
    if not path.exists():
        split = np.where(seen, "train", "unseen")
        own = dr.create_store(
            work / "cifar10-halves.zarr", store.features[:], store.labels[:], split,
            spec=store.spec, overwrite=True,
        )  # fmt: skip
        dr.embed(own, "cnn", path)
    return dr.open_store(path), rows[~seen]


def shares_of(store: dr.Store, labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return labels in their own units, rounded: shares are whole."""
    from dskrobust.datasets import restore_labels

    return np.round(restore_labels(store.spec, labels)).ravel()


# -- what is compared ----------------------------------------------------------------------------


def tailored(
    data: Data, placement: str, work: Path, single: bool, seed: int
) -> tuple[float, float, int]:
    """Return the one model's score on the test rows, the gain, and parts that have their own."""
    kind = "categorical" if data.classes else "real"
    path = work / f"{data.name.split(' (')[0].replace(' ', '-')}-{kind}-{len(data.y)}-{seed}.zarr"
    if not path.exists():
        spec = dr.StoreSpec(data.name, kind, scale=data.scale)
        dr.create_store(str(path), data.X, data.y, data.split(seed), spec=spec)
    models = [dr.Model("knn", {"neighbors": NEIGHBOURS, "weights": ["uniform", "distance"]})]
    cut = dr.Validation(placement=placement, seed=seed)
    advice = dr.tailor(str(path), models, validation=cut).advice
    base, rows = np.array([(part.test[1], part.test[2]) for part in advice.parts if part.test]).T
    if single:
        own = int(advice.single[0] != "all")
        return float((base * rows).sum() / rows.sum()), advice.test_single or 0.0, own
    own = sum((p.train, p.model, p.setting) != advice.baseline for p in advice.parts)
    assert advice.test_gain is not None
    return float((base * rows).sum() / rows.sum()), advice.test_gain, own


def routed(
    data: Data, windows: int | None, estimator: BaseEstimator, grid: Any, seed: int
) -> tuple[float, float, int]:
    """Return the same of a router."""
    test = data.split(seed) == "test"
    router = dr.RobustnessRouter(estimator, grid, windows=windows, random_state=seed)
    router.fit(data.X[~test], data.y[~test])
    one = router.estimator_.score(data.X[test], data.y[test])
    own = sum(option != router.baseline_ for option in router.options_)
    return float(one), router.score(data.X[test], data.y[test]) - float(one), own


def estimators(data: Data) -> Iterator[tuple[str, BaseEstimator, dict[str, Any]]]:
    """Yield what is routed: a name, the estimator and its grid."""
    grid = {"n_neighbors": NEIGHBOURS, "weights": ["uniform", "distance"]}
    yield "knn", (KNeighborsClassifier if data.classes else KNeighborsRegressor)(), grid
    kind = RandomForestClassifier if data.classes else RandomForestRegressor
    yield "forest", kind(25, random_state=0), {"min_samples_leaf": [1, 5]}


def ways(data: Data, work: Path, most: int) -> Iterator[tuple[str, str, Callable[[int], Any]]]:
    """Yield model, way and what measures it with a seed."""
    if data.classes:
        yield "knn", PREDICTED, partial(tailored, data, "predicted", work, False)
        yield "knn", SINGLE, partial(tailored, data, "predicted", work, True)
    yield "knn", LABEL, partial(tailored, data, "label", work, False)
    if data.X.size > most:
        return
    for name, estimator, grid in estimators(data):
        for way, windows in ((ROUTED, 5), (SETTINGS, None)):
            yield name, way, partial(routed, data, windows, estimator, grid)


def measured(
    data: Data, model: str, way: str, made: Callable[[int], Any], options: argparse.Namespace
) -> Any:
    """Return what a way gains over the one model, over repeated splits; kept in the folder."""
    name = f"{data.name} {len(data.y)} {model} {way} {options.splits}"
    kept = options.work / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    started = time.perf_counter()
    base, gains, own = np.array([made(seed) for seed in range(options.splits)]).T
    interval = corrected_interval(gains, TEST / (1 - TEST))
    line = {
        "data": data.name,
        "rows": len(data.y),
        "columns": data.X.shape[1],
        "model": model,
        "way": way,
        "measure": "ACC" if data.classes else "R²",
        "splits": options.splits,
        "one model": float(base.mean()),
        "gain": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "verdict": interval.verdict,
        "gains": gains.tolist(),
        "parts of their own": own.tolist(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(data.name, model, way, f"{line['one model']:.4f}", interval, line["seconds"], flush=True)
    kept.write_text(json.dumps(line))
    return line


# -- the page ------------------------------------------------------------------------------------


def page(facts: Mapping[str, Any]) -> str:
    """Return the results as Markdown, what was found first."""
    lines = facts["lines"]
    heads = ("data", "rows", "columns", "splits", "model", "way", "one model", "gain", "95 %", "")
    body = [
        (
            x["data"], f"{x['rows']:,}", f"{x['columns']:,}", str(x["splits"]), x["model"],
            x["way"],
            f"{x['measure']} {x['one model']:.4f}", f"{x['gain']:+.4f}",
            f"{x['low']:+.4f} to {x['high']:+.4f}", x["verdict"],
        )
        for x in lines
    ]  # fmt: skip
    table = [heads, ("---",) * len(heads), *body]
    return "\n\n".join(
        [
            "# Tailored training sets against one model on everything",
            f"Made by `scripts/paper/tailoring.py` with dskrobust {facts['versions']['dskrobust']} "
            f"on {facts['date'][:10]}; {TEST:.0%} of the rows are for testing in every split. Of "
            "large data sets rows are drawn at random, as many as the table says: these are no "
            "results on whole data sets.",
            *verdicts(lines),
            "\n".join("| " + " | ".join(line) + " |" for line in table),
            "A data set and way that is not in the table was not measured.",
            *([EMBEDDED_WORDS] if any(x["data"] == EMBEDDED for x in lines) else []),
            "\n".join(f"- *{way}*: {words}." for way, words in WAYS.items()),
            "Gains are means over the splits; intervals are Student's with the variance of Nadeau "
            "and Bengio (2003), as training sets of splits overlap. A part keeps the one model "
            "unless something is better by more than a standard error on held-out rows, so a gain "
            "of exactly 0 means that nothing was chosen. No correction is made for the number of "
            "comparisons: of so many, one in forty would look better by chance alone.",
        ]
    ) + "\n"  # fmt: skip


def verdicts(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what was found, for new rows and with the labels known, in sentences."""
    for title, chosen in (
        ("For new rows, whose labels are not known", [x for x in lines if x["way"] != LABEL]),
        ("With rows placed by their own labels", [x for x in lines if x["way"] == LABEL]),
    ):
        counts = {v: [x for x in chosen if x["verdict"] == v]
                  for v in ("better", "worse", "no difference")}  # fmt: skip
        best = "; ".join(f"{x['data']}, {x['model']}, {x['way']}" for x in counts["better"])
        worst = "; ".join(f"{x['data']}, {x['model']}, {x['way']}" for x in counts["worse"])
        yield (
            f"**{title}**: of {len(chosen)} comparisons {len(counts['better'])} are better than "
            f"one model on everything{f' ({best})' if best else ''}, {len(counts['worse'])} worse"
            f"{f' ({worst})' if worst else ''}, and {len(counts['no difference'])} no different."
        )


def main() -> None:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for stores")
    parser.add_argument("--rows", type=int, default=10_000, help="of the large data sets")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--most", type=int, default=600_000, help="values of a table for routers")
    known = (*TABLES, *LARGE)
    parser.add_argument("--data", nargs="+", choices=known, default=known, help="all by default")
    parser.add_argument("--out", type=Path, default=NOTEBOOKS / "results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)  # contradictions and equal rows: the data's own
    lines = [
        measured(data, model, way, made, options)
        for data in chosen(options)
        for model, way, made in ways(data, options.work, options.most)
    ]
    write(options, lines)


def write(options: argparse.Namespace, lines: list[dict[str, Any]]) -> None:
    """Write the lines beside those of other data sets that are there, and the page of them all."""
    path = options.out / "tailoring.json"
    known = json.loads(path.read_text())["lines"] if path.exists() else []
    merged = {(line["data"], line["model"], line["way"]): line for line in (*known, *lines)}
    libraries = ("dskrobust", "numpy", "scikit-learn")
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in libraries},
        "lines": list(merged.values()),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n")
    (options.out / "tailoring.md").write_text(page(facts))


if __name__ == "__main__":
    main()
