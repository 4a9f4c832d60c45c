"""One TPT step on ViT-B/16's text tower: all 77 tokens against the plugin's form, in one process.

    python benchmarks/tpt.py

The classes are ImageNet-A's 200, the weights are random (a step costs the same with any), and 6
views of 64 are kept. The plain form runs every prompt through the whole text tower, as the official
code does. The two are timed in turn, and the ratio is that of the medians.
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
from ttt_bench_tpt.text import ClassTexts, embed_words

from ttt_bench import marginal_entropy

VIEWS, LR = 6, 5e-3


class PlainTexts:
    """Text features through open_clip's own forward pass over all 77 tokens."""

    def __init__(self, model: open_clip.CLIP, tokenizer, names: list[str], context: int) -> None:
        self.model = model
        placeholder = " ".join(["X"] * context)
        self.tokens = tokenizer([f"{placeholder} {name}." for name in names])
        self.embedded = model.token_embedding(self.tokens)
        self.prefix = 1 + context

    def __call__(self, context: Tensor) -> Tensor:
        model = self.model
        assert len(context) == 1
        repeated = context.expand(len(self.tokens), -1, -1)  # (classes, tokens, width)
        start, suffix = self.embedded[:, :1], self.embedded[:, self.prefix :]
        prompts = torch.cat([start, repeated, suffix], dim=1)  # (classes, 77, width)
        hidden = model.transformer(prompts + model.positional_embedding, attn_mask=model.attn_mask)
        read = model.ln_final(hidden)[torch.arange(len(hidden)), self.tokens.argmax(dim=1)]
        return F.normalize(read @ model.text_projection, dim=1)[None]


def step(texts, start: Tensor, views: Tensor, scale: Tensor) -> Tensor:
    """Return the context after one AdamW step of TPT on views that are already chosen."""
    context = start[None].clone().requires_grad_()
    optimizer = torch.optim.AdamW([context], lr=LR)
    marginal_entropy(scale * views @ texts(context).mT).sum().backward()
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
    indices = resources.files("timm.data").joinpath("_info/imagenet_a_indices.txt").read_text()
    names = [IMAGENET_CLASSNAMES[int(index)] for index in indices.split()]
    start = embed_words(model, tokenizer, "a photo of a")
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
