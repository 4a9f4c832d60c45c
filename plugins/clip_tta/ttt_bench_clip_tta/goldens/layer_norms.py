"""WATT, CLIPArTT and TENT on the tiny CLIP of a golden file: the 16 views are one batch."""

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ttt_bench import WorkingCopy
from ttt_bench_clip_tta.methods import clipartt, tent_clip, watt

if TYPE_CHECKING:
    from ttt_bench_clip_tta.goldens.towers import TowerFile

# The factor of cosines with which the releases predict, and their prompt.
SCALE, PLAIN = 100.0, "a photo of a {}"


def run_watt(file: "TowerFile") -> dict[str, Tensor]:
    """Return what WATT computes in every case of the file, by the name of the output."""
    computed: dict[str, Tensor] = {}
    for case in file.cases("watt"):
        steps, rounds = (int(n) for n in file.tensors[f"{case}/hyper/l_m"].tolist())
        kind = "watt/mixed_templates" if "mixed" in case else "watt/templates"
        texts = torch.stack([file.texts(str(template)) for template in file.arrays[kind]])
        order: watt.Order = "parallel" if "parallel" in case else "sequential"
        schedule = watt.Schedule(order, steps, rounds, float(file.tensors["watt/hyper/lr"]))
        model = file.working_copy()
        taken = watt.learn(model, file.images, texts, file.scale, schedule)
        text = file.texts(PLAIN) if case.endswith("reference") else watt.average(texts)
        computed |= {
            f"{case}/losses": torch.stack([step.loss for step in taken]),
            f"{case}/pseudo_labels": torch.stack([step.labels for step in taken]),
            **outcome(file, case, model, text),
        }
    return computed


def run_clipartt(file: "TowerFile") -> dict[str, Tensor]:
    """Return what CLIPArTT computes in every case of the file, by the name of the output."""
    computed: dict[str, Tensor] = {}
    text = file.texts(PLAIN)
    for case in file.cases("clipartt/clipartt"):
        config = clipartt.CLIPArTTConfig(
            steps=1 if case.endswith("steps1") else 10,
            lr=float(file.tensors["clipartt/hyper/lr"]),
            joined_classes=int(file.tensors["clipartt/hyper/K"]),
        )
        model = file.working_copy()

        def joined(combinations: Any) -> Tensor:
            return clipartt.joined_texts(file.encode_text, file.names, PLAIN, combinations)

        clipartt.learn(model, file.images, text, joined, file.scale, config)
        computed |= outcome(file, case, model, text)
    return computed


def run_tent(file: "TowerFile") -> dict[str, Tensor]:
    """Return what TENT computes in every case of the file, by the name of the output."""
    computed: dict[str, Tensor] = {}
    text, lr = file.texts(PLAIN), float(file.tensors["clipartt/hyper/lr"])
    for case in file.cases("clipartt/tent"):
        model, steps = file.working_copy(), 1 if case.endswith("steps1") else 10
        tent_clip.learn(model, file.images, text, file.scale, steps, lr)
        computed |= outcome(file, case, model, text)
    return computed


@torch.no_grad()
def outcome(
    file: "TowerFile", case: str, model: WorkingCopy, text: Float[Tensor, "classes dim"]
) -> dict[str, Tensor]:
    """Return predictions and two norms of an image tower that has learned.

    Args:
        file: the file.
        case: the case.
        model: the image tower.
        text: unit text features to classify by.
    """
    features = F.normalize(model.features(file.images), dim=1)
    probabilities = (SCALE * features @ text.T).softmax(dim=1)
    tower = cast(Any, model.network)
    outputs = {"probabilities": probabilities, "predictions": probabilities.argmax(dim=1)}
    for norm in ("ln_pre", "ln_post"):
        for part in ("weight", "bias"):
            outputs[f"visual.{norm}.{part}"] = getattr(getattr(tower, norm), part)
    return {f"{case}/{name}": value for name, value in outputs.items()}


METHODS = (run_watt, run_clipartt, run_tent)
