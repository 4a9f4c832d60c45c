"""Online methods on the CPU: a run's time for a batch against a bare loop of the same arithmetic.

    python benchmarks/online.py

`tent`, `sar`, `eata` and `cotta` on tiny-resnet, batches of 64 images of `cifar10-c-mini`, one
thread. Ours is all that a run does with a batch: decoding, the method, its state saved as often as
in a run, records and state written. The loop decodes the same images, transforms them as the
backbone does, and computes what the paper says on a copy of the network, in plain torch; it writes
nothing. The two take turns batch by batch, and CPU times are compared. `ratio` is the median of
ours by the median of the loop's, without the first batch. `setup` is what a new stream costs, in
batches of the loop. `max_abs_diff` compares the logits. The last line is JSON.
"""

import argparse
import copy
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ttt_bench_tta.augmentation import Augmentation

from ttt_bench import Backbone, Records, SampleRNG
from ttt_bench.api.executor import RecordsWithState, UnreadableImages, without_state
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.opening import OpenRun
from ttt_bench.runner.resuming import save_chunk
from ttt_bench.runner.run import open_all

METHODS = ("tent", "sar", "eata", "cotta")
BATCH = 64
MOMENTUM = 0.9
Step = Callable[[Tensor, SampleRNG], Tensor]


def network(backbone: Backbone, everything: bool = False) -> tuple[nn.Module, list[nn.Parameter]]:
    """Return a copy of the network on batch statistics, and its parameters that learn.

    Args:
        backbone: the backbone.
        everything: whether all parameters learn, not those of the BatchNorm layers alone.
    """
    net = copy.deepcopy(backbone.model).requires_grad_(everything)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_()
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = None
    return net, [parameter for parameter in net.parameters() if parameter.requires_grad]


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of every prediction."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def tent(backbone: Backbone, config: Any) -> Step:
    """Return a step of TENT."""
    net, parameters = network(backbone)
    optimizer = torch.optim.Adam(parameters, lr=config.lr)

    def step(pixels: Tensor, rng: SampleRNG) -> Tensor:
        logits = net(pixels)
        entropy(logits).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return logits.detach()

    return step


def sar(backbone: Backbone, config: Any) -> Step:
    """Return a step of SAR, without the new start that no batch here calls for."""
    net, parameters = network(backbone)
    optimizer = torch.optim.SGD(parameters, lr=config.lr, momentum=MOMENTUM)
    margin = config.entropy_margin * math.log(10)

    def step(pixels: Tensor, rng: SampleRNG) -> Tensor:
        logits = net(pixels)
        entropies = entropy(logits)
        reliable = entropies < margin
        gradients = torch.autograd.grad(entropies[reliable].mean(), parameters)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        with torch.no_grad():
            start = [parameter.clone() for parameter in parameters]
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter += gradient * (config.rho / (norm + 1e-12))
        entropies = entropy(net(pixels))[reliable]
        entropies[entropies < margin].mean().backward()
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
        optimizer.step()
        optimizer.zero_grad()
        return logits.detach()

    return step


