"""Networks in experiments: sessions, trials in one job, GPU steps, checkpoints, what is kept."""

import shutil
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster
from hypothesis import example, given, settings
from hypothesis import strategies as st
from losses import cross_entropy
from sklearn.datasets import load_digits

import dskrobust as dr
from dskrobust import cli
from dskrobust.cli.evaluate import _swept
from dskrobust.errors import (
    ClusterError,
    DamagedRecordWarning,
    EvaluationError,
    InvalidDataError,
    InvalidOptionError,
    MemoryPlanError,
)
from dskrobust.evaluation import scheduling as running
from dskrobust.evaluation.models.base import Problem
from dskrobust.evaluation.models.networks import run as cnn_run
from dskrobust.evaluation.models.networks import sessions
from dskrobust.evaluation.models.networks.model import Network
from dskrobust.evaluation.protocol import Choice, performance_matrix, trimmed_mean
from dskrobust.store.blobs import Blobs

torch = pytest.importorskip("torch")

from dskrobust.cluster import workers  # noqa: E402
from dskrobust.evaluation.models.networks import architectures as networks  # noqa: E402
from dskrobust.evaluation.models.networks import measuring  # noqa: E402
from dskrobust.evaluation.models.networks.settings import Training  # noqa: E402
from dskrobust.evaluation.models.networks.trials import Trials, parameter_count  # noqa: E402

TINY = "torch:own_networks.Tiny"
FAST = {"learning_rate": 0.01, "optimizer": "adam", "batch_size": 50}
CPU = {"device": "cpu", "torch_threads": 1}
TRAIN, TEST = {"x": "train", "x_L": "train:L60"}, {"t": "test", "t_L": "test:L20"}


def tiny(grid=None, name="tiny", kind=TINY, **options):
    return dr.Model(kind, grid or {}, FAST, {**CPU, **options}, name)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Digits of four classes with results, to be copied."""
    X, y = load_digits(n_class=4, return_X_y=True)
    rows = np.arange(150)
    split = np.where(rows < 100, "train", "test")
    spec = dr.StoreSpec("digits", "categorical", scale=1 / 16, image_shape=(8, 8))
    url = str(tmp_path_factory.mktemp("digits") / "d.zarr")
    store = dr.create_store(url, X[rows].astype(np.uint8), y[rows], split, spec=spec)
    dr.sample_robustness(store).write()
    return url


@pytest.fixture
def url(scored, tmp_path):
    return shutil.copytree(scored, tmp_path / "d.zarr").__str__()


@pytest.fixture(scope="module")
def here():
    """A client of two threads in this process."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def make(url, *models, **given):
    given = {"train": TRAIN, "test": TEST, "trials": 3, **given}
    return dr.evaluate(url, models=models or [tiny({"epochs": [2, 5]})], **given)


@pytest.fixture(scope="module")
def computed(scored, here, tmp_path_factory):
    """The digits with the experiment of `make` in them, and that one's table."""
    url = shutil.copytree(scored, tmp_path_factory.mktemp("computed") / "d.zarr").__str__()
    return url, make(url, client=here).table


@pytest.fixture
def done(computed, tmp_path):
    """A copy of a store with the finished experiment of `make`."""
    return shutil.copytree(computed[0], tmp_path / "done.zarr").__str__()


# -- sessions, with made-up models -------------------------------------------------------------


class Fake:
    """Models whose losses are looked up; their weights are how often they were trained."""

    def __init__(self, losses, seeds):
        self.losses, self.seeds, self.epochs = losses, seeds, np.zeros(len(seeds), int)
        self.rates = []

    def train_epoch(self, learning_rate=None):
        self.epochs += 1
        self.rates.append(learning_rate)

    def state(self):
        return self.weights()

    def load_state(self, state):
        self.epochs = state["w"].copy()

    def weights(self):
        return {"w": self.epochs}

    def load_weights(self, weights, optimizer_reset=False):
        assert optimizer_reset
        self.epochs = weights["w"].copy()

    def look(self):
        pairs = zip(self.seeds, self.epochs, strict=True)
        loss = np.array([self.losses(s, e) for s, e in pairs], np.float64)
        return sessions.Look(
            np.repeat(loss[:, None, None], 3, axis=2), {"p": loss.mean(keepdims=True)}
        )


class Memory:
    """Keeps checkpoints, and is killed after some epochs."""

    def __init__(self):
        self.kept, self.left, self.events = None, np.inf, []

    def save(self, facts, values):
        self.kept = facts, {k: v.copy() for k, v in values.items()}

    def load(self):
        return self.kept

    def clear(self):
        self.kept = None

    def tell(self, event):
        self.events.append((event["session"], event["epoch"]))
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def bench(losses, memory=None, **given):
    memory = memory or Memory()
    return sessions.Bench(
        make=lambda seeds: Fake(losses, seeds),
        look=Fake.look,
        more=lambda models: {"q": models.epochs.copy()},
        keeper=memory,
        tell=memory.tell,
        **given,
    )


