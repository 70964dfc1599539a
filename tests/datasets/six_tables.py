"""Six tables such as people have them, written without pandas; a program and a module of tests.

`python tests/datasets/six_tables.py FOLDER` writes them, and says the one line that reads each.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np


def _write(path: Path, head: list[str], rows: Iterable[tuple], **form) -> Path:
    encoding = form.pop("encoding", "utf-8")
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, **form)
        writer.writerow(head)
        writer.writerows(rows)
    return path


def passengers(folder: Path, rows: int = 900) -> Path:
    """Text, gaps and ids: who survived depends on sex, class and age."""
    rng = np.random.default_rng(0)
    sex, port = rng.choice(["female", "male"], rows), rng.choice(["S", "C", "Q"], rows)
    level, age = rng.integers(1, 4, rows), rng.gamma(6, 5, rows).round(1)
    fare = (rng.lognormal(2, 1, rows) * (4 - level)).round(4)
    survived = (rng.random(rows) < 0.25 + 0.5 * (sex == "female") - 0.05 * level).astype(int)
    head = ["PassengerId", "Survived", "Pclass", "Name", "Sex", "Age", "Ticket", "Fare", "Cabin",
            "Embarked"]  # fmt: skip
    table = (
        (k + 1, survived[k], level[k], f"Passenger, No. {k + 1}", sex[k],
         "" if rng.random() < 0.2 else age[k], f"A/{rng.integers(10**6)}", fare[k],
         f"C{rng.integers(150)}" if rng.random() < 0.2 else "",
         "" if k in (61, 829) else port[k])
        for k in range(rows)
    )  # fmt: skip
    return _write(folder / "passengers.csv", head, table)


def payments(folder: Path, rows: int = 200_000, share: float = 0.002) -> Path:
    """200,000 × 30 with 0.2 % positives, a column of seconds and one of cents; no wrong label."""
    rng = np.random.default_rng(1)
    fraud = np.zeros(rows, bool)
    fraud[rng.choice(rows, round(share * rows), replace=False)] = True
    values = rng.normal(size=(rows, 28))
    values[fraud, :8] += 3.0
    seconds = np.sort(rng.integers(0, 172_800, rows))
    cents = (rng.lognormal(3, 1.5, rows) * 100).round().astype(int)
    head = ["Time", *(f"V{k}" for k in range(1, 29)), "Amount", "Class"]
    parts = zip(seconds, values.tolist(), cents, fraud, strict=True)
    table = ((s, *(f"{v:.5f}" for v in row), c, int(f)) for s, row, c, f in parts)
    return _write(folder / "payments.csv", head, table)


def houses(folder: Path, rows: int = 3_000) -> Path:
    """Dates, ids and a real price."""
    rng = np.random.default_rng(2)
    sold = np.datetime64("2014-05-01") + rng.integers(0, 400, rows)
    area, rooms = rng.integers(400, 6_000, rows), rng.integers(1, 8, rows)
    code, built = rng.choice([98_001, 98_042, 98_103], rows), rng.integers(1900, 2015, rows)
    price = (area * 250 + rooms * 10_000 + rng.normal(0, 2e4, rows)).round(2)
    head = ["house_id", "date", "price", "bedrooms", "sqft", "zipcode", "yr_built"]
    ids = rng.permutation(10**9 + np.arange(rows))
    table = zip(ids, sold, price, rooms, area, code, built, strict=True)
    return _write(folder / "houses.csv", head, table)


def measurements(folder: Path, rows: int = 1_000) -> Path:
    """Semicolons and decimal commas in Latin-1."""
    rng = np.random.default_rng(3)
    values = rng.normal([20, 1013, 0.5], [5, 9, 0.2], (rows, 3))
    kind = np.where(values[:, 0] + 5 * values[:, 2] > 22, "schön", "trüb")
    head = ["Temperatur (°C)", "Luftdruck", "Anteil", "Größe"]
    table = ((*(f"{v:.3f}".replace(".", ",") for v in row), k)
             for row, k in zip(values.tolist(), kind, strict=True))  # fmt: skip
    return _write(folder / "messung.csv", head, table, delimiter=";", encoding="latin-1")


def mushrooms(folder: Path, rows: int = 2_000) -> Path:
    """One-hot columns of True and False."""
    rng = np.random.default_rng(4)
    forms = {"cap": ["flat", "bell", "conical"], "smell": ["none", "foul", "almond"]}
    drawn = {name: rng.choice(choices, rows) for name, choices in forms.items()}
    names = [(name, choice) for name, choices in forms.items() for choice in choices]
    edible = np.where(drawn["smell"] == "foul", "poisonous", "edible")
    table = ((*(drawn[name][k] == choice for name, choice in names), edible[k])
             for k in range(rows))  # fmt: skip
    return _write(folder / "mushrooms.csv", [*(f"{a}_{b}" for a, b in names), "class"], table)


def embeddings(folder: Path, rows: int = 20_000, width: int = 400) -> Path:
    """20,000 × 400 as a column of lists."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(5)
    code = rng.integers(0, 10, rows)
    centres = rng.normal(size=(10, width))
    values = (centres[code] + rng.normal(size=(rows, width))).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
    table = pa.table({"doc_id": [f"doc-{k:05d}" for k in range(rows)], "embedding": lists,
                      "topic": [f"topic {k}" for k in code]})  # fmt: skip
    parquet.write_table(table, folder / "embeddings.parquet")
    return folder / "embeddings.parquet"


TABLES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "passengers": (passengers, ("--target", "Survived")),
    "payments": (payments, ("--target", "Class")),
    "houses": (houses, ("--target", "price", "--id", "house_id")),
    "measurements": (measurements, ("--target", "Größe")),
    "mushrooms": (mushrooms, ()),
    "embeddings": (embeddings, ("--target", "topic", "--id", "doc_id")),
}

if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    for write, options in TABLES.values():
        print("dskrobust ingest", write(where), *options)
