"""View sets that methods share: random crops, and crops with AugMix."""

from ttt_bench.views.augmix import AugMixViews as AugMixViews
from ttt_bench.views.crops import CropViews as CropViews