def valley(lowest):
    return lambda seed, epoch: abs(epoch - lowest) + 0.001 * seed


@pytest.mark.parametrize("lowest", [1, 5, 13, 30, 48])
def test_a_search_ends_around_the_lowest_loss(lowest):
    memory = Memory()
    found = sessions.search(bench(valley(lowest), memory), [1, 2, 3], [7, 8], 3, 200)
    best = max(5, round(lowest / 5) * 5)
    assert found.facts["threshold"] == found.facts["epochs"] == best
    assert found.facts["inside"]
    assert list(found.log) == list(range(5, best + 6, 5))  # both sides of the lowest
    assert max(e for s, e in memory.events if s == "first") == best + 15  # three checks in vain
    np.testing.assert_allclose(found.means["p"], abs(best - lowest) + 0.002)
    assert found.means["q"].tolist() == [best] * 3


def test_a_search_goes_on_where_fresh_models_need_longer():
    losses = lambda seed, epoch: abs(epoch - (20 if seed >= 7 else 40))  # noqa: E731
    found = sessions.search(bench(losses), [1, 2, 3], [7, 8], 3, 200)
    assert (found.facts["threshold"], found.facts["epochs"]) == (20, 40)
    assert max(found.log) == 45
    short = sessions.search(bench(losses), [1, 2, 3], [7, 8], 3, 30)
    assert (short.facts["epochs"], short.facts["inside"]) == (30, False)


def test_best_weights_are_topped_off():
    lasted = [3, 4, 4, 6, 6, 7, 8, 8, 9, 19]
    losses = lambda seed, epoch: abs(epoch - lasted[seed % 10])  # noqa: E731
    found = sessions.best_weights(bench(losses), range(10), range(10), 25)
    assert found.facts["best_epochs"] == lasted
    assert found.facts["threshold"] == 10  # 9 of 10 are below
    assert found.facts["average"] == average([4, 6, 6, 7, 8, 8])
    (measured,) = found.log.values()
    assert measured[:9, 0, 0].tolist() == [1] * 9  # one epoch past the best
    assert found.means["q"].tolist() == [min(e, 10) + 1 for e in lasted]
    assert list(found.curves) == list(range(1, 11))


@pytest.mark.parametrize("way", ["search", "best-weights", "plain"])
def test_seconds_are_those_of_all_attempts(way, monkeypatch):
    """Each up to its last checkpoint; an epoch takes a second, what is lost with a kill none."""
    memory, trained = Memory(), []
    monkeypatch.setattr(sessions, "monotonic", lambda: float(len(memory.events)))
    for left in (4, 3, np.inf):
        memory.left = left
        started = bench(valley(3), memory, every=1)
        trained.append(started)
        try:
            WAYS[way](started)
        except KeyboardInterrupt:
            continue
    assert [one.earlier for one in trained] == [0, 4, 7]
    assert started.seconds == len(set(memory.events)) == len(memory.events) - 2


def average(values):
    return round(np.mean(values))


@pytest.mark.parametrize(
    ("epochs", "threshold", "mean"),
    [
        ([13, 17, 20, 12, 12, 15, 15, 18, 13, 19, 12, 23, 23, 17, 8], 20, 15),
        ([9, 17, 14, 15, 12, 18, 13, 16, 11, 12, 64, 7, 13, 12, 9], 20, 13),
        ([14, 11, 21, 11, 9, 10, 77, 15, 11, 14, 10, 8, 14, 8, 13], 15, 12),
        ([12, 7, 9, 14, 12, 77, 9, 14, 12, 21, 5, 7, 14, 7, 11], 15, 11),
        ([6, 15, 9, 13, 13, 9, 7, 10, 15, 11, 13, 17, 10, 10, 9], 15, 11),
    ],
)
def test_thresholds_are_the_papers(epochs, threshold, mean):
    """C.3's lists, and Table 4's head."""
    assert sessions.threshold_of(epochs) == threshold
    assert sessions.average_of(epochs) == mean


@settings(max_examples=40)
@given(
    epochs=st.lists(st.integers(1, 80), min_size=1, max_size=20),
)
def test_at_most_a_fifth_lies_above_the_threshold(epochs):
    found = sessions.threshold_of(epochs)
    assert found % 5 == 0
    assert sum(e > found for e in epochs) <= len(epochs) / 5
    assert sum(e > found - 5 for e in epochs) > len(epochs) / 5  # and it is the smallest
    assert min(epochs) <= sessions.average_of(epochs) <= max(epochs)


WAYS = {
    "search": lambda b: sessions.search(b, [0, 1, 2], [3, 4], 2, 25),
    "best-weights": lambda b: sessions.best_weights(b, [0, 1, 2], [3, 4, 5], 8),
    "plain": lambda b: sessions.plain(b, [0, 1, 2], [3, 10, 12]),
}


