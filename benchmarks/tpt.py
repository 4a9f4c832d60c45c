"""One TPT step on ViT-B/16's text tower: the 77-token context against ours, in one process.

    python benchmarks/tpt.py

ImageNet-A's 200 class names, drawn weights (a step costs the same with any), 6 views of 64 kept.
The plain form runs every prompt through the whole text tower, as released. Both are timed in turn;
the ratio is of medians.
"""

import argparse
import json
import statistics
import time
from importlib import resources

import open_clip
import torch
import torch.nn.functional as F
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch import Tensor
from ttt_bench_tpt.text import ClassTexts, first_context
from ttt_bench_tpt.tuning import entropy_of_mean

VIEWS, LR = 6, 5e-3


class PlainTexts:
    """Text features through open_clip's own forward pass over all 77 tokens."""

    def __init__(self, model: open_clip.CLIP, tokenizer, names: list[str], context: int) -> None:
        self.model = model
        placeholder = " ".join(["X"] * context)
        self.tokens = tokenizer([f"{placeholder} {name}." for name in names])
        self.embedded = model.token_embedding(self.tokens)
        self.behind = 1 + context

    def __call__(self, context: Tensor) -> Tensor:
        model, (one, _, _) = self.model, context.shape
        assert one == 1
        middle = context.expand(len(self.tokens), -1, -1)
        prompts = torch.cat([self.embedded[:, :1], middle, self.embedded[:, self.behind :]], dim=1)
        hidden = model.transformer(prompts + model.positional_embedding, attn_mask=model.attn_mask)
        read = model.ln_final(hidden)[torch.arange(len(hidden)), self.tokens.argmax(dim=1)]
        return F.normalize(read @ model.text_projection, dim=1)[None]


def step(texts, start: Tensor, views: Tensor, scale: Tensor) -> Tensor:
    """One AdamW step of TPT on views that are already chosen; the tuned context."""
    context = start[None].clone().requires_grad_()
    optimizer = torch.optim.AdamW([context], lr=LR)
    entropy_of_mean(scale * views @ texts(context).mT).sum().backward()
    optimizer.step()
    return context.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None)
    model.eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    places = resources.files("timm.data").joinpath("_info/imagenet_a_indices.txt").read_text()
    names = [IMAGENET_CLASSNAMES[int(place)] for place in places.split()]
    start = first_context(model, tokenizer, "a photo of a")
    views = F.normalize(torch.randn(1, VIEWS, 512), dim=2)
    scale = torch.tensor(100.0)
    forms = {
        "plain": PlainTexts(model, tokenizer, names, len(start)),
        "ours": ClassTexts(model, tokenizer, names, len(start)),
    }
    times: dict[str, list[float]] = {name: [] for name in forms}
    tuned = {}
    for _ in range(rounds + 1):
        for name, texts in forms.items():
            began = time.perf_counter()
            tuned[name] = step(texts, start, views, scale)
            times[name].append(time.perf_counter() - began)
    seconds = {name: statistics.median(values[1:]) for name, values in times.items()}
    difference = (tuned["plain"] - tuned["ours"]).abs().max().item()
    ratio = seconds["plain"] / seconds["ours"]
    print(f"one step: plain {seconds['plain']:.2f} s, ours {seconds['ours']:.3f} s, {ratio:.1f}x")
    print(f"largest difference of the tuned context: {difference:.1e}")
    print(json.dumps({"ratio": ratio, "seconds": seconds, "max_abs_diff": difference}))


if __name__ == "__main__":
    main()
