"""Streams: in which order methods of the kinds `batch` and `stream` meet the samples.

The engine draws the orders from the seed, since it alone knows labels and groups.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import SampleRNG
from ttt_bench.api.stream_name import StreamName

STREAMS: tuple[StreamName, ...] = get_args(StreamName)
# Streams in which a group comes back.
REVISITING = ("continual", "gradual")
# Slots of RoTTA's code for datasets of many classes.
MOST_SLOTS = 100
WITHOUT_SEVERITY = -1


@dataclass(frozen=True)
class StreamSetting:
    """What a user asks of the streams.

    Attributes:
        name: `grouped`: each group is a stream of its own. `continual`: one stream of the groups
            one after another, in the dataset's order. `gradual`: one stream in which the severities
            of each corruption rise from the lowest to the highest and fall again. `mixed`: one
            stream of all groups, shuffled.
        correlation: the Dirichlet concentration of the labels' order, see `correlated`; None for an
            even order.
        revisit: whether the first group comes again at the end.
    """

    name: StreamName = "grouped"
    correlation: float | None = None
    revisit: bool = False

    def validate(self) -> None:
        """Refuse what does not go together.

        Raises:
            UserError: only a continual or gradual stream comes back to a group.
        """
        if self.revisit and self.name not in REVISITING:
            raise UserError(
                f"--revisit does not apply to --stream {self.name}; give --stream "
                f"{' or '.join(REVISITING)}, or leave --revisit out"
            )


@dataclass(frozen=True)
class Segment:
    """A stretch of a stream; batches end with it.

    Attributes:
        name: the group it is from, and which part of it.
        order: the dataset's entries, in the order of the stream.
    """

    name: str
    order: tuple[int, ...]

    def batches(self, size: int) -> list[tuple[int, ...]]:
        """Return the entries cut into batches, the last of which may be smaller."""
        return [self.order[at : at + size] for at in range(0, len(self.order), size)]


@dataclass(frozen=True)
class Stream:
    """An ordered sequence of samples that an online method adapts along.

    Attributes:
        name: its name in the records: the group's, or that of the setting.
        segments: its samples, each once.
        revisited: the first group again, in the order of its first visit; None for no such visit.
    """

    name: str
    segments: tuple[Segment, ...]
    revisited: Segment | None = None


def make_streams(
    dataset: Dataset, indices: Sequence[int], setting: StreamSetting, seed: int
) -> list[Stream]:
    """Order samples in streams, every sample once.

    Args:
        dataset: the dataset.
        indices: the samples' entries, in the dataset's order.
        setting: what the user asks for.
        seed: the seed of every random draw.

    Raises:
        UserError: the dataset lacks the groups or the severities that the setting needs.
    """
    setting.validate()
    groups: dict[str | None, list[int]] = {}
    for index in indices:
        groups.setdefault(dataset.entries[index].group, []).append(index)
    if setting.name != "grouped" and len(groups) < 2:
        raise UserError(
            f"--stream {setting.name} needs several groups, such as corruptions, and "
            f"{dataset.name} has one; leave --stream out"
        )
    # Samples without a group are one of their own.
    without = next(name for name in ("all", "others", "no group") if name not in groups)
    orders = {
        without if name is None else name: _drawn_order(dataset, some, seed)
        for name, some in groups.items()
    }
    if setting.name == "mixed":
        orders = {"mixed": _drawn_order(dataset, indices, seed)}
    parts = _gradual(dataset, orders) if setting.name == "gradual" else orders
    if setting.correlation is not None:
        parts = {
            name: correlated(dataset, part, setting.correlation, seed, name)
            for name, part in parts.items()
        }
    segments = [Segment(name, tuple(part)) for name, part in parts.items() if part]
    if setting.name == "grouped":
        return [Stream(segment.name, (segment,)) for segment in segments]
    again = _first_group(dataset, segments) if setting.revisit else None
    return [Stream(setting.name, tuple(segments), again)]


def correlated(
    dataset: Dataset, order: Sequence[int], concentration: float, seed: int, name: str
) -> list[int]:
    """Order samples so that those of one class come in runs, long ones for a small concentration.

    For every class the shares of its samples that fall into each slot of time are drawn from a
    symmetric Dirichlet distribution. There are as many slots as classes, at most 100. The slots
    come one after another. Within a slot the classes come one after another, in a drawn order.

    Args:
        dataset: the dataset.
        order: the samples' entries; those of one class keep this order.
        concentration: the parameter of the Dirichlet distribution, above 0.
        seed: the seed of every random draw.
        name: what the samples are, for draws of their own.

    Source: RoTTA (Yuan, Xie and Li 2023, arXiv 2303.13899) and its released code, which follows
    NOTE (Gong et al. 2022, arXiv 2208.05117).
    """
    generator = SampleRNG(seed, f"{dataset.namespace}\0{name}").numpy("runs of labels")
    classes = len(dataset.classes)
    slots = min(classes, MOST_SLOTS)
    # (classes, slots)
    shares = generator.dirichlet(np.full(slots, concentration), classes)
    if not np.isfinite(shares).all():
        raise UserError(
            f"--correlation {concentration} is too small to draw from; give a larger number"
        )
    by_class: list[list[int]] = [[] for _ in range(classes)]
    for index in order:
        by_class[dataset.entries[index].label].append(index)
    runs: list[list[list[int]]] = [[] for _ in range(slots)]
    for members, share in zip(by_class, shares, strict=True):
        ends = [*(np.cumsum(share)[:-1] * len(members)).astype(int).tolist(), len(members)]
        for slot, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if start < end:
                runs[slot].append(members[start:end])
    return [
        index
        for slot in runs
        for number in generator.permutation(len(slot)).tolist()
        for index in slot[number]
    ]


def order_digest(dataset: Dataset, batches: Sequence[Sequence[Sequence[int]]]) -> str:
    """Return 16 hexadecimal digits that stand for the batches of every stream, in their order.

    Args:
        dataset: the dataset.
        batches: the entries of each batch of each stream.
    """
    state = hashlib.sha256()
    for stream in batches:
        state.update(b"stream")
        for batch in stream:
            state.update(b"batch")
            state.update("".join(dataset.sample_id(index) for index in batch).encode())
    return state.hexdigest()[:16]


def _drawn_order(dataset: Dataset, indices: Sequence[int], seed: int) -> list[int]:
    """Shuffle entries by draws of their own, so that the order of the others plays no part."""
    draws = {
        index: SampleRNG(seed, dataset.sample_id(index)).numpy("place in its stream").random()
        for index in indices
    }
    return sorted(indices, key=draws.__getitem__)


def _gradual(dataset: Dataset, orders: dict[str, list[int]]) -> dict[str, list[int]]:
    """Cut groups such as `fog@3` so that the severities of each corruption rise and fall.

    Half of the samples of each severity but the highest come on the way up, the others on the way
    down.

    Raises:
        UserError: no corruption has several severities.
    """
    severities: dict[str, dict[int, list[int]]] = {}
    for name, order in orders.items():
        corruption, _, severity = name.partition("@")
        if severity.isdecimal():
            severities.setdefault(corruption, {})[int(severity)] = order
        else:
            severities[name] = {WITHOUT_SEVERITY: order}
    if all(len(some) < 2 for some in severities.values()):
        raise UserError(
            f"--stream gradual needs corruptions of several severities, and {dataset.name} has one "
            "severity of each; give --stream continual"
        )
    return {
        name: part
        for corruption, some in severities.items()
        for name, part in _up_and_down(corruption, some)
    }


def _up_and_down(
    corruption: str, severities: dict[int, list[int]]
) -> Iterator[tuple[str, list[int]]]:
    """Yield the samples of each severity, rising and falling, with a name for each stretch."""
    *rising, highest = sorted(severities)
    middle = {severity: (len(severities[severity]) + 1) // 2 for severity in rising}
    for severity in rising:
        yield f"{corruption}@{severity} rising", severities[severity][: middle[severity]]
    yield f"{corruption}@{highest}", severities[highest]
    for severity in reversed(rising):
        yield f"{corruption}@{severity} falling", severities[severity][middle[severity] :]


def _first_group(dataset: Dataset, segments: Sequence[Segment]) -> Segment:
    """Return the whole group that the stream begins with, in the order of its samples there."""
    group = dataset.entries[segments[0].order[0]].group
    order = tuple(
        index
        for segment in segments
        for index in segment.order
        if dataset.entries[index].group == group
    )
    return Segment(str(group), order)