@settings(max_examples=25)
@given(
    way=st.sampled_from(list(WAYS)),
    seed=st.integers(0, 9),
    kills=st.lists(st.integers(0, 25), max_size=4),
    every=st.sampled_from([1, 2, 5]),
    curves=st.booleans(),
)
@example(way="best-weights", seed=0, kills=[12], every=5, curves=False)  # in the second session
@example(way="search", seed=0, kills=[26], every=2, curves=False)
def test_what_is_killed_comes_to_the_same(way, seed, kills, every, curves):
    table = np.random.default_rng(seed).random((6, 61))
    losses = lambda s, e: table[s, e]  # noqa: E731
    whole = WAYS[way](bench(losses, curves=curves))
    memory = Memory()
    for left in [*kills, np.inf]:
        memory.left = left
        try:
            found = WAYS[way](bench(losses, memory, every=every, curves=curves))
        except KeyboardInterrupt:
            continue
    assert found.facts == whole.facts
    for name in ("log", "curves", "means"):
        ours, wanted = getattr(found, name), getattr(whole, name)
        assert list(ours) == list(wanted)
        for key in wanted:
            np.testing.assert_array_equal(ours[key], wanted[key])
    redone = len(memory.events) - len(set(memory.events))
    assert redone <= len(kills) * every


def test_a_checkpoint_of_other_models_is_dropped(monkeypatch):
    """As where a user's module was changed: else every run would fail on it."""
    memory = Memory()
    memory.left = 6
    with pytest.raises(KeyboardInterrupt):
        WAYS["plain"](bench(valley(3), memory))

    def load_state(self, state):
        raise InvalidDataError("w of (2,) numbers are not of these models")

    with monkeypatch.context() as patch:
        patch.setattr(Fake, "load_state", load_state)
        with pytest.raises(EvaluationError, match="its checkpoint is of other models: w of"):
            WAYS["plain"](bench(valley(3), memory))
    memory.left = np.inf
    assert WAYS["plain"](bench(valley(3), memory)).facts["epochs"] == 3
    assert memory.events[-12:] == [("second", e) for e in range(1, 13)]  # from the beginning


def test_of_models_that_are_through_a_checkpoint_has_only_what_they_said():
    memory = Memory()
    sessions.best_weights(bench(valley(3), memory), [0, 1], [3, 4, 5], 10)
    names = set(memory.kept[1])
    assert {"first/log", "second/log", "second/state/w", "second/best/w"} <= names
    assert not [name for name in names if name.startswith(("first/state", "first/means"))]
    again = bench(valley(3), memory)
    sessions.best_weights(again, [0, 1], [3, 4, 5], 10)
    assert again._arrays == {}  # not kept a second time
    assert again._sessions["first"]._state is None


# -- the table and the matrices ----------------------------------------------------------------


def test_all_trials_are_one_job_and_a_row_each(computed):
    url, table = computed
    found = make(url)
    assert [str(job) for job in found.jobs] == ["tiny x", "tiny x_L"]
    assert list(table) == [
        "train", "test", "model", "epochs", "trial", "seed", "loss", "acc", "balanced_loss",
    ]  # fmt: skip
    assert table[["train", "epochs", "trial", "test"]].values.tolist() == [
        [x, e, trial, t] for x in TRAIN for e in (2, 5) for trial in (1, 2, 3) for t in TEST
    ]
    assert table.groupby(["train", "trial"])["seed"].nunique().eq(1).all()
    assert table["seed"].nunique() == 6
    assert (make(url).finished(), len(make(url, trials=4).jobs)) == (2, 2)
    assert make(url, trials=4).finished() == 0


def test_rows_are_those_of_the_models(computed):
    """By hand: the trials' own seeds, trained alone for two epochs."""
    url, table = computed
    table = table.query("train == 'x' and epochs == 2 and test == 't_L'")
    store = dr.open_store(url)
    train = np.flatnonzero(store.split == "train")
    least = np.sort(dr.least_robust(dr.sample_robustness(store), 20, "test"))
    training = Training("own_networks.Tiny", (1, 8, 8), 4, scale=1 / 16, decay=1e-6, **FAST)
    for row in table.to_dict("records"):
        alone = Trials(training, store.features[train], store.labels[train], [row["seed"]])
        for _ in range(2):
            alone.train_epoch()
        p = alone.probabilities(store.features[least])[0]
        y = store.labels[least]
        assert row["acc"] == (p.argmax(axis=1) == y).mean()
        assert row["loss"] == pytest.approx(cross_entropy(y, p), rel=1e-5)
        own = cross_entropy(y, p, balanced=True)
        assert row["balanced_loss"] == pytest.approx(own, rel=1e-5)
        assert own != pytest.approx(row["loss"], rel=1e-3)


def test_probabilities_are_trimmed_means(computed):
    """By hand, as of ACC and LOSS: of three trials the one in the middle."""
    found = make(computed[0])
    epochs = found.matrix().values[0, 0]
    seeds = found.table.query("train == 'x' and test == 't'")["seed"].unique()
    store = dr.open_store(computed[0])
    X, y, train = store.features[:], store.labels[:], store.split == "train"
    training = Training("own_networks.Tiny", (1, 8, 8), 4, scale=1 / 16, decay=1e-6, **FAST)
    alone = Trials(training, X[train], y[train], [int(seed) for seed in seeds])
    for _ in range(epochs):
        alone.train_epoch()
    p = alone.probabilities(X[~train])[:, np.arange((~train).sum()), y[~train]]
    said = found.true_class_probability("x")["probability"]
    np.testing.assert_allclose(said, np.sort(p, axis=0)[1], rtol=1e-5)
    assert np.abs(p.mean(axis=0) - said).max() > 1e-3


