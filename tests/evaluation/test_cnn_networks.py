"""The pieces of the CNNs: what is drawn, layers, networks, optimizers."""

import math

import numpy as np
import pytest

from dskrobust.errors import InvalidOptionError

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from dskrobust.evaluation.models.networks import draws, layers  # noqa: E402
from dskrobust.evaluation.models.networks.architectures import ResNet, SmallCNN, make_network  # noqa: E402
from dskrobust.evaluation.models.networks.data import moved  # noqa: E402
from dskrobust.evaluation.models.networks.optimizers import Adam, RMSprop  # noqa: E402
from dskrobust.evaluation.models.networks.settings import Training  # noqa: E402
from dskrobust.evaluation.models.networks.trials import parameter_count  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small products gain nothing from threads, which other processes would only delay."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CIFAR, MNIST, DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)


def keys_of(*seeds, step=0):
    drawn = [draws.epoch_draws(seed, 0, 1, step + 1)[1][step, 0] for seed in seeds]
    return torch.tensor(np.stack(drawn))


# -- what is drawn ---------------------------------------------------------------------------


def chi_square(values, bins):
    counts = np.bincount(values, minlength=bins)
    expected = len(values) / bins
    return float(((counts - expected) ** 2 / expected).sum() - (bins - 1)) / math.sqrt(2 * bins)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_are_uniform_and_a_key_apart_independent(seed):
    here = draws.random_bytes(keys_of(seed), 1 << 16)[0].numpy()
    others = (
        draws.random_bytes(keys_of(seed + 1), 1 << 16)[0].numpy(),
        draws.random_bytes(keys_of(seed, step=1), 1 << 16)[0].numpy(),
        np.roll(here, 1),
        np.roll(here, 4),  # of the next word
    )
    assert abs(chi_square(here, 256)) < 4.5
    for other in others:  # pairs of high nibbles
        assert abs(chi_square((here >> 4).astype(int) * 16 + (other >> 4), 256)) < 4.5


