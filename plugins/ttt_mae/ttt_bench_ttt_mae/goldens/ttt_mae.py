"""TTT-MAE by SGD and by AdamW, on the tiny model and the masks of the file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ttt_bench_ttt_mae.checkpoints import Checkpoint, autoencoder, head
from ttt_bench_ttt_mae.methods.ttt_mae import TTTMAEConfig, make_optimizer, tune, working_copy

# Shapes do not tell the number of attention heads; the description of the file does.
HEADS = {"encoder": 4, "decoder": 4, "classifier": 4}
OPTIMIZERS = {"sgd": "sgd", "adam_w": "adamw"}


def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of a computed and an expected value by the name of the output."""
    state = {
        name[6:]: torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith("model/")
    }
    checkpoint = Checkpoint(Path("golden file"), state, HEADS)
    model = autoencoder(checkpoint).to(device)
    classifier = head(checkpoint, model).to(device)
    side = model.sizes.image
    image = torch.from_numpy(arrays["image"]).reshape(1, 3, side, side).to(device)
    masks = torch.from_numpy(arrays["mask_noise"]).to(device)  # (steps, copies, patches)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for case, name in OPTIMIZERS.items():
        if f"{case}/lr" not in arrays:
            continue
        config = TTTMAEConfig.model_validate(
            {"optimizer": name, "lr": float(arrays[f"{case}/lr"]), "steps": len(masks)}
        )
        learner = working_copy(model)
        losses, logits = tune(learner, classifier, image, masks, make_optimizer(config))
        expected = torch.from_numpy(arrays[f"{case}/logits"])
        pairs[f"{case}/losses"] = (losses, torch.from_numpy(arrays[f"{case}/losses"]))
        pairs[f"{case}/logits"] = (logits.reshape(expected.shape), expected)
    return pairs
