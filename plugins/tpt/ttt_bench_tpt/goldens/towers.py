"""C-TPT and RLCF on the tiny CLIP of a golden file of CLIP's towers.

Sizes in comments: V views, K kept views, C classes, D the size of a feature.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt_bench import WorkingCopy, select_confident
from ttt_bench_tpt.methods import c_tpt, rlcf, tpt
from ttt_bench_tpt.rewards import clip_scores, reinforce, rewarded
from ttt_bench_tpt.text import ClassTexts, embed_words

Tensors = Mapping[str, Tensor]
CASE = re.compile("rlcf/(prompt|image)")


class PromptCase:
    """The tiny CLIP, its views and class names, for methods that tune a prompt.

    Attributes:
        texts: text features of every class under contexts.
        context: the context of "a photo of a".
        views: unit features of the views.
        share: share of the views that is kept.
    """

    def __init__(
        self, model: Any, tokenizer: Any, names: list[str], images: Tensor, share: float
    ) -> None:
        """Encode the views.

        Args:
            model: the CLIP.
            tokenizer: its tokenizer.
            names: the class names.
            images: the views.
            share: share of the views that is kept.
        """
        self.context = embed_words(model, tokenizer, "a photo of a")
        self.texts = ClassTexts(model, tokenizer, names, len(self.context))
        self._scale, self.share = model.logit_scale.exp(), share
        with torch.no_grad():
            self.views = F.normalize(model.encode_image(images), dim=1)[None]  # (1, V, D)

    def logits(self, text: Tensor, features: Tensor) -> Tensor:
        """Return the scores of features under text features."""
        return self._scale * torch.bmm(features, text.mT)

    def tuned(self, loss: tpt.Loss, steps: int, lr: float, weight_decay: float = 0.01) -> "Tuned":
        """Tune the context down a loss.

        Args:
            loss: the loss.
            steps: steps of AdamW.
            lr: its learning rate.
            weight_decay: its weight decay.
        """
        seen: list[tuple[Tensor, Tensor, Tensor]] = []

        def noted(text: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
            value = loss(text, scores, kept)
            seen.append((value.detach()[0], scores.detach()[0], kept[0]))
            return value

        start = tpt.Start.at(self.context[None], self.texts)
        context, predictions = tpt.tune(
            self.texts,
            self.logits,
            start,
            self.views,
            steps,
            lr,
            self.share,
            noted,
            weight_decay,
        )
        return Tuned(context, predictions[0], *seen[-1])


class Tuned:
    """What was learned, and the predictions with it.

    Attributes:
        context: the tuned context, `(1, tokens, width)`; None where the image tower learned.
        scores: the scores of the confident views before the last step, `(K, C)`.
        selected: the indices of the confident views, `(K)`.
        outputs: what every case of a golden file holds.
    """

    def __init__(
        self,
        context: Tensor | None,
        predictions: Tensor,
        loss: Tensor,
        scores: Tensor,
        selected: Tensor,
    ) -> None:
        self.context = context
        self.scores = scores
        self.selected = selected
        self.outputs = {
            "logits_before": predictions[0],
            "logits": predictions[-1],
            "selected": selected,
            "last_loss": loss,
        }
        if context is not None:
            self.outputs["ctx"] = context[0]


def run_ctpt(prompt: PromptCase, tensors: Tensors) -> dict[str, Tensor]:
    """Return what C-TPT computes in every case of the file, by the name of the output.

    Args:
        prompt: the tiny CLIP and its views.
        tensors: the arrays of the file.
    """
    computed: dict[str, Tensor] = {}
    lr = float(tensors["ctpt/hyper/lr"]) if "ctpt/hyper/lr" in tensors else 0.0
    for case in sorted({name.split("/")[1] for name in tensors if name.startswith("ctpt/lambda")}):
        weight, _, variant = case.removeprefix("lambda").partition("_")
        steps = 2 if variant.startswith(("steps2", "two_step")) else 1
        loss = c_tpt.calibrated(float(weight))
        if variant == "two_step":
            loss = one_after_the_other(float(weight))
        tuned = prompt.tuned(loss, steps, lr)
        assert tuned.context is not None
        with torch.no_grad():
            contexts = prompt.context[None], tuned.context
            spread = [c_tpt.dispersion(prompt.texts(context))[0] for context in contexts]
        outputs = {
            **tuned.outputs,
            "dispersion_before": spread[0],
            "dispersion_after": spread[1],
        }
        computed |= {f"ctpt/{case}/{name}": value for name, value in outputs.items()}
    return computed


def one_after_the_other(weight: float) -> tpt.Loss:
    """Return TPT's loss for the first step and the weighted dispersion for later ones.

    The release has it as an option that is off.
    """
    losses = iter([tpt.disagreement])

    def loss(text: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
        first = next(losses, None)
        return -weight * c_tpt.dispersion(text) if first is None else first(text, scores, kept)

    return loss


class RewardCase:
    """The reward model of the file: the tiny CLIP with projections of its own.

    Attributes:
        scores: its scores of every class for every view, `(1, V, C)`.
    """

    @torch.no_grad()
    def __init__(self, model: Any, tokens: Tensor, images: Tensor, tensors: Tensors) -> None:
        """Score the views.

        Args:
            model: the CLIP.
            tokens: the tokens of a prompt of each class.
            images: the views.
            tensors: the arrays of the file.
        """
        reward = copy.deepcopy(model)
        reward.visual.proj.copy_(tensors["reward/visual.proj"])
        reward.text_projection.copy_(tensors["reward/text_projection"])
        text = F.normalize(reward.encode_text(tokens), dim=1)
        features = F.normalize(reward.encode_image(images), dim=1)
        self.scores = clip_scores(features[None], text)

    def of(self, kept: Tensor) -> Tensor:
        """Return the scores of views, as `rewards.Scores`."""
        return self.scores[:, kept[0]]


def run_rlcf(
    prompt: PromptCase, reward: RewardCase, tower: WorkingCopy, images: Tensor, tensors: Tensors
) -> dict[str, Tensor]:
    """Return what RLCF computes in every case of the file, by the name of the output.

    Args:
        prompt: the tiny CLIP and its views.
        reward: the reward model.
        tower: the tiny CLIP's image tower, with its classifier.
        images: the views before the image tower.
        tensors: the arrays of the file.
    """
    computed: dict[str, Tensor] = {}
    for case in sorted({name.split("/")[1] for name in tensors if CASE.match(name)}):
        lr, steps = (float(tensors[f"rlcf/{case}/hyper/{name}"]) for name in ("lr", "steps"))
        sampled = int(tensors["rlcf/hyper/sample_k"])
        if case.startswith("prompt"):
            loss = rlcf.rewarded_by(reward.of, sampled)
            tuned = prompt.tuned(loss, int(steps), lr, rlcf.WEIGHT_DECAY)
            outputs = tuned.outputs
        else:
            model = copy.deepcopy(tower).requires_grad_()
            tuned = trained(prompt, reward, model, images, int(steps), lr, sampled)
            outputs = {**tuned.outputs, "visual.proj": cast(Any, model.network).proj}
        scores = reward.of(tuned.selected[None])
        best, rewards = rewarded(tuned.scores[None], scores, sampled)
        outputs |= {
            "last_topk": best[0],
            "last_clip_score": scores.gather(2, best).flatten(),  # (1, K, N) -> (K*N)
            "last_rewards": rewards.flatten(),
        }
        computed |= {f"rlcf/{case}/{name}": value for name, value in outputs.items()}
    return computed


def trained(
    prompt: PromptCase,
    reward: RewardCase,
    model: WorkingCopy,
    images: Tensor,
    steps: int,
    lr: float,
    sampled: int,
) -> Tuned:
    """Train the image tower by the reward, and return what it computes.

    Args:
        prompt: the tiny CLIP and its views.
        reward: the reward model.
        model: the image tower, which is trained in place.
        images: the views before the image tower.
        steps: steps of AdamW.
        lr: its learning rate.
        sampled: how many of a view's best classes are rewarded.
    """
    with torch.no_grad():
        before = model(images)
    kept = select_confident(before, prompt.share)
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(logits: Tensor) -> Tensor:
        value = reinforce(logits[None], reward.of(kept[None]), sampled)[0]
        seen.append((value.detach(), logits.detach()))
        return value

    predictions = rlcf.learn(model, images[kept], images[:1], loss, steps, lr)
    return Tuned(None, torch.stack([before[0], predictions[-1]]), *seen[-1], kept)
