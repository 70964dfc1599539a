"""Training T models at once: the same as one by one, the same again, and as the paper says."""

import json
import pickle
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dskrobust.errors import InvalidDataError, InvalidOptionError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from dskrobust.evaluation.models.networks import lockstep  # noqa: E402
from dskrobust.evaluation.models.networks.architectures import ResNet, make_network  # noqa: E402
from dskrobust.evaluation.models.networks.data import DataSet  # noqa: E402
from dskrobust.evaluation.models.networks.draws import epoch_draws  # noqa: E402
from dskrobust.evaluation.models.networks.settings import Training, defaults_of  # noqa: E402
from dskrobust.evaluation.models.networks.trials import Trials  # noqa: E402

SEEDS = (3, 1_000_003, 4_294_967_295)
NETWORKS = ("cnn", "resnet56")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small products gain nothing from threads, which other processes would only delay."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return images.astype(np.uint8), labels.astype(np.int64)


class Linear(nn.Module):
    """A user's module without anything random."""

    def __init__(self, shape, classes):
        super().__init__()
        self.flat = nn.Flatten()
        self.linear = nn.Linear(int(np.prod(shape)), classes)

    def forward(self, x):
        return self.linear(self.flat(x))


class Deep(nn.Module):
    """A user's module with dropout, batch norm, a frozen weight and one that is not used."""

    def __init__(self, shape, classes):
        super().__init__()
        self.convolution = nn.Conv2d(shape[0], 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(4 * (shape[1] - 2) * (shape[2] - 2), classes)
        self.frozen = nn.Parameter(torch.rand(()), requires_grad=False)
        self.unused = nn.Parameter(torch.rand(3))

    def forward(self, x):
        x = self.dropout(torch.relu(self.norm(self.convolution(x)))) * self.frozen
        return self.output(x.view(len(x), -1))


def no_module(shape, classes):
    return 3


def wrong_logits(shape, classes):
    return Linear(shape, classes + 1)


def own(name):
    return f"{__name__}.{name}"


def described(network, **how):
    return Training(network, (1, 8, 8), 10, scale=1 / 16, **{**defaults_of(network), **how})


def equal(one, two):
    return one.keys() == two.keys() and all((one[key] == two[key]).all() for key in one)


# -- lockstep --------------------------------------------------------------------------------


class Doubles(DataSet):
    """Images as float64, so that what is left between two ways is no rounding."""

    def arranged(self, images, trials, layout):
        return super().arranged(images, trials, layout).to(torch.float64)


def doubles(described_, data, seeds):
    """A group of models in float64; of the residual network, one with 14 layers."""
    if described_.network == "cnn":
        network = make_network("cnn", described_.shape, 10, seeds)
    else:
        network = ResNet(described_.shape, 10, len(seeds), n=2)
        network.initialise(seeds)
    network.to(torch.float64)
    images = Doubles(described_, *data, torch.device("cpu"))
    images.class_weights = torch.linspace(0.5, 2, 10, dtype=torch.float64)
    return lockstep.Group(described_, network, seeds, images)


@pytest.mark.parametrize("network", NETWORKS)
def test_lockstep_is_training_alone_but_for_rounding(digits, network):
    """T = 3 against three times T = 1, in float64, where rounding cannot hide anything.

    Batch order, dropout, moves, batch norm, penalty, optimizer and a short last batch.
    """
    data = digits[0][:40], digits[1][:40]
    described_ = described(network, batch_size=16, augment=True, decay=0.1)
    together = doubles(described_, data, SEEDS)
    alone = [doubles(described_, data, [seed]) for seed in SEEDS]
    for epoch in range(2):
        losses = together.train_epoch(epoch, 1e-3)
        one_by_one = np.concatenate([group.train_epoch(epoch, 1e-3) for group in alone])
        np.testing.assert_allclose(losses, one_by_one, rtol=1e-9)
        assert abs(np.diff(losses)).min() > 1e-4  # they are three different models
    pixels = torch.from_numpy(digits[0][-9:]).view(-1, 1, 8, 8)
    p = together.probabilities(pixels)
    torch.testing.assert_close(
        p, torch.cat([g.probabilities(pixels) for g in alone]), rtol=1e-8, atol=0
    )
    np.testing.assert_allclose(together.penalty(), [g.penalty()[0] for g in alone], rtol=1e-9)


@pytest.mark.parametrize(
    ("network", "apart"),
    # in 56 layers, rounding grows, and Adam's first steps do not depend on a gradient's size; how
    # much depends on the processor (up to 1.1e-4 of a probability was seen with AVX-512)
    [("cnn", 1e-6), ("resnet56", 2e-3)],
)
def test_strategies_give_the_same_models(digits, network, apart):
    images, labels = digits[0][:40], digits[1][:40]
    described_ = described(network, strategy="lockstep")
    together = Trials(described_, images, labels, SEEDS)
    apart_ = Trials(replace(described_, strategy="sequential"), images, labels, SEEDS)
    losses = together.train_epoch()
    np.testing.assert_allclose(losses, apart_.train_epoch(), rtol=apart)
    assert abs(np.diff(losses)).min() > 5 * apart
    assert together.weights().keys() == apart_.weights().keys()
    fresh = Trials(replace(described_, strategy="sequential"), images, labels, SEEDS)
    fresh.load_weights(together.weights())
    assert equal(fresh.weights(), together.weights())
    p = together.probabilities(images)
    np.testing.assert_allclose(fresh.probabilities(images), p, atol=max(1e-5, apart / 4))


@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_is_that_of_each_models_loss(digits, network):
    """In lockstep, and of each model alone with the penalty written into its loss."""
    data = digits[0][:32], digits[1][:32]
    index = torch.arange(32).repeat(3, 1)
    keys = torch.tensor(np.stack([epoch_draws(s, 0, 32, 1)[1][0] for s in SEEDS]))

    def losses_of(group, chosen):
        part = group.data.batch(index[chosen], keys[chosen], group.network.layout)
        return group.losses(*part, keys[chosen])

    together = doubles(described(network), data, SEEDS)
    gradient = together.gradient(losses_of(together, slice(None)))
    pieces = gradient.split([p.numel() for p in together.parameters])
    for k, seed in enumerate(SEEDS):
        alone = doubles(described(network), data, [seed])
        loss = losses_of(alone, slice(k, k + 1)).sum()
        for parameter, weight in alone.network.shrinkage().items():
            loss = loss + weight * parameter.square().sum()
        expected = torch.autograd.grad(loss, alone.parameters)
        for piece, its in zip(pieces, expected, strict=True):
            mine = piece.view(3, *its.shape[1:])[k]
            torch.testing.assert_close(mine, its[0], rtol=1e-6, atol=1e-12)


def seeds_everything(seed):
    raise AssertionError("of every kind of device there could be, in every step")


def test_own_module_trials_do_not_depend_on_each_other(digits, monkeypatch):
    monkeypatch.setattr(torch, "manual_seed", seeds_everything)
    images, labels = digits[0][:70], digits[1][:70]
    together = Trials(described(own("Deep")), images, labels, SEEDS)
    alone = Trials(described(own("Deep")), images, labels, SEEDS[1:2])
    before = torch.random.get_rng_state()
    for _ in range(2):
        assert together.train_epoch()[1] == alone.train_epoch()[0]
    assert torch.equal(before, torch.random.get_rng_state())
    for name, values in alone.weights().items():
        assert (together.weights()[name][1:2] == values).all(), name


# -- the same bits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "how"),
    [
        ("cnn", {"strategy": "lockstep", "augment": True}),
        ("cnn", {"strategy": "sequential", "decay": 0.1}),
        ("resnet56", {"strategy": "lockstep", "batch_size": 40}),
        (own("Deep"), {}),
    ],
)
def test_a_training_that_goes_on_is_the_same_to_the_bit(digits, network, how):
    images, labels = digits[0][:45], digits[1][:45]

    def made():
        return Trials(described(network, **how), images, labels, SEEDS[:2])

    whole = made()
    whole.train_epoch()
    state = pickle.loads(pickle.dumps(whole.state()))
    losses = whole.train_epoch(), whole.train_epoch(1e-3)
    resumed = made()
    resumed.load_state(state)
    assert resumed.epoch == 1
    assert np.array_equal((resumed.train_epoch(), resumed.train_epoch(1e-3)), losses)
    assert equal(resumed.state(), whole.state())
    assert (resumed.probabilities(images) == whole.probabilities(images)).all()
    assert not equal(state, whole.state())


