"""Residual networks for images of 32 x 32 pixels, with the parameter names of RobustBench's files.

Wide ResNets follow Zagoruyko and Komodakis 2016 (arXiv 1605.07146), ResNets He et al. 2016a (arXiv
1512.03385) and pre-activation ResNets He et al. 2016b (arXiv 1603.05027), with the stem for small
images: one convolution of 3 x 3, and no pooling before the last layer.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

Images = Float[Tensor, "batch 3 height width"]
# Channels and side differ between the input and the output of a block.
Maps = Float[Tensor, "batch _ _ _"]
Logits = Float[Tensor, "batch classes"]


def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size of a map but for its stride."""
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)


class WideBlock(nn.Module):
    """A pre-activation block whose shortcut starts behind the first activation if widths differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs)
        self.convShortcut = (
            None if inputs == outputs else conv(inputs, outputs, side=1, stride=stride)
        )

    @override
    def forward(self, maps: Maps) -> Maps:
        active = F.relu(self.bn1(maps))
        shortcut = maps if self.convShortcut is None else self.convShortcut(active)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))


class WideStage(nn.Module):
    """Blocks of one width; the first has the stride."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(
            first, *(WideBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        )

    @override
    def forward(self, maps: Maps) -> Maps:
        return self.layer(maps)


class WideResNet(nn.Module):
    """A wide residual network of `depth` layers, `width` times as wide as a ResNet.

    Args:
        depth: 6 n + 4 for n blocks in each of three stages.
        width: the factor of the stages' widths 16, 32 and 64.
        classes: outputs.
        spare_stage: whether to have the stage `sub_block1` that some files of RobustBench hold; no
            image passes it.
    """

    def __init__(self, depth: int, width: int, classes: int, spare_stage: bool = False) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = conv(3, 16)
        self.block1 = WideStage(blocks, 16, 16 * width, 1)
        if spare_stage:
            self.sub_block1 = WideStage(blocks, 16, 16 * width, 1)
        self.block2 = WideStage(blocks, 16 * width, 32 * width, 2)
        self.block3 = WideStage(blocks, 32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)

    @override
    def forward(self, pixels: Images) -> Logits:
        maps = self.block3(self.block2(self.block1(self.conv1(pixels))))
        return self.fc(F.relu(self.bn1(maps)).mean((2, 3)))


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3, each followed by BatchNorm."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, width, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = normed_shortcut(inputs, width, stride)

    @override
    def forward(self, maps: Maps) -> Maps:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return F.relu(inner + self.shortcut(maps))


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1, each followed by BatchNorm."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, width, side=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, 4 * width, side=1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = normed_shortcut(inputs, 4 * width, stride)

    @override
    def forward(self, maps: Maps) -> Maps:
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps))))))
        return F.relu(self.bn3(self.conv3(inner)) + self.shortcut(maps))


def normed_shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return the shortcut of a block: nothing, or a convolution of 1 x 1 with BatchNorm."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(conv(inputs, outputs, side=1, stride=stride), nn.BatchNorm2d(outputs))


class PreActivationBlock(nn.Module):
    """BatchNorm and activation before each of two convolutions of 3 x 3.

    Args:
        inputs: channels of the input.
        width: channels of the output.
        stride: the stride of the first convolution.
        raw_shortcut: whether the shortcut's convolution starts before the first activation.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, raw_shortcut: bool = False) -> None:
        super().__init__()
        self.raw_shortcut = raw_shortcut
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, width, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut.append(conv(inputs, width, side=1, stride=stride))

    @override
    def forward(self, maps: Maps) -> Maps:
        active = F.relu(self.bn1(maps))
        from_start = self.raw_shortcut or not len(self.shortcut)
        shortcut = self.shortcut(maps if from_start else active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut


class RawShortcutBlock(PreActivationBlock):
    """A pre-activation block whose shortcut always starts before the first activation."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride, raw_shortcut=True)


Block = type[BasicBlock] | type[Bottleneck] | type[PreActivationBlock]


class ResNet(nn.Module):
    """A residual network of four stages, of 64 to 512 channels times the block's expansion.

    Args:
        block: the kind of its blocks.
        blocks: the number of blocks of each stage.
        classes: outputs.
        norm_first: whether BatchNorm follows the first convolution, as it does unless the blocks
            begin with it.
        norm_last: whether BatchNorm and an activation come before the pooling.
    """

    def __init__(
        self,
        block: Block,
        blocks: Sequence[int],
        classes: int,
        norm_first: bool = True,
        norm_last: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = conv(3, 64)
        self.bn1 = nn.BatchNorm2d(64) if norm_first else None
        channels = 64
        for stage, number in enumerate(blocks):
            width = 64 << stage
            layers: list[nn.Module] = []
            for place in range(number):
                layers.append(block(channels, width, 2 if stage and not place else 1))
                channels = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.bn = nn.BatchNorm2d(channels) if norm_last else None
        self.linear = nn.Linear(channels, classes)

    @override
    def forward(self, pixels: Images) -> Logits:
        maps = self.conv1(pixels)
        if self.bn1 is not None:
            maps = F.relu(self.bn1(maps))
        for stage in range(4):
            maps = self.get_submodule(f"layer{stage + 1}")(maps)
        if self.bn is not None:
            maps = F.relu(self.bn(maps))
        return self.linear(maps.mean((2, 3)))
