"""The image tower of `tiny-clip`, registered with timm so that open_clip can build it by name."""

from functools import partial
from typing import Any

from timm.layers.hybrid_embed import HybridEmbed
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn

TOWER_NAME = "ttt_bench_tiny_vit"


@register_model
def ttt_bench_tiny_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Build a ViT on an 8x8 grid of tokens that a convolutional stem makes from a 32x32 image.

    Early convolutions let so small a transformer learn from 45,000 images (Xiao et al. 2021, "Early
    Convolutions Help Transformers See Better").

    Args:
        pretrained: must be False; the weights of tiny-clip are loaded by open_clip.
        kwargs: arguments of timm's VisionTransformer.

    Raises:
        ValueError: `pretrained` is True.
    """
    if pretrained:
        raise ValueError(f"{TOWER_NAME} has no timm weights; load tiny-clip through open_clip")
    for unused in ("cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"):
        kwargs.pop(unused, None)
    stem = ConvStem(
        depth=6,
        channels=(16, 32, 64, 64, 128, 128),
        stride=(1, 2, 1, 1, 2, 1),
        act_layer=nn.ReLU,
    )
    sizes = {"img_size": 32, "patch_size": 1, "embed_dim": 128, "depth": 2, "num_heads": 4}
    layout = {
        "mlp_ratio": 3.0,
        "class_token": False,
        "global_pool": "avg",
        "dynamic_img_size": True,
    }
    model = VisionTransformer(
        embed_layer=partial(HybridEmbed, backbone=stem, proj=False),
        **{**sizes, **layout, **kwargs},
    )
    # open_clip reads from a timm trunk's configuration whether it ends in a feature map.
    model.default_cfg = {"pool_size": None}  # pyright: ignore
    return model
