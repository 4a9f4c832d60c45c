"""The share of a device's own matmul rate that methods reach on it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ttt_bench.api import cost
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.api.executor import Chunk, UnreadableImages, without_state
from ttt_bench.api.forward_precision import forward_precision
from ttt_bench.api.precision import Precision
from ttt_bench.engine.worker import MethodWorker, MethodWorkerSpec
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config

# Side of the matrices; large enough for a device to reach its rate.
SIDES = {"cpu": 2048, "cuda": 8192, "mps": 4096}
REPEATS = 10


@dataclass(frozen=True)
class SpeedTest:
    """A method whose speed is measured.

    Attributes:
        method: the method's name.
        samples: how many samples are timed together.
        settings: fields of its configuration.
        precision: the precision of the backbone's forward pass.
    """

    method: str
    samples: int
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Speed:
    """The speed of a method.

    Attributes:
        method: the method's name.
        precision: the precision of the backbone's forward pass.
        samples: how many samples were timed.
        seconds_per_sample: everything that the method does, on the host too; decoding is left out.
        gflops_per_sample: as the cards of runs count them.
        gflops_per_second: the quotient.
        share: the quotient as a share of the device's matmul rate in that precision.
    """

    method: str
    precision: Precision
    samples: int
    seconds_per_sample: float
    gflops_per_sample: float
    gflops_per_second: float
    share: float


def matmul_rate(
    device: torch.device, precision: Precision = "fp32", side: int | None = None
) -> float:
    """Return the FLOP/s of a product of two large matrices, the best of several.

    Args:
        device: the device.
        precision: the precision of the product.
        side: the side of the matrices; None for one that suits the device.
    """
    side = side or SIDES.get(device.type, 4096)
    with torch.no_grad(), forward_precision(device, precision):
        left, right = torch.rand(2, side, side, device=device)
        _ = left @ right
        times = []
        for _ in range(REPEATS):
            cost.synchronize(device)
            started = time.perf_counter()
            _ = left @ right
            cost.synchronize(device)
            times.append(time.perf_counter() - started)
    return 2 * side**3 / min(times)


def method_speed(test: SpeedTest, backbone: Backbone, dataset: Dataset, rate: float) -> Speed:
    """Measure a method on a few samples.

    Args:
        test: the method.
        backbone: the backbone, on the device to compute on.
        dataset: where the samples are from.
        rate: the device's matmul rate in FLOP/s in the test's precision, with as many threads as
            the engine takes.

    Raises:
        UserError: the method fails.
    """
    spec = MethodWorkerSpec(
        method=test.method,
        config=resolve_config(registry().adapters.find(test.method).spec, "", "", test.settings),
        dataset=dataset.name,
        backbone="drawn",
        data_root=None,
        device=str(backbone.device),
        seed=0,
        batch_size=test.samples,
        feature_cache=False,
        precision=test.precision,
    )
    worker = MethodWorker(spec, dataset, backbone)
    chunk = Chunk(0, tuple(range(test.samples)))
    # The first samples warm up kernels and caches.
    counted = worker.count_costs([[0]])
    if backbone.device.type != "cpu":
        worker.run(chunk)
    result = worker.run(chunk)
    if isinstance(result, UnreadableImages):
        raise UserError(result.problems[0][1])
    seconds = without_state(result).seconds / test.samples
    flops = sum(sum(phase.values()) for phase in counted["flops_per_sample"].values())
    return Speed(
        test.method, test.precision, test.samples, seconds, flops / 1e9, flops / seconds / 1e9,
        flops / seconds / rate,
    )  # fmt: skip
