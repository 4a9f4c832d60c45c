"""CLIP's methods on shared views: how often they are encoded, and what comes after.

    python benchmarks/clip_views.py
    python benchmarks/clip_views.py --backbone open_clip:ViT-B-16 --limit 2

The first part runs two commands, each with an empty feature cache: tpt and c-tpt alone, and ten
methods on the same views. It prints the CPU seconds of both, and the ratio. Weights of an open_clip
model are drawn.

The second part measures what comes after encoding against plain forms that take one sample at a
time, as the releases do: drawn features of 64 views and of 512 numbers, logits of the views
included, in CPU milliseconds per sample. Both forms get the same samples and have to agree. With
many classes, the logits and distributions of the views take most of the time in both forms.
Everything runs on one thread.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from ttt_bench_clip_tta.methods import mta, zero
from ttt_bench_clip_tta.views import (
    confident_views,
    count_votes,
    mean_log_probabilities,
    take_views,
    vote_scores,
)

from ttt_bench import batch_invariant_matmul

ALONE = ("tpt", "c-tpt")
TOGETHER = (
    "clip-zero-shot",
    "view-mean",
    "view-vote",
    "confident-mean",
    "zero",
    "mta",
    "tda",
    "boostadapter",
    *ALONE,
)
DIM, VIEWS, BATCH, SCALE, REPEATS = 512, 64, 16, 100.0, 5
# Scores of samples, given their views and the texts.
Form = Callable[[Tensor, Tensor], Tensor]


def command_seconds(methods: Sequence[str], backbone: str, limit: int, folder: Path) -> float:
    """Return the CPU seconds of one command with an empty feature cache.

    Args:
        methods: the methods.
        backbone: the backbone.
        limit: the number of samples.
        folder: a folder for weights, cache and records.
    """
    command = [sys.executable, "-m", "ttt_bench", "run", "-d", "cifar10-c-mini", "-b", backbone]
    command += [word for method in methods for word in ("-m", method)]
    command += ["--limit", str(limit), "--device", "cpu", "--loaders", "0"]
    weights = folder / "weights.pt"
    if weights.exists():
        command += ["--weights", str(weights)]
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        env = {**os.environ, "TTT_BENCH_CACHE": f"{fresh}/cache", "OMP_NUM_THREADS": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*command, "-o", f"{fresh}/runs"], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def draw_weights(backbone: str, path: Path) -> None:
    """Write weights of an open_clip architecture, drawn at random."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model(backbone.partition(":")[2], pretrained_text=False)
    torch.save(model.state_dict(), path)


def encoded_once(backbone: str, limit: int) -> dict[str, float]:
    """Return the seconds of both commands and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if backbone.startswith("open_clip:"):
            draw_weights(backbone, folder / "weights.pt")
        alone = command_seconds(ALONE, backbone, limit, folder)
        together = command_seconds(TOGETHER, backbone, limit, folder)
    return {"tpt_and_c_tpt_s": alone, "ten_methods_s": together, "ratio": together / alone}


def view_logits(views: Tensor, text: Tensor) -> Tensor:
    """Return the logits of stacked samples' views, as `ViewAdapter.logits` does."""
    return SCALE * batch_invariant_matmul(views, text.T)


