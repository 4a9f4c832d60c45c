"""The state of a method as the bytes of a safetensors file, and back.

Example: an adapter with `count = 3` and `mean`, a tensor, gives a file with one tensor, and in its
metadata `{"kind": "dict", "items": [["count", 3], ["mean", {"kind": "tensor", ...}]], ...}`.
"""

import json
from collections import defaultdict
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.errors import UserError
from ttt_bench.api.task import Task
from ttt_bench.engine.state.decode import Decoder
from ttt_bench.engine.state.encode import Encoder, Node
from ttt_bench.engine.state.given import given_objects

TREE = "tree"
# Memory of the same block begins at a multiple of this many bytes.
ALIGNMENT = 16


class EncodedState:
    """The state of a method at one moment, which still shares its tensors with the method.

    Attributes:
        size: about how many bytes it takes.
    """

    def __init__(self, adapter: Adapter[Any]) -> None:
        """Look at the state of an adapter.

        Raises:
            UserError: a part of it cannot be saved.
        """
        self._encoder = Encoder(given_objects(adapter), _package(adapter))
        self._tree = self._encoder.encode(adapter.state(), type(adapter).__name__)
        self.size = sum(tensor.nbytes for tensor in self._encoder.tensors.values())

    def pack(self) -> bytes:
        """Return the bytes of a safetensors file that holds the state."""
        tensors = _separated(self._encoder.tensors, self._encoder.nodes)
        return save(tensors, {TREE: json.dumps(self._tree)})


def unpack(adapter: Adapter[Any], task: Task, content: bytes) -> None:
    """Put a packed state into a new adapter, which has been set up.

    Args:
        adapter: the adapter.
        task: its task.
        content: what `EncodedState.pack` returned.

    Raises:
        UserError: the state does not fit the adapter.
    """
    try:
        tree, tensors = read_tree(content), load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"a saved state is damaged ({error})") from error
    decoder = Decoder(tensors, given_objects(adapter), _package(adapter), task.device)
    adapter.load_state(decoder.decode(tree, adapter.state(), type(adapter).__name__))


def read_tree(content: bytes) -> Node:
    """Return the tree in the metadata of a safetensors file.

    Raises:
        ValueError: the bytes are no such file.
        KeyError: there is no tree in it.
    """
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"][TREE])


def _package(adapter: Adapter[Any]) -> str:
    return type(adapter).__module__.partition(".")[0]


@torch.no_grad()
def _separated(tensors: dict[str, Tensor], nodes: dict[str, dict[str, Any]]) -> dict[str, Tensor]:
    """Return tensors of which none shares memory with another, and say in the nodes how they lie.

    Tensors that overlap go into the file as one block of bytes.
    """
    result: dict[str, Tensor] = {}
    by_storage: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        key = str(tensor.device), tensor.untyped_storage().data_ptr()
        by_storage[key if tensor.numel() else ("empty", len(by_storage))].append(name)
    for names in by_storage.values():
        for group in _overlapping({name: tensors[name] for name in names}):
            if len(group) > 1:
                result[group[0]] = _block(group, tensors, nodes)
                continue
            tensor = tensors[group[0]].detach()
            if not tensor.is_contiguous() and _is_dense(tensor):
                nodes[group[0]]["stride"] = list(tensor.stride())
            result[group[0]] = tensor.cpu().contiguous()
    return result


def _overlapping(tensors: dict[str, Tensor]) -> list[list[str]]:
    """Return tensors of one storage in groups; those of different groups share no byte."""
    groups: list[list[str]] = []
    end = -1
    for name in sorted(tensors, key=lambda name: _extent(tensors[name])):
        start, stop = _extent(tensors[name])
        if start < end:
            groups[-1].append(name)
        else:
            groups.append([name])
        end = max(end, stop)
    return groups


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor in its storage, and the one after its last."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((int(size) - 1) * int(stride) for size, stride in pairs)
    start = int(tensor.storage_offset())
    return start * tensor.itemsize, (start + last + 1) * tensor.itemsize


def _block(
    names: list[str], tensors: dict[str, Tensor], nodes: dict[str, dict[str, Any]]
) -> Tensor:
    """Return the bytes that several tensors lie in, and say in each node where."""
    extents = {name: _extent(tensors[name]) for name in names}
    first = min(start for start, _ in extents.values()) // ALIGNMENT * ALIGNMENT
    end = max(stop for _, stop in extents.values())
    for name, (start, stop) in extents.items():
        nodes[name] |= {
            "block": names[0],
            "offset": start - first,
            "bytes": stop - start,
            "dtype": str(tensors[name].dtype).removeprefix("torch."),
            "shape": list(tensors[name].shape),
            "stride": list(tensors[name].stride()),
        }
    storage = tensors[names[0]].untyped_storage()
    raw = torch.empty(0, dtype=torch.uint8, device=tensors[names[0]].device)
    return raw.set_(storage, first, (end - first,), (1,)).cpu().clone()


def _is_dense(tensor: Tensor) -> bool:
    """Say whether a tensor fills its memory, each value once, in whatever order of dimensions."""
    expected = 1
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted(pair for pair in pairs if pair[1] > 1):
        if stride != expected:
            return False
        expected *= size
    return True
