"""OnZeta: online labels from the texts and from vision proxies, mixed along the stream.

Paper: Qian and Hu 2024, Online Zero-Shot Classification with CLIP (ECCV 2024, arXiv 2408.13320),
    section 3 and algorithm 1.
Code: idstcv/OnZeta (Apache-2.0 licence).
Kind: stream. A vision proxy of every class is learned; no sample is kept.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Prediction,
    Sample,
    SampleRNG,
)
from ttt_bench_clip_tta.adapter import EncodedTogetherConfig, TextAdapter
from ttt_bench_clip_tta.prompts import PromptConfig
from ttt_bench_clip_tta.views import finite_log


class OnZetaConfig(PromptConfig, EncodedTogetherConfig):
    """The paper's values for ImageNet (section 4.1)."""

    length: int = Field(
        50_000, ge=1, description="samples of a stream after which the vision label weighs most"
    )
    temperature: float = Field(0.04, gt=0, description="tau_i, that of the vision label")
    proxy_rate: float = Field(0.5, ge=0, description="c_w, learning rate of the vision proxies")
    balance_rate: float = Field(20.0, ge=0, description="c_r, learning rate of the class balance")
    balance: float = Field(
        1.0, ge=0, description="alpha, the least share of each class, in units of 1 / C"
    )
    vision_weight: float = Field(
        0.8, ge=0, le=1, description="beta, the largest weight of the vision label"
    )


class OnZeta(TextAdapter[OnZetaConfig]):
    """`onzeta`: a text label that balances the classes, and a vision label that follows it.

    Attributes:
        text: the unit text feature of each class.
        scale: the factor of cosines.
        proxies: the unit vision proxy of each class.
        dual: rho, how much each class is raised, since it is rarer than `balance` asks.
        seen: the number of samples so far.
    """

    Config = OnZetaConfig

    @override
    def begin(self) -> None:
        """Begin a stream with the texts as proxies."""
        self.proxies = self.text.clone()
        self.dual = torch.zeros_like(self.text[:, 0])
        self.seen = 0

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        features = self.encode_images(samples)
        scores = self.logits(features[:, None])[:, 0]  # (B, 1, D) -> (B, 1, C) -> (B, C)
        predictions = []
        for feature, logits in zip(features, scores, strict=True):
            label, _ = self.predict(feature, logits)
            log_label = finite_log(label)
            predictions.append(Prediction(log_label, unadapted_logits=logits))
        return predictions

    def predict(
        self, feature: Float[Tensor, " dim"], logits: Float[Tensor, " classes"]
    ) -> tuple[Float[Tensor, " classes"], Float[Tensor, " classes"]]:
        """Return the label of a sample and its text label, and learn from it.

        Args:
            feature: its unit feature.
            logits: its logits by the texts.
        """
        config, classes = self.config, len(logits)
        self.seen += 1
        text_label = (logits + self.dual).softmax(dim=0)
        excess = text_label - config.balance / classes
        self.dual = (self.dual - config.balance_rate / self.seen**0.5 * excess).clamp(min=0)
        vision_label = (self.proxies @ feature / config.temperature).softmax(dim=0)
        share = config.vision_weight * min(self.seen / config.length, 1) ** 0.5
        label = share * vision_label + (1 - share) * text_label
        rate = config.proxy_rate / self.seen**0.5 / config.temperature
        # (C, D) - rate (C) x (D)
        moved = torch.addr(self.proxies, vision_label - text_label, feature, alpha=-rate)
        self.proxies = F.normalize(moved, dim=1)
        return label, text_label
