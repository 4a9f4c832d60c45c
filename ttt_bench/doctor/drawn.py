"""A CLIP with drawn weights and drawn photographs: a speed is the same with any numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Dataset, Entry
from ttt_bench.backbones.open_clip import OpenClipBackbone
from ttt_bench.toolkit.quiet import quiet
from ttt_bench.toolkit.seeded import seeded

# Width and height of a usual photograph of ImageNet.
SIZE = (500, 375)


class DrawnClip(OpenClipBackbone):
    """An open_clip model of an architecture; nothing is downloaded."""

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        with quiet(), seeded(0):
            model = open_clip.create_model(argument, force_quick_gelu=True)
        self._matched = {}
        self._adopt(model, open_clip.get_tokenizer(argument), device)


class DrawnPhotographs(Dataset):
    """Drawn images of the size of photographs, with classes whose names are two words long."""

    name = "drawn photographs"

    def __init__(self, argument: str, data_root: Path | None) -> None:
        """Draw the entries.

        Args:
            argument: the number of images and the number of classes, such as "8,200".
            data_root: not used.
        """
        images, classes = (int(part) for part in argument.split(","))
        self.classes = ClassSet(tuple(f"drawn thing {number}" for number in range(classes)))
        self.entries = [Entry(str(number), None, number % classes) for number in range(images)]

    @override
    def open(self, index: int) -> Image.Image:
        draws = np.random.default_rng(index)
        # Smooth, as photographs are: noise costs more to resize than they do.
        coarse = draws.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": "drawn", "corruption_source": None}
