"""PlantedLabels: samples and tasks that carry labels, for a method that would look for them."""

import copy
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, overload

from typing_extensions import override

from ttt_bench.api.dataset import Dataset, Entry
from ttt_bench.api.sample import Sample
from ttt_bench.api.task import Task
from ttt_bench.preparation.parts import strip_metadata

Where = Literal["sample", "image", "task", "id"]


class LeakySample(Sample):
    """A sample on which any attribute can be set."""


class PlantedLabels:
    """The labels of some samples, or wrong ones.

    Attributes:
        dataset: where the samples are from.
        indices: the dataset's entries that are the samples.
        shift: the number of classes by which every label is moved; 0 for the true labels.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], shift: int) -> None:
        self.dataset = dataset
        self.indices = indices
        self.shift = shift

    def label(self, position: int) -> int:
        """Return the label of the sample at a position."""
        return self._moved(self.dataset.entries[self.indices[position]]).label

    def file(self, position: int) -> str:
        """Return a path as datasets have them, in a folder that is the class."""
        label = self.label(position)
        return f"test/{label}/{self.dataset.classes.names[label]}_{position:05d}.png"

    def plant_on_sample(self, position: int, sample: Sample, where: Collection[Where]) -> Sample:
        """Return a sample with its label planted.

        Args:
            position: its position among the samples.
            sample: the sample to copy.
            where: the places to plant the label at; "task" is not one of a sample.
        """
        image = strip_metadata(sample.image)
        if "image" in where:
            image.info.update(self._facts(position))
            for name, value in self._facts(position).items():
                setattr(image, name, value)
        leaky = LeakySample(self.file(position) if "id" in where else sample.id, image)
        if "sample" in where:
            for name, value in self._facts(position).items():
                # The class is frozen.
                object.__setattr__(leaky, name, value)
        return leaky

    def plant_on_task(self, task: Task) -> None:
        """Set the dataset and its labels as attributes of the task."""
        dataset = copy.copy(self.dataset)
        dataset.entries = _MovedEntries(self)
        names = [self.dataset.sample_id(index) for index in self.indices]
        labels = {name: self.label(position) for position, name in enumerate(names)}
        facts = {
            "labels": labels,
            "targets": labels,
            "dataset": dataset,
            "entries": dataset.entries,
        }
        for name, value in facts.items():
            setattr(task, name, value)

    def _facts(self, position: int) -> dict[str, Any]:
        label, file = self.label(position), self.file(position)
        return {
            "label": label,
            "target": label,
            "y": label,
            "class_name": self.dataset.classes.names[label],
            "filename": file,
            "path": file,
            "key": file,
            "entry": Entry(file, None, label),
        }

    def _moved(self, entry: Entry) -> Entry:
        label = (entry.label + self.shift) % len(self.dataset.classes)
        return Entry(entry.key, entry.group, label)


class _MovedEntries(Sequence[Entry]):
    """The dataset's entries with moved labels, made when they are read."""

    def __init__(self, labels: PlantedLabels) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels.dataset.entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    @override
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        entries, moved = self._labels.dataset.entries, self._labels._moved
        if isinstance(index, slice):
            return [moved(entry) for entry in entries[index]]
        return moved(entries[index])

    @override
    def __iter__(self) -> Iterator[Entry]:
        return map(self._labels._moved, self._labels.dataset.entries)
