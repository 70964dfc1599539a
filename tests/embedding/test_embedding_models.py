"""Models by their names: packages, weights, layers, and what is missing is told before anything."""

import sys
import textwrap

import numpy as np
import pytest

import dskrobust as dr
from dskrobust.embedding import models, networks
from dskrobust.embedding.models import Place
from dskrobust.embedding.naming import model_of
from dskrobust.errors import EmbeddingError, InvalidOptionError

torch = pytest.importorskip("torch")

import own_networks  # noqa: E402

HERE = Place("cpu", 1)
ENCODER, COLOURS = "torch:own_networks.Encoder", "torch:own_networks.Colours"
Options = dr.EmbeddingOptions
GRAY = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)


def store(folder, columns=64, shape=(8, 8)):
    """A store of a few rows, images where there is a shape."""
    spec = dr.StoreSpec("s", "categorical", image_shape=shape)
    X = np.random.default_rng(1).random((20, columns), np.float32)
    return dr.create_store(str(folder / "s.zarr"), X, np.arange(20) % 2, spec=spec, overwrite=True)


@pytest.fixture
def images(tmp_path):
    return store(tmp_path)


def loaded(source, model, **options):
    return model_of(model, Options(**options)).check(source).load(HERE, None)


def saved(folder, module, name="w.pt", **more):
    torch.save({**module.state_dict(), **more}, folder / name)
    return str(folder / name)


# -- names and options ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "resnet18", "torch:", "a.b:", ":f", "1:f", "a b:f", 7])
def test_names_of_no_kind(name):
    with pytest.raises(InvalidOptionError):
        model_of(name, Options()).check(None)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "tpu"},
        {"batch_rows": 0},
        {"epochs": 0},
        {"seed": -1},
        {"weights": "random"},
        {"weights": "none"},
        {"weights": "None", "seed": 1},
        {"weights": ""},
    ],
)
def test_options_that_mean_nothing(options):
    with pytest.raises(InvalidOptionError):
        Options(**options)


@pytest.mark.parametrize(
    ("model", "option"),
    [
        ("own_embeddings:sums", {"layer": "a"}),
        ("own_embeddings:sums", {"weights": "w.pt"}),
        ("cnn", {"weights": "w.pt"}),
        ("cnn", {"layer": "dense"}),
        (ENCODER, {"epochs": 3}),
    ],
)
def test_options_that_mean_nothing_to_a_model(images, model, option):
    with pytest.raises(InvalidOptionError, match=f"the option {next(iter(option))} means nothing"):
        model_of(model, Options(**option)).check(images)


@pytest.mark.parametrize(
    ("model", "package"),
    [
        ("torchvision:resnet18", "torchvision"),
        ("timm:resnet18", "timm"),
        (ENCODER, "torch"),
        ("cnn", "torch"),
        ("own.onnx", "onnxruntime"),
    ],
)
def test_a_missing_package_is_named_with_how_to_install_it(images, monkeypatch, model, package):
    monkeypatch.setattr(models, "find_spec", lambda name: None if name == package else True)
    with pytest.raises(InvalidOptionError, match=f"it needs {package}: pip install {package} "):
        model_of(model, Options()).check(images)
    assert f"has no {package}: pip install {package}" in model_of(model, Options()).lacks()


# -- torch modules ---------------------------------------------------------------------------------


def test_weights_are_never_silently_random(images):
    with pytest.raises(InvalidOptionError, match="its weights are not known") as caught:
        model_of(ENCODER, Options()).check(images)
    assert "--weights random with a --seed" in caught.value.on_command_line
    with pytest.raises(InvalidOptionError, match="a seed is for weights='random'"):
        model_of(ENCODER, Options(seed=3)).check(images)


def test_random_weights_come_from_their_seed(images):
    state = torch.get_rng_state()
    first, again, other = (
        loaded(images, ENCODER, weights="random", seed=seed)(GRAY) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("wrapped", ["", "state_dict", "model"])
def test_state_dicts(images, tmp_path, wrapped):
    module = own_networks.Encoder().eval()
    state = module.state_dict()
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, tmp_path / "w.pt")
    made = loaded(images, ENCODER, weights=str(tmp_path / "w.pt"))
    with torch.inference_mode():
        assert np.array_equal(made(GRAY), module(torch.from_numpy(GRAY)).numpy())