def test_every_training_subset_may_have_its_own_number_of_epochs(computed, url, here):
    found = make(url, tiny(subset_epochs=[2, 5]), client=here)
    wanted = computed[1].query("(train == 'x') == (epochs == 2)").reset_index(drop=True)
    pd.testing.assert_frame_equal(found.table, wanted)
    assert found.matrix().values[0].tolist() == [2, 5]
    assert found.sessions["epochs"].tolist() == [2, 5]
    other = make(url, tiny(subset_epochs=[2, 6])).jobs
    assert [job.name for job in other] != [job.name for job in found.jobs]
    assert other[0].name == found.jobs[0].name  # only what has another number is trained anew
    assert [job.seeds for job in other] == [job.seeds for job in found.jobs]


def test_fewer_epochs_and_fewer_trials_are_read_off(computed, url, here):
    x = {"train": {"x": "train"}, "client": here}
    wide = computed[1].query("train == 'x' and epochs == 5 and trial <= 2").reset_index(drop=True)
    narrow = make(url, tiny({"epochs": [5]}), trials=2, **x).table
    pd.testing.assert_frame_equal(wide, narrow)
    found = make(url, tiny(max_epochs=5, first=1), **x).table.query("epochs == 5 and trial <= 2")
    pd.testing.assert_frame_equal(found.reset_index(drop=True), narrow)


def test_where_it_runs_is_no_part_of_what_a_record_is(url):
    names = [j.name for j in make(url).jobs]
    elsewhere = tiny({"epochs": [2, 5]}, device="gpu", torch_threads=3, checkpoint_every=2)
    assert [j.name for j in make(url, elsewhere).jobs] == names
    curved = make(url, tiny({"epochs": [2, 5]}, curves=True)).jobs
    assert not {j.name for j in curved} & set(names)
    assert [j.seeds for j in curved] == [j.seeds for j in make(url).jobs]
    other = make(url, test={"t_L": "test:L20", "t": "test"}).jobs  # another subset chooses
    assert not {j.name for j in other} & set(names)


def test_epochs_are_chosen_by_loss(computed):
    found = make(computed[0])
    matrix = found.matrix()
    table = found.table
    means = table[table["test"] == "t"].groupby(["train", "epochs"])["loss"].agg(trimmed_mean)
    for j, x in enumerate(matrix.train):
        assert matrix.values[0, j] == means[x].idxmin()
        assert matrix.loss[0, j] == means[x].min()
    assert "epochs where LOSS is lowest on t" in str(matrix)
    weighted = found.matrix(loss="balanced_loss")
    np.testing.assert_array_equal(weighted.values, matrix.values)
    np.testing.assert_array_equal(weighted.acc, matrix.acc)
    assert (weighted.loss[1] != matrix.loss[1]).all()
    assert "re-weighted by class" in str(weighted)
    assert "where ACC is highest" in str(found.matrix(by="acc"))


@pytest.mark.parametrize(("loss_high", "chosen"), [(False, 1), (True, 3)])
def test_loss_may_choose_either_way(loss_high, chosen):
    rows = [
        {"train": "x", "test": "t", "model": "m", "trial": 1, "acc": 0.5, "loss": k / 10, "k": k}
        for k in (1, 2, 3)
    ]
    table = pd.DataFrame(rows)
    made = performance_matrix(table, loss_high=loss_high, choice=Choice(by="loss"))
    assert made.values.tolist() == [[chosen]]
    assert performance_matrix(table, loss_high=loss_high).values.tolist() == [[1]]
    with pytest.raises(InvalidOptionError, match="there is no choice by 'accuracy'; choose acc or"):
        performance_matrix(table, loss_high=False, choice=Choice(by="accuracy"))
    with pytest.raises(dr.errors.InvalidDataError, match="needs the column 'balanced_loss'"):
        performance_matrix(table, loss_high=False, loss="balanced_loss")


def test_records_of_before_have_no_balanced_loss(done):
    found = make(done).compute()
    for job in found.jobs:
        record = found.records.load(job.name)
        record["rows"] = [{k: v for k, v in r.items() if k != "balanced_loss"}
                          for r in record["rows"]]  # fmt: skip
        found.records.save(job.name, record)
    again = make(done).compute()
    assert again.table["balanced_loss"].isna().all()
    assert again.table["balanced_loss"].dtype == np.float64
    np.testing.assert_array_equal(again.matrix().loss, found.matrix().loss)