def test_neighbouring_keys_share_no_words():
    keys = torch.tensor([[0, 0], [1, 0], [0, 1], [2**31 - 1, 0], [-(2**31), 0], [0, -1]])
    words = draws.random_words(keys.to(torch.int32), 4096)
    for k in range(len(words)):
        assert len(words[k].unique()) > 4090
        for other in range(k):
            shared = np.intersect1d(words[k].numpy(), words[other].numpy())
            # all of a shifted sequence's words would be shared, of two random ones 0.004
            assert len(shared) < 4 or (words[k] != words[other]).all()
    bits = (words.numpy().view(np.uint32)[..., None] >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(bits.mean(axis=1) - 0.5).max() < 5 * 0.5 / math.sqrt(4096)


def test_random_numbers_of_a_trial_do_not_depend_on_the_others():
    together = draws.random_words(keys_of(5, 6, 7), 1000)
    for k, seed in enumerate((5, 6, 7)):
        assert torch.equal(together[k : k + 1], draws.random_words(keys_of(seed), 1000))
    uniform = draws.uniforms(keys_of(5), 10_000).numpy()
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01


def test_batch_orders_are_permutations_of_their_own():
    orders = {
        (seed, epoch): tuple(draws.epoch_draws(seed, epoch, 50, 2)[0])
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert all(sorted(order) == list(range(50)) for order in orders.values())


# -- layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "shape"), [(0.25, (8, 3 * 12, 10, 10)), (0.5, (3, 64, 200))])
def test_dropout_zeroes_its_share_and_scales_the_rest(rate, shape):
    x = torch.ones(shape)
    batch = shape[0] if len(shape) == 4 else shape[1]
    noise = draws.random_bytes(keys_of(1, 2, 3), x.numel() // 3).view(3, batch, -1)
    y = layers.dropout(x, noise, rate)
    assert set(y.unique().tolist()) <= {0.0, float(torch.tensor(1 / (1 - rate)))}
    share = float((y == 0).float().mean())
    assert abs(share - rate) < 5 * math.sqrt(rate * (1 - rate) / x.numel())


@given(
    height=st.integers(1, 12), width=st.integers(1, 12), size=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
)  # fmt: skip
def test_padding_same_is_keras(height, width, size, stride):
    layer = layers.Convolution(2, 1, 1, size, stride=stride)
    with torch.no_grad():
        layer.kernel.zero_()
        layer.kernel[:, 0, 0, 0, 0] = 1  # shows the pixel at the window's upper left corner
    x = torch.arange(1.0, height * width + 1).view(1, 1, height, width).repeat(1, 2, 1, 1)
    found = layer(x).detach()
    assert found.shape[2:] == (math.ceil(height / stride), math.ceil(width / stride))
    before = [max((math.ceil(n / stride) - 1) * stride + size - n, 0) // 2 for n in (height, width)]
    for row in range(found.shape[2]):
        for column in range(found.shape[3]):
            i, j = row * stride - before[0], column * stride - before[1]
            inside = 0 <= i < height and 0 <= j < width
            assert (found[0, :, row, column] == (x[0, 0, i, j] if inside else 0)).all()


def test_batch_norm_is_keras_and_per_model():
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (6, 2 * 3, 4, 4)).astype(np.float32)
    layer = layers.BatchNorm(2, 3)
    found = layer(torch.tensor(x)).detach().numpy()
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    expected = (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(layer.mean.numpy().ravel(), 0.01 * mean, rtol=1e-4)
    unbiased = variance * 96 / 95
    np.testing.assert_allclose(layer.variance.numpy().ravel(), 0.99 + 0.01 * unbiased, rtol=1e-5)
    layer.eval()
    still = (x[0, 0] - 0.01 * mean[0]) / math.sqrt(0.99 + 0.01 * unbiased[0] + 1e-3)
    np.testing.assert_allclose(layer(torch.tensor(x))[0, 0].detach().numpy(), still, rtol=1e-4)


def test_images_are_moved_and_mirrored():
    images = torch.rand(3, 2, 10, 20)
    same, mirrored, shifted = [0.5, 0.5, 0.5], [0.0, 0.5, 0.5], [0.5, 1.0, 0.0]
    found = moved(images, torch.tensor([same, mirrored, shifted]))
    torch.testing.assert_close(found[0], images[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], images[1].flip(-1), atol=1e-5, rtol=0)
    rows, columns = np.maximum(np.arange(10) - 1, 0), np.minimum(np.arange(20) + 2, 19)
    torch.testing.assert_close(found[2], images[2][:, rows][:, :, columns], atol=1e-5, rtol=0)


# -- networks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "shape", "total", "trainable"),
    [
        ("cnn", CIFAR, 1_250_858, 1_250_858),
        ("resnet56", CIFAR, 861_770, 857_706),
        ("cnn", MNIST, 320 + 9248 + 18496 + 36928 + 1600 * 512 + 512 + 5130, None),
        ("cnn", DIGITS, 320 + 9248 + 18496 + 36928 + 64 * 512 + 512 + 5130, None),
    ],
)
def test_parameter_counts_are_those_of_keras(network, shape, total, trainable):
    training = Training(network, shape, 10)
    assert parameter_count(training) == total
    assert parameter_count(training, trainable=True) == trainable or trainable is None


@pytest.mark.parametrize("network", ["cnn", "resnet56"])
def test_images_that_are_too_small_are_refused(network):
    with pytest.raises(InvalidOptionError, match=rf"{network} needs .* 8 × 8 pixels, not 7 × 28"):
        make_network(network, (1, 7, 28), 10, [0])


def test_first_weights_are_keras_and_follow_from_the_own_seed():
    network = make_network("cnn", CIFAR, 10, [1, 2])
    for layer, fans in ((network.first, 27 + 288), (network.dense, 2304 + 512)):
        limit = math.sqrt(6 / fans)
        values = layer.kernel.detach()
        assert values.abs().max() <= limit
        assert abs(float(values.std()) - limit / math.sqrt(3)) < 0.03 * limit
        assert (layer.bias == 0).all()
    alone = make_network("cnn", CIFAR, 10, [2])
    for mine, its in zip(network.parameters(), alone.parameters(), strict=True):
        assert torch.equal(mine[1:], its)
    assert not torch.equal(network.dense.kernel[0], network.dense.kernel[1])
    residual = make_network("resnet56", CIFAR, 10, [0])
    kernel = residual.blocks[-1].second.convolution.kernel.detach()
    deviation = math.sqrt(2 / 576)
    assert abs(float(kernel.std()) - deviation) < 0.02 * deviation
    assert kernel.abs().max() <= 2 * deviation / 0.8796256610342398


def plain_cnn(network, model):
    """The same model of plain torch layers."""
    plain = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2304, 512), nn.ReLU(),
        nn.Linear(512, 10),
    )  # fmt: skip
    with torch.no_grad():
        for mine, its in zip(plain.parameters(), network.parameters(), strict=True):
            mine.copy_(its[model].T if mine.ndim == 2 else its[model])
    return plain


def test_small_cnn_is_the_example():
    network = make_network("cnn", CIFAR, 10, [1, 2]).eval()
    images = torch.rand(4, 6, 32, 32).contiguous(memory_format=torch.channels_last)
    found = network(images, keys_of(0, 0))
    assert found.shape == (2, 4, 10)
    for model in (0, 1):
        expected = plain_cnn(network, model)(images[:, 3 * model : 3 * model + 3])
        torch.testing.assert_close(found[model], expected, atol=1e-6, rtol=1e-5)


def test_residual_network_is_the_example():
    """Against the same network written down once more, by the example's rules."""
    network = ResNet((3, 16, 16), 10, trials=1, n=2)
    network.initialise([0])
    x = images = torch.rand(5, 3, 16, 16)
    state = {name: tensor.detach()[0] for name, tensor in network.state_dict().items()}

    def convolved(x, name, stride=1):
        kernel = state[f"{name}.kernel"]
        if stride == 2 and kernel.shape[-1] == 3:
            x = F.pad(x, (0, 1, 0, 1))
            return F.conv2d(x, kernel, state[f"{name}.bias"], 2)
        return F.conv2d(x, kernel, state[f"{name}.bias"], stride, kernel.shape[-1] // 2)

    def normed(x, name, stride=1):
        x = convolved(x, f"{name}.convolution", stride)
        return F.batch_norm(x, None, None, training=True, eps=1e-3)

    x = F.relu(normed(x, "begin"))
    for block in range(6):
        stride = 2 if block in (2, 4) else 1
        y = normed(F.relu(normed(x, f"blocks.{block}.first", stride)), f"blocks.{block}.second")
        shortcut = convolved(x, f"blocks.{block}.shortcut", 2) if stride == 2 else x
        x = F.relu(shortcut + y)
    assert x.shape == (5, 64, 4, 4)
    expected = x.mean((2, 3)) @ state["output.kernel"] + state["output.bias"]
    torch.testing.assert_close(network(images, keys_of(0))[0], expected, atol=1e-4, rtol=1e-4)
    assert sum(network.shrinkage().values()) == pytest.approx(15 * 1e-4)


def test_networks_take_other_sizes():
    for network in (SmallCNN((1, 8, 9), 3, 2), ResNet((2, 9, 8), 3, 2, n=1)):
        network.initialise([0, 1])
        channels = 2 * (1 if isinstance(network, SmallCNN) else 2)
        size = (9, 8) if isinstance(network, ResNet) else (8, 9)
        assert network(torch.rand(4, channels, *size), keys_of(0, 1)).shape == (2, 4, 3)


# -- optimizers ------------------------------------------------------------------------------

GRADIENTS = np.array([[0.5, -2.0, 1e-6, 0.0], [0.25, 1.0, -3e-6, 1e-8], [-1.0, 0.1, 1e-7, 1e-8]])


def taken(make, learning_rate):
    weights = torch.ones(4)
    optimizer = make(weights)
    for step, gradient in enumerate(GRADIENTS):
        rate = torch.tensor(optimizer.rate(learning_rate, step), dtype=torch.float32)
        optimizer.update(torch.tensor(gradient, dtype=torch.float32), rate)
    return weights.numpy()


def test_rmsprop_by_hand():
    """Keras 2: new_a = rho a + (1 − rho) g², new_p = p − lr g / (√new_a + ε)."""
    square, weights = np.zeros(4), np.ones(4)
    for gradient in GRADIENTS:
        square = 0.9 * square + 0.1 * gradient**2
        weights = weights - 0.01 * gradient / (np.sqrt(square) + 1e-7)
    np.testing.assert_allclose(taken(RMSprop, 0.01), weights, rtol=1e-6)
    # and the first step of a gradient far above ε is lr / √0.1, whatever its size
    first = torch.ones(1)
    RMSprop(first).update(torch.tensor([123.0]), torch.tensor(0.01))
    assert float(first) == pytest.approx(1 - 0.01 / math.sqrt(0.1))


def test_rmsprop_is_that_of_torch_with_keras_numbers():
    weights = torch.ones(4, requires_grad=True)
    optimizer = torch.optim.RMSprop([weights], lr=0.01, alpha=0.9, eps=1e-7)
    for gradient in GRADIENTS:
        weights.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    np.testing.assert_allclose(taken(RMSprop, 0.01), weights.detach().numpy(), rtol=1e-6)


def test_adam_by_hand():
    """Keras 2: lr_t = lr √(1 − β₂ᵗ) / (1 − β₁ᵗ), p − lr_t m / (√v + ε)."""
    mean, square, weights = np.zeros(4), np.zeros(4), np.ones(4)
    for t, gradient in enumerate(GRADIENTS, start=1):
        rate = 0.01 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weights = weights - rate * mean / (np.sqrt(square) + 1e-7)
    np.testing.assert_allclose(taken(Adam, 0.01), weights, rtol=1e-6)
    # Of a gradient near ε the first step is shorter than torch's, whose ε is added elsewhere.
    first = torch.zeros(1)
    rate = torch.tensor(Adam.rate(0.01, 0))
    Adam(first).update(torch.tensor([1e-6]), rate)
    root = math.sqrt(0.001)
    assert float(first) == pytest.approx(-0.01 * 1e-6 / (1e-6 + 1e-7 / root), rel=1e-5)
