"""DynaPrompt as released, on the tiny CLIP of a golden file of further methods.

Sizes in comments: P prompts, V views, C classes.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from ttt_bench import entropy
from ttt_bench_tpt.goldens.more import MoreCase, Pairs, Towers
from ttt_bench_tpt.methods.dynaprompt import DynaPrompt, DynaPromptConfig


class AsReleased(DynaPrompt):
    """DynaPrompt with what its release does otherwise.

    Every prompt takes part from the start. Once all have been used, each sample begins with a new
    prompt in place of the least recently used one, which is always among the chosen ones. Prompts
    are chosen by mistaken numbers. All prompts decay at every sample.

    Attributes:
        uses: how often each prompt was used since it began.
        expected: the file's arrays of the case, a row for each sample.
        number: the number of the sample.
        outputs: what was computed for every sample.
    """

    def __init__(self, case: MoreCase, name: str) -> None:
        number, rate, share = (
            case.value(f"{name}/hyper/{field}") for field in ("prompts", "lr", "selection")
        )
        values = {"capacity": int(number), "lr": rate, "selection": share}
        super().__init__(DynaPromptConfig.model_validate(values))
        self.texts, self.context = case.texts, case.context
        self.scale, self.stack = case.scale, self.config.capacity
        self.weight_decay = case.value("dynaprompt/hyper/weight_decay")
        prefix = f"{name}/"
        self.expected = {
            array.removeprefix(prefix): value
            for array, value in case.tensors.items()
            if array.startswith(prefix)
        }
        self.appends = not name.endswith("noappend")
        self.number, self.outputs = 0, dict[str, list[Tensor]]()
        self.begin()

    @override
    def begin(self) -> None:
        super().begin()
        prompts = self.config.capacity
        self.order, self.uses = list(range(prompts)), [0] * prompts
        if "ctx_start" in self.expected:
            self.place(self.expected["ctx_start"])

    def place(self, offsets: Float[Tensor, "prompts tokens width"]) -> None:
        """Set all prompts."""
        self.offsets = offsets.clone()
        self.text = self.text_features(self.context + self.offsets)

    def go_on_from(self, number: int) -> None:
        """Set everything to what the file holds after a sample."""
        self.place(self.expected["ctx"][number])
        self.order = self.expected["order"][number].tolist()
        self.uses = self.expected["uses"][number].tolist()

    def run(self, views: Float[Tensor, "samples views dim"]) -> Mapping[str, Tensor]:
        """Return everything that is computed along a stream, a row for each sample.

        Without new prompts the steps of a prompt pile up rounding, so each sample of such a case
        goes on from the file's prompts.
        """
        for self.number, own in enumerate(views):
            if self.number and not self.appends:
                self.go_on_from(self.number - 1)
            self.note(logits=self.predict(own).logits)
            self.note(ctx=self.offsets.clone(), order=torch.tensor(self.order))
            self.note(uses=torch.tensor(self.uses))
        return {name: torch.stack(rows) for name, rows in self.outputs.items()}

    def note(self, **outputs: Tensor) -> None:
        """Keep what was computed for a sample."""
        for name, value in outputs.items():
            self.outputs.setdefault(name, []).append(value)

    @override
    def text_features(
        self, context: Float[Tensor, "samples tokens width"]
    ) -> Float[Tensor, "samples classes dim"]:
        return self.texts(context)

    @override
    def choose(self, views: Float[Tensor, "views dim"]) -> list[int]:
        reference = self.order[0]
        if self.appends and 0 not in self.uses:
            self.offsets[reference], self.text[reference] = 0, self.initial
            self.uses[reference] = 0
        scores = self.scores(self.text, views)  # (P, V, C)
        largest = scores.amax(dim=2)  # (P, V)
        self.note(
            prompt_entropy=entropy(scores).mean(dim=1),
            prompt_plpd=(largest[:, :1] - largest[:, 1:]).mean(dim=1),
            zero_before=(self.offsets == 0).all(dim=(1, 2)),
        )
        # Prompts that are the same tie, and the sort decides: the orders are the file's.
        by_entropy, by_difference = (
            self.expected[f"{name}_order"][self.number].tolist() for name in ("entropy", "plpd")
        )
        rank = by_entropy.index(reference)
        lower = by_entropy[min(rank + 1, len(by_entropy) - 1) :]
        both = sorted(set(lower) & set(by_difference[:rank]))
        chosen = [*(by_entropy[prompt] for prompt in both), reference]
        for prompt in chosen:
            self.uses[prompt] += 1
        self.note(chosen=torch.tensor([prompt in chosen for prompt in range(len(self.order))]))
        return chosen

    @override
    def confident(
        self, text: Float[Tensor, "chosen classes dim"], views: Float[Tensor, "views dim"]
    ) -> Float[Tensor, "kept dim"]:
        kept = super().confident(text, views)
        self.note(selected=(kept[:, None] == views).all(dim=2).int().argmax(dim=1))
        return kept

    @override
    def tune(
        self,
        chosen: list[int],
        confident: Float[Tensor, "kept dim"],
        image: Float[Tensor, "1 dim"],
    ) -> Float[Tensor, "chosen steps classes"]:
        # The mistaken numbers can name the reference twice.
        self.order = list(dict.fromkeys(reversed(self.order)))[::-1]
        scores = super().tune(chosen, confident, image)
        others = [prompt for prompt in range(len(self.offsets)) if prompt not in chosen]
        self.offsets[others] *= 1 - self.config.lr * self.weight_decay
        if others:
            self.text[others] = self.text_features(self.context + self.offsets[others])
        return scores


def run_dynaprompt(file: Towers) -> Pairs:
    """Return what DynaPrompt computes and what the file expects, by the name of the output.

    Args:
        file: the tiny CLIP, and the arrays.
    """
    case, pairs = MoreCase(file), Pairs()
    views = case.encoded("dynaprompt/stream")
    for name in case.cases("dynaprompt"):
        with torch.enable_grad():
            outputs = AsReleased(case, name).run(views)
        pairs |= case.paired(name, outputs)
    return pairs