def test_files_that_are_no_weights_of_the_module(images, tmp_path):
    with pytest.raises(InvalidOptionError, match=r"there is no file of weights /.*nowhere.pt"):
        loaded(images, ENCODER, weights=str(tmp_path / "nowhere.pt"))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(EmbeddingError, match=r"text.pt cannot be read as weights"):
        loaded(images, ENCODER, weights=str(tmp_path / "text.pt"))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EmbeddingError, match=r"holds a list; save module.state_dict\(\)"):
        loaded(images, ENCODER, weights=str(tmp_path / "list.pt"))
    other = saved(tmp_path, own_networks.Colours())
    with pytest.raises(EmbeddingError, match=r"it lacks last\.weight, last\.bias$"):
        loaded(images, ENCODER, weights=other)
    more = saved(tmp_path, own_networks.Encoder(), extra=torch.zeros(1))
    with pytest.raises(EmbeddingError, match="it has besides extra"):
        loaded(images, ENCODER, weights=more)
    wide = own_networks.Encoder()
    wide.last = torch.nn.Linear(6, 5)
    with pytest.raises(EmbeddingError, match="is of another network: RuntimeError"):
        loaded(images, ENCODER, weights=saved(tmp_path, wide))


def test_layers(images):
    options = {"weights": "random", "seed": 1}
    module = loaded(images, ENCODER, **options)
    pooled = loaded(images, ENCODER, layer="pool", **options)
    assert pooled.facts["layer"] == "output of layer pool"
    made = pooled(GRAY)
    assert made.shape == (5, 6, 1, 1)
    last = module.tap.module.last
    again = made[:, :, 0, 0] @ last.weight.numpy().T + last.bias.numpy()
    np.testing.assert_allclose(again, module(GRAY), rtol=1e-5, atol=1e-6)
    with pytest.raises(EmbeddingError, match=r"no layer 'poll' \(did you mean 'pool'\?\); its"):
        loaded(images, ENCODER, layer="poll", **options)


def test_gray_images_are_repeated_for_three_channels(tmp_path):
    source = store(tmp_path)
    options = Options(weights="random", seed=1)
    made = dr.embed(source, COLOURS, tmp_path / "e.zarr", options)
    module = loaded(source, COLOURS, weights="random", seed=1).tap.module
    images = torch.from_numpy(source.features[:]).view(20, 1, 8, 8).expand(20, 3, 8, 8)
    with torch.inference_mode():
        expected = module(images.contiguous()).numpy()[:, :, 0, 0]
    np.testing.assert_allclose(made.features[:], expected, rtol=1e-5, atol=1e-6)


def test_modules_that_take_the_shape_and_the_classes(images):
    made = loaded(images, "torch:own_networks.Tiny", weights="random", seed=1)
    assert made.tap.module[1].in_features == 64


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere.Net", "nowhere.Net cannot be imported: ModuleNotFoundError"),
        ("own_networks.Nothing", "cannot be imported: AttributeError"),
        ("Nothing", "cannot be imported"),
        ("own_networks.number", "gave int, not a torch.nn.Module"),
        ("own_networks.Tiny", "cannot be made with"),
    ],
)
def test_paths_that_lead_to_no_module(tmp_path, path, words):
    rows = store(tmp_path, shape=None)
    with pytest.raises(EmbeddingError, match=words):
        loaded(rows, f"torch:{path}", weights="random", seed=1)


# -- libraries, as far as they are asked -----------------------------------------------------------

TORCHVISION = """
    import enum, torch
    class Kept:
        url = "https://nowhere.invalid/models/tiny-abc.pth"
        def __init__(self, name): self.name = name
        def transforms(self): return lambda images: images * (3 if self.name == "OLD" else 2)
    class Weights(enum.Enum):
        OLD = Kept("OLD")
        NEW = Kept("NEW")
        DEFAULT = NEW
        url = property(lambda self: self.value.url)
        def transforms(self): return self.value.transforms()
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.flat = torch.nn.Conv2d(3, 2, 8), torch.nn.Flatten()
            self.fc = torch.nn.Linear(2, 9)
        def forward(self, x): return self.fc(self.flat(self.conv(x)))
    class Bare(Net):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Identity()
    def get_model_weights(name):
        if name not in ("tiny", "bare"): raise ValueError(f"Unknown model {name}")
        return Weights
    def get_model(name, weights): return Net() if name == "tiny" else Bare()
"""


@pytest.fixture
def torchvision(tmp_path, monkeypatch):
    """What is asked of torchvision, with one small model; its cache is an empty folder."""
    package = tmp_path / "packages" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(textwrap.dedent(TORCHVISION))
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from torchvision import models as faked

    yield faked
    for name in ("torchvision", "torchvision.models"):
        sys.modules.pop(name, None)


