"""The masked autoencoder and the heads that classify its tokens, on timm's blocks.

Parameters have the names of the authors' checkpoints, so that those load as they are.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

MASK_RATIO = 0.75
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


@dataclass(frozen=True)
class Tower:
    """A stack of transformer blocks: its width, their number, and the attention heads of each."""

    width: int
    depth: int
    heads: int

    def blocks(self) -> nn.ModuleList:
        """The blocks, with fresh weights."""
        return nn.ModuleList(
            Block(self.width, self.heads, qkv_bias=True, norm_layer=cast(Any, LayerNorm))
            for _ in range(self.depth)
        )


@dataclass(frozen=True)
class Sizes:
    """What a masked autoencoder is built of; image and patch are sides in pixels."""

    image: int
    patch: int
    encoder: Tower
    decoder: Tower

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image // self.patch


class MAENetwork(nn.Module):
    """MAE's encoder and decoder (He et al. 2022, arXiv 2111.06377, section 3)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        encoder, decoder, grid = sizes.encoder, sizes.decoder, sizes.grid
        self.patch_embed = PatchEmbed(sizes.image, sizes.patch, 3, encoder.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, encoder.width))
        self.pos_embed = fixed(position_codes(encoder.width, grid))
        self.blocks = encoder.blocks()
        self.norm = LayerNorm(encoder.width)
        self.decoder_embed = nn.Linear(encoder.width, decoder.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder.width))
        self.decoder_pos_embed = fixed(position_codes(decoder.width, grid))
        self.decoder_blocks = decoder.blocks()
        self.decoder_norm = LayerNorm(decoder.width)
        self.decoder_pred = nn.Linear(decoder.width, 3 * sizes.patch**2)
        self.apply(draw_weights)
        # A patch's projection is a linear layer that happens to be written as a convolution.
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.flatten(1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def embed(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches width"]:
        """The patches of images, each with its position."""
        return self.patch_embed(images) + self.pos_embed[:, 1:]

    def encode(
        self, patches: Float[Tensor, "batch kept width"]
    ) -> Float[Tensor, "batch kept_and_one width"]:
        """The encoder's tokens for embedded patches: CLS first, then one per patch."""
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        tokens = torch.cat([cls_token, patches], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches_and_one width"]:
        """The tokens of whole images, nothing masked."""
        return self.encode(self.embed(images))

    def decode(
        self,
        tokens: Float[Tensor, "batch kept_and_one width"],
        restore: Int[Tensor, "batch patches"],
    ) -> Float[Tensor, "batch patches pixels"]:
        """Every patch's pixels, from the tokens of those that were kept.

        Args:
            restore: for each patch, its place among the kept ones followed by the masked ones.
        """
        embedded = self.decoder_embed(tokens)
        masked = restore.shape[1] + 1 - tokens.shape[1]
        filled = torch.cat([embedded[:, 1:], self.mask_token.expand(len(tokens), masked, -1)], 1)
        patches = filled.gather(1, restore[:, :, None].expand(-1, -1, filled.shape[2]))
        hidden = torch.cat([embedded[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            hidden = block(hidden)
        return self.decoder_pred(self.decoder_norm(hidden))[:, 1:]

    def reconstruction_loss(
        self,
        images: Float[Tensor, "images 3 side side"],
        noise: Float[Tensor, "batch patches"],
        mask_ratio: float = MASK_RATIO,
    ) -> Float[Tensor, ""]:
        """Mean squared error on the normalized pixels of the masked patches.

        Args:
            images: one for every row of `noise`, or a single one that all rows share; that one's
                patches are embedded once.
            noise: uniform; the patches with the most of it, a share of `mask_ratio`, are hidden.
        """
        order = noise.argsort(dim=1)
        restore = order.argsort(dim=1)
        seen = order[:, : int(noise.shape[1] * (1 - mask_ratio))]
        patches = self.embed(images).expand(len(noise), -1, -1)
        visible = patches.gather(1, seen[:, :, None].expand(-1, -1, patches.shape[2]))
        predicted = self.decode(self.encode(visible), restore)
        error = (predicted - self.targets(images)).square().mean(dim=2)
        masked = (restore >= seen.shape[1]).to(error.dtype)
        return (error * masked).sum() / masked.sum()

    def targets(
        self, images: Float[Tensor, "images 3 side side"]
    ) -> Float[Tensor, "images patches pixels"]:
        """Each patch's pixels (row, column, channel) less their mean, over their deviation."""
        grid, patch = self.sizes.grid, self.sizes.patch
        cut = images.reshape(len(images), 3, grid, patch, grid, patch)
        pixels = cut.permute(0, 2, 4, 3, 5, 1).reshape(len(images), grid**2, 3 * patch**2)
        spread = pixels.var(dim=2, keepdim=True).add(1e-6).sqrt()
        return (pixels - pixels.mean(dim=2, keepdim=True)) / spread


class ViTHead(nn.Module):
    """Transformer blocks on the encoder's tokens, and a linear layer on CLS.

    Source: Gandelsman et al. 2022, arXiv 2209.07522, section 4 (ViT probing).
    """

    def __init__(self, features: int, grid: int, tower: Tower, classes: int) -> None:
        super().__init__()
        self.tower = tower
        self.embed = nn.Linear(features, tower.width)
        self.pos_embed = fixed(position_codes(tower.width, grid))
        self.blocks = tower.blocks()
        self.norm = LayerNorm(tower.width)
        self.pred = nn.Linear(tower.width, classes)
        self.classes = classes
        self.apply(draw_weights)

    def forward(
        self, tokens: Float[Tensor, "batch patches_and_one width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits from the tokens of whole images."""
        hidden = self.embed(tokens) + self.pos_embed
        for block in self.blocks:
            hidden = block(hidden)
        return self.pred(self.norm(hidden)[:, 0])


class LinearHead(nn.Module):
    """A linear layer on the normalized CLS token (He et al. 2022, appendix A, linear probing)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(features, affine=False, eps=1e-6)
        self.head = nn.Linear(features, classes)
        self.classes = classes
        self.apply(draw_weights)

    def forward(
        self, tokens: Float[Tensor, "batch patches_and_one width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits from the tokens of whole images."""
        return self.head(self.bn(tokens[:, 0]))


Head = ViTHead | LinearHead


def fixed(codes: Float[Tensor, "1 positions width"]) -> nn.Parameter:
    """An entry of the checkpoints that never learns."""
    return nn.Parameter(codes, requires_grad=False)


def position_codes(width: int, grid: int) -> Float[Tensor, "1 positions width"]:
    """MAE's position codes: CLS's is zero; half of the width says the column, half the row.

    Within a half all sines come first, then all cosines, with frequencies 10000^(-i / (half / 2)).
    """
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = line.expand(grid, -1, -1)
    rows = line[:, None].expand(-1, grid, -1)
    codes = torch.cat([columns, rows], dim=2).reshape(grid**2, width)
    return torch.cat([torch.zeros(1, width), codes.float()])[None]


def draw_weights(module: nn.Module) -> None:
    """Xavier's uniform draw for linear layers, zeros for their biases (MAE, appendix A)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
