"""TPT at 1, 2 and 4 steps, CoCoOp, and TPT from CoCoOp, on the tiny CLIP of the file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.model import build_model_from_openai_state_dict
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from ttt_bench import marginal_entropy, select_confident
from ttt_bench_tpt.checkpoints import MetaNet, Prompt
from ttt_bench_tpt.methods.tpt import Logits, Start, Texts, tune
from ttt_bench_tpt.text import ClassTexts, embed_words

# Share of the views that is kept, and learning rate of AdamW.
SHARE, LR = 0.25, 5e-3


def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of a computed and an expected value by the name of the output."""
    tensors = {
        name: torch.from_numpy(value).to(device)
        for name, value in arrays.items()
        if value.dtype.kind != "U"
    }
    model, tokenizer = load_clip(tensors, device), SimpleTokenizer()
    scale = model.logit_scale.exp()
    with torch.no_grad():
        raw = model.encode_image(tensors["views"])[None]  # (1, views, dim)
    start = embed_words(model, tokenizer, "a photo of a")
    texts = ClassTexts(model, tokenizer, [str(name) for name in arrays["class_names"]], len(start))

    def logits(text: Tensor, features: Tensor) -> Tensor:
        return scale * torch.bmm(features, text.mT)

    computed: dict[str, Tensor] = {}
    for case in sorted({name.split("/")[0] for name in tensors if name.startswith("steps")}):
        outputs = prompt_tuning(texts, logits, start, raw, int(case[5:]))
        computed |= {f"{case}/{name}": value for name, value in outputs.items()}
    if "cocoop/ctx" in tensors:
        computed |= cocoop(texts, logits, tensors, raw)
    return {name: (value, tensors[name]) for name, value in computed.items() if name in tensors}


def load_clip(tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    """Return the tiny CLIP of the file, in OpenAI's format, with its float32 weights."""
    state = {name[5:]: value for name, value in tensors.items() if name.startswith("clip/")}
    # Building rounds the weights to float16.
    model: nn.Module = build_model_from_openai_state_dict(dict(state)).float().to(device)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def prompt_tuning(
    texts: Texts,
    logits: Logits,
    start: Float[Tensor, "tokens width"],
    raw: Float[Tensor, "1 views dim"],
    steps: int,
) -> dict[str, Tensor]:
    """Run TPT from words.

    Args:
        texts: text features of every class under contexts.
        logits: class scores of view features, given text features.
        start: the context of the words.
        raw: features of the views before normalization.
        steps: steps of AdamW.
    """
    views = F.normalize(raw, dim=2)
    begin = Start.at(start[None], texts)
    before = logits(begin.text.detach(), views)  # (1, views, classes)
    kept = select_confident(before, SHARE)  # (1, kept)
    after, predictions = tune(texts, logits, begin, views, steps, LR, SHARE)
    return {
        "logits_before": before[0],
        "selected": kept[0],
        "loss_before": marginal_entropy(before[:, kept[0]])[0],
        "ctx_before": start,
        "ctx_after": after[0],
        "logits_after": predictions[:, -1],
    }


def cocoop(
    texts: Texts,
    logits: Logits,
    tensors: Mapping[str, Tensor],
    raw: Float[Tensor, "1 views dim"],
) -> dict[str, Tensor]:
    """Run CoCoOp on the first views, and TPT from CoCoOp's context of view 0.

    Args:
        texts: text features of every class under contexts.
        logits: class scores of view features, given text features.
        tensors: the arrays of the file.
        raw: features of the views before normalization.
    """
    layers = {n[16:]: v for n, v in tensors.items() if n.startswith("cocoop/meta_net.")}
    hidden, size = layers["linear1.weight"].shape
    meta_net = MetaNet(size, hidden, len(layers["linear2.weight"])).requires_grad_(False)
    meta_net.load_state_dict(layers)
    prompt = Prompt(tensors["cocoop/ctx"], meta_net.to(raw.device))
    views = F.normalize(raw, dim=2)
    few = views[0, : len(tensors["cocoop/logits"])]  # (few, dim)
    # As released, TPT hands the meta network the feature before normalization.
    context = prompt.conditioned_on(raw[:, 0])
    after, predictions = tune(texts, logits, Start.at(context, texts), views, 1, LR, SHARE)
    return {
        "cocoop/logits": logits(texts(prompt.conditioned_on(few)), few[:, None])[:, 0],
        "tpt_cocoop/ctx_before": context,
        "tpt_cocoop/ctx_after": after,
        "tpt_cocoop/logits_after": predictions[:, -1],
    }