def test_torchvision_takes_what_goes_into_the_last_linear_layer(images, tmp_path, torchvision):
    name = tmp_path / "hub" / "checkpoints" / "tiny-abc.pth"
    with pytest.raises(InvalidOptionError, match=rf"looked for at {name}, where") as caught:
        model_of("torchvision:tiny", Options()).check(images)
    assert "--weights FILE" in caught.value.on_command_line
    net = torchvision.Net().eval()
    name.parent.mkdir(parents=True)
    torch.save(net.state_dict(), name)
    for weights, factor in ((None, 2), ("OLD", 3), (str(name), 2)):
        model = loaded(images, "torchvision:tiny", weights=weights)
        assert (model.channels, model.facts["layer"]) == (3, "input of layer fc")
        colours = np.repeat(GRAY, 3, 1)
        with torch.inference_mode():
            expected = net.flat(net.conv(torch.from_numpy(colours) * factor)).numpy()
        assert np.array_equal(model(colours), expected)
    with pytest.raises(InvalidOptionError, match="Unknown model tidy"):
        loaded(images, "torchvision:tidy")
    with pytest.raises(InvalidOptionError, match="no linear layer") as caught:
        loaded(images, "torchvision:bare", weights="random", seed=0)
    assert "--layer" in caught.value.on_command_line


def test_libraries_of_images_want_images(tmp_path, torchvision):
    with pytest.raises(InvalidOptionError, match="does not say how its rows are images"):
        model_of("torchvision:tiny", Options()).check(store(tmp_path, shape=None))


def test_the_real_libraries(tmp_path):
    """Where they are installed: their own preprocessing and features, with weights of a file."""
    library = pytest.importorskip("torchvision.models")
    timm = pytest.importorskip("timm")
    source = store(tmp_path, 3 * 32 * 32, (3, 32, 32))
    batch = source.features[:].reshape(-1, 3, 32, 32)
    net = library.get_model("resnet18", weights=None).eval()
    path = saved(tmp_path, net)
    net.fc = torch.nn.Identity()
    preset = library.get_model_weights("resnet18").DEFAULT.transforms()
    other = timm.create_model("resnet18").eval()
    other_path = saved(tmp_path, other, "timm.pt")
    other.reset_classifier(0)
    config = timm.data.resolve_model_data_config(other)
    cases = (
        ("torchvision:resnet18", path, net, preset),
        ("timm:resnet18", other_path, other, timm.data.create_transform(**config)),
    )
    for name, file, module, prepare in cases:
        made = loaded(source, name, weights=file)(batch)
        with networks_threads(), torch.inference_mode():
            assert np.array_equal(made, module(prepare(torch.from_numpy(batch))).numpy())


def networks_threads():
    """One thread, as `HERE` has."""
    from dskrobust.evaluation.models.networks.measuring import torch_threads

    return torch_threads(HERE.threads)


ONNX = """
    from pathlib import Path
    class Port:
        def __init__(self, name, shape): self.name, self.shape = name, shape
    class SessionOptions: pass
    def get_available_providers(): return ["CPUExecutionProvider"]
    class InferenceSession:
        def __init__(self, path, options, providers):
            assert options.intra_op_num_threads == 1 and providers == ["CPUExecutionProvider"]
            text = Path(path).read_text()
            if text == "damaged": raise RuntimeError("no protobuf")
            self.count = 2 if text == "two inputs" else 1
        def get_inputs(self): return [Port("x", ["n", 3, 8, 8])] * self.count
        def get_outputs(self): return [Port("first", []), Port("second", [])]
        def run(self, names, given):
            rows = given["x"].reshape(len(given["x"]), -1)
            return [rows if name == "first" else -rows for name in names]
"""


@pytest.fixture
def onnxruntime(tmp_path, monkeypatch):
    """What is asked of onnxruntime."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "onnxruntime.py").write_text(textwrap.dedent(ONNX))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    yield
    sys.modules.pop("onnxruntime", None)


def test_onnx_files(images, tmp_path, onnxruntime):
    path = tmp_path / "own.onnx"
    with pytest.raises(InvalidOptionError, match=r"there is no file of weights .*own.onnx"):
        loaded(images, str(path))
    for text, words in (("damaged", "cannot be loaded: RuntimeError"), ("two inputs", "2 inputs")):
        path.write_text(text)
        with pytest.raises(EmbeddingError, match=words):
            loaded(images, str(path))
    path.write_text("fine")
    colours = np.repeat(GRAY, 3, 1)
    first, second = loaded(images, str(path)), loaded(images, str(path), layer="second")
    assert first.channels == 3
    assert np.array_equal(first(colours), -second(colours))
    assert (first.facts["layer"], second.facts["layer"]) == ("output first", "output second")
    with pytest.raises(EmbeddingError, match="no output 'third', but first, second"):
        loaded(images, str(path), layer="third")


def test_channels_are_those_of_the_first_convolution():
    assert networks._channels(torch.nn.Linear(3, 2)) is None
    assert networks._channels(own_networks.Encoder()) == 1