def test_a_model_is_rebuilt_with_its_weights(digits):
    """C.3: best weights, a new optimizer, an epoch with a lower learning rate."""
    images, labels = digits[0][:32], digits[1][:32]
    described_ = described("resnet56", strategy="lockstep", batch_size=16)
    trained = Trials(described_, images, labels, SEEDS[:2])
    trained.train_epoch()
    weights = trained.weights()
    assert {name: array.shape[0] for name, array in weights.items()} == {
        "parameters": 2,
        "statistics.float32": 2,
    }
    rebuilt = Trials(described_, images, labels, SEEDS[:2])
    rebuilt.load_weights(weights, optimizer_reset=True)
    assert (rebuilt.probabilities(images) == trained.probabilities(images)).all()
    trained.load_weights(weights, optimizer_reset=True)
    rebuilt.epoch = trained.epoch
    assert equal(trained.state(), rebuilt.state())
    assert np.array_equal(trained.train_epoch(1e-4), rebuilt.train_epoch(1e-4))
    kept = Trials(described_, images, labels, SEEDS[:2])
    kept.train_epoch()
    kept.load_weights(weights)
    assert kept.state()["step"] == 2


def test_weights_of_other_models_change_nothing(digits):
    images, labels = digits[0][:20], digits[1][:20]
    trials = Trials(described("cnn"), images, labels, [1, 2])
    before = trials.state()
    other = Trials(described("cnn"), images, labels, [1]).state()
    for wrong in (other, {}, {**before, "parameters": before["parameters"][:, 1:]}):
        with pytest.raises(InvalidDataError, match=r"not of these models|no trials' state"):
            trials.load_state(wrong)
    with pytest.raises(InvalidDataError, match="parameters of no numbers"):
        trials.load_weights({})
    assert equal(before, trials.state())


