"""Networks under attack: the two attacks against closed forms, and what is made of the answers."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import dskrobust as dr
from dskrobust import cli
from dskrobust.errors import InvalidOptionError
from dskrobust.evaluation.models import networks
from dskrobust.evaluation.susceptibility import OF_DIFFERENCE, interval, size_text

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from dskrobust.evaluation.models.networks.attacks import (  # noqa: E402
    Attack,
    Examples,
    adversarial_images,
    right_answers,
)
from dskrobust.evaluation.models.networks.draws import start_keys  # noqa: E402
from dskrobust.evaluation.models.networks.settings import Training  # noqa: E402
from dskrobust.evaluation.models.networks.trials import Trials  # noqa: E402

SHAPE, SCALE, BOX = (1, 8, 8), 1 / 16, (0.0, 1.0)
FAST = {"epochs": 3, "learning_rate": 0.01, "optimizer": "adam", "batch_size": 50}
SIZES = (0.1, 0.3)


class Linear(nn.Sequential):
    """A user's module whose gradient is known."""

    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


class InPlace(nn.Sequential):
    """A user's module that works on its images in place."""

    def __init__(self, shape, classes):
        super().__init__(nn.ReLU(inplace=True), Linear(shape, classes))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small products gain nothing from threads, which other processes would only delay."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(n_class=4, return_X_y=True)
    return images[:300].astype(np.uint8), labels[:300].astype(np.int64)


def trained(digits, network, seeds=(1,), epochs=3, strategy="auto"):
    training = Training(network, SHAPE, 4, "adam", 0.01, 0.0, scale=SCALE, strategy=strategy)
    made = Trials(training, digits[0][:200], digits[1][:200], seeds)
    for _ in range(epochs):
        made.train_epoch()
    return made


def examples(digits, rows=slice(200, 260)):
    images = torch.from_numpy(digits[0][rows]).view(-1, *SHAPE)
    at = np.arange(300)[rows]
    return Examples(images, torch.from_numpy(digits[1][rows]), at, BOX)


# -- the attacks -------------------------------------------------------------------------------


def test_fgsm_of_a_linear_network_is_the_closed_form(digits):
    made = trained(digits, f"{__name__}.Linear")
    (group,), some = made._groups, examples(digits)
    moved = adversarial_images(group, Attack("fgsm", (), 1), 0.2, some)
    weight = next(made.networks[0].parameters()).detach()  # logits are W x + b
    x = some.pixels.float() * SCALE
    p = group.probabilities(some.pixels)[0]
    gradient = (p - F.one_hot(some.labels, 4)) @ weight
    expected = (x + 0.2 * gradient.view_as(x).sign()).clamp(0, 1)
    sure = gradient.abs().view_as(x) > 1e-6  # a sign is not where rounding decides
    assert sure.float().mean() > 0.8
    torch.testing.assert_close(moved[sure], expected[sure])


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
@given(size=st.floats(0.001, 1), steps=st.integers(1, 4))
def test_no_pixel_leaves_the_ball_or_the_range(digits, linear, kind, size, steps):
    (group,), some = linear._groups, examples(digits, slice(200, 210))
    moved = adversarial_images(group, Attack(kind, (), steps), size, some)
    x = some.pixels.float() * SCALE
    assert ((moved - x).abs() <= size + 1e-6).all()
    assert moved.min() >= 0
    assert moved.max() <= 1


@pytest.fixture(scope="module")
def linear(digits):
    return trained(digits, f"{__name__}.Linear")


def test_pgd_is_at_least_as_strong_as_fgsm(digits):
    made = trained(digits, "own_networks.Tiny", epochs=8)
    (group,), some = made._groups, examples(digits, slice(200, 300))
    right = [
        int(right_answers(group, Attack(kind, (), 20), 0.15, some).sum())
        for kind in ("fgsm", "pgd")
    ]
    assert 0 < right[1] <= right[0] < 100
    losses = []
    for kind in ("fgsm", "pgd"):
        moved = adversarial_images(group, Attack(kind, (), 20), 0.15, some)
        with torch.no_grad():
            logits = group.logits(moved, torch.zeros(1, 2, dtype=torch.int32))[0]
        losses.append(float(F.cross_entropy(logits, some.labels)))
    assert losses[1] > losses[0]