def stacked_mean(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `view-mean`."""
    return mean_log_probabilities(view_logits(views, text))


def stacked_vote(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `view-vote`."""
    logits = view_logits(views, text)
    votes = count_votes(logits.argmax(dim=2), len(text))
    return vote_scores(votes, mean_log_probabilities(logits))


def stacked_confident(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `confident-mean`."""
    logits = view_logits(views, text)
    return mean_log_probabilities(take_views(logits, confident_views(logits, 0.1)))


def stacked_zero(views: Tensor, text: Tensor) -> Tensor:
    """Return the votes of `zero`."""
    return zero.vote(view_logits(views, text), 0.3)[0]


def stacked_mta(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `mta`."""
    logits = view_logits(views, text)
    return mta.combine(mta.find_mode(views, logits, 0.2, 4.0).parts, logits)


def entropies(logits: Tensor) -> Tensor:
    """Return the entropy of each view of one sample, as the releases write it."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def plain_mean(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `view-mean` of one sample."""
    return (SCALE * views @ text.T).softmax(1).mean(0).log()


def plain_vote(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `view-vote` of one sample."""
    logits = SCALE * views @ text.T
    votes = torch.zeros(len(text))
    for label in logits.argmax(1).tolist():
        votes[label] += 1
    return (votes + 1e-3 * logits.softmax(1).mean(0)).log()


def plain_confident(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `confident-mean` of one sample."""
    logits = SCALE * views @ text.T
    kept = entropies(logits).argsort()[: int(len(views) * 0.1)]
    return logits[kept].softmax(1).mean(0).log()


def plain_zero(views: Tensor, text: Tensor) -> Tensor:
    """Return the votes of `zero` of one sample, as the release counts them."""
    logits = SCALE * views @ text.T
    order = entropies(logits).argsort()
    kept = int(len(views) * 0.3)
    votes = (logits[order[:kept]] / torch.finfo(logits.dtype).eps).softmax(1).sum(0)
    tied = (votes == votes.max()).nonzero()[:, 0].tolist()
    if len(tied) > 1:
        others = logits[order[kept:]]
        helping = [label for label in others.argmax(1).tolist() if label in tied]
        best = max(tied, key=lambda label: float(others[0, label]))
        votes[helping[0] if helping else best] += 1
    return votes


def plain_mta(views: Tensor, text: Tensor) -> Tensor:
    """Return the scores of `mta` of one sample, as the release computes them."""
    logits = SCALE * views @ text.T
    distances = torch.cdist(views, views).sort(dim=1).values
    near = int(0.3 * (len(views) - 1))
    bandwidth = torch.sqrt(0.5 * torch.mean(distances[:, 1 : near + 1] ** 2, dim=1))
    affinity = logits.softmax(1) @ logits.softmax(1).T

    def kernel(mode: Tensor) -> Tensor:
        distance = torch.norm(views - mode, dim=1)
        return torch.exp(-(distance**2) / (2 * bandwidth**2))

    weights, mode = torch.ones(len(views)) / len(views), views[0]
    for _ in range(5):
        density = kernel(mode)
        for _ in range(5):
            old = weights
            alike = torch.sum(affinity * weights[None], dim=1)
            weights = F.softmax((density + 4.0 * alike) / 0.2, dim=0)
            if torch.norm(weights - old) < 1e-6:
                break
        for _ in range(5):
            old, pulls = mode, kernel(mode) * weights
            mode = torch.sum(pulls[:, None] * views, dim=0) / torch.sum(pulls)
            mode = mode / mode.norm()
            if torch.norm(mode - old) < 1e-6:
                break
    return SCALE * mode @ text.T


FORMS: dict[str, tuple[Form, Form]] = {
    "view-mean": (plain_mean, stacked_mean),
    "view-vote": (plain_vote, stacked_vote),
    "confident-mean": (plain_confident, stacked_confident),
    "zero": (plain_zero, stacked_zero),
    "mta": (plain_mta, stacked_mta),
}


def after_encoding(method: str, classes: int, samples: int) -> dict[str, float]:
    """Return the milliseconds per sample of both forms, and how often one goes into the other."""
    draw = torch.Generator().manual_seed(0)
    common = 1.5 * torch.randn(DIM, generator=draw)
    text = F.normalize(torch.randn(classes, DIM, generator=draw) + common, dim=1)
    centre = text[torch.randint(0, classes, (samples,), generator=draw)][:, None]
    noise = torch.randn(samples, VIEWS, DIM, generator=draw) + common
    views = F.normalize(centre + 0.7 * F.normalize(noise, dim=2), dim=2)
    plain, stacked = FORMS[method]
    plainly = least_seconds(lambda: torch.stack([plain(one, text) for one in views]))
    together = least_seconds(lambda: torch.cat([stacked(p, text) for p in views.split(BATCH)]))
    agree = (plainly[0].argmax(1) == together[0].argmax(1)).float().mean()
    if agree < 1 - 1 / samples:
        sys.exit(f"{method}: the forms agree on {100 * agree:.1f} % of the samples")
    times = [1000 * seconds / samples for seconds in (plainly[1], together[1])]
    return {"plain_ms": times[0], "stacked_ms": times[1], "ratio": times[0] / times[1]}


@torch.no_grad()
def least_seconds(compute: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Return what a function returns, and the fewest CPU seconds that it took."""
    result, least = compute(), float("inf")
    for _ in range(REPEATS):
        began = time.process_time()
        result = compute()
        least = min(least, time.process_time() - began)
    return result, least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="tiny-clip")
    parser.add_argument("--limit", type=int, default=64, help="samples of the commands")
    parser.add_argument("--samples", type=int, default=64, help="samples of the second part")
    parser.add_argument("--part", choices=["commands", "after"], help="default: both")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part != "after":
        found = encoded_once(arguments.backbone, arguments.limit)
        print(json.dumps({"backbone": arguments.backbone, "limit": arguments.limit, **found}))
    if arguments.part != "commands":
        for classes in (10, 200, 1000):
            for method in FORMS:
                found = after_encoding(method, classes, arguments.samples)
                print(json.dumps({"method": method, "classes": classes, **found}))


if __name__ == "__main__":
    main()