# -- what is trained, by hand ----------------------------------------------------------------


def softmax(logits):
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def test_an_epoch_by_hand(digits):
    """A linear model in NumPy: batch order, class weights, RMSprop, decay, the short batch."""
    images, labels = digits[0][:11], digits[1][:11]
    weights = np.linspace(0.5, 2, 10)
    described_ = described(own("Linear"), batch_size=4, learning_rate=0.01, decay=0.5)
    trials = Trials(described_, images, labels, [5], class_weights=weights)
    flat = trials.weights()["parameters"][0].astype(np.float64)
    kernel, bias = flat[:640].reshape(10, 64), flat[640:]
    squares = [0, 0]
    order, _ = epoch_draws(5, 0, 11, 3)
    total = 0.0
    for step in range(3):
        rows = order[4 * step : 4 * step + 4]
        x, y = images[rows] / 16, labels[rows]
        p = softmax(x @ kernel.T + bias)
        total += -(weights[y] * np.log(p[np.arange(len(y)), y])).sum()
        slope = weights[y][:, None] * (p - np.eye(10)[y]) / len(y)
        for k, gradient in enumerate((slope.T @ x, slope.sum(0))):
            squares[k] = 0.9 * squares[k] + 0.1 * gradient**2
            change = 0.01 / (1 + 0.5 * step) * gradient / (np.sqrt(squares[k]) + 1e-7)
            kernel, bias = (kernel - change, bias) if k == 0 else (kernel, bias - change)
    assert trials.train_epoch()[0] == pytest.approx(total / 11, rel=1e-5)
    found = trials.weights()["parameters"][0]
    np.testing.assert_allclose(found, np.concatenate([kernel.ravel(), bias]), atol=2e-5)
    expected = softmax(images / 16 @ kernel.T + bias)
    np.testing.assert_allclose(trials.probabilities(images)[0], expected, atol=1e-4)


def test_small_cnn_learns_digits(digits):
    images, labels = digits[0][:512], digits[1][:512]
    trials = Trials(described("cnn", learning_rate=1e-3), images, labels, [1])
    for _ in range(8):
        trials.train_epoch()
    p = trials.probabilities(digits[0][512:1024])[0]
    assert (p.argmax(1) == digits[1][512:1024]).mean() > 0.8


def test_residual_network_learns_digits(digits):
    """By its training loss, as running means that start at 0 follow within hundreds of steps."""
    trials = Trials(described("resnet56"), digits[0][:64], digits[1][:64], [1])
    first = trials.train_epoch()
    for _ in range(4):
        last = trials.train_epoch()
    assert last[0] < 0.3 * first[0]


def test_bfloat16_stays_near_float32(digits):
    images, labels = digits[0][:64], digits[1][:64]
    exact, rounded = (
        Trials(described("cnn", precision=precision), images, labels, [1])
        for precision in ("float32", "bfloat16")
    )
    losses = exact.train_epoch(), rounded.train_epoch()
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
    assert rounded.weights()["parameters"].dtype == np.float32


