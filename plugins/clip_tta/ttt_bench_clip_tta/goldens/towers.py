"""The methods that need CLIP's towers, on the tiny CLIP of `tpt.npz`.

A file of this kind holds the rest: rows of the token embedding that its prompts need, and a reward
model's projections. C-TPT and RLCF are computed by ttt-bench-tpt's own code.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from ttt_bench_tpt.goldens import towers as prompts
from ttt_bench_tpt.goldens.tpt import load_clip

from ttt_bench import WorkingCopy
from ttt_bench_clip_tta.goldens import layer_norms

PROMPT = "a photo of a {}."
# Arrays of the file of TPT's numbers that lies beside a file of this kind.
BESIDE = "golden_file/"


class TowerFile:
    """The arrays of a golden file of towers, with its CLIP.

    Attributes:
        device: the device to compute on.
        tensors: the arrays that are no text.
        images: the 16 views, as one batch.
        names: the class names.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        beside = {n.removeprefix(BESIDE): v for n, v in arrays.items() if n.startswith(BESIDE)}
        tpt = beside or dict(np.load(Path(prompts.__file__).with_name("tpt.npz")))
        self.arrays = arrays
        self.device = device
        self.tensors = _tensors(arrays, device)
        self._clip = _tensors(tpt, device)
        self.images = self._clip["views"]
        self.names = [str(name).replace("_", " ") for name in tpt["class_names"]]
        self._tokenizer = SimpleTokenizer()

    @cached_property
    def model(self) -> Any:
        """The CLIP, with the file's rows in its token embedding."""
        name = "clip/token_embedding.weight"
        embedding = self._clip[name].clone()
        embedding[self.tensors["tokens/ids"]] = self.tensors["tokens/values"]
        return load_clip({**self._clip, name: embedding}, self.device)

    @property
    def tokenizer(self) -> SimpleTokenizer:
        """Its tokenizer."""
        return self._tokenizer

    def cases(self, prefix: str) -> list[str]:
        """Return the cases whose names begin so and that have predicted probabilities."""
        end = "/probabilities"
        return [
            name.removesuffix(end)
            for name in self.arrays
            if name.startswith(prefix) and name.endswith(end)
        ]

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "prompts dim"]:
        """Return text features of prompts, before any normalization."""
        return self.model.encode_text(self._tokenizer(list(prompts)).to(self.device))

    def texts(self, template: str) -> Float[Tensor, "classes dim"]:
        """Return the unit text feature of each class under a template."""
        return F.normalize(self.encode_text([template.format(n) for n in self.names]), dim=1)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The CLIP's factor of cosines."""
        return self.model.logit_scale.exp()

    def working_copy(self) -> WorkingCopy:
        """Return a copy of the image tower that classifies by "a photo of a {}."."""
        text, scale = self.texts(PROMPT), self.scale

        def encode(tower: nn.Module, pixels: Tensor) -> Tensor:
            return tower(pixels)

        def classify(tower: nn.Module, features: Tensor) -> Tensor:
            return scale * F.normalize(features, dim=1) @ text.T

        return WorkingCopy(copy.deepcopy(self.model.visual), encode, classify)


def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of a computed and an expected value by the name of the output."""
    file = TowerFile(arrays, device)
    share = float(file.tensors["ctpt/hyper/selection"])
    prompt = prompts.PromptCase(file.model, file.tokenizer, file.names, file.images, share)
    tokens = file.tokenizer([PROMPT.format(name) for name in file.names]).to(device)
    reward = prompts.RewardCase(file.model, tokens, file.images, file.tensors)
    computed = prompts.run_ctpt(prompt, file.tensors)
    computed |= prompts.run_rlcf(prompt, reward, file.working_copy(), file.images, file.tensors)
    for run in layer_norms.METHODS:
        computed |= run(file)
    return {name: (value, file.tensors[name]) for name, value in computed.items() if name in arrays}


def _tensors(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(value).to(device)
        for name, value in arrays.items()
        if value.dtype.kind != "U"
    }
