"""Training T models in lockstep, beside training them one after another, on the device at hand.

    python scripts/benchmarks/cnn.py [--device cuda] [--trials 1 5 25] [--precision bfloat16]
        [--out FILE]

Models × epochs per second (an epoch has 50,000 images of 32 × 32), the share of the device's
peak, which is that of a large product of matrices measured beside it, and where the time of a
step goes. One after another is T = 1, as often as there are models. On a GPU steps are captured
graphs; the split is that of plain steps, stage by stage.

On the CPU a few steps stand for an epoch, by default. Images are noise, which takes as long; with
DSKROBUST_DATA in the environment they are CIFAR-10's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from dskrobust.datasets.cifar import open_cifar10
from dskrobust.datasets.reader import ReaderOptions
from dskrobust.evaluation.models.networks.architectures import make_network
from dskrobust.evaluation.models.networks.data import DataSet
from dskrobust.evaluation.models.networks.lockstep import Group, products
from dskrobust.evaluation.models.networks.settings import Training, defaults_of
from dskrobust.evaluation.models.networks.trials import Trials

EPOCH = 50_000
Data = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Bench:
    """One network on one device."""

    def __init__(self, network: str, options: argparse.Namespace, data: Data) -> None:
        self.network, self.options, self.data = network, options, data
        self.device = torch.device(options.device)

    def training(self, strategy: str = "lockstep") -> Training:
        return Training(
            self.network,
            (3, 32, 32),
            10,
            **defaults_of(self.network),
            scale=1 / 255,
            precision=self.options.precision,
            strategy=strategy,
        )

    def measured(self) -> tuple[dict[int, float], float]:
        """Models × epochs per second of T models in lockstep, and the device's peak.

        All take turns, and of every one the best turn counts: other work on the machine is then
        less likely to slow one of them only.
        """
        work: dict[int, Callable[[], Any]] = {
            trials: Trials(
                self.training(), *self.data, range(trials), device=self.options.device
            ).train_epoch
            for trials in sorted({1, *self.options.trials})
        }
        work[0], operations = self.product()
        for once in work.values():  # captures, fills caches
            once()
        best = dict.fromkeys(work, float("inf"))
        for _ in range(self.options.repeats):
            for key, once in work.items():
                best[key] = min(best[key], self.seconds(once)[1])
        peak = operations / best.pop(0)
        return {t: t * len(self.data[0]) / EPOCH / taken for t, taken in best.items()}, peak

    def product(self) -> tuple[Callable[[], Any], float]:
        """A large product of matrices, and its floating-point operations."""
        side = 8192 if self.device.type == "cuda" else 2048
        dtype = torch.bfloat16 if self.options.precision == "bfloat16" else torch.float32
        a = torch.ones(side, side, dtype=dtype, device=self.device)

        def once() -> None:
            with products(self.options.precision, self.device):
                torch.mm(a, a)

        return once, 2.0 * side**3

    def stages(self, trials: int) -> dict[str, float]:
        """Median milliseconds per model and step of every stage, without a captured graph."""
        training = self.training()
        seeds = range(trials)
        network = make_network(self.network, training.shape, training.classes, seeds)
        group = Group(training, network, seeds, DataSet(training, *self.data, self.device))
        batch = training.batch_size
        index = torch.arange(batch, device=self.device).repeat(trials, 1)
        keys = torch.ones(trials, 2, 2, dtype=torch.int32, device=self.device)
        rate = torch.tensor(1e-6, device=self.device)
        found: dict[str, list[float]] = {}

        def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
            value, seconds = self.seconds(work, *arguments)
            found.setdefault(name, []).append(seconds / trials * 1e3)
            return value

        with products(training.precision, self.device):
            for _ in range(self.options.steps + 1):
                part = timed("gather", group.data.batch, index, keys, network.layout)
                network.train()
                losses = timed("forward", group.losses, *part, keys)
                gradient = timed("backward", group.gradient, losses)
                timed("optimizer", group.optimizer.update, gradient, rate)
                pixels = group.data.rows[:batch].view(-1, *training.shape)
                timed("evaluation", group.probabilities, pixels)
        return {name: round(statistics.median(times[1:]), 3) for name, times in found.items()}

    def seconds(self, work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
        started = time.perf_counter()
        value = work(*arguments)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return value, time.perf_counter() - started

    def operations(self) -> float:
        """Floating-point operations of the products that training one model on an image takes."""
        training = self.training()
        network = make_network(self.network, training.shape, training.classes, [0])
        group = Group(training, network, [0], DataSet(training, *self.data, torch.device("cpu")))
        index, keys = torch.arange(32)[None], torch.ones(1, 2, 2, dtype=torch.int32)
        with FlopCounterMode(display=False) as counter:
            group.step(index, keys, torch.tensor(0.0))
        return counter.get_total_flops() / 32

    def figures(self) -> dict[str, Any]:
        operations = self.operations()
        rates, peak = self.measured()
        found: dict[str, Any] = {
            "MFLOP of a trained image": round(operations / 1e6, 1),
            "peak TFLOP/s": round(peak / 1e12, 3),
            "trials": {},
        }
        for trials in self.options.trials:
            rate = rates[trials]
            found["trials"][trials] = {
                "models x epochs per second": float(f"{rate:.4g}"),
                "times one after another": round(rate / rates[1], 3),
                "share of peak": round(rate * EPOCH * operations / peak, 4),
                "ms per model and step": round(32 / EPOCH / rate * 1e3, 3),
                "ms per model and step, by stage": self.stages(trials),
            }
            print(self.network, trials, json.dumps(found["trials"][trials]), flush=True)
        return found


def images(rows: int) -> Data:
    """CIFAR-10's first rows where DSKROBUST_DATA names them, otherwise noise."""
    folder = os.environ.get("DSKROBUST_DATA")
    if folder:
        blocks = list(islice(open_cifar10(Path(folder), ReaderOptions()).blocks(), 2))
        features = np.concatenate([block.features for block in blocks])[:rows]
        labels = np.concatenate([block.labels for block in blocks])[:rows]
        return features, labels.astype(np.int64)
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (rows, 3072), dtype=np.uint8), rng.integers(0, 10, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--networks", nargs="+", default=["cnn", "resnet56"])
    parser.add_argument("--trials", nargs="+", type=int, default=[1, 5, 25])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--steps", type=int, help="of a measurement; 400 on a GPU, 6 on the CPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch on the CPU; its own choice without")
    parser.add_argument("--out", type=Path, help="figures already in it are kept")
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    options.steps = options.steps or (400 if cuda else 6)
    if options.threads:
        torch.set_num_threads(options.threads)
    data = images(32 * options.steps)
    key = f"{options.precision}, {options.steps} steps"
    figures = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    figures[key] = {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load before": round(os.getloadavg()[0], 1),
        **{name: Bench(name, options, data).figures() for name in options.networks},
    }
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
