"""APM's step: the folded form against the plain one, in one process, at the released sizes.

    python benchmarks/apm.py

The plain form is the release's: 8 copies of the image, every query through every layer. Both are
timed in turn, so that a slow moment of the machine hits both; ratios are of medians. Then the
folded form over 8 stacked samples against one at a time.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from ttt_bench_apm.goldens.apm_ttt import stacked
from ttt_bench_apm.methods.apm import training_steps
from ttt_bench_apm.methods.apm_network import Network, Sizes

from tests.oracles.apm import PlainAPM, train_step

RELEASED = Sizes(grid=32, patch=14, widths=(4096, 2048, 1024), features=768, heads=8)
TINY = Sizes(grid=8, patch=4, widths=(128, 128, 64), features=128, heads=8)
LR = 1e-4
CPU = torch.device("cpu")


def plain_step(sizes: Sizes) -> tuple[Callable[[], object], PlainAPM]:
    """Return a step of the plain form on a drawn image and target, and its network."""
    network = PlainAPM(sizes.grid, sizes.patch, sizes.widths, sizes.features, copies=8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.01)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    image, target = draw(sizes, 1)
    return lambda: train_step(network, optimizer, image, target), network


def folded_step(sizes: Sizes, weights: dict[str, torch.Tensor], samples: int) -> Callable:
    """Return a step of the folded form on a stack of samples.

    Args:
        sizes: the sizes of the network.
        weights: the weights of the stack.
        samples: the number of samples.
    """
    images, targets = draw(sizes, samples)
    steps = training_steps(Network(sizes, CPU), weights, images, targets, sys.maxsize, LR)
    next(steps)
    return lambda: next(steps)


def draw(sizes: Sizes, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images and targets, the same for both forms."""
    generator = torch.Generator().manual_seed(0)
    side = sizes.grid * sizes.patch
    images = torch.randn(samples, 3, side, side, generator=generator)
    targets = torch.randn(samples, sizes.features, generator=generator)
    return images, targets


def in_turn(steps: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Return the median seconds of each step, timed in turn, round after round."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - started)
    # The first round warms up.
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)

    plain, network = plain_step(RELEASED)
    folded = folded_step(RELEASED, stacked(dict(network.named_parameters())), 1)
    step = in_turn({"plain": plain, "folded": folded}, rounds)
    print(f"released sizes, one step: plain {step['plain']:.2f} s, folded {step['folded']:.3f} s")
    print(f"ratio plain/folded: {step['plain'] / step['folded']:.1f}x")
    result = {"ratio": step["plain"] / step["folded"], "seconds": step}
    del plain, network, folded

    for name, sizes, repeats in (("tiny", TINY, 50 * rounds), ("released", RELEASED, rounds)):

        def weights_of(count: int, sizes: Sizes = sizes) -> dict[str, torch.Tensor]:
            generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
            return Network(sizes, CPU).draw(generators, 0.01)

        steps = {
            "one": folded_step(sizes, weights_of(1), 1),
            "eight": folded_step(sizes, weights_of(8), 8),
        }
        medians = in_turn(steps, repeats)
        per_sample = medians["eight"] / 8
        ratio = medians["one"] / per_sample
        print(
            f"{name} sizes, one step per sample: alone {1e3 * medians['one']:.2f} ms, "
            f"in a stack of 8 {1e3 * per_sample:.2f} ms, {ratio:.2f}x"
        )
        result[f"stacked_{name}"] = ratio
    print(json.dumps(result))


if __name__ == "__main__":
    main()
