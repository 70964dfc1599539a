"""The scripts for the paper's networks: experiments, observations, correlations, results."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, load_script

from dskrobust.evaluation import read_experiment

TABLES = ROOT / "notebooks" / "paper" / "tables-cnn.toml"
RESULTS = ROOT / "notebooks" / "results"
KEYS = ["claim", "where", "holds", "of", "command", "verdict"]

pytestmark = pytest.mark.skipif(not TABLES.exists(), reason="the notebooks are not here")


@pytest.fixture(scope="module")
def script():
    """The script, beside whose folder the others are found as when it is run."""
    return load_script("paper/cnn")


@pytest.fixture(scope="module")
def claims(script):
    return load_script("paper/cnn_claims")


@pytest.fixture(scope="module")
def probabilities(script):
    return load_script("paper/probabilities")


@pytest.fixture(scope="module")
def paper(script):
    return {table.number: table for table in script.read_paper(TABLES)}


def test_the_papers_tables_are_complete(paper):
    assert list(paper) == [2, 3, 4]
    for table in paper.values():
        (matrix,) = table.matrices
        assert matrix.acc.shape == matrix.loss.shape == (5, 5)
        assert ((matrix.acc > 0.68) & (matrix.acc < 0.87)).all()
        assert ((matrix.loss > 0.6) & (matrix.loss < 1.2)).all()
        assert not matrix.loss_high
    bold = paper[2].matrices[0]
    assert bold.best_loss.argmax(axis=1).tolist() == [0, 1, 2, 1, 2]  # as printed
    assert paper[4].matrices[0].best_acc[:, 0].all()


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_papers_observations_hold_in_the_paper(script, claims, paper, number):
    table = paper[number]
    text = script.section(table, table.matrices, script.OBSERVATIONS)
    said = text.split("observes, here:")[1].strip().splitlines()
    assert len(said) >= 3
    assert all(line.endswith(": yes") for line in said), said
    assert "ACC: 25 of 25 cells" in text
    plain = script.section(table, table.matrices, [], comparable=False)
    assert "LOSS" not in plain.split("observes")[1]
    rows = list(claims.table_rows(table, table.matrices, "all images"))
    assert [(row["holds"], row["of"]) for row in rows] == [(1, 1)] * len(said)
    assert all(row["verdict"] == "holds (all images)" for row in rows)


def sizes(selections):
    """Return the sizes of subsets by name; 0 for a whole group."""
    return {name: int(text.partition(":")[2][1:] or 0) for name, text in selections.items()}


@pytest.mark.parametrize(
    ("name", "data", "trials", "seed"),
    [
        ("cnn-table-2", "cifar10", 25, 0),
        ("cnn-table-3", "cifar10", 25, 1),
        ("cnn-table-4", "cifar10", 25, 0),
        ("cnn-prototype", "cifar10", 1, 2),
        ("cnn-mnist", "mnist", 25, 0),
    ],
)
def test_a_small_experiment_is_the_other_on_a_slice(name, data, trials, seed):
    runs = load_script("paper/cnn_runs")
    whole, small = (runs.experiment_of(name, small) for small in (False, True))
    assert (whole.trials, whole.seed) == (trials, seed)
    assert small.seed == seed
    for part, share in runs.EVERY[data].items():
        wanted = {key: size // share for key, size in sizes(getattr(whole, part)).items()}
        assert sizes(getattr(small, part)) == wanted
    ((own,), (other,)) = whole.models, small.models
    assert own.kind == other.kind
    assert other.options["device"] == "cpu"
    assert set(own.options) <= set(other.options)


def test_the_experiments_are_those_of_the_tables(script, paper):
    for number, table in paper.items():
        experiment = script.experiment_of(script.EXPERIMENTS[number], small=False)
        assert f"{script.EXPERIMENTS[number]}.toml" == table.experiment
        assert tuple(experiment.train) == table.matrices[0].train
        assert tuple(experiment.test) == table.matrices[0].test
        assert [m.kind for m in experiment.models] == [table.model]
    third = read_experiment(ROOT / "notebooks" / "experiments" / paper[3].experiment)
    epochs = paper[2].matrices[0].values[0].tolist()
    assert list(third.models[0].options["subset_epochs"]) == epochs  # "same epochs as in Table 2"
    found = paper[2].matrices[0]
    found.values[0] = [90, 85, 80, 75, 70]
    taken = script.with_epochs_of(third, found)
    found.values[0] = epochs
    assert taken.models[0].options["subset_epochs"] == (90, 85, 80, 75, 70)
    fourth = script.experiment_of("cnn-table-4", small=False)
    assert script.run_words(4, fourth) == (
        "Table 4: 25 trials, 15 in the first session, 80 epochs at most"
    )


# -- curves ------------------------------------------------------------------------------------


def curves(**losses):
    """Return curves of subsets whose ACC is 1 − LOSS."""
    return pd.DataFrame(
        [
            {"test": test, "trial": 1, "epoch": epoch, "loss": value, "acc": 1 - value}
            for test, values in losses.items()
            for epoch, value in enumerate(values, 1)
        ]
    )


def test_curves_are_judged_epoch_by_epoch(claims):
    made = curves(
        t=[0.5] * 20,
        t_L5=[0.6] * 20,
        t_M5=[0.4] * 19 + [0.7],
        t_L2=[0.2, 0.3] * 10,
        t_M2=[0.3, 0.2] * 10,
    )
    rows = claims.curve_rows(made, "a slice")
    assert [(row["holds"], row["of"]) for row in rows] == [
        (19, 20), (19, 20), (10, 20), (20, 20), (1, 1),
    ]  # fmt: skip
    words = [row["verdict"].split(":")[0] for row in rows]
    assert words == ["holds", "holds", "contradicted", "holds", "holds"]
    assert rows[-1]["verdict"] == "holds: 19 changes in 20 epochs (a slice)"
    still = curves(**{t: [0.5] * 20 for t in ("t", "t_L5", "t_M5", "t_M2")}, t_L2=[0.4] * 20)
    assert claims.curve_rows(still, "a slice")[-1]["holds"] == 0
    assert claims.prototype_row(made, 0.52, "a slice")["holds"] == 1
    assert claims.prototype_row(made, 0.6, "a slice")["holds"] == 0


# -- probabilities -----------------------------------------------------------------------------


def test_rank_correlations_have_intervals(probabilities):
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    linked = probabilities.rank_correlation(x, np.exp(x + rng.normal(size=400)))
    assert 0.6 < linked.low < linked.rho < linked.high < 0.8
    assert linked.has_sign
    assert linked.words().startswith("contradicted: there is a clear one, Spearman's rho is 0.")
    assert probabilities.rank_correlation(x, -x).rho == pytest.approx(-1)
    hits = sum(
        not probabilities.rank_correlation(*rng.normal(size=(2, 50))).has_sign for _ in range(400)
    )
    assert 0.92 < hits / 400 < 0.98  # 95 % of the intervals of what is not linked hold 0
    same = probabilities.rank_correlation(x, np.ones(400))
    assert not same.is_known
    row = probabilities.relation_row(same, "all", "a slice")
    assert (row["holds"], row["verdict"][:10]) == (0, "no verdict")


def test_extremes_are_by_class_and_rank(probabilities):
    rng = np.random.default_rng(1)
    samples = pd.DataFrame(
        {"row": range(40), "label": ["dog", "cat"] * 20, "robustness": rng.permutation(40) / 40,
         "probability": rng.random(40)}
    )  # fmt: skip
    shown = probabilities.extremes(samples, 2)
    assert list(shown) == ["label", "end", "rank", "row", "robustness", "probability"]
    assert shown[["label", "end", "rank"]].values.tolist() == [
        [label, end, rank] for label in ("cat", "dog") for end in ("least", "most")
        for rank in (1, 2)
    ]  # fmt: skip
    for label, own in samples.groupby("label"):
        ends = shown[(shown["label"] == label) & (shown["rank"] == 1)].set_index("end")["row"]
        assert ends["least"] == own.loc[own["robustness"].idxmin(), "row"]
        assert ends["most"] == own.loc[own["robustness"].idxmax(), "row"]
    found = probabilities.correlations(samples, ["dog"])
    assert [one.rows for one in found.values()] == [40, 4, 20]


# -- what was written --------------------------------------------------------------------------


def written(name):
    path = RESULTS / name
    if not path.exists():
        pytest.skip(f"{name} was not made yet")
    return path


@pytest.mark.parametrize("stem", ["tables-2-4", "tables-2-4-small"])
def test_the_page_is_that_of_its_trials(script, claims, paper, stem):
    facts = json.loads(written(f"{stem}.json").read_text())
    trials = pd.read_csv(written(f"{stem}-trials.csv.gz"))
    text = written(f"{stem}.md").read_text()
    tables = [paper[number] for number in sorted(set(trials["table"]))]
    rows = []
    for table in tables:
        ours = script.matrices_of(table, trials)
        own = script.section(table, ours, script.OBSERVATIONS, comparable="small" not in stem)
        assert own in text
        rows += [row["holds"] for row in claims.table_rows(table, ours, "")]
    seen = facts["observations"]
    assert all(list(row) == KEYS for row in seen)
    assert [row["holds"] for row in seen if row["where"].startswith("4.2.1")] == rows
    curve = claims.curve_rows(pd.read_csv(written(f"{stem}-figures-6-7.csv")), facts["size"])
    drawn = [row for row in seen if row["where"].startswith("D.3")][: len(curve)]
    assert [row["verdict"] for row in drawn] == [row["verdict"] for row in curve]


@pytest.mark.parametrize(
    ("stem", "figure"),
    [("tables-2-4", 5), ("tables-2-4-small", 5), ("cnn-mnist", 12), ("cnn-mnist-small", 12)],
)
def test_correlations_are_those_of_the_figure(probabilities, stem, figure):
    facts = json.loads(written(f"{stem}.json").read_text())
    shown = pd.read_csv(written(f"{stem}-figure-{figure}.csv")).query("rank == 1")
    said = facts["rank_correlations"]["the figure's images"]
    made = probabilities.rank_correlation(shown["robustness"], shown["probability"])
    assert (said["rows"], said["rho"]) == (made.rows, pytest.approx(made.rho, abs=0.02))
    assert any(f"rho is {said['rho']:.3f}" in row["verdict"] for row in facts["observations"])