# -- asking models ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["lockstep", "sequential"])
def test_probabilities(digits, strategy):
    images, labels = digits[0][:40], digits[1][:40]
    trials = Trials(described("cnn", strategy=strategy), images, labels, SEEDS)
    trials.train_epoch()
    p = trials.probabilities(images)
    assert p.shape == (3, 40, 10)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    for at_once in (21, 5):  # batches of 7 or 21 images, of 1 or 5
        few = trials.probabilities(images, at_once=at_once)
        np.testing.assert_allclose(few, p, atol=1e-6)
    some = trials.probabilities(images, only=[2, 0], at_once=21)
    np.testing.assert_allclose(some, p[[2, 0]], atol=1e-6)
    as_numbers = trials.probabilities(images.astype(np.float64))
    np.testing.assert_allclose(as_numbers, p, atol=1e-6)


def test_images_stay_bytes_and_may_be_read_only(digits):
    images, labels = digits[0][:40].copy(), digits[1][:40]
    images.flags.writeable = False
    described_ = described("cnn")
    assert DataSet(described_, images, labels, torch.device("cpu")).rows.dtype == torch.uint8
    wide = DataSet(described_, images.astype(np.uint16), labels, torch.device("cpu"))
    assert wide.rows.dtype == torch.float32
    Trials(described_, images, labels, [1]).probabilities(images)


# -- GPUs, as far as they can be without one -------------------------------------------------


def test_without_a_graph_training_goes_on(digits, monkeypatch):
    images, labels = digits[0][:40], digits[1][:40]
    plain, warned = (Trials(described("cnn"), images, labels, [1]) for _ in range(2))

    def fail(group, index):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(lockstep, "_Captured", fail)
    warned._groups[0]._capturable = True
    with pytest.warns(UserWarning, match="^training without a CUDA graph: operation not permitted"):
        losses = warned.train_epoch()
    assert losses == plain.train_epoch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (warned.train_epoch() == plain.train_epoch()).all()


class Streams:
    """A stand-in for CUDA's streams, as torch has them; `graph` leaves its stream like torch's."""

    def __init__(self, monkeypatch, capture_end=lambda: None):
        self.now, self.ended = self.made("default"), capture_end
        patched = {
            "device": nullcontext,
            "Stream": lambda device=None: self.made("capture"),
            "current_stream": lambda device=None: self.now,
            "stream": self.on,
            "graph": self.graph,
            "synchronize": lambda device=None: None,
            "CUDAGraph": lambda: None,
        }
        for name, value in patched.items():
            monkeypatch.setattr(torch.cuda, name, value)

    @staticmethod
    def made(name):
        return SimpleNamespace(name=name, wait_stream=lambda other: None)

    @contextmanager
    def on(self, stream):
        before, self.now = self.now, stream
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        before, self.now = self.now, stream
        try:
            yield
        finally:
            self.ended()
            self.now = before  # which torch does not come to either, where ending fails


def test_a_capture_that_fails_leaves_all_as_it_was(digits, monkeypatch):
    def fail():
        raise RuntimeError("operation failed due to a previous error during capture")

    images, labels = digits[0][:40], digits[1][:40]
    plain, failed = (Trials(described("cnn"), images, labels, SEEDS[:1]) for _ in range(2))
    streams = Streams(monkeypatch, fail)
    failed._groups[0]._capturable = True
    with pytest.warns(UserWarning, match="without a CUDA graph: operation failed due to a previo"):
        losses = failed.train_epoch()
    assert streams.now.name == "default"
    assert losses == plain.train_epoch()
    assert equal(failed.state(), plain.state())


