"""The classes of a dataset and how prompts name them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ttt_bench.api.errors import UserError

PROMPT = "a photo of a {}."
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class ClassSet:
    """The candidate classes of a task, in the order of the logits.

    Attributes:
        names: what the classes are called in prompts.
        prompt: the single template.
        templates: the templates of the prompt ensemble; the single template where none are given.
        imagenet_indices: the position of each class among ImageNet-1k's 1000, None where the
            classes are not ImageNet's.
    """

    names: tuple[str, ...]
    prompt: str = PROMPT
    templates: tuple[str, ...] = ()
    imagenet_indices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.templates:
            object.__setattr__(self, "templates", (self.prompt,))

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, labels: Sequence[int]) -> "ClassSet":
        """Return the classes of these labels, in this order."""
        known = self.imagenet_indices
        return ClassSet(
            tuple(self.names[label] for label in labels),
            self.prompt,
            self.templates,
            None if known is None else tuple(known[label] for label in labels),
        )

    def head_outputs(self, owner: str, outputs: int) -> list[int]:
        """Return the outputs of a trained head that are these classes, in their order.

        Args:
            owner: whose head it is, for the message.
            outputs: how many the head has.

        Raises:
            UserError: the head has neither one output for each class nor ImageNet-1k's 1000.
        """
        if self.imagenet_indices is not None and outputs == IMAGENET_CLASSES:
            return list(self.imagenet_indices)
        if outputs == len(self):
            return list(range(outputs))
        raise UserError(
            f"{owner} head has {outputs} outputs, the dataset has {len(self)} classes; "
            "take a dataset of the head's classes, or weights with a head for these"
        )
