"""DynaPrompt: a few prompts live along the stream, and each image tunes those that suit it.

Paper: Xiao, Yan, Hong, Cai, Jiang, Hu, Shen, Wang and Snoek 2025, DynaPrompt: Dynamic Test-Time
    Prompt Tuning (ICLR 2025, arXiv 2501.16404).
Code: zzzx1224/DynaPrompt (no licence).
Kind: stream. What is kept are the prompts, and in which order they were used.

Sizes in comments: P prompts, K chosen prompts, T context tokens, W width, V views, C classes, D the
size of a feature.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    DualEncoder,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    entropy,
    marginal_entropy,
)
from ttt_bench_tpt.methods.tpt import PromptTuning, Start, TPTConfig
from ttt_bench_tpt.text import embed_words


class DynaPromptConfig(TPTConfig):
    """The values of the release's script."""

    capacity: int = Field(12, ge=1, description="prompts that are kept at most")
    batch_size: int = Field(1, ge=1, description="samples in a batch; changes no prediction")


class DynaPrompt(PromptTuning[DynaPromptConfig]):
    """`dynaprompt`: online prompt tuning with several prompts.

    A prompt is an offset to the embedded words, so the initial prompt is an offset of zero.

    Attributes:
        context: the embedded words `[T W]`.
        initial: unit text features of every class under them `[C D]`.
        offsets: the prompts `[P T W]`.
        text: unit text features of every class under each prompt `[P C D]`.
        order: the numbers of the prompts in use, the least recently used one first.
    """

    Config = DynaPromptConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        backbone = task.require(DualEncoder)
        self.context = embed_words(backbone.model, backbone.tokenizer, self.config.context)
        self.embed_classes(len(self.context))
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Begin a stream without prompts in use."""
        prompts = self.config.capacity
        self.initial = self.text_features(self.context[None])[0]  # (C, D)
        self.offsets = torch.zeros_like(self.context).repeat(prompts, 1, 1)  # (P, T, W)
        self.text = self.initial.repeat(prompts, 1, 1)  # (P, C, D)
        self.order: list[int] = []

    @override
    def state(self) -> dict[str, Any]:
        return {"offsets": self.offsets, "text": self.text, "order": self.order}

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        encoded = self.task.encode_views(samples, rngs, self.view_set(self.task))
        return [self.predict(views) for views in F.normalize(encoded, dim=2)]

    def predict(self, views: Float[Tensor, "views dim"]) -> Prediction:
        """Choose the prompts that suit a sample, tune them, and return its prediction under them.

        Args:
            views: unit features of the views, the unaugmented one first.
        """
        unadapted = self.scores(self.initial[None], views[:1])[0, 0]  # (C)
        chosen = self.choose(views)
        self.order = [prompt for prompt in self.order if prompt not in chosen] + chosen
        confident = self.confident(self.text[chosen], views)
        by_step = self.tune(chosen, confident, views[:1]).mean(dim=0)  # (K, steps, C) -> (steps, C)
        return Prediction(by_step[-1], by_step, unadapted)

    def choose(self, views: Float[Tensor, "views dim"]) -> list[int]:
        """Return the prompts that suit a sample: of lower entropy, and a larger difference, than
        the initial prompt. Where none does, a new prompt begins.

        Args:
            views: unit features of the views.

        Source: the paper's dynamic prompt selection and appending. Its section 4 has not been
        compared word by word; the release does otherwise, see docs/methods/tpt.md.
        """
        text = torch.cat([self.initial[None], self.text[self.order]])  # (1 + P, C, D)
        scores = self.scores(text, views)  # (1 + P, V, C)
        entropies = entropy(scores).mean(dim=1)
        differences = probability_difference(scores)
        suits = (entropies < entropies[0]) & (differences > differences[0])
        chosen = [
            prompt for prompt, suited in zip(self.order, suits[1:].tolist(), strict=True) if suited
        ]
        return chosen or [self.renew()]

    def renew(self) -> int:
        """Make a prompt the initial one, and return its number.

        It is one that was not in use, or the least recently used one where all are.
        """
        used = len(self.order)
        prompt = used if used < self.config.capacity else self.order[0]
        self.offsets[prompt], self.text[prompt] = 0, self.initial
        return prompt

    def confident(
        self, text: Float[Tensor, "chosen classes dim"], views: Float[Tensor, "views dim"]
    ) -> Float[Tensor, "kept dim"]:
        """Return the features of the views of lowest entropy, by the mean over prompts.

        Args:
            text: unit text features under the prompts.
            views: unit features of the views.
        """
        entropies = entropy(self.scores(text, views)).mean(dim=0)  # (K, V) -> (V)
        kept = int(len(views) * self.config.selection)
        return views[entropies.argsort(stable=True)[:kept]]

    def tune(
        self,
        chosen: list[int],
        confident: Float[Tensor, "kept dim"],
        image: Float[Tensor, "1 dim"],
    ) -> Float[Tensor, "chosen steps classes"]:
        """Tune prompts down TPT's loss, and return the scores of the image after every step.

        The loss is the mean over prompts of the entropy of the confident views' mean distribution.
        A prompt's gradient does not depend on the others, so a few at a time are enough.

        Args:
            chosen: the prompts.
            confident: unit features of the confident views.
            image: the unit feature of the unaugmented view.
        """
        config, parts = self.config, list[Tensor]()
        for first in range(0, len(chosen), self.stack):
            part = chosen[first : first + self.stack]
            offsets, by_step = self.offsets[part], list[Tensor]()  # a copy, (part, T, W)
            optimizer = torch.optim.AdamW([offsets], lr=config.lr, weight_decay=self.weight_decay)
            start = Start.at(self.context + offsets, self.text_features)
            for step in range(1, config.steps + 1):
                # The loss depends on the prompts by way of the text features alone.
                text = start.text.detach().requires_grad_()
                loss = marginal_entropy(self.scores(text, confident)).sum() / len(chosen)
                offsets.grad = start.gradient(torch.autograd.grad(loss, text)[0])
                optimizer.step()
                with torch.set_grad_enabled(step < config.steps):
                    start = Start.at(self.context + offsets, self.text_features)
                by_step.append(self.scores(start.text.detach(), image)[:, 0])  # (part, C)
            self.offsets[part], self.text[part] = offsets, start.text.detach()
            parts.append(torch.stack(by_step, dim=1))  # (part, steps, C)
        return torch.cat(parts)  # (K, steps, C)

    def scores(
        self, text: Float[Tensor, "prompts classes dim"], views: Float[Tensor, "views dim"]
    ) -> Float[Tensor, "prompts views classes"]:
        """Return the logits of views under every prompt.

        Args:
            text: unit text features under the prompts.
            views: unit features of the views.
        """
        return self.logits(text, views.expand(len(text), -1, -1))


def probability_difference(
    scores: Float[Tensor, "prompts views classes"],
) -> Float[Tensor, " prompts"]:
    """Return how much less probable the views make the image's most probable class, on average.

    A prompt that is as certain of every view has no difference, whether it is right or not.

    Args:
        scores: the scores under every prompt, those of the unaugmented view first.
    """
    probabilities = scores.softmax(dim=2)
    label = probabilities[:, :1].argmax(dim=2, keepdim=True)  # (P, 1, 1)
    of_label = probabilities.gather(2, label.expand(-1, scores.shape[1], -1))[:, :, 0]  # (P, V)
    return of_label[:, 0] - of_label[:, 1:].mean(dim=1)