def test_captured_steps_do_what_plain_steps_do(digits, monkeypatch):
    """With a graph that only remembers what to run: inputs are copied, warming up is undone."""
    images, labels = digits[0][:70], digits[1][:70]
    described_ = described("resnet56", augment=True, strategy="lockstep")
    plain, captured = (Trials(described_, images, labels, SEEDS[:2]) for _ in range(2))
    (group,) = captured._groups
    group._capturable, replays = True, []

    class Graph:
        def replay(self):
            replays.append(self)
            group.step(*group._captured.inputs)

    Streams(monkeypatch)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    for _ in range(2):
        assert (captured.train_epoch() == plain.train_epoch()).all()
    assert len(replays) == 4  # and the short batches beside them
    assert equal(captured.state(), plain.state())


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
def test_products_are_as_precise_as_asked(precision, tf32):
    def flags():
        return (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.deterministic,
        )

    before = flags()
    with lockstep.products(precision, torch.device("cuda")):
        assert flags() == (tf32, tf32, True)
    assert flags() == before


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"network": "vgg"}, "network 'vgg' is unknown; it is cnn, resnet56 or an import path"),
        ({"optimizer": "sgd"}, "optimizer 'sgd' is unknown; it is rmsprop or adam"),
        ({"precision": "half"}, "precision 'half' is unknown"),
        ({"strategy": "vmap"}, "strategy 'vmap' is unknown"),
        ({"network": "a.B", "strategy": "lockstep"}, "'lockstep' is for cnn and resnet56"),
        ({"shape": (8, 8)}, r"shape must be \(channels, height, width\), not \(8, 8\)"),
        ({"shape": (1, 8.0, 8)}, "shape must be"),
        ({"classes": 1}, "classes must be a whole number from 2 on, not 1"),
        ({"batch_size": True}, "batch_size must be a whole number from 1 on, not True"),
        ({"learning_rate": 0}, "learning_rate must be positive, not 0"),
        ({"scale": float("nan")}, "scale must be positive, not nan"),
        ({"decay": -1}, "decay must be 0 or more, not -1"),
    ],
)
def test_trainings_without_meaning_are_refused(how, message):
    with pytest.raises(InvalidOptionError, match=message):
        replace(described("cnn"), **how)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("no.such.Module", "cannot be imported"),
        (own("Nothing"), "cannot be imported"),
        (own("SEEDS"), "cannot be made with .*not callable"),
        (own("no_module"), "gave int; it must give a torch.nn.Module"),
        ("torch.nn.Conv2d", "cannot be made|cannot take images"),
        (own("wrong_logits"), r"gave \(2, 11\) for 2 images; it must give logits \(2, 10\)"),
    ],
)
def test_own_modules_that_do_not_fit_are_refused(digits, network, message):
    with pytest.raises(InvalidOptionError, match=message) as refused:
        Trials(described(network), digits[0][:9], digits[1][:9], [1])
    assert "\n" not in str(refused.value)


def test_data_and_devices_that_do_not_fit_are_refused(digits):
    images, labels = digits[0][:9], digits[1][:9]
    described_ = described("cnn")
    for wrong in (images[:, 1:], images[:0], images.reshape(9, 8, 8)):
        with pytest.raises(InvalidDataError, match=r"give \(n, 64\) with n > 0"):
            Trials(described_, wrong, labels, [1])
    for other in (labels[:8], labels + 2, labels - 10, labels.astype(float)):
        with pytest.raises(InvalidDataError, match="labels"):
            Trials(described_, images, other, [1])
    for weights in (np.ones(9), np.full(10, -1), np.full(10, np.nan)):
        with pytest.raises(InvalidDataError, match="class weights must be 10 numbers"):
            Trials(described_, images, labels, [1], class_weights=weights)
    for seeds in ([], [-1]):
        with pytest.raises(InvalidOptionError, match="one seed or more"):
            Trials(described_, images, labels, seeds)
    for device in ("gpu", "meta", "cuda:99"):
        with pytest.raises(InvalidOptionError, match="device"):
            Trials(described_, images, labels, [1], device=device)


def test_a_training_is_plain_values():
    described_ = described("cnn")
    assert Training(**json.loads(json.dumps(asdict(described_)))) == described_
    assert pickle.loads(pickle.dumps(described_)) == described_
    assert defaults_of("resnet56") == {"optimizer": "adam", "learning_rate": 1e-3, "decay": 0.0}
    assert defaults_of("a.B") == {}


# -- on a GPU, where there is one ----------------------------------------------------------------

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is seen here")


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("network", ["cnn", "resnet56"])
def test_a_gpu_runs_whole_batches_as_a_graph(digits, network, precision):
    images, labels = digits[0][:70], digits[1][:70]
    described_ = described(network, precision=precision, strategy="lockstep")
    plain, captured = (Trials(described_, images, labels, SEEDS[:2], device="cuda") for _ in "ab")
    plain._groups[0]._capturable = False
    for rate in (None, 1e-4):  # a rate that a graph had baked in would stay
        losses = [each.train_epoch(rate) for each in (plain, captured)]
        np.testing.assert_array_equal(*losses)
    assert captured.captured
    assert not plain.captured
    assert equal(captured.state(), plain.state())


@needs_gpu
def test_a_gpu_trains_in_lockstep_what_it_trains_alone(digits):
    images, labels = digits[0][:70], digits[1][:70]
    found = []
    for strategy in ("lockstep", "sequential"):
        trials = Trials(
            described("cnn", strategy=strategy), images, labels, SEEDS[:2], device="cuda"
        )
        found.append([trials.train_epoch() for _ in range(2)])
    np.testing.assert_allclose(*found, rtol=1e-3)
