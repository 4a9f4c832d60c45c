"""The family's default backbones, without torch."""

from ttt_bench import BackboneFamily

MAE = BackboneFamily(
    name="mae",
    default="mae:vit-large",
    by_dataset=dict.fromkeys(("cifar10-c-mini", "cifar10", "cifar10-c"), "tiny-mae"),
)