def test_answers_do_not_depend_on_other_trials_or_images(digits):
    attack = Attack("pgd", (0.0, 0.1), 3)
    images, labels, rows = digits[0][200:230], digits[1][200:230], np.arange(200, 230)
    made = trained(digits, "own_networks.Tiny", (7, 8))
    together = made.right_under(attack, images, labels, rows)
    np.testing.assert_array_equal(together, made.right_under(attack, images, labels, rows))
    plain = made.probabilities(images).argmax(-1) == labels
    np.testing.assert_array_equal(together[:, 0], plain)
    alone = trained(digits, "own_networks.Tiny", (8,))
    (group,), few = alone._groups, examples(digits, slice(205, 215))
    part = right_answers(group, attack, 0.1, few).numpy()
    np.testing.assert_array_equal(part[0], together[1, 1, 5:15])


def test_models_in_lockstep_are_attacked_as_one_by_one(digits):
    attack = Attack("pgd", (), 2)
    seeds, some = (3, 4), examples(digits, slice(200, 216))
    together, apart = (
        trained(digits, "cnn", seeds, epochs=0, strategy=how) for how in ("lockstep", "sequential")
    )
    (group,) = together._groups
    moved = adversarial_images(group, attack, 0.1, some)
    for k, own in enumerate(apart._groups):
        alone = adversarial_images(own, attack, 0.1, some)
        same = (moved[:, k : k + 1] - alone).abs() < 1e-5
        assert same.float().mean() > 0.99  # but where a gradient is all rounding


def test_starts_of_all_rows_and_seeds_differ():
    rows = np.array([0, 1, 2**31, 2**32, 2**32 + 1])
    keys = start_keys((1, 2), rows).reshape(-1, 2)
    assert len({tuple(key) for key in keys.tolist()}) == 10


def test_a_module_may_work_in_place(digits):
    made = trained(digits, f"{__name__}.InPlace", epochs=0)
    adversarial_images(made._groups[0], Attack("fgsm", (), 1), 0.1, examples(digits))


# -- an evaluation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(digits, tmp_path_factory):
    split = np.where(np.arange(300) < 200, "train", "test")
    spec = dr.StoreSpec("digits", "categorical", scale=SCALE, image_shape=(8, 8))
    made = str(tmp_path_factory.mktemp("attacked") / "d.zarr")
    dr.sample_robustness(dr.create_store(made, *digits, split, spec=spec)).write()
    return made


def asked(url, **given):
    tiny = dr.Model("torch:own_networks.Tiny", {}, FAST, {"device": "cpu", "torch_threads": 1})
    given = {"attack": "fgsm", "sizes": SIZES, "model": tiny, "trials": 2, **given}
    return dr.susceptibility(url, **given)


@pytest.fixture(scope="module")
def computed(url):
    return asked(url).compute()


def test_without_attack_it_is_what_evaluate_measures(url, computed):
    frame = computed.to_frame()
    assert len(frame) == 3 * 3 * 3
    plain = dr.evaluate(
        url, train=computed.evaluation.experiment.train,
        test=computed.evaluation.experiment.test, trials=2,
        models=[dr.Model("torch:own_networks.Tiny", {}, FAST, {"device": "cpu"})],
    )  # fmt: skip
    expected = plain.table.groupby(["train", "test"])["acc"].mean()
    of_none = frame[frame["size"] == 0].set_index(["train", "test"])["acc"]
    np.testing.assert_allclose(of_none.sort_index(), expected.sort_index(), atol=1e-7)
    assert (frame["acc_low"] <= frame["acc"]).all()
    assert (frame["acc"] <= frame["acc_high"]).all()


def test_a_second_call_reads_what_the_store_has(url, computed, monkeypatch):
    monkeypatch.setattr(Trials, "train_epoch", lambda *_: pytest.fail("it trains again"))
    again = asked(url)
    assert "3 of 3 steps finished" in repr(again)
    assert again.to_frame().equals(computed.to_frame())


