"""The network of `tiny-resnet`, registered with timm so that timm can build it by name."""

from typing import Any

from timm.layers.conv_bn_act import ConvNormAct
from timm.models import register_model
from timm.models._builder import build_model_with_cfg
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

NETWORK_NAME = "ttt_bench_tiny_resnet"
# Channels and residual blocks of each stage.
STAGES = ((16, 1), (48, 2), (96, 2))
PIXELS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}


@register_model
def ttt_bench_tiny_resnet(pretrained: bool = False, **kwargs: Any) -> ByobNet:
    """Build a residual network with BatchNorm for 32x32 images.

    Three stages at 32, 16 and 8 pixels, as in the CIFAR-10 networks of He et al. 2016 ("Deep
    Residual Learning for Image Recognition", section 4.2), with fewer blocks and more channels.

    Args:
        pretrained: must be False; the weights of tiny-resnet are loaded by its backbone.
        kwargs: arguments of timm's ByobNet.

    Raises:
        ValueError: `pretrained` is True.
    """
    if pretrained:
        raise ValueError(f"{NETWORK_NAME} has no timm weights; load the backbone tiny-resnet")
    for unused in ("cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"):
        kwargs.pop(unused, None)
    blocks = tuple(
        ByoBlockCfg(type="basic", d=depth, c=channels, s=1 if stage == 0 else 2, gs=0, br=1.0)
        for stage, (channels, depth) in enumerate(STAGES)
    )
    layout = ByoModelCfg(
        blocks=blocks, stem_chs=STAGES[0][0], stem_type="3x3", downsample="conv1x1"
    )
    facts = {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": (8, 8),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "first_conv": "stem.conv",
        "classifier": "head.fc",
        **PIXELS,
    }
    model = build_model_with_cfg(
        ByobNet, NETWORK_NAME, False, pretrained_cfg=facts, model_cfg=layout, **kwargs
    )
    # timm's own stem halves the image, which has no room for it.
    model.stem = ConvNormAct(3, STAGES[0][0], 3)
    return model
