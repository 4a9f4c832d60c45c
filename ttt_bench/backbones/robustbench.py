"""`robustbench:NAME --weights FILE`: checkpoints of RobustBench's model zoo, from their files.

RobustBench (Croce et al. 2021, arXiv 2010.09670) is a package too, but it needs releases of timm
and gdown that do not go together with ours. So the networks are built here, under the parameter
names of its files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, Normalize, Resize, ToTensor
from typing_extensions import override

from ttt_bench.api.backbone import BatchNormClassifier
from ttt_bench.api.errors import UserError, unknown
from ttt_bench.backbones.cifar_networks import (
    BasicBlock,
    Bottleneck,
    PreActivationBlock,
    RawShortcutBlock,
    ResNet,
    WideResNet,
)
from ttt_bench.backbones.linear_head import LinearHeadBackbone
from ttt_bench.backbones.weights_file import State, fill, read_state_dict

SIDE = 32
# Per channel, with images from 0 to 1.
Moments = tuple[float, float, float]
CIFAR_NORM: tuple[Moments, Moments] = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
HALF_NORM: tuple[Moments, Moments] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NO_NORM: tuple[Moments, Moments] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WIDE = re.compile(r"wrn-(\d+)-(\d+)")
RESNETS: Mapping[str, partial[ResNet]] = {
    "resnet-18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet-34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet-50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "preact-resnet-18": partial(ResNet, PreActivationBlock, (2, 2, 2, 2), norm_first=False),
    "preact-resnet-18-raw": partial(ResNet, RawShortcutBlock, (2, 2, 2, 2), norm_first=False),
}
# Prefixes of single entries, and the names of normalization buffers, in RobustBench's files.
PREFIXES = ("module.", "model.", "net.", "_orig_mod.", "normalize.")
NORMALIZATIONS = (("mu", "sigma"), ("mean", "std"))
# Counters that files from releases of PyTorch before 0.4.1 lack; they change no output.
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo.

    Attributes:
        architecture: its network.
        norm: mean and standard deviation that its code subtracts and divides by, in case its file
            does not hold them.
    """

    architecture: str
    norm: tuple[Moments, Moments] = NO_NORM


KIREEV = ("Gauss50percent", "AugMixNoJSD", "RLAT", "RLATAugMixNoJSD", "RLATAugMix")
MODELS: Mapping[str, ZooModel] = {
    "Standard": ZooModel("wrn-28-10"),
    "Hendrycks2020AugMix_WRN": ZooModel("wrn-40-2", HALF_NORM),
    **{f"Kireev2021Effectiveness_{n}": ZooModel("preact-resnet-18", CIFAR_NORM) for n in KIREEV},
    "Modas2021PRIMEResNet18": ZooModel("resnet-18", HALF_NORM),
    "Addepalli2021Towards_WRN34": ZooModel("wrn-34-10"),
    "Addepalli2022Efficient_WRN_34_10": ZooModel("wrn-34-10"),
    "Hendrycks2019Using": ZooModel("wrn-28-10", HALF_NORM),
    "Carmon2019Unlabeled": ZooModel("wrn-28-10"),
    "Wong2020Fast": ZooModel("preact-resnet-18-raw", CIFAR_NORM),
    "Andriushchenko2020Understanding": ZooModel("preact-resnet-18-raw"),
    "Engstrom2019Robustness": ZooModel(
        "resnet-50", ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    ),
}


class RobustBenchBackbone(LinearHeadBackbone, BatchNormClassifier):
    """`robustbench:NAME` with a file: a model of the zoo, or an architecture such as `wrn-28-10`.

    The file's `mu` and `sigma`, or its `normalize` layer, become the transform's normalization.
    Images of other sizes are scaled to 32 pixels.

    Raises:
        UserError: no such model, no file, or one that does not fit.
    """

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.name = f"robustbench:{argument}"
        chosen = _find_model(argument)
        if weights is None:
            raise UserError(
                f"{self.name}: needs its file; download {argument} as RobustBench's model zoo says "
                "and give it by --weights"
            )
        state, norm = split_normalization(read_state_dict(weights))
        self.mean, self.std = norm or chosen.norm
        model = _build(chosen.architecture, state, weights)
        matched = fill(model, _with_counters(state, model), weights)
        self._recorded = {**matched, "architecture": chosen.architecture}
        self._adopt(model, device, SIDE)

    @override
    def _steps(self, size: int) -> list[Any]:
        resize = Resize((size, size), InterpolationMode.BILINEAR)
        return [resize, ToTensor(), Normalize(list(self.mean), list(self.std))]

    @override
    def _transform_card(self) -> dict[str, Any]:
        return {"size": SIDE, "mean": list(self.mean), "std": list(self.std)}


def _find_model(name: str) -> ZooModel:
    """Return the model of a name of the zoo, or of an architecture's.

    Raises:
        UserError: there is none.
    """
    if name in MODELS:
        return MODELS[name]
    wide = WIDE.fullmatch(name)
    if name in RESNETS or (wide and int(wide[1]) >= 10 and int(wide[1]) % 6 == 4):
        return ZooModel(name)
    raise unknown("model of robustbench", name, [*MODELS, *RESNETS, "wrn-28-10", "wrn-40-2"])


def split_normalization(state: State) -> tuple[State, tuple[Moments, Moments] | None]:
    """Return a state dict without prefixes, and the normalization that was in it, None for none."""
    plain = {_without_prefixes(name): value for name, value in state.items()}
    for names in NORMALIZATIONS:
        if all(name in plain and plain[name].numel() == 3 for name in names):
            mean, std = (_moments(plain.pop(name)) for name in names)
            return plain, (mean, std)
    return plain, None


def _moments(value: Tensor) -> Moments:
    # Six digits are all that float32 has.
    first, second, third = (float(f"{number:.6g}") for number in value.flatten().tolist())
    return first, second, third


def _without_prefixes(name: str) -> str:
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def _build(architecture: str, state: State, file: Path) -> nn.Module:
    """Build a network with as many outputs as a state dict has.

    Raises:
        UserError: the state dict has no last layer of that architecture.
    """
    wide = WIDE.fullmatch(architecture)
    head = state.get("fc.weight" if wide else "linear.weight")
    if head is None or head.ndim != 2:
        raise UserError(f"{file}: holds no weights of {architecture}; give those of this model")
    if wide:
        spare = any(name.startswith("sub_block1.") for name in state)
        return WideResNet(int(wide[1]), int(wide[2]), len(head), spare_stage=spare)
    if architecture.startswith("preact"):
        return RESNETS[architecture](classes=len(head), norm_last="bn.weight" in state)
    return RESNETS[architecture](classes=len(head))


def _with_counters(state: State, model: nn.Module) -> State:
    """Return a state dict with the counters that old files lack."""
    expected: Sequence[str] = list(model.state_dict())
    missing = [name for name in expected if name.endswith(COUNTER) and name not in state]
    return {**state, **{name: torch.tensor(0) for name in missing}}