@settings(max_examples=30)
@given(seed=st.integers(0, 99), n=st.integers(1, 40), c=st.integers(2, 5))
def test_balanced_losses_are_means_of_class_means(seed, n, c):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, c, n), rng.dirichlet(np.ones(c), n)
    own = [cross_entropy(y[y == k], p[y == k]) for k in np.unique(y)]
    assert cross_entropy(y, p, balanced=True) == pytest.approx(np.mean(own))


# -- sessions on data --------------------------------------------------------------------------


def test_epochs_are_found(url, computed, here):
    model = tiny(first=2, patience=1, max_epochs=10, curves=True, train_probabilities=True)
    found = make(url, model, client=here).compute()
    assert found.failures == []
    sessions_of = found.sessions.set_index("train")
    assert sessions_of.index.tolist() == list(TRAIN)
    matrix = found.matrix()
    assert matrix.values[0].tolist() == sessions_of["epochs"].tolist()
    assert matrix.sweep == "epochs"
    assert "epochs" in found.table
    # curves: every epoch, and those of the table among them
    curves = found.curves
    assert list(curves) == ["train", "test", "model", "trial", "epoch", "loss", "acc"]
    both = curves.rename(columns={"epoch": "epochs"}).merge(
        found.table, on=["train", "test", "trial", "epochs"], suffixes=("", "_t")
    )
    assert len(both) == len(found.table)
    np.testing.assert_array_equal(both["loss"], both["loss_t"])
    assert sorted(set(curves["epoch"])) == list(range(1, max(curves["epoch"]) + 1))
    # probabilities of single samples
    p = found.true_class_probability("x").set_index("row")
    assert p.index.tolist() == list(range(100, 150))
    at = found.table.query("train == 'x' and test == 't' and epochs == @p_at",
                           local_dict={"p_at": sessions_of["epochs"]["x"]})  # fmt: skip
    assert -np.log(p["probability"]).mean() <= at["loss"].mean() + 1e-6  # Jensen
    assert found.true_class_probability("x_L", of="train")["row"].is_monotonic_increasing
    assert len(found.true_class_probability("x_L", of="train")) == 60
    with pytest.raises(InvalidOptionError, match="no model has probabilities of test samples for"):
        found.true_class_probability("y")
    plain = make(computed[0])
    assert plain.curves.empty
    with pytest.raises(InvalidOptionError, match="with the option train_probabilities = true"):
        plain.true_class_probability("x", of="train")


def test_the_papers_networks(url, here, monkeypatch):
    """With eight layers for 56; those are trained in test_cnn_training."""
    monkeypatch.setitem(networks.NETWORKS, "resnet56", partial(networks.ResNet, n=1))
    rows = {"train": {"x": np.arange(16)}, "test": {"t": np.arange(100, 116)}, "trials": 1}
    small = dr.Model("cnn", {"epochs": [1, 2]}, options=CPU)
    deep = dr.Model("resnet56", options={**CPU, "max_epochs": 5, "first": 1})
    found = dr.evaluate(url, models=[small, deep], client=here, **rows).compute()
    assert found.failures == []
    assert found.table["model"].value_counts().to_dict() == {"cnn": 2, "resnet56": 1}
    (session,) = found.sessions.query("model == 'resnet56'").to_dict("records")
    assert (session["way"], session["epochs"], session["extra"]) == ("best-weights", 5, 1)
    assert len(session["best_epochs"]) == 1
    assert session["penalty"] > 0
    assert found.matrix("resnet56").values.tolist() == [[5]]


def test_a_model_that_diverges_says_so(url, here):
    wild = dr.Model(TINY, {"epochs": [3]}, {**FAST, "learning_rate": 1e38}, CPU, "wild")
    with pytest.warns(
        dr.errors.IncompleteEvaluationWarning, match=r"model 1 of 2 has diverged, it"
    ):
        make(url, wild, train={"x": "train"}, trials=2, client=here).compute()


def test_class_weights_and_other_hyper_parameters(url, here):
    grid = {"epochs": [1], "class_weight": [None, "balanced"]}
    found = make(url, tiny(grid), client=here, trials=1)
    assert len(found.jobs) == 4
    assert found.table["loss"].nunique() == len(found.table)
    assert len(found.matrices()) == 1
    assert [m.parameters["class_weight"] for m in found.matrices()[0].matrices] == [
        None, "balanced",
    ]  # fmt: skip