def test_it_says_what_to_do(computed):
    decision, *more = computed.findings()
    assert "rain on x" in decision
    assert sum(line.startswith("On t_") and " that is " in line for line in more) == 2
    html = computed._repr_html_()
    assert "accuracy on t_L" in html
    assert "FGSM" in html
    head, lines = computed.table("t")
    assert [len(line) for line in lines] == [len(head)] * 3


def test_the_command_prints_and_writes(url, computed, tmp_path):
    args = ["susceptibility", url, "--model", "torch:own_networks.Tiny", "--attack", "fgsm",
            "--sizes", "0.1,0.3", "--trials", "2", "--option", "device=cpu",
            "--option", "torch_threads=1", "--workers", "1", "--no-dashboard"]  # fmt: skip
    args += [a for k, v in FAST.items() for a in ("--set", f"{k}={v}")]
    out = CliRunner().invoke(cli.main, [*args, "--out", str(tmp_path / "a.csv"),
                                        "--plot", str(tmp_path / "a.svg")])  # fmt: skip
    assert out.exit_code == 0, out.output
    assert computed.findings()[0][:40] in " ".join(out.output.split())
    assert (tmp_path / "a.svg").stat().st_size > 1000
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 28
    said = CliRunner().invoke(cli.main, [*args, "--json"])
    assert len(json.loads(said.stdout)["cells"]) == 27


# -- what is refused ---------------------------------------------------------------------------


def test_what_is_no_attack_or_no_network_is_refused(url):
    for wrong, said in (
        ({"attack": "cw"}, "attack 'cw' is unknown"),
        ({"sizes": (8,)}, "from 0 to 1, not 8"),
        ({"sizes": ()}, "one beyond 0"),
        ({"model": "knn"}, "knn is none"),
        ({"model": dr.Model("cnn", {"epochs": [1, 2]})}, "epochs a single value"),
    ):
        with pytest.raises(InvalidOptionError, match=said):
            asked(url, **wrong)
    for options in ({"sizes": (0.1,)}, {"attack": "fgsm"}):
        model = dr.Model("cnn", {}, {"epochs": 1}, {"device": "cpu", **options})
        with pytest.raises(InvalidOptionError, match="attack"):
            dr.evaluate(url, train={"x": "train"}, test={"t": "test"}, models=[model])


def test_rows_that_are_no_images_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    split = np.where(np.arange(40) < 30, "train", "test")
    store = dr.create_store(str(tmp_path / "n.zarr"), rng.normal(size=(40, 5)),
                            np.arange(40) % 2, split)  # fmt: skip
    with pytest.raises(InvalidOptionError, match="does not say how its rows are images"):
        asked(store)


def test_without_torch_it_says_so(url, monkeypatch):
    monkeypatch.delattr(networks, "trials")
    monkeypatch.setitem(sys.modules, f"{networks.__name__}.trials", None)
    with pytest.raises(InvalidOptionError, match=r"it needs torch; pip install"):
        asked(url)


# -- intervals ---------------------------------------------------------------------------------


def test_intervals_cover_what_they_say():
    """Of many made-up networks and samples, 95 % or a little more hold the truth."""
    rng, held, repeats = np.random.default_rng(3), 0, 400
    for _ in range(repeats):
        hard, good = rng.normal(0, 1, 80), rng.normal(0, 0.5, (5, 1))
        right = hard + good + rng.normal(0, 1, (5, 80)) > 0  # half of all, on average
        found = interval(right.mean(axis=0), (0, 0, 1, 1), [right.mean(axis=1)])
        held += found.low <= 0.5 <= found.high
    assert held / repeats > 0.92


def test_no_difference_is_not_certain():
    found = interval(np.zeros(50), OF_DIFFERENCE, [np.ones(1), np.ones(1)])
    assert found.mean == 0
    assert found.low < 0 < found.high


@pytest.mark.parametrize(("size", "text"), [(8 / 255, "8/255"), (0.3, "0.3"), (0.2, "0.2")])
def test_sizes_are_read_as_levels(size, text):
    assert size_text(size) == text
