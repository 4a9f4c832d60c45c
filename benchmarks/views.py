"""How much sooner a second method on the same views is done than the first.

    python benchmarks/views.py

One command runs `tpt`, then `tpt-coop`, on open_clip's ViT-B-16 with drawn weights on the CPU and
the embedded images. The first encodes the views of every image, the second finds their features in
the cache. The last line is JSON: seconds from start to end of each run, probe and checks included,
loading of the model aside; and their ratio.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import open_clip
import torch
from ttt_bench_tpt.checkpoints import Prompt, save_prompt

from ttt_bench import Run, hookimpl, registered
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.run import run_all

ARCHITECTURE = "ViT-B-16"
CONTEXT = 4
WIDTH = 512


class Clock:
    """A plugin that notes when runs start and finish."""

    def __init__(self) -> None:
        self.started = 0.0
        self.seconds: dict[str, float] = {}

    @hookimpl
    def ttt_bench_run_started(self, run: Run) -> None:
        """Note the start."""
        self.started = time.perf_counter()

    @hookimpl
    def ttt_bench_run_finished(self, run: Run) -> None:
        """Note how long it took."""
        self.seconds[run.method] = time.perf_counter() - self.started


def main() -> None:
    """Run both methods and print their times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=8, help="how many images")
    parser.add_argument("--views", type=int, default=64, help="views of an image")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TTT_BENCH_CACHE"] = str(folder / "cache")
        torch.manual_seed(0)
        torch.save(open_clip.create_model(ARCHITECTURE).state_dict(), folder / "drawn.pt")
        prompt = folder / "prompt.pt"
        save_prompt(Prompt(0.02 * torch.randn(CONTEXT, WIDTH)), prompt, {})
        views = {"views": options.views}
        settings: dict[str, dict[str, Any]] = {
            "tpt": views,
            "tpt-coop": {**views, "checkpoint": str(prompt)},
        }
        configs = [
            RunConfig(
                method=method,
                dataset="cifar10-c-mini",
                backbone=f"open_clip:{ARCHITECTURE}",
                weights=folder / "drawn.pt",
                limit=options.samples,
                device="cpu",
                settings=values,
                output=folder / "runs",
            )
            for method, values in settings.items()
        ]
        clock = Clock()
        with registered(plugins=[clock]):
            _, failures = run_all(configs)
        assert not failures, failures
    first, second = clock.seconds["tpt"], clock.seconds["tpt-coop"]
    facts = {"samples": options.samples, "views": options.views}
    times = {"first_seconds": round(first, 1), "second_seconds": round(second, 1)}
    print(json.dumps({**facts, **times, "ratio": round(first / second, 1)}))


if __name__ == "__main__":
    main()
