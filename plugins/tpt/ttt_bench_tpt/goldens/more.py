"""R-TPT on the tiny CLIP of a golden file of further methods.

Sizes in comments: S samples, V views, C classes, D the size of a feature.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ttt_bench import select_confident
from ttt_bench_tpt.goldens.changed import WIDTH, changed
from ttt_bench_tpt.methods import r_tpt
from ttt_bench_tpt.methods.tpt import Start, tune
from ttt_bench_tpt.text import ClassTexts, embed_words

Pairs = dict[str, tuple[Tensor, Tensor]]


@runtime_checkable
class Towers(Protocol):
    """The tiny CLIP, and the arrays of the file.

    Attributes:
        arrays: all arrays.
        tensors: the arrays that are no text.
        images: the views from which those of every sample are made.
        names: the class names.
    """

    arrays: Mapping[str, np.ndarray]
    tensors: dict[str, Tensor]
    images: Tensor
    names: list[str]

    @property
    def model(self) -> Any:
        """The CLIP."""

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""


class MoreCase:
    """The tiny CLIP with a prompt in front of its class names.

    Attributes:
        texts: text features of every class under contexts.
        context: the context of "a photo of a".
        scale: the CLIP's factor of cosines.
        tensors: the arrays of the file that are no text.
    """

    def __init__(self, file: Towers) -> None:
        self._file, self.scale = file, file.model.logit_scale.exp()
        self.context = embed_words(file.model, file.tokenizer, "a photo of a")
        self.texts = ClassTexts(file.model, file.tokenizer, file.names, len(self.context))
        self.tensors = file.tensors

    def encoded(self, samples: str, mirrored: bool = False) -> Float[Tensor, "samples views dim"]:
        """Return unit features of the views of samples.

        Args:
            samples: the array that names the operation of each sample, see `changed`.
            mirrored: whether the mirror images of all views follow them.
        """
        features: list[Tensor] = []
        for name in self._file.arrays[samples]:
            views = changed(self._file.images, str(name))
            if mirrored:
                views = torch.cat([views, views.flip(WIDTH)])
            features.append(F.normalize(self._file.model.encode_image(views), dim=1))
        return torch.stack(features)  # (S, V, D)

    def logits(self, text: Tensor, features: Tensor) -> Tensor:
        """Return the scores of features under text features."""
        return self.scale * torch.bmm(features, text.mT)

    def value(self, name: str) -> float:
        """Return a number of the file, such as `rtpt/hyper/lr`."""
        return float(self.tensors[name])

    def cases(self, method: str) -> list[str]:
        """Return the cases of a method, such as `rtpt/steps1`."""
        end = "/logits"
        return [
            name.removesuffix(end)
            for name in self.tensors
            if name.startswith(f"{method}/") and name.endswith(end)
        ]

    def paired(self, case: str, outputs: Mapping[str, Tensor]) -> Pairs:
        """Return computed outputs of a case with the file's, by the name of the array."""
        return {
            f"{case}/{name}": (value, self.tensors[f"{case}/{name}"])
            for name, value in outputs.items()
        }


def run_rtpt(file: Towers) -> Pairs:
    """Return what R-TPT computes and what the file expects, by the name of the output.

    Args:
        file: the tiny CLIP, and the arrays.
    """
    case, pairs = MoreCase(file), Pairs()
    views = case.encoded("rtpt/samples", mirrored=True)
    for name in case.cases("rtpt"):
        pairs |= case.paired(name, _rtpt(case, name, views))
    return pairs


def _rtpt(
    case: MoreCase, name: str, views: Float[Tensor, "samples views dim"]
) -> dict[str, Tensor]:
    """Return what R-TPT computes in one case, by the name of the output."""
    cosines = r_tpt.cosines_to_others(views)
    if not name.endswith("self_excluded"):
        # As released, a view is its own neighbour unless its product with itself rounds below 1.
        itself = ~case.tensors[f"{name}/self_dropped_by_release"]
        cosines.diagonal(dim1=1, dim2=2)[itself] = 1.0
    similarity = r_tpt.similarity_to_neighbours(cosines, int(case.value("rtpt/hyper/neighbours")))
    weights = (similarity / case.value("rtpt/hyper/temperature")).softmax(dim=1)
    losses: list[Tensor] = []

    def noted(text: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
        losses.append(r_tpt.uncertainty(text, scores, kept))
        return losses[-1]

    share = case.value(f"{name}/hyper/selection")
    with torch.enable_grad():
        start = Start.at(case.context.expand(len(views), -1, -1), case.texts)  # (S, tokens, W)
        context, predictions = tune(
            case.texts,
            case.logits,
            start,
            views,
            int(case.value(f"{name}/hyper/steps")),
            case.value("rtpt/hyper/lr"),
            share,
            noted,
            case.value("rtpt/hyper/weight_decay"),
            torch.bmm(weights[:, None], views),  # (S, 1, V) x (S, V, D)
        )
    return {
        "logits_before": predictions[:, 0],
        "logits": predictions[:, -1],
        "view_logits": case.logits(case.texts(context), views),
        "neighbour_similarity": similarity,
        "weights": weights,
        "selected": select_confident(case.logits(start.text.detach(), views), share),
        "last_loss": losses[-1].detach(),
        "ctx": context,
    }
