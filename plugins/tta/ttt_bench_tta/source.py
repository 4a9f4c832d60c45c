"""TrainingBatches: the dataset's training images in batches, for methods that see them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ttt_bench import Task, UserError


class TrainingBatches:
    """Training images in batches, each of them spread over the whole training set.

    Attributes:
        indices: for every batch the places of its images in the training set.
    """

    def __init__(self, task: Task, batch_size: int, most: int | None = None) -> None:
        """Share the images out.

        Args:
            task: the task whose training images are taken.
            batch_size: images in a batch; fewer left over go into the other batches.
            most: how many images are taken at most, None for all.
        """
        self._task = task
        available = len(task.source_images)
        count = available if most is None else min(most, available)
        batches = max(1, count // batch_size)
        self.indices = [
            [place * available // count for place in range(first, count, batches)]
            for first in range(batches)
        ]

    def __len__(self) -> int:
        return len(self.indices)

    def pixels(self, number: int) -> Float[Tensor, "batch 3 side side"]:
        """Return the images of a batch, transformed, on the device."""
        preprocess, images = self._task.backbone.preprocess, self._task.source_images
        pixels = [preprocess(images[index]) for index in self.indices[number]]
        return torch.stack(pixels).to(self._task.device)

    def labels(self, number: int) -> Int[Tensor, " batch"]:
        """Return the classes of the images of a batch, on the device."""
        labels = [self._task.source_labels[index] for index in self.indices[number]]
        return torch.tensor(labels, device=self._task.device)


def require_training_images(task: Task, method: str, instead: str) -> None:
    """Refuse a dataset without training images.

    Args:
        task: the task.
        method: the name of the method that needs them.
        instead: the name of a method that needs none.

    Raises:
        UserError: there are none.
    """
    if not task.source_images:
        raise UserError(
            f"{method} needs training images, and the dataset has none; take a dataset that has "
            f"some, or the method {instead}"
        )
