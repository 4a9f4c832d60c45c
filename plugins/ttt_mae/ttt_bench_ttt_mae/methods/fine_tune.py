"""Fine-tuning: encoder and head trained on labels, with reconstruction or without.

Paper: Gandelsman, Sun, Chen and Efros 2022, Test-Time Training with Masked Autoencoders (NeurIPS
    2022, arXiv 2209.07522), section 3 and table 1.
Code: yossigandelsman/test_time_training_mae (no licence file; it builds on facebookresearch/mae, CC
    BY-NC 4.0).
Kind: sample. Nothing is adapted at test time.
"""

from typing_extensions import override

from ttt_bench_ttt_mae.checkpoints import Checkpoint, encoder_of
from ttt_bench_ttt_mae.head_adapter import HeadAdapter, HeadConfig
from ttt_bench_ttt_mae.model import MAENetwork


class FineTune(HeadAdapter[HeadConfig]):
    """`fine-tune`: encoder and head trained on labels."""

    Config = HeadConfig
    recipe = "fine-tune"

    @override
    def encoder(self, checkpoint: Checkpoint, backbone: MAENetwork) -> MAENetwork:
        """Return the checkpoint's own encoder, which has the sizes of the backbone's."""
        return encoder_of(checkpoint, backbone)


class JointTrain(FineTune):
    """`joint-train`: encoder, decoder and head trained on labels and reconstruction together."""

    recipe = "joint-train"
