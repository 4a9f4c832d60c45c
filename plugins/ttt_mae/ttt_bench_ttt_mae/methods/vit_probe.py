"""ViT probing: a head trained on the frozen encoder of a masked autoencoder.

Paper: Gandelsman, Sun, Chen and Efros 2022, Test-Time Training with Masked Autoencoders (NeurIPS
    2022, arXiv 2209.07522), section 3.
Code: yossigandelsman/test_time_training_mae (no licence file; it builds on facebookresearch/mae, CC
    BY-NC 4.0).
Kind: sample. Nothing is adapted at test time: the model that TTT-MAE starts from.
"""

from ttt_bench_ttt_mae.head_adapter import FrozenBackboneAdapter, HeadConfig


class ViTProbe(FrozenBackboneAdapter[HeadConfig]):
    """`vit-probe`: a head of transformer blocks on the frozen encoder."""

    Config = HeadConfig
