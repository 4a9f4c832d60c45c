"""The masked autoencoder and the heads on its tokens, built of timm's blocks.

Parameters have the names of the authors' checkpoints, so that these load as they are.

Sizes in comments: B batch, L patches, K kept patches, W width of the encoder, V of the decoder,
g patches per side, p pixels per side of a patch.
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
    """A stack of transformer blocks.

    Attributes:
        width: size of a token.
        depth: number of blocks.
        heads: attention heads of each block.
    """

    width: int
    depth: int
    heads: int

    def blocks(self) -> nn.ModuleList:
        """Return the blocks with fresh weights."""
        return nn.ModuleList(
            Block(self.width, self.heads, qkv_bias=True, norm_layer=cast(Any, LayerNorm))
            for _ in range(self.depth)
        )


@dataclass(frozen=True)
class Sizes:
    """The sizes of a masked autoencoder.

    Attributes:
        image: side of an image in pixels.
        patch: side of a patch in pixels.
        encoder: the encoder's blocks.
        decoder: the decoder's blocks.
    """

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
        # The projection of patches is a linear layer written as a convolution.
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.flatten(1))  # (W, 3*p*p)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def embed(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches width"]:
        """Return the embedded patches of images, each with its position."""
        return self.patch_embed(images) + self.pos_embed[:, 1:]

    def encode(
        self, patches: Float[Tensor, "batch kept width"]
    ) -> Float[Tensor, "batch kept_and_one width"]:
        """Return the encoder's tokens of embedded patches: CLS first, then one per patch."""
        cls_token = self.cls_token + self.pos_embed[:, :1]  # (1, 1, W)
        cls_token = cls_token.expand(len(patches), -1, -1)  # (B, 1, W)
        tokens = torch.cat([cls_token, patches], dim=1)  # (B, 1 + K, W)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches_and_one width"]:
        """Return the tokens of whole images, with no patch hidden."""
        return self.encode(self.embed(images))

    def decode(
        self,
        tokens: Float[Tensor, "batch kept_and_one width"],
        restore: Int[Tensor, "batch patches"],
    ) -> Float[Tensor, "batch patches pixels"]:
        """Return the pixels of every patch, from the tokens of the kept ones.

        Args:
            tokens: CLS, then the kept patches.
            restore: for each patch, its index among the kept ones followed by the hidden ones.
        """
        embedded = self.decoder_embed(tokens)  # (B, 1 + K, V)
        hidden_patches = restore.shape[1] + 1 - tokens.shape[1]
        mask_tokens = self.mask_token.expand(len(tokens), hidden_patches, -1)  # (B, L - K, V)
        shuffled = torch.cat([embedded[:, 1:], mask_tokens], dim=1)  # (B, L, V)
        index = restore[:, :, None].expand(-1, -1, shuffled.shape[2])  # (B, L, V)
        patches = shuffled.gather(1, index)  # (B, L, V), in the order of the image
        decoded = torch.cat([embedded[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            decoded = block(decoded)  # (B, 1 + L, V)
        return self.decoder_pred(self.decoder_norm(decoded))[:, 1:]  # (B, L, 3*p*p)

    def reconstruction_loss(
        self,
        images: Float[Tensor, "images 3 side side"],
        noise: Float[Tensor, "batch patches"],
        mask_ratio: float = MASK_RATIO,
    ) -> Float[Tensor, ""]:
        """Return the mean squared error on the normalized pixels of the hidden patches.

        Args:
            images: one for every row of `noise`, or a single one for all rows, whose patches are
                embedded once.
            noise: uniform draws; the patches of the highest are hidden.
            mask_ratio: share of the patches to hide.
        """
        order = noise.argsort(dim=1)  # (B, L)
        restore = order.argsort(dim=1)  # (B, L), the inverse of `order`
        kept = order[:, : int(noise.shape[1] * (1 - mask_ratio))]  # (B, K)
        patches = self.embed(images).expand(len(noise), -1, -1)  # (B, L, W)
        index = kept[:, :, None].expand(-1, -1, patches.shape[2])  # (B, K, W)
        visible = patches.gather(1, index)  # (B, K, W)
        predicted = self.decode(self.encode(visible), restore)  # (B, L, 3*p*p)
        error = (predicted - self.targets(images)).square().mean(dim=2)  # (B, L)
        hidden = (restore >= kept.shape[1]).to(error.dtype)  # (B, L), 1 where a patch is hidden
        return (error * hidden).sum() / hidden.sum()

    def targets(
        self, images: Float[Tensor, "images 3 side side"]
    ) -> Float[Tensor, "images patches pixels"]:
        """Return the pixels of each patch (row, column, channel), normalized over the patch."""
        grid, patch = self.sizes.grid, self.sizes.patch
        pixels = images.reshape(len(images), 3, grid, patch, grid, patch)  # (B, 3, g, p, g, p)
        pixels = pixels.permute(0, 2, 4, 3, 5, 1)  # (B, g, g, p, p, 3)
        pixels = pixels.reshape(len(images), grid**2, 3 * patch**2)  # (B, L, 3*p*p)
        deviation = pixels.var(dim=2, keepdim=True).add(1e-6).sqrt()  # (B, L, 1)
        return (pixels - pixels.mean(dim=2, keepdim=True)) / deviation


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
        """Return the logits of the tokens of whole images."""
        hidden = self.embed(tokens) + self.pos_embed  # (B, 1 + L, width of the head)
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
        """Return the logits of the tokens of whole images."""
        return self.head(self.bn(tokens[:, 0]))


Head = ViTHead | LinearHead


def fixed(codes: Float[Tensor, "1 positions width"]) -> nn.Parameter:
    """Return a parameter that never learns, but stands in the checkpoints."""
    return nn.Parameter(codes, requires_grad=False)


def position_codes(width: int, grid: int) -> Float[Tensor, "1 positions width"]:
    """Return MAE's position codes: zeros for CLS; half of the width for the column, half the row.

    In each half all sines come first, then all cosines, with frequencies 10000^(-i / (half / 2)).

    Source: He et al. 2022, arXiv 2111.06377, appendix A.1, and its official code.
    """
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies  # (g, W/4)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (g, W/2)
    columns = line.expand(grid, -1, -1)  # (g, g, W/2)
    rows = line[:, None].expand(-1, grid, -1)  # (g, g, W/2)
    codes = torch.cat([columns, rows], dim=2).reshape(grid**2, width)  # (L, W)
    return torch.cat([torch.zeros(1, width), codes.float()])[None]  # (1, 1 + L, W)


def draw_weights(module: nn.Module) -> None:
    """Draw the weights of a linear layer by Xavier's uniform rule; its biases are zero."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
