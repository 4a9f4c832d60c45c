"""DynaPrompt chooses the prompts that suit an image, tunes those alone, and forgets the oldest."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from ttt_bench_tpt.methods.dynaprompt import DynaPrompt, DynaPromptConfig, probability_difference
from ttt_bench_tpt.methods.tpt import Start, tune
from typing_extensions import override

PROMPTS, TOKENS, WIDTH, CLASSES, DIM, VIEWS = 3, 2, 6, 4, 8, 8


class ToyTexts(DynaPrompt):
    """DynaPrompt on text features that a small function makes, without a backbone.

    Attributes:
        chosen: the prompts to choose next, None for those that suit.
    """

    def __init__(self, **settings: float) -> None:
        super().__init__(DynaPromptConfig(views=VIEWS, selection=0.5, capacity=PROMPTS, **settings))
        draw = torch.Generator().manual_seed(0)
        self.map = torch.randn(TOKENS * WIDTH, CLASSES * DIM, generator=draw)
        self.context = torch.randn(TOKENS, WIDTH, generator=draw)
        self.scale, self.stack = torch.tensor(20.0), 2
        self.chosen: list[int] | None = None
        self.begin()

    @override
    def text_features(self, context: Tensor) -> Tensor:
        features = context.flatten(1) @ self.map  # (S, T*W) -> (S, C*D)
        return F.normalize(features.view(-1, CLASSES, DIM), dim=2)

    @override
    def choose(self, views: Tensor) -> list[int]:
        return super().choose(views) if self.chosen is None else self.chosen


def views_of(sample: int) -> Tensor:
    draw = torch.Generator().manual_seed(100 + sample)
    centre = torch.randn(DIM, generator=draw)
    return F.normalize(centre + torch.randn(VIEWS, DIM, generator=draw), dim=1)


def test_the_first_image_is_predicted_as_tpt_predicts_it():
    method, views = ToyTexts(steps=2), views_of(0)
    method.weight_decay = 0.0
    start = Start.at(method.context[None], method.text_features)
    _, scores = tune(
        method.text_features, method.logits, start, views[None], 2, 5e-3, 0.5, weight_decay=0.0
    )
    prediction = method.predict(views)
    assert prediction.step_logits is not None
    assert prediction.unadapted_logits is not None
    torch.testing.assert_close(prediction.unadapted_logits, scores[0, 0])
    torch.testing.assert_close(prediction.step_logits, scores[0, 1:], rtol=0, atol=1e-4)
    assert (scores[0, 0] - scores[0, 2]).abs().max() > 1e-2
    assert method.order == [0]


def test_an_image_tunes_the_chosen_prompts_alone_and_they_become_the_newest():
    method = ToyTexts()
    for number in range(PROMPTS):
        method.chosen = [method.renew()]
        method.predict(views_of(number))
    assert method.order == [0, 1, 2]
    before = method.offsets.clone(), method.text.clone()
    method.chosen = [0, 2]
    prediction = method.predict(views_of(3))
    assert method.order == [1, 0, 2]
    changed = (method.offsets != before[0]).any(dim=2).any(dim=1)
    assert changed.tolist() == [True, False, True]
    assert torch.equal(method.text[1], before[1][1])
    assert torch.equal(method.text, method.text_features(method.context + method.offsets))
    expected = method.scores(method.text[[0, 2]], views_of(3)[:1]).mean(dim=0)[0]
    torch.testing.assert_close(prediction.logits, expected)


@pytest.mark.parametrize("stack", [1, 2])
def test_prompts_that_are_tuned_together_give_what_they_give_by_themselves(stack: int):
    methods = [ToyTexts(steps=2) for _ in range(2)]
    for method in methods:
        for number in range(PROMPTS):
            method.chosen = [method.renew()]
            method.predict(views_of(number))
        method.chosen = [0, 1, 2]
    methods[1].stack = stack
    methods[0].stack = PROMPTS
    both = [method.predict(views_of(3)) for method in methods]
    torch.testing.assert_close(both[0].logits, both[1].logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(methods[0].offsets, methods[1].offsets, rtol=0, atol=1e-6)


def test_a_new_prompt_takes_the_place_of_the_least_recently_used_one():
    method = ToyTexts()
    for number in range(PROMPTS):
        method.chosen = [method.renew()]
        method.predict(views_of(number))
    method.order = [1, 2, 0]
    assert method.renew() == 1
    assert not method.offsets[1].any()
    assert torch.equal(method.text[1], method.initial)


def test_prompts_suit_by_both_measures_and_equal_ones_do_not():
    method = ToyTexts()
    scores = torch.zeros(1 + PROMPTS, VIEWS, CLASSES)
    # The initial prompt comes first.
    scores[:, :, 0] = 2.0
    scores[:, 0, 0] = 3.0
    scores[1, :, 0] = 50.0  # certain of everything: a lower entropy, no difference
    scores[2, 1:, 0] = 0.0  # a larger difference, a higher entropy
    scores[3, 0, 0], scores[3, 1:, 0] = 50.0, 2.5  # both
    method.order = [1, 2, 0]
    for under_prompts, expected in ((scores, [0]), (scores[:1].repeat(4, 1, 1), [1])):
        method.scores = lambda text, views, values=under_prompts: values  # pyright: ignore
        # Where none suits, the least recently used one begins anew.
        assert method.choose(views_of(0)) == expected


def test_the_difference_is_of_the_images_own_class():
    scores = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]]).log()
    torch.testing.assert_close(probability_difference(scores), torch.tensor([0.5 - 0.2]))