# -- checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny({"epochs": [0]}), "model tiny: epochs must be a whole number from 1 on, not 0"),
        (tiny({"epoch": [5]}), "hyper-parameter 'epoch' is unknown; did you mean 'epochs'?"),
        (tiny({"epochs": [5]}, session="search"), "option session is of a search for epochs; leav"),
        (tiny({"epochs": [5]}, max_epochs=5), "option max_epochs is of a search for epochs; leave"),
        (tiny(session="best"), "option session must be search or best-weights, not 'best'"),
        (tiny(session="best-weights", patience=2), "option patience is of session = search"),
        (tiny(max_epochs=7), "option max_epochs must be a multiple of 5, not 7"),
        (tiny(subset_epochs=[5]), "option subset_epochs has 1 numbers for 2 training subsets"),
        (tiny(subset_epochs=[5, 0]), "option subset_epochs must be a list of whole numbers from 1"),
        (tiny({"epochs": [5]}, subset_epochs=[5, 5]), "option subset_epochs and epochs are both"),
        (tiny(subset_epochs=[5, 5], first=2), "option first is of a search for epochs; leave out"),
        (tiny(first=0), "option first must be a whole number from 1 on, not 0"),
        (tiny(curves=1), "option curves must be true or false, not 1"),
        (tiny(device="cuda"), "option device must be gpu or cpu, not 'cuda'"),
        (tiny(shape=[8, 9]), "shape [8, 9] does not fit rows of 64 values"),
        (tiny(shape=[64]), "option shape must be [height, width] or [channels, height, width]"),
        (tiny(gpu=True), "option 'gpu' is unknown; it has session, first, patience, max_epochs"),
        (dr.Model("cnn", {"optimizer": ["sgd"]}), "optimizer 'sgd' is unknown; it is rmsprop or"),
        (dr.Model("cnn", {"learning_rate": [-1.0]}), "learning_rate must be positive, not -1.0"),
        (dr.Model("cnn", {"learning_rate": ["a"]}), "model cnn: "),
        (dr.Model("cnn", {"class_weight": ["even"]}), "class_weight 'even' is unknown; it is bal"),
        (dr.Model("cnn", options={"shape": [4, 16]}), "needs images of at least 8 × 8 pixels, not"),
        (tiny(kind="torch:own_networks.No"), "'own_networks.No' cannot be imported"),
        (tiny(kind="torch:"), "model 'torch:' is unknown; choose from cnn"),
        (dr.Model("nn"), "or torch:package.module.Class"),
    ],
)
def test_bad_input_is_one_line_before_any_work(scored, model, message):
    with pytest.raises(InvalidOptionError) as caught:
        make(scored, model)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_need_classes_and_pictures(tmp_path):
    X = np.random.default_rng(0).random((20, 64))
    real = dr.create_store(str(tmp_path / "r.zarr"), X, X[:, 0])
    given = {"train": {"x": "all"}, "test": {"t": "all"}, "trials": 1}
    with pytest.raises(InvalidOptionError, match="it needs classes, and the labels of this store"):
        dr.evaluate(real, models=[tiny()], **given)
    flat = dr.create_store(str(tmp_path / "f.zarr"), X, np.arange(20) % 2)
    with pytest.raises(InvalidOptionError, match=r"give the option shape=\[height,width\] or shap"):
        dr.evaluate(flat, models=[tiny()], **given)
    shaped = dr.evaluate(flat, models=[tiny({"epochs": [1]}, shape=[8, 8])], **given)
    with warnings.catch_warnings(action="ignore"):  # of the overlap
        assert len(shaped.table) == 1


def test_without_torch_there_is_a_line_that_says_what_to_install(scored, monkeypatch):
    monkeypatch.delattr("dskrobust.evaluation.models.networks.trials")
    monkeypatch.setitem(sys.modules, "dskrobust.evaluation.models.networks.trials", None)
    with pytest.raises(InvalidOptionError, match=r"pip install 'dskrobust\[cnn\]'"):
        make(scored)


def test_memory_is_asked_for_before_anything_runs(scored):
    model = Network(dr.Model("cnn", options=CPU))
    problem = Problem(True, 3072, {"x": 50_000}, {"t": 10_000}, 10, (3, 32, 32), 1, trials=25)
    kept, each = model.task_bytes(50_000, problem)
    assert kept == 50_000 * 3072
    assert 25 * 1_250_858 * 2 * 4 < each < 2**30 + 25 * 1_250_858 * 4 * 4
    lockstep = Network(dr.Model("cnn", options={**CPU, "strategy": "lockstep"}))
    more = lockstep.task_bytes(50_000, problem)[1] - each
    assert 24 * 32 * 200_000 < more < 24 * (32 * 10**6 + 1_250_858 * 4)
    assert parameter_count(Training("cnn", (3, 32, 32), 10)) == 1_250_858


def test_a_worker_that_is_too_small_is_refused(url, tmp_path):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
            dashboard_address="127.0.0.1:0", memory_limit="300MiB",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(MemoryPlanError, match="model tiny: x has 100 rows and needs about"),
    ):  # fmt: skip
        make(url, client=client).compute()


# -- workers with a GPU ------------------------------------------------------------------------

ON_GPU = tiny({"epochs": [1]}, device="gpu")


def test_without_a_gpu_nothing_starts(url, here):
    before = sorted(Path(url).rglob("*"))
    with pytest.raises(ClusterError) as caught:
        make(url, ON_GPU, client=here).compute()
    assert str(caught.value) == (
        "model tiny: no worker has a GPU resource; start workers with --resources GPU=1 (or "
        "dask-cuda's with it); or take device='cpu'"
    )
    assert caught.value.on_command_line.endswith("; or take --option device=cpu")
    assert sorted(Path(url).rglob("*")) == before


