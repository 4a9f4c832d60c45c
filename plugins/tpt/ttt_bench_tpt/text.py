"""Text features of all classes as a function of the context tokens, and of nothing else.

The prompts are [SOS][context][class name][.][EOS]. Attention is causal and a feature is read at
EOS, so three things can be left out without changing a number but for rounding:

* what stands behind the longest prompt (of 77 tokens, a dozen are used);
* computing [SOS][context] once per class: it is a prefix they share, its keys and values too;
* in the last layer, everything but the keys and values and the one token that is read.

Samples are stacked: each has a context of its own. The frozen weights take part in batched
products, one of the same shape for every sample, so that no sample's rounding depends on others.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from ttt_bench import UserError, batch_invariant_matmul

# A ResidualAttentionBlock; torch types what modules hold as "tensor or module", so: anything.
Block = Any


class ClassTexts:
    """The class names of a task, ready to be prompted.

    Attributes:
        width: of a token, W.
        prefix: tokens before the class name, 1 + the number of context tokens.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, class_names: Sequence[str], context_tokens: int
    ) -> None:
        """Embed the class names behind a context of so many tokens.

        Raises:
            UserError: the text tower is none of open_clip's causal transformers, or a name is too
                long for its context.
        """
        self.tower = causal_text_tower(model)
        device = self.tower.positional_embedding.device
        names = [name.replace("_", " ") for name in class_names]
        length = self.tower.context_length
        for name in names:
            needed = 2 + context_tokens + len(tokenizer.encode(f"{name}."))
            if needed > length:
                raise UserError(
                    f"the class name {name!r} does not fit: with {context_tokens} context tokens "
                    f"its prompt has {needed} tokens, the text tower takes {length}"
                )
        placeholder = " ".join(["X"] * context_tokens)
        tokens = tokenizer([f"{placeholder} {name}." for name in names]).to(device)
        end = tokens.argmax(dim=1)
        self.prefix = 1 + context_tokens
        used = slice(self.prefix, int(end.max()) + 1)
        embedded = self.tower.token_embedding(tokens).detach()
        positions = self.tower.positional_embedding.detach()
        self.width = embedded.shape[2]
        self.start = embedded[:1, :1]
        self.prefix_positions = positions[: self.prefix]
        self.names = embedded[:, used] + positions[used]
        self.end = end - self.prefix
        self.blocks = list(self.tower.transformer.resblocks)
        total = self.prefix + self.names.shape[1]
        everything = torch.ones(total, total, dtype=torch.bool, device=device).tril()
        self.causal = everything[: self.prefix, : self.prefix]
        self.visible = everything[self.prefix :]

    def __call__(
        self, context: Float[Tensor, "samples tokens width"]
    ) -> Float[Tensor, "samples classes dim"]:
        """Unit text features of every class under every sample's context."""
        samples, (classes, suffix, width) = len(context), self.names.shape
        start = self.start.expand(samples, -1, -1)
        shared = torch.cat([start, context], dim=1) + self.prefix_positions
        own = self.names.expand(samples, -1, -1, -1).reshape(samples, classes * suffix, width)
        for block in self.blocks[:-1]:
            shared, own = self._layer(block, shared, own, classes)
        read = self._last_layer(self.blocks[-1], shared, own, classes)
        read = self.tower.ln_final(read)
        projection = self.tower.text_projection
        if isinstance(projection, nn.Linear):
            features = linear(read, projection.weight, projection.bias)
        else:
            features = linear(read, projection.T, None)
        return F.normalize(features, dim=-1)

    def _layer(
        self,
        block: Block,
        shared: Float[Tensor, "samples prefix width"],
        own: Float[Tensor, "samples suffixes width"],
        classes: int,
    ) -> tuple[Float[Tensor, "samples prefix width"], Float[Tensor, "samples suffixes width"]]:
        of_shared = self._project(block, block.ln_1(shared), 3)
        of_own = self._project(block, block.ln_1(own), 3)
        query, key, value = of_shared
        attended = attend(query, key, value, self.causal)
        shared = self._close(block, shared, _merge(attended))
        query, key, value = (self._by_class(part, classes) for part in of_own)
        attended = attend(
            query,
            self._behind(of_shared[1], key, classes),
            self._behind(of_shared[2], value, classes),
            self.visible,
        )
        attended = _merge(attended).reshape(own.shape)
        return shared, self._close(block, own, attended)

    def _last_layer(
        self,
        block: Block,
        shared: Float[Tensor, "samples prefix width"],
        own: Float[Tensor, "samples suffixes width"],
        classes: int,
    ) -> Float[Tensor, "samples classes width"]:
        """The token at EOS alone; the others matter through their keys and values only."""
        normed = block.ln_1(own)
        suffix = own.shape[1] // classes
        at_end = torch.arange(classes, device=own.device) * suffix + self.end
        (query,) = self._project(block, normed[:, at_end], 1)
        of_shared = self._project(block, block.ln_1(shared), 2, first=1)
        of_own = self._project(block, normed, 2, first=1)
        key, value = (self._by_class(part, classes) for part in of_own)
        # A class is one query here: heads in front of it, one token behind.
        query = query.transpose(1, 2).flatten(0, 1)[:, :, None]
        attended = attend(
            query,
            self._behind(of_shared[0], key, classes),
            self._behind(of_shared[1], value, classes),
            self.visible[self.end][:, None, None].repeat(len(own), 1, 1, 1),
        )
        return self._close(block, own[:, at_end], _merge(attended).reshape(len(own), classes, -1))

    def _project(self, block: Block, tokens: Tensor, parts: int, first: int = 0) -> list[Tensor]:
        """`parts` of query, key and value from the `first`, each `[samples heads tokens d]`."""
        attention, width = block.attn, self.width
        rows = slice(first * width, (first + parts) * width)
        weight, bias = attention.in_proj_weight[rows], attention.in_proj_bias[rows]
        heads = attention.num_heads
        projected = linear(tokens, weight, bias).chunk(parts, dim=2)
        return [part.unflatten(2, (heads, -1)).transpose(1, 2) for part in projected]

    def _close(self, block: Block, tokens: Tensor, attended: Tensor) -> Tensor:
        """The rest of a block after attention: output projection, residuals, MLP."""
        out = block.attn.out_proj
        tokens = tokens + block.ls_1(linear(attended, out.weight, out.bias))
        hidden = linear(block.ln_2(tokens), block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        hidden = block.mlp.gelu(hidden)
        closing = linear(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias)
        return tokens + block.ls_2(closing)

    def _by_class(self, part: Tensor, classes: int) -> Tensor:
        """`[samples heads classes*suffix d]` as `[samples*classes heads suffix d]`."""
        return part.unflatten(2, (classes, -1)).transpose(1, 2).flatten(0, 1)

    def _behind(self, shared: Tensor, own: Tensor, classes: int) -> Tensor:
        """Keys or values of the shared prefix, then those of each class."""
        repeated = shared[:, None].expand(-1, classes, -1, -1, -1).flatten(0, 1)
        return torch.cat([repeated, own], dim=2)


def first_context(model: nn.Module, tokenizer: Any, words: str) -> Float[Tensor, "tokens width"]:
    """The token embeddings of some words: where a context starts.

    Raises:
        UserError: as for `causal_text_tower`.
    """
    tower = causal_text_tower(model)
    tokens = torch.tensor(tokenizer.encode(words), device=tower.positional_embedding.device)
    return tower.token_embedding(tokens).detach()


def linear(
    tokens: Float[Tensor, "samples tokens width"],
    weight: Float[Tensor, "out width"],
    bias: Float[Tensor, " out"] | None,
) -> Float[Tensor, "samples tokens out"]:
    """A linear layer as one product per sample, each of the same shape."""
    product = batch_invariant_matmul(tokens, weight.T)
    return product if bias is None else product + bias


def attend(
    query: Float[Tensor, "batch heads queries d"],
    key: Float[Tensor, "batch heads keys d"],
    value: Float[Tensor, "batch heads keys d"],
    visible: Bool[Tensor, "*stack queries keys"],
) -> Float[Tensor, "batch heads queries d"]:
    """Attention in stacked products; the fused kernel rounds by the size of the batch."""
    stack = query.shape[:2]
    scaled = query.flatten(0, 1) / query.shape[3] ** 0.5
    scores = batch_invariant_matmul(scaled, key.flatten(0, 1).mT).unflatten(0, stack)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(dim=3)
    return batch_invariant_matmul(weights.flatten(0, 1), value.flatten(0, 1)).unflatten(0, stack)


def _merge(heads: Tensor) -> Tensor:
    """`[b heads tokens d]` as `[b tokens heads*d]`."""
    return heads.transpose(1, 2).flatten(2)


def causal_text_tower(model: Any) -> Any:
    """The open_clip text transformer of a dual encoder.

    Raises:
        UserError: it is another kind of text tower, whose prompts cannot be tuned this way.
    """
    tower = getattr(model, "text", model)
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", [])
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    causal = getattr(tower, "attn_mask", None) is not None
    if not causal or pool != "argmax" or not all(type(b) is ResidualAttentionBlock for b in blocks):
        raise UserError(
            f"prompts are tuned in open_clip's causal text transformer; {type(model).__name__} has "
            "another kind of text tower: choose another --backbone"
        )
    return tower
