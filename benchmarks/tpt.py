"""TPT's text side on ViT-B/16's text tower: padded prompts against the plugin's packed ones.

    python benchmarks/tpt.py

The classes are ImageNet-A's 200, then ImageNet's 1000; the weights are random (a step costs the
same with any). One step of one image is measured: 64 views are scored, AdamW takes a step on 6 of
them, and the image is predicted again. The padded form runs every prompt, padded to the longest,
through the whole text tower. It does for each image what the packed form does once in its setup.

Each measurement has a process of its own, on one thread. CPU time is what to compare on a machine
with other work; memory is the rise of the process's largest resident set.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib import resources
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch import Tensor
from ttt_bench_tpt.methods.tpt import Start, tune
from ttt_bench_tpt.text import ClassTexts, embed_words

from ttt_bench import batch_invariant_matmul

VIEWS, SHARE, LR, SCALE = 64, 0.1, 5e-3, 100.0
CLASSES = (200, 1000)
FORMS = ("padded", "packed")


class PaddedTexts:
    """Text features through open_clip's own forward pass over prompts of equal length."""

    def __init__(self, model: open_clip.CLIP, tokenizer, names: list[str], context: int) -> None:
        self.model = model
        placeholder = " ".join(["X"] * context)
        tokens = tokenizer([f"{placeholder} {name}." for name in names])
        self.end = tokens.argmax(dim=1)
        self.longest = int(self.end.max()) + 1
        self.embedded = model.token_embedding(tokens[:, : self.longest])
        self.prefix = 1 + context

    def __call__(self, context: Tensor) -> Tensor:
        """Return `[1 classes dim]` for a context `[1 tokens width]`."""
        model, longest = self.model, self.longest
        repeated = context.expand(len(self.embedded), -1, -1)  # (classes, tokens, width)
        start, suffix = self.embedded[:, :1], self.embedded[:, self.prefix :]
        prompts = torch.cat([start, repeated, suffix], dim=1)  # (classes, longest, width)
        hidden = prompts + model.positional_embedding[:longest]
        hidden = model.transformer(hidden, attn_mask=model.attn_mask[:longest, :longest])
        read = model.ln_final(hidden)[torch.arange(len(hidden)), self.end]  # (classes, width)
        return F.normalize(read @ model.text_projection, dim=1)[None]


def class_names(count: int) -> list[str]:
    """Return ImageNet's 1000 class names, or ImageNet-A's 200."""
    if count == len(IMAGENET_CLASSNAMES):
        return list(IMAGENET_CLASSNAMES)
    indices = resources.files("timm.data").joinpath("_info/imagenet_a_indices.txt").read_text()
    return [IMAGENET_CLASSNAMES[int(index)] for index in indices.split()]


def logits(text: Tensor, features: Tensor) -> Tensor:
    """Return scaled cosines, as the methods do."""
    return SCALE * batch_invariant_matmul(features, text.mT)


def largest_resident_set() -> float:
    """Return the process's largest resident set so far, in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(form: str, classes: int, rounds: int) -> dict[str, Any]:
    """Measure one form in this process; the fastest of the rounds counts."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None)
    model.eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    words = embed_words(model, tokenizer, "a photo of a")[None]  # (1, tokens, width)
    views = F.normalize(torch.randn(1, VIEWS, 512), dim=2)
    texts_of = {"padded": PaddedTexts, "packed": ClassTexts}[form]
    texts = texts_of(model, tokenizer, class_names(classes), words.shape[1])
    before = largest_resident_set()
    kept, setup = None, 0.0
    if form == "packed":
        began = time.process_time()
        kept = Start.at(words, texts, reusable=True)
        setup = time.process_time() - began
    cpu, wall = [], []
    for _ in range(rounds):
        began = time.process_time(), time.perf_counter()
        start = kept or Start.at(words, texts)
        context, scores = tune(texts, logits, start, views, 1, LR, SHARE)
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    return {
        "classes": classes,
        "form": form,
        "setup_cpu_seconds": setup,
        "step_cpu_seconds": min(cpu),
        "step_wall_seconds": min(wall),
        "memory_gb": largest_resident_set() - before,
        "process_gb": largest_resident_set(),
        "context": context.flatten().tolist(),
        "logits": scores.flatten().tolist(),
    }


def measure_apart(form: str, classes: int, rounds: int) -> dict[str, Any]:
    """Measure one form in a process of its own."""
    command = [sys.executable, __file__, "--form", form, "--classes", str(classes)]
    command += ["--rounds", str(rounds)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def compare(classes: int, rounds: int) -> dict[str, Any]:
    """Measure both forms for a number of classes, print a line, and return the numbers."""
    forms = {form: measure_apart(form, classes, rounds) for form in FORMS}
    padded, packed = forms["padded"], forms["packed"]
    differences = {
        f"max_abs_diff_{name}": max(
            abs(a - b) for a, b in zip(padded.pop(name), packed.pop(name), strict=True)
        )
        for name in ("context", "logits")
    }
    ratio = padded["step_cpu_seconds"] / packed["step_cpu_seconds"]
    print(
        f"{classes} classes, one step: padded {padded['step_cpu_seconds']:.1f} s of CPU and "
        f"{padded['memory_gb']:.2f} GB, packed {packed['step_cpu_seconds']:.1f} s and "
        f"{packed['memory_gb']:.2f} GB after {packed['setup_cpu_seconds']:.1f} s of setup; "
        f"{ratio:.1f}x",
        flush=True,
    )
    return {"classes": classes, "ratio": ratio, **differences, **forms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", choices=FORMS, help="measure this form alone, in this process")
    parser.add_argument("--classes", type=int, choices=CLASSES, help="default: one after another")
    parser.add_argument("--rounds", type=int, default=2, help="steps of which the fastest counts")
    options = parser.parse_args()
    counts = [options.classes] if options.classes else CLASSES
    if options.form:
        print(json.dumps(measure(options.form, counts[0], options.rounds)))
        return
    print(json.dumps({"cases": [compare(classes, options.rounds) for classes in counts]}))


if __name__ == "__main__":
    main()
