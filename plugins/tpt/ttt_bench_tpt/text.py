"""Text features of all classes as a function of the context tokens alone.

The prompts are [SOS][context][class name][.][EOS]. Attention is causal and a feature is read at
EOS, so three things can be left out without changing a result, except for rounding:

* the tokens behind the longest prompt (of 77, a dozen are used);
* [SOS][context] of every class but one: the classes share this prefix, its keys and its values;
* in the last layer, everything but the keys and values, and the one token that is read.

Samples are stacked, each with a context of its own. The frozen weights take part in batched
products, one of the same shape for every sample, so that a sample's rounding does not depend on the
others.

Sizes in comments: S samples, C classes, P prefix tokens, N suffix tokens of a class, W width,
H heads, d = W / H.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from ttt_bench import UserError, batch_invariant_matmul

# A ResidualAttentionBlock; torch types the attributes of modules as "tensor or module".
Block = Any


@runtime_checkable
class CausalTextTower(Protocol):
    """The parts of open_clip's causal text transformer, in either of its two layouts."""

    context_length: int
    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter
    transformer: Any
    ln_final: nn.Module
    text_projection: nn.Parameter | nn.Linear


def causal_text_tower(model: nn.Module) -> CausalTextTower:
    """Return the open_clip text transformer of a dual encoder.

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
    return cast(CausalTextTower, tower)


def embed_words(model: nn.Module, tokenizer: Any, words: str) -> Float[Tensor, "tokens width"]:
    """Return the token embeddings of words, for a context to start from.

    Raises:
        UserError: as for `causal_text_tower`.
    """
    tower = causal_text_tower(model)
    tokens = torch.tensor(tokenizer.encode(words), device=tower.positional_embedding.device)
    return tower.token_embedding(tokens).detach()


class ClassTexts:
    """The class names of a task, embedded behind a context of a fixed length.

    Attributes:
        width: W, the width of a token.
        prefix: P, the tokens before the class name: 1 + the number of context tokens.
        names: the embedded tokens behind the prefix, with their positions `[C N W]`.
        end: where each class's EOS is among its N tokens `[C]`.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, class_names: Sequence[str], context_tokens: int
    ) -> None:
        """Embed the class names.

        Args:
            model: a dual encoder of open_clip.
            tokenizer: its tokenizer.
            class_names: names of the classes, in the order of the logits.
            context_tokens: number of context tokens in front of them.

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
        tokens = tokenizer([f"{placeholder} {name}." for name in names]).to(device)  # (C, 77)
        end = tokens.argmax(dim=1)
        self.prefix = 1 + context_tokens
        used = slice(self.prefix, int(end.max()) + 1)
        embedded = self.tower.token_embedding(tokens).detach()  # (C, 77, W)
        positions = self.tower.positional_embedding.detach()  # (77, W)
        self.width = embedded.shape[2]
        self.start_of_text = embedded[:1, :1]  # (1, 1, W)
        self.prefix_positions = positions[: self.prefix]  # (P, W)
        self.names = embedded[:, used] + positions[used]  # (C, N, W)
        self.end = end - self.prefix
        self.blocks = list(self.tower.transformer.resblocks)
        total = self.prefix + self.names.shape[1]
        causal = torch.ones(total, total, dtype=torch.bool, device=device).tril()
        self.visible_to_prefix = causal[: self.prefix, : self.prefix]  # (P, P)
        self.visible_to_suffix = causal[self.prefix :]  # (N, P + N)

    def __call__(
        self, context: Float[Tensor, "samples tokens width"]
    ) -> Float[Tensor, "samples classes dim"]:
        """Return unit text features of every class under every sample's context."""
        samples, (classes, length, width) = len(context), self.names.shape
        start = self.start_of_text.expand(samples, -1, -1)  # (S, 1, W)
        prefix = torch.cat([start, context], dim=1) + self.prefix_positions  # (S, P, W)
        suffix = self.names.expand(samples, -1, -1, -1)  # (S, C, N, W)
        suffix = suffix.reshape(samples, classes * length, width)  # (S, C*N, W)
        for block in self.blocks[:-1]:
            prefix, suffix = self._layer(block, prefix, suffix, classes)
        read = self._last_layer(self.blocks[-1], prefix, suffix, classes)  # (S, C, W)
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
        prefix: Float[Tensor, "samples prefix width"],
        suffix: Float[Tensor, "samples suffixes width"],
        classes: int,
    ) -> tuple[Float[Tensor, "samples prefix width"], Float[Tensor, "samples suffixes width"]]:
        """Apply a block to the shared prefix and to the suffixes of all classes."""
        prefix_qkv = self._project(block, block.ln_1(prefix), 3)
        suffix_qkv = self._project(block, block.ln_1(suffix), 3)
        query, prefix_key, prefix_value = prefix_qkv
        attended = attend(query, prefix_key, prefix_value, self.visible_to_prefix)  # (S, H, P, d)
        prefix = self._finish(block, prefix, _merge_heads(attended))
        query, key, value = (_split_classes(part, classes) for part in suffix_qkv)
        attended = attend(
            query,
            _prepend(prefix_key, key, classes),
            _prepend(prefix_value, value, classes),
            self.visible_to_suffix,
        )  # (S*C, H, N, d)
        attended = _merge_heads(attended).reshape(suffix.shape)  # (S, C*N, W)
        return prefix, self._finish(block, suffix, attended)

    def _last_layer(
        self,
        block: Block,
        prefix: Float[Tensor, "samples prefix width"],
        suffix: Float[Tensor, "samples suffixes width"],
        classes: int,
    ) -> Float[Tensor, "samples classes width"]:
        """Apply the last block to the token at EOS; the others give keys and values alone."""
        samples = len(suffix)
        normed = block.ln_1(suffix)
        length = suffix.shape[1] // classes
        at_end = torch.arange(classes, device=suffix.device) * length + self.end  # (C)
        (query,) = self._project(block, normed[:, at_end], 1)  # (S, H, C, d)
        prefix_key, prefix_value = self._project(block, block.ln_1(prefix), 2, first=1)
        suffix_kv = self._project(block, normed, 2, first=1)
        key, value = (_split_classes(part, classes) for part in suffix_kv)
        # Every class is a batch entry of its own with a single query.
        query = query.transpose(1, 2).flatten(0, 1)[:, :, None]  # (S*C, H, 1, d)
        visible = self.visible_to_suffix[self.end][:, None, None]  # (C, 1, 1, P + N)
        attended = attend(
            query,
            _prepend(prefix_key, key, classes),
            _prepend(prefix_value, value, classes),
            visible.repeat(samples, 1, 1, 1),  # (S*C, 1, 1, P + N)
        )  # (S*C, H, 1, d)
        attended = _merge_heads(attended).reshape(samples, classes, -1)  # (S, C, W)
        return self._finish(block, suffix[:, at_end], attended)

    def _project(
        self,
        block: Block,
        tokens: Float[Tensor, "samples tokens width"],
        parts: int,
        first: int = 0,
    ) -> list[Float[Tensor, "samples heads tokens d"]]:
        """Return `parts` of query, key and value, from number `first` on."""
        attention, width = block.attn, self.width
        rows = slice(first * width, (first + parts) * width)
        weight, bias = attention.in_proj_weight[rows], attention.in_proj_bias[rows]
        heads = attention.num_heads
        projected = linear(tokens, weight, bias).chunk(parts, dim=2)  # parts of (S, tokens, W)
        # (S, tokens, W) -> (S, tokens, H, d) -> (S, H, tokens, d)
        return [part.unflatten(2, (heads, -1)).transpose(1, 2) for part in projected]

    def _finish(
        self,
        block: Block,
        tokens: Float[Tensor, "samples tokens width"],
        attended: Float[Tensor, "samples tokens width"],
    ) -> Float[Tensor, "samples tokens width"]:
        """Apply the rest of a block after attention: output projection, residuals, MLP."""
        out = block.attn.out_proj
        tokens = tokens + block.ls_1(linear(attended, out.weight, out.bias))
        hidden = linear(block.ln_2(tokens), block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        hidden = block.mlp.gelu(hidden)  # (S, tokens, 4 W)
        projected = linear(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias)
        return tokens + block.ls_2(projected)


def linear(
    tokens: Float[Tensor, "samples tokens width"],
    weight: Float[Tensor, "out width"],
    bias: Float[Tensor, " out"] | None,
) -> Float[Tensor, "samples tokens out"]:
    """Apply a linear layer as one product per sample, each of the same shape."""
    product = batch_invariant_matmul(tokens, weight.T)
    return product if bias is None else product + bias


def attend(
    query: Float[Tensor, "batch heads queries d"],
    key: Float[Tensor, "batch heads keys d"],
    value: Float[Tensor, "batch heads keys d"],
    visible: Bool[Tensor, "*batch queries keys"],
) -> Float[Tensor, "batch heads queries d"]:
    """Attend in stacked products; the fused kernel rounds by the size of the batch.

    Args:
        query: the queries.
        key: the keys.
        value: the values.
        visible: which keys each query sees; its leading dimensions broadcast.
    """
    batch_and_heads = query.shape[:2]
    scaled = query.flatten(0, 1) / query.shape[3] ** 0.5  # (B*H, queries, d)
    scores = batch_invariant_matmul(scaled, key.flatten(0, 1).mT)  # (B*H, queries, keys)
    scores = scores.unflatten(0, batch_and_heads)  # (B, H, queries, keys)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(dim=3)
    attended = batch_invariant_matmul(weights.flatten(0, 1), value.flatten(0, 1))
    return attended.unflatten(0, batch_and_heads)  # (B, H, queries, d)


def _merge_heads(
    attended: Float[Tensor, "batch heads tokens d"],
) -> Float[Tensor, "batch tokens width"]:
    """Put the heads of each token side by side."""
    return attended.transpose(1, 2).flatten(2)  # (B, tokens, H, d) -> (B, tokens, W)


def _split_classes(
    part: Float[Tensor, "samples heads suffixes d"], classes: int
) -> Float[Tensor, "stack heads suffix d"]:
    """Make a batch entry of every class."""
    part = part.unflatten(2, (classes, -1))  # (S, H, C, N, d)
    return part.transpose(1, 2).flatten(0, 1)  # (S*C, H, N, d)


def _prepend(
    prefix: Float[Tensor, "samples heads prefix d"],
    suffix: Float[Tensor, "stack heads suffix d"],
    classes: int,
) -> Float[Tensor, "stack heads total d"]:
    """Put the keys or values of the shared prefix before those of each class."""
    repeated = prefix[:, None].expand(-1, classes, -1, -1, -1)  # (S, C, H, P, d)
    return torch.cat([repeated.flatten(0, 1), suffix], dim=2)  # (S*C, H, P + N, d)
