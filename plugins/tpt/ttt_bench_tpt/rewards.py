"""Feedback: how well each class fits a view, as a reward model sees it.

Source: RLCF (Zhao et al. 2024, arXiv 2305.18010, section 3.2), mzhaoshuai/RLCF.
Sizes in comments: S samples, K kept views, N sampled classes of each.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ttt_bench import DualEncoder, Sample, SampleRNG, Task, UserError, ViewSet, load_backbone

CLIPSCORE_WEIGHT = 2.5

# The CLIPScore of every class for the views of these indices.
Scores = Callable[[Int[Tensor, "samples kept"]], Float[Tensor, "samples kept classes"]]


def clip_scores(
    features: Float[Tensor, "samples kept dim"], text: Float[Tensor, "classes dim"]
) -> Float[Tensor, "samples kept classes"]:
    """Return the CLIPScore of every class for unit features (Hessel et al. 2021, equation 1)."""
    cosines = torch.stack([unit @ text.T for unit in features])
    return CLIPSCORE_WEIGHT * cosines.clamp(min=0)


def reinforce(
    logits: Float[Tensor, "samples kept classes"],
    scores: Float[Tensor, "samples kept classes"],
    sampled: int,
) -> Float[Tensor, " samples"]:
    """Return the loss that makes the rewarded ones of each view's best classes more likely.

    The reward of a class is its score minus the mean of the view's sampled classes.

    Args:
        logits: the scores of the views by the model that learns.
        scores: the scores of every class by the reward model.
        sampled: how many of a view's best classes are looked at.
    """
    best, rewards = rewarded(logits, scores, sampled)
    log_p = logits.log_softmax(dim=2).gather(2, best)  # (S, K, N)
    return -(rewards * log_p).mean(dim=(1, 2))


def rewarded(
    logits: Float[Tensor, "samples kept classes"],
    scores: Float[Tensor, "samples kept classes"],
    sampled: int,
) -> tuple[Int[Tensor, "samples kept sampled"], Float[Tensor, "samples kept sampled"]]:
    """Return the best classes of every view and their rewards, see `reinforce`."""
    best = logits.detach().topk(min(sampled, logits.shape[2]), dim=2).indices  # (S, K, N)
    chosen = scores.gather(2, best)
    return best, chosen - chosen.mean(dim=2, keepdim=True)


class RewardModel:
    """A dual encoder that scores the views of samples.

    Attributes:
        backbone: the dual encoder.
        text: its unit text feature of each class.
    """

    text: Float[Tensor, "classes dim"]

    @torch.no_grad()
    def __init__(self, task: Task, name: str) -> None:
        """Load a dual encoder and encode the class names under the protocol's prompt.

        Args:
            task: the task.
            name: the backbone's name, "" for the one of the task.

        Raises:
            UserError: it is no dual encoder, or cannot be loaded.
        """
        loaded = load_backbone(name, str(task.device)) if name else task.backbone
        if not isinstance(loaded, DualEncoder):
            raise UserError(
                f"the reward model {name} has no text tower; set reward to a dual encoder "
                "(see `ttt-bench list backbones`)"
            )
        self.backbone = loaded
        self.own = not name
        self._task = task
        with task.forward_pass():
            self.text = loaded.class_features(task.classes.names, [task.classes.prompt])

    def scores(
        self,
        samples: Sequence[Sample],
        rngs: Sequence[SampleRNG],
        view_set: ViewSet,
        views: Float[Tensor, "samples views dim"],
    ) -> Scores:
        """Return a function that scores some views of samples.

        Args:
            samples: the samples.
            rngs: their random generators.
            view_set: the recipe of their views.
            views: unit features of the views by the task's backbone.
        """

        @torch.no_grad()
        def score(kept: Int[Tensor, "samples kept"]) -> Float[Tensor, "samples kept classes"]:
            if self.own:
                features = [unit[index] for unit, index in zip(views, kept, strict=True)]
            else:
                features = [
                    self._encode(self._task.view_pixels(sample, rng, view_set)[index])
                    for sample, rng, index in zip(samples, rngs, kept, strict=True)
                ]
            return clip_scores(torch.stack(features), self.text)  # (S, K, C)

        return score

    def _encode(self, pixels: Float[Tensor, "kept 3 side side"]) -> Float[Tensor, "kept dim"]:
        """Return unit features of views, resized to the reward model's side as in the release."""
        side = self.backbone.image_size
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=True)
        with self._task.forward_pass():
            features = self.backbone.batch_invariant(
                self.backbone.encode_image, pixels, len(pixels)
            )
        return F.normalize(features.float(), dim=1)