@pytest.fixture(scope="module")
def with_gpu():
    """A client of two workers in this process, one of which says it has a GPU."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1",
            dashboard_address="127.0.0.1:0", silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        cluster.new_spec["options"]["resources"] = {"GPU": 1}
        cluster.scale(2)
        client.wait_for_workers(2)
        yield client


def test_a_worker_that_sees_no_device_is_named(url, with_gpu, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(ClusterError) as caught:
        make(url, ON_GPU, client=with_gpu).compute()
    assert "has a GPU resource but sees no CUDA device (CUDA_VISIBLE_DEVICES=7)" in str(
        caught.value
    )
    assert "worker tcp://" in str(caught.value)


def test_memory_that_torch_keeps_is_free(monkeypatch):
    """An earlier job's, or one's under way that is through before: the GPU takes one at a time."""
    problem = Problem(True, 64, {"x": 9}, {"t": 9}, 10, (8, 8), 1, trials=2)
    model = Network(dr.Model("cnn"))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 9 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**20, 80 * 2**30))
    assert model.lacks(problem) == ""
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    assert "has 1 MiB free on its GPU, and training takes about" in model.lacks(problem)


def test_a_gpu_without_memory_is_a_line():
    with (
        pytest.raises(EvaluationError, match=r"run fewer trials, .* \(CUDA out of memory\.\)$"),
        measuring.memory_in_a_line(),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nGPU 0 has a capacity of")


def lacks(self, problem):
    return ""


def test_gpu_steps_are_submitted_in_a_bounded_window(url, with_gpu, monkeypatch):
    """With a pretended GPU: never more than two at a time, all on the worker that has it."""
    monkeypatch.setattr(Network, "lacks", lacks)
    monkeypatch.setattr(cnn_run.Run, "device", "cpu")
    monkeypatch.setattr(cnn_run.Run, "_device_name", lambda self: "pretended")
    asked = []
    submit = with_gpu.submit

    def count(function, job, **given):
        name = given["key"].split("-")[0]
        under_way = [k for k, f in with_gpu.futures.items() if f.status == "pending"]
        asked.append((name, given["resources"], sum(k[:4] == name[:4] for k in under_way)))
        return submit(function, job, **given)

    monkeypatch.setattr(with_gpu, "submit", count)
    train = {f"x{k}": np.arange(k, 40 + k) for k in range(5)}
    events = []
    other = tiny({"epochs": [2]}, name="beside")
    found = make(url, ON_GPU, other, train=train, trials=1, client=with_gpu)
    found.compute(watch=lambda job, event: events.append((str(job), event["worker"])))
    assert found.failures == []
    on_gpu = [one for one in asked if one[1]]
    assert [name for name, _, _ in on_gpu] == [f"tiny x{k}" for k in range(5)]
    assert {needs["GPU"] for _, needs, _ in on_gpu} == {1}
    assert max(under_way for _, _, under_way in on_gpu) < 2
    assert {needs for name, needs, _ in asked if name.startswith("beside")} == {None}
    assert len({worker for job, worker in events if job.startswith("tiny")}) == 1
    assert set(found.sessions["device"]) == {"pretended"}


def test_windows_follow_the_resources(with_gpu):
    assert running._at_once(with_gpu, {"GPU": 1}) == 1
    assert running._at_once(with_gpu, {}) == 4
    assert workers.threads_of_a_task(with_gpu) == 1


# -- what is killed goes on --------------------------------------------------------------------


def checkpoints(url):
    return [p for p in Path(url).glob("evaluations/*/checkpoints/*/*") if p.is_dir()]


def test_a_step_that_failed_goes_on_where_it_was(computed, url, here, monkeypatch):
    model = tiny({"epochs": [2, 5]}, checkpoint_every=2)
    x = {"train": {"x": "train"}, "client": here}
    seen = []

    def stop(self, event):
        seen.append(event["epoch"])
        if len(seen) == 4:
            raise OSError("the plug was pulled")

    monkeypatch.setattr(cnn_run.Run, "_tell", stop)
    monkeypatch.setattr(sessions, "monotonic", lambda: 1000.0 * len(seen))
    with pytest.warns(dr.errors.IncompleteEvaluationWarning, match="tiny on x .*, 3 trials: OSErr"):
        make(url, model, **x).compute()
    assert len(checkpoints(url)) == 1
    again = make(url, model, **x).compute()
    assert seen == [1, 2, 3, 4, 3, 4, 5]
    assert 2000 < again.sessions["seconds"][0] < 2900  # of both attempts
    pd.testing.assert_frame_equal(again.table, computed[1].query("train == 'x'"))
    assert checkpoints(url) == []


def test_a_killed_worker_costs_an_epoch(url, here, tmp_path, monkeypatch):
    """Its process dies in the fifth epoch of three models; the next one goes on with that."""
    monkeypatch.setenv("DSKROBUST_TEST_FLAG", str(tmp_path / "killed"))
    other = shutil.copytree(url, tmp_path / "other.zarr")
    model = tiny({"epochs": [6]}, kind="torch:own_networks.Deadly", checkpoint_every=1)
    x = {"train": {"x": np.arange(50)}, "test": {"t": "test"}}
    events = []
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path / "workers"),
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        killed = make(url, model, client=client, **x).compute(
            watch=lambda job, event: events.append(event["epoch"])
        )
    assert killed.failures == []
    assert (tmp_path / "killed").exists()
    assert events == [1, 2, 3, 4, 5, 6]
    whole = make(str(other), model, client=here, **x).table
    pd.testing.assert_frame_equal(killed.table, whole)


def test_checkpoints_count_once_they_are_whole(url):
    kept = make(url).records.checkpoints("step")
    assert kept.load() is None
    rng = np.random.default_rng(0)
    first = {"a/b": rng.normal(size=(3, 4)), "n": np.array(7), "none": np.zeros((0, 2))}
    kept.save({"epoch": 1}, first)
    facts, found = kept.load()
    assert facts == {"epoch": 1}
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in first.items()}
    np.testing.assert_array_equal(found["a/b"], first["a/b"])
    assert found["a/b"].flags.writeable  # best weights go on to be replaced
    folder = Path(url) / kept.path
    (old,) = kept.names()
    shutil.copytree(folder / old, tmp := folder.parent / "old")
    kept.save({"epoch": 2}, first)
    (new,) = kept.names()  # the older one is gone
    shutil.copytree(tmp, folder / old)  # a kill before it went
    assert kept.names() == [old, new]
    assert kept.load()[0] == {"epoch": 2}
    part = folder / new / "0-0.blob"
    data = part.read_bytes()
    part.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert kept.load()[0] == {"epoch": 1}
    (folder / old / "1-0.blob").unlink()
    assert kept.load() is None
    kept.clear()
    assert kept.names() == []


def test_two_that_write_a_checkpoint_at_once_do_not_mix(url, monkeypatch):
    """A worker that was given up may still be writing while another has the step."""
    one, other = (make(url).records.checkpoints("step") for _ in range(2))
    write, begun = Blobs.write, []

    def slow(*given):
        if not begun:
            begun.append(1)
            other.save({"epoch": 10}, {"w": np.full(3, 10)})
        return write(*given)

    monkeypatch.setattr(Blobs, "write", slow)
    one.save({"epoch": 5}, {"w": np.full(3, 5)})
    facts, found = one.load()
    assert (found["w"] == facts["epoch"]).all()
    assert len(one.names()) == 2
    one.save({"epoch": 11}, {"w": np.full(3, 11)})
    assert len(one.names()) == 1


def test_a_damaged_array_is_made_again(done, here):
    x = {"train": {"x": "train"}, "client": here}
    found = make(done, **x)
    before = found.true_class_probability("x")
    name = found.jobs[0].name
    (blob,) = Path(done).glob(f"evaluations/*/arrays/{name}/probability_test.blob")
    blob.write_bytes(blob.read_bytes()[:-3])
    with pytest.warns(DamagedRecordWarning, match="probability_test"):
        again = make(done, **x).compute()
    pd.testing.assert_frame_equal(again.true_class_probability("x"), before)


def test_checkpoints_of_finished_steps_are_dropped(done):
    found = make(done)
    found.records.checkpoints(found.jobs[0].name).save({}, {"a": np.ones(3)})
    make(done).compute()
    assert checkpoints(done) == []


# -- the command line --------------------------------------------------------------------------


def test_swept_values_may_have_a_step():
    assert _swept("5:20:5") == [5, 10, 15, 20]
    assert _swept("1:3") == [1, 2, 3]
    assert _swept("1:3:0") == ["1:3:0"]


TOML = f"""
trials = 2
[train]
x = "train"
[test]
t = "test"
t_L = "test:L20"
[[models]]
kind = "{TINY}"
name = "tiny"
[models.parameters]
learning_rate = 0.01
[models.options]
device = "cpu"
max_epochs = 10
first = 2
curves = true
"""


def test_run_prints_and_writes_all_there_is(url, here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("e.toml").write_text(TOML)
    where = ["--scheduler", here.scheduler.address]
    asked = ["run", "e.toml", "d.zarr", "--balanced", "--out", "out", *where]
    told = CliRunner().invoke(cli.main, asked)
    assert told.exit_code == 0, told.output
    assert "re-weighted by class" in told.stdout
    assert "epochs where LOSS is lowest on t" in told.stdout
    assert "epochs      tiny on x: 10, after 10 in the first session, where the" in told.stdout
    assert set(pd.read_csv("out/curves.csv")["epoch"]) == set(range(1, 11))
    assert Path("out/matrices.md").read_text().count("**tiny**") == 2


def test_evaluate_refuses_in_a_line(url, here):
    where = ["--scheduler", here.scheduler.address]
    told = CliRunner().invoke(
        cli.main, ["evaluate", url, "--model", "cnn", "--grid", "epochs=1", *where]
    )
    assert told.exit_code == 1
    assert "Error: model cnn: no worker has a GPU resource; start workers with" in told.stderr
