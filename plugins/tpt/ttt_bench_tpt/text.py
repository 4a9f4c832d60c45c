"""Text features of all classes as a function of the context tokens alone.

The prompts are [SOS][context][class name][.][EOS]. Attention is causal and a feature is read at
EOS, so four things can be left out without changing a result, except for rounding:

* the tokens behind EOS (of 77, a dozen are used);
* padding: the suffixes of all classes stand in one row, shorter ones first, which every linear
  layer takes whole, while attention takes the suffixes of one length at a time;
* [SOS][context] of every class but one: this prefix is the start of the row, and all classes attend
  to its keys and values;
* in the last layer, everything but the keys and values, and the one token that is read.

Samples are stacked, each with a context of its own. The frozen weights take part in batched
products, one of the same shape for every sample, so that a sample's rounding does not depend on the
others.

Sizes in comments: S samples, C classes, P prefix tokens, R = P + T tokens of a row, of them T in
suffixes; n classes of one length, N suffix tokens of each; W width, H heads, d = W / H.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
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
        suffixes: the embedded tokens of all classes behind the prefix, with their positions
            `[T W]`, shorter classes first.
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
        limit = self.tower.context_length
        for name in names:
            needed = 2 + context_tokens + len(tokenizer.encode(f"{name}."))
            if needed > limit:
                raise UserError(
                    f"the class name {name!r} does not fit: with {context_tokens} context tokens "
                    f"its prompt has {needed} tokens, the text tower takes {limit}"
                )
        placeholder = " ".join(["X"] * context_tokens)
        tokens = tokenizer([f"{placeholder} {name}." for name in names]).to(device)  # (C, 77)
        prefix = 1 + context_tokens
        # EOS has the highest id of all tokens.
        lengths, order = (tokens.argmax(dim=1) + 1 - prefix).sort(stable=True)
        behind = tokens[order, prefix:]  # (C, 77 - P)
        used = torch.arange(behind.shape[1], device=device) < lengths[:, None]  # (C, 77 - P)
        embed, positions = self.tower.token_embedding, self.tower.positional_embedding.detach()
        suffix_positions = positions[prefix:].expand(len(names), -1, -1)[used]  # (T, W)
        self.width = positions.shape[1]
        self.suffixes = embed(behind[used]).detach() + suffix_positions
        self.start_of_text = embed(tokens[:1, :1]).detach()  # (1, 1, W)
        self.prefix_positions = positions[:prefix]  # (P, W)
        self.ends = prefix + lengths.cumsum(dim=0) - 1  # (C), where EOS is in the row
        self.class_order = order.argsort()  # (C)
        self.blocks = list(self.tower.transformer.resblocks)
        # Classes of each length, and the parts of the row: the prefix, the suffixes of each length.
        counted = torch.stack(lengths.unique_consecutive(return_counts=True), dim=1).tolist()
        self.classes = [classes for _, classes in counted]
        self.parts = [prefix, *(length * classes for length, classes in counted)]
        longest = prefix + counted[-1][0]
        self.later = torch.ones(longest, longest, dtype=torch.bool, device=device).triu(1)

    def __call__(
        self, context: Float[Tensor, "samples tokens width"]
    ) -> Float[Tensor, "samples classes dim"]:
        """Return unit text features of every class under every sample's context."""
        samples = len(context)
        start = self.start_of_text.expand(samples, -1, -1)  # (S, 1, W)
        prefix = torch.cat([start, context], dim=1) + self.prefix_positions  # (S, P, W)
        suffixes = self.suffixes.expand(samples, -1, -1)  # (S, T, W)
        row = torch.cat([prefix, suffixes], dim=1)  # (S, R, W)
        for block in self.blocks[:-1]:
            row = self._layer(block, row)
        read = self._last_layer(self.blocks[-1], row)[:, self.class_order]  # (S, C, W)
        read = self.tower.ln_final(read)
        projection = self.tower.text_projection
        if isinstance(projection, nn.Linear):
            features = linear(read, projection.weight, projection.bias)
        else:
            features = linear(read, projection.T, None)
        return F.normalize(features.to(context.dtype), dim=-1)

    def _layer(
        self, block: Block, row: Float[Tensor, "samples row width"]
    ) -> Float[Tensor, "samples row width"]:
        """Apply a block to the whole row."""
        query, key, value = (
            part.split(self.parts, dim=2) for part in project(block, block.ln_1(row), 0, 3)
        )
        nothing = torch.zeros_like(key[0][:, :, :0])
        attended = [attend(query[0], key[0], value[0], 1, (nothing, nothing), self.later)]
        attended += self._attend_classes(query[1:], key, value)
        return finish(block, row, torch.cat(attended, dim=1))

    def _last_layer(
        self, block: Block, row: Float[Tensor, "samples row width"]
    ) -> Float[Tensor, "samples classes width"]:
        """Apply the last block to the tokens at EOS; the others give keys and values alone."""
        normed = block.ln_1(row)
        (query,) = project(block, normed[:, self.ends], 0, 1)  # (S, H, C, d)
        key, value = (part.split(self.parts, dim=2) for part in project(block, normed, 1, 3))
        attended = self._attend_classes(query.split(self.classes, dim=2), key, value)
        return finish(block, row[:, self.ends], torch.cat(attended, dim=1))

    def _attend_classes(
        self, queries: Sequence[Tensor], keys: Sequence[Tensor], values: Sequence[Tensor]
    ) -> list[Tensor]:
        """Let classes attend to the prefix and to themselves, those of one length at a time.

        Args:
            queries: of the classes of each length.
            keys: of the prefix, then of the classes of each length.
            values: as the keys.
        """
        prefix, grouped = (keys[0], values[0]), zip(queries, keys[1:], values[1:], strict=True)
        return [
            attend(*projected, classes, prefix, self.later)
            for projected, classes in zip(grouped, self.classes, strict=True)
        ]


