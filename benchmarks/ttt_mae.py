"""One image with one step of TTT-MAE against the release's loop, in one process.

    python benchmarks/ttt_mae.py

The sizes are ViT-L's with the head of the published probe, the weights are drawn (a step costs the
same with any). The release's loop reloads the state dict, makes an optimizer, takes the step on
copies of the image, each embedded by itself, and classifies after the step. Ours classifies before
the step too. Both run on one thread, in turn, and the ratio is that of the medians of CPU time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from ttt_bench_ttt_mae.head_adapter import classify
from ttt_bench_ttt_mae.methods.ttt_mae import (
    TTTMAEConfig,
    make_optimizer,
    put_back,
    trainable,
    tune,
    working_copy,
)
from ttt_bench_ttt_mae.model import MAENetwork, ViTHead
from ttt_bench_ttt_mae.recipes import PAPER_HEAD, SIZES

CLASSES = 1000


class ReleasedLoop:
    """The release's loop over the steps of one image."""

    def __init__(self, model: MAENetwork, head: ViTHead, config: TTTMAEConfig) -> None:
        self.state, self.head, self.config = model.state_dict(), head, config
        self.model = working_copy(model)

    def __call__(self, image: Tensor, noises: Tensor) -> Tensor:
        """Return the outputs after every step."""
        self.model.load_state_dict(self.state)
        config = self.config
        parameters = trainable(self.model).values()
        optimizer = torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum)
        outputs = []
        for noise in noises:
            copies = image.repeat(len(noise), 1, 1, 1)  # (copies, 3, side, side)
            loss = self.model.reconstruction_loss(copies, noise, config.mask_ratio)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            outputs.append(classify(self.model, self.head, image))
        return torch.cat(outputs)  # (steps, outputs)


class OurLoop:
    """The plugin's loop, as `TTTMAE.adapt` runs it."""

    def __init__(self, model: MAENetwork, head: ViTHead, config: TTTMAEConfig) -> None:
        self.original, self.head, self.config = model, head, config
        self.model = working_copy(model)

    def __call__(self, image: Tensor, noises: Tensor) -> Tensor:
        """Return the outputs after every step; those before the first are left out."""
        with put_back(self.model, self.original):
            _, outputs = tune(self.model, self.head, image, noises, make_optimizer(self.config))
        return outputs[1:]


def in_turn(
    loops: dict[str, Callable[[Tensor, Tensor], Tensor]], image: Tensor, noises: Tensor, rounds: int
) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Return each loop's seconds of CPU time in every round but the first, and its outputs."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    outputs: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        # The loop that goes first alternates.
        for name in sorted(loops, reverse=number % 2 == 1):
            began = time.process_time()
            outputs[name] = loops[name](image, noises)
            seconds[name].append(time.process_time() - began)
    # The first round warms up.
    return {name: values[1:] for name, values in seconds.items()}, outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="large")
    parser.add_argument("--copies", type=int, default=16, help="the paper has 128, 20 GB")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = SIZES[options.size]
    model = MAENetwork(sizes).eval().requires_grad_(False)
    head = ViTHead(sizes.encoder.width, sizes.grid, PAPER_HEAD, CLASSES)
    head.eval().requires_grad_(False)
    config = TTTMAEConfig(steps=options.steps, copies=options.copies)
    image = torch.randn(1, 3, sizes.image, sizes.image)
    noises = torch.rand(options.steps, options.copies, sizes.grid**2)
    loops = {
        "release": ReleasedLoop(model, head, config),
        "ours": OurLoop(model, head, config),
    }
    seconds, outputs = in_turn(loops, image, noises, options.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    difference = (outputs["ours"] - outputs["release"]).abs().max().item()
    for name, values in seconds.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{name}: {medians[name]:.2f} s of CPU time ({spread})")
    ratio = medians["ours"] / medians["release"]
    print(f"ours / release: {ratio:.3f}; largest difference of the outputs {difference:.1e}")
    print(
        json.dumps(
            {**vars(options), "ratio": ratio, "seconds": seconds, "max_abs_diff": difference}
        )
    )


if __name__ == "__main__":
    main()
