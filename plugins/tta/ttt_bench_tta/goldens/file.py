"""File: the arrays of a golden file, its networks, batches and hyper-parameters."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import timm
import torch
from torch import Tensor, nn

from ttt_bench import WorkingCopy
from ttt_bench_tta.normalization import trained

NETWORKS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("test_resnet", {}),
    "vit": ("test_vit", {"img_size": 64}),
}
METHODS = (
    "adacontrast",
    "cmf",
    "norm",
    "rdumb",
    "rmt",
    "rpl",
    "santa",
    "ttaug",
    "tent",
    "memo",
    "t3a",
    "lame",
    "eta",
    "eata",
    "sar",
    "cotta",
    "rotta",
    "deyo",
    "roid",
)
# SAR's other cases are on the transformer.
ON_RESNET = ("sar_bn",)


class File:
    """The arrays of a golden file.

    Attributes:
        device: the device to compute on.
        seed: the seed that the file was made with.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        self._arrays = arrays
        self.device = device
        self.seed = int(arrays["seed"])

    def cases(self) -> list[str]:
        """Return the cases whose network and inputs are in the file."""
        names = [name.removesuffix("/logits") for name in self._arrays if name.endswith("/logits")]
        return [case for case in names if case.partition("_")[0] in METHODS and self._has(case)]

    def _has(self, case: str) -> bool:
        needed = [f"{network(case)}/"]
        if case.startswith(("memo", "ttaug")):
            needed.append("memo/views")
        if case.startswith("eata") or (case.startswith("rmt") and self.value(case, "lambda_src")):
            needed.append("eata_fisher/images")
        return all(any(name.startswith(part) for name in self._arrays) for part in needed)

    def tensor(self, case: str, name: str) -> Tensor:
        """Return an array of a case."""
        return torch.from_numpy(self._arrays[f"{case}/{name}"]).to(self.device)

    def value(self, case: str, name: str, default: float | None = None) -> float:
        """Return a hyper-parameter of a case, or the default where the file has none."""
        array = self._arrays.get(f"{case}/{name}")
        if array is None and default is not None:
            return default
        return float(self._arrays[f"{case}/{name}"])

    def batches(self, case: str) -> Iterator[Tensor]:
        """Yield the batches of a case, in its own order."""
        images = torch.from_numpy(self._arrays["images"]).float().to(self.device)
        if case.endswith("batch40"):
            yield images.flatten(0, 1)  # (batches, b, 3, s, s) -> (batches * b, 3, s, s)
            return
        order = self._arrays.get(f"{case}/order")
        yield from images if order is None else images[torch.from_numpy(order)]

    def model(self, case: str) -> WorkingCopy:
        """Return the network of a case with the file's weights."""
        kind = network(case)
        architecture, settings = NETWORKS[kind]
        with torch.random.fork_rng(devices=[]):
            model = timm.create_model(architecture, num_classes=10, **settings)
        state = model.state_dict()
        for name in state:
            if not name.endswith("num_batches_tracked"):
                state[name] = torch.from_numpy(self._arrays[f"{kind}/{name}"]).float()
        model.load_state_dict(state)
        return WorkingCopy(model.to(self.device), _encode, _classify)

    def head(self, model: WorkingCopy) -> nn.Linear:
        """Return the last layer of a network."""
        return cast(Any, model.network).get_classifier()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def optimizer(self, case: str, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of a case."""
        lr = self.value(case, "lr")
        if f"{case}/betas" in self._arrays:
            first, second = self._arrays[f"{case}/betas"].tolist()
            return torch.optim.Adam(trained(model), lr=lr, betas=(first, second))
        nesterov = bool(self.value(case, "nesterov", 0.0))
        momentum = self.value(case, "momentum")
        return torch.optim.SGD(
            trained(model),
            lr=lr,
            momentum=momentum,
            weight_decay=self.value(case, "weight_decay", 0.0),
            nesterov=nesterov,
        )


def network(case: str) -> str:
    """Return which of the two networks a case is on."""
    on_vit = "_vit" in case or (case.startswith("sar") and case not in ON_RESNET)
    return "vit" if on_vit else "resnet"


def mirrored(images: Tensor) -> Tensor:
    """Return images mirrored, which stands for the releases' random augmentations."""
    return images.flip(-1)


def _encode(model: nn.Module, pixels: Tensor) -> Tensor:
    timm_model = cast(Any, model)
    return timm_model.forward_head(timm_model.forward_features(pixels), pre_logits=True)


def _classify(model: nn.Module, features: Tensor) -> Tensor:
    return cast(Any, model).get_classifier()(features)
