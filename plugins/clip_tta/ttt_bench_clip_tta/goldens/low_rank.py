"""TTL on the tiny CLIP of the other files, with the release's drawn matrices."""

import torch
from torch import Tensor
from ttt_bench_tpt.goldens.changed import changed

from ttt_bench import entropy
from ttt_bench_clip_tta.goldens.towers import PROMPT, TowerFile
from ttt_bench_clip_tta.methods import ttl

Outputs = dict[str, tuple[Tensor, Tensor]]


def run_ttl(file: TowerFile) -> Outputs:
    """Return losses, predictions, and what the last block has learned on the first sample."""
    pairs: Outputs = {}
    end = "/last_layer_vA_vBt_qBt"
    for case in (n.removesuffix(end) for n in file.arrays if n.startswith("ttl/") and end in n):
        samples = [_run_case(file, case, str(name)) for name in file.arrays["ttl/samples"]]
        outputs = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
        outputs["last_layer_vA_vBt_qBt"] = outputs["last_layer_vA_vBt_qBt"][0]
        pairs |= {
            f"{case}/{name}": (value, file.tensors[f"{case}/{name}"])
            for name, value in outputs.items()
        }
    return pairs


def _run_case(file: TowerFile, case: str, sample: str) -> dict[str, Tensor]:
    """Return the outputs of one sample.

    Args:
        file: the file.
        case: the case.
        sample: how the views of the file are changed to those of the sample.
    """
    tower = ttl.ImageTower(file.working_copy())
    first, last = file.tensors[f"{case}/hyper/layers"].tolist()
    weights = tower.attention(last - first + 1)
    downs = {
        name: torch.stack([file.tensors[f"ttl/lora_A/{block}.{part}"] for part in "qv"])
        for block, name in enumerate(weights, start=first)
    }
    alpha, lr = float(file.tensors["ttl/hyper/alpha"]), float(file.tensors[f"{case}/hyper/lr"])
    changed_tower = ttl.ChangedTower(tower, weights, downs, alpha, lr)
    pixels, text = changed(file.images, sample), file.texts(PROMPT)
    margin = float(file.tensors["ttl/hyper/margin_e0"])
    steps = int(file.tensors[f"{case}/hyper/steps"])
    # The release's loop of n steps stands inside of another one of n.
    taken = [changed_tower.step(pixels, text, file.scale, margin) for _ in range(steps**2)]
    with torch.no_grad():
        after = file.scale * changed_tower.features(pixels[:1])[0] @ text.T
    learned = changed_tower.changes[list(weights)[-1]]
    (_, down_v), (up_q, up_v) = learned.down.detach(), learned.up.detach()
    return {
        "view_entropy": entropy(taken[0][0]),
        "losses": torch.stack([loss for _, loss in taken]),
        "logits_before": taken[0][0][0],
        "logits": after,
        "last_layer_vA_vBt_qBt": torch.stack([down_v, up_v.T, up_q.T]),  # (3, rank, width)
    }