def linear(
    tokens: Float[Tensor, "samples tokens width"],
    weight: Float[Tensor, "out width"],
    bias: Float[Tensor, " out"] | None,
) -> Float[Tensor, "samples tokens out"]:
    """Apply a linear layer as one product per sample, each of the same shape."""
    product = batch_invariant_matmul(tokens, weight.T)
    return product if bias is None else product + bias


def project(
    block: Block, tokens: Float[Tensor, "samples tokens width"], first: int, last: int
) -> list[Float[Tensor, "samples heads tokens d"]]:
    """Return query, key and value of a block, from number `first` to the one before `last`."""
    attention, width = block.attn, tokens.shape[2]
    rows = slice(first * width, last * width)
    weight, bias = attention.in_proj_weight[rows], attention.in_proj_bias[rows]
    parts = linear(tokens, weight, bias).chunk(last - first, dim=2)  # each (S, tokens, W)
    # (S, tokens, W) -> (S, tokens, H, d) -> (S, H, tokens, d)
    return [part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in parts]


def attend(
    query: Float[Tensor, "samples heads queries d"],
    key: Float[Tensor, "samples heads keys d"],
    value: Float[Tensor, "samples heads keys d"],
    classes: int,
    prefix: tuple[Float[Tensor, "samples heads prefix d"], Float[Tensor, "samples heads prefix d"]],
    later: Bool[Tensor, "longest longest"],
) -> Float[Tensor, "samples queries width"]:
    """Let the tokens of each class attend to a prefix, to themselves and to those before them.

    The products are stacked ones, since the fused kernel rounds by the size of the batch.

    Args:
        query: the queries of each class's last M tokens, class after class.
        key: the keys of each class's N tokens.
        value: the values of each class's N tokens.
        classes: n, the number of classes.
        prefix: the keys and the values of the prefix.
        later: whether a position, the column, comes after another, the row.
    """
    samples_and_heads = query.shape[:2]
    # Copies, since the graph would keep all queries, keys and values of the row for a view of some.
    query, key, value, prefix_key, prefix_value = (
        part.flatten(0, 1).contiguous() for part in (query, key, value, *prefix)
    )  # (S*H, n*M, d), twice (S*H, n*N, d), twice (S*H, P, d)
    to_prefix = batch_invariant_matmul(query, prefix_key.mT)  # (S*H, n*M, P)
    own_key, own_value = by_class(key, classes), by_class(value, classes)  # (S*H*n, N, d)
    to_own = batch_invariant_matmul(by_class(query, classes), own_key.mT)  # (S*H*n, M, N)
    scores = torch.cat([by_class(to_prefix, classes), to_own], dim=2)  # (S*H*n, M, P + N)
    queries, total = scores.shape[1:]
    hidden = later[total - queries : total, :total]  # (M, P + N)
    scores = scores / query.shape[2] ** 0.5
    weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=2)
    for_prefix, for_own = weights.split([to_prefix.shape[2], to_own.shape[2]], dim=2)
    for_prefix = for_prefix.reshape(to_prefix.shape)  # (S*H*n, M, P) -> (S*H, n*M, P)
    of_prefix = batch_invariant_matmul(for_prefix, prefix_value)  # (S*H, n*M, d)
    of_own = batch_invariant_matmul(for_own, own_value)  # (S*H*n, M, d)
    attended = of_prefix + of_own.reshape(query.shape)  # (S*H, n*M, d)
    attended = attended.unflatten(0, samples_and_heads)  # (S, H, n*M, d)
    return attended.transpose(1, 2).flatten(2)  # (S, n*M, H, d) -> (S, n*M, W)


def by_class(
    part: Float[Tensor, "stack tokens size"], classes: int
) -> Float[Tensor, "stack_of_classes class_tokens size"]:
    """Make a batch entry of every class."""
    return part.unflatten(1, (classes, -1)).flatten(0, 1)  # (S*H, n, N, .) -> (S*H*n, N, .)


def finish(
    block: Block,
    tokens: Float[Tensor, "samples tokens width"],
    attended: Float[Tensor, "samples tokens width"],
) -> Float[Tensor, "samples tokens width"]:
    """Apply the rest of a block after attention: output projection, residuals, MLP."""
    out, mlp = block.attn.out_proj, block.mlp
    tokens = tokens + block.ls_1(linear(attended, out.weight, out.bias))
    hidden = linear(block.ln_2(tokens), mlp.c_fc.weight, mlp.c_fc.bias)  # (S, tokens, 4 W)
    # QuickGELU x * sigmoid(1.702 x), written so that one tensor is kept for the backward pass
    # where the module's own form keeps two.
    quick = isinstance(mlp.gelu, QuickGELU)
    hidden = F.silu(1.702 * hidden) / 1.702 if quick else mlp.gelu(hidden)
    return tokens + block.ls_2(linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias))