def eata(backbone: Backbone, config: Any, fisher: Sequence[Tensor]) -> Step:
    """Return a step of EATA with the given importance of the parameters."""
    net, parameters = network(backbone)
    optimizer = torch.optim.SGD(parameters, lr=config.lr, momentum=MOMENTUM)
    margin = config.entropy_margin * math.log(10)
    source = [parameter.detach().clone() for parameter in parameters]
    mean: list[Tensor] = []

    def step(pixels: Tensor, rng: SampleRNG) -> Tensor:
        logits = net(pixels)
        entropies = entropy(logits)
        with torch.no_grad():
            p = logits.softmax(1)
            kept = entropies < margin
            if mean:
                alike = F.cosine_similarity(mean[0][None], p, dim=1).abs()
                kept &= alike < config.similarity_margin
            if kept.any():
                new = p[kept].mean(0)
                mean[:] = [MOMENTUM * mean[0] + (1 - MOMENTUM) * new] if mean else [new]
        if kept.any():
            chosen = entropies[kept]
            loss = (torch.exp(margin - chosen.detach()) * chosen).mean()
            drift = [
                (weight * (parameter - start) ** 2).sum()
                for weight, parameter, start in zip(fisher, parameters, source, strict=True)
            ]
            (loss + config.fisher_alpha * torch.stack(drift).sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
        return logits.detach()

    return step


def cotta(backbone: Backbone, config: Any) -> Step:
    """Return a step of CoTTA in the form of its release for CIFAR."""
    net, parameters = network(backbone, everything=True)
    teacher, anchor = (copy.deepcopy(net).requires_grad_(False) for _ in range(2))
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    augment = Augmentation(backbone)

    def step(pixels: Tensor, rng: SampleRNG) -> Tensor:
        drawn = rng.torch("augmentation")
        with torch.no_grad():
            sure = anchor(pixels).softmax(1).amax(1).mean() >= config.threshold
            if sure:
                target = teacher(pixels)
            else:
                copies = [teacher(augment(pixels, drawn)) for _ in range(config.copies)]
                target = torch.stack(copies).mean(0)
        (-(target.softmax(1) * net(pixels).log_softmax(1)).sum(1)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        drawn, a = rng.torch("restore"), config.teacher_momentum
        with torch.no_grad():
            for one, other in zip(teacher.parameters(), net.parameters(), strict=True):
                one.mul_(a).add_(other, alpha=1 - a)
            for one, other in zip(net.parameters(), anchor.parameters(), strict=True):
                mask = torch.rand(one.shape, generator=drawn) < config.restore
                one.copy_(torch.where(mask, other, one))
        return target

    return step


def bare_step(opened: OpenRun) -> Step:
    """Return the step of a bare loop for the method of a run."""
    worker = opened.worker
    assert worker is not None
    adapter: Any = worker.adapter
    backbone, config = worker.task.backbone, adapter.config
    if opened.run.method == "eata":
        return eata(backbone, config, list(adapter.fisher.values()))
    return {"tent": tent, "sar": sar, "cotta": cotta}[opened.run.method](backbone, config)


def measure(method: str, batches: int, folder: Path) -> dict[str, Any]:
    """Measure one method, print a line, and return the numbers."""
    config = RunConfig(
        method=method,
        dataset="cifar10-c-mini",
        backbone="tiny-resnet",
        limit=BATCH * batches,
        stream="mixed",
        device="cpu",
        output=folder,
    )
    (opened,) = open_all([config])
    worker, key = opened.worker, opened.card.key
    assert worker is not None
    opened.folder.begin(opened.card, {})
    dataset, backbone = worker.dataset, worker.task.backbone
    step, times = bare_step(opened), list[tuple[float, float]]()
    difference, states = 0.0, 0
    for chunk in opened.plan.chunks:
        started = time.process_time()
        result = worker.run(chunk)
        assert not isinstance(result, UnreadableImages)
        save_chunk(opened.plan, chunk, result, opened.folder, key)
        ours = time.process_time() - started
        started = time.process_time()
        (batch,) = chunk.batches
        pixels = torch.stack([backbone.preprocess(dataset.open(index)) for index in batch])
        logits = step(pixels, SampleRNG(0, dataset.sample_id(batch[0])))
        times.append((ours, time.process_time() - started))
        states += isinstance(result, RecordsWithState)
        records = without_state(result)
        assert isinstance(records, Records)
        assert records.logits is not None
        order = [batch.index(index) for index in chunk.indices]
        saved = torch.from_numpy(records.logits.copy())
        difference = max(difference, float((saved - logits[order]).abs().max()))
    started = time.process_time()
    worker.run(opened.plan.chunks[0])
    again = time.process_time() - started
    ours, bare = (statistics.median(column) for column in zip(*times[1:], strict=True))
    line = {
        "method": method,
        "ours_ms": round(1000 * ours, 1),
        "bare_ms": round(1000 * bare, 1),
        "ratio": round(ours / bare, 3),
        "setup": round((again - ours) / bare, 2),
        "states_saved": states,
        "max_abs_diff": difference,
    }
    print(json.dumps(line), flush=True)
    return line


def main() -> None:
    """Measure the methods one after another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--batches", type=int, default=10, help="batches, the first one included")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        os.environ["TTT_BENCH_CACHE"] = str(Path(name) / "cache")
        lines = [measure(one, options.batches, Path(name) / one) for one in options.methods]
    print(json.dumps({"methods": lines}))


if __name__ == "__main__":
    main()
