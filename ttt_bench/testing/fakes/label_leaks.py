"""Samples and tasks that carry the answer, for a method that would look for it."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

from typing_extensions import override

from ttt_bench.api.dataset import Dataset, Entry
from ttt_bench.api.sample import Sample
from ttt_bench.api.task import Task
from ttt_bench.features.loader import strip_metadata

Place = Literal["sample", "image", "task", "id"]


class BaitedSample(Sample):
    """A sample with room for more than an image and an id."""


class Answers:
    """The labels of some samples, every one of them moved on by a number of classes.

    Attributes:
        shift: 0 for the true labels.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], shift: int) -> None:
        self.dataset = dataset
        self.indices = indices
        self.shift = shift

    def label(self, place: int) -> int:
        """Of the sample at a place among the chosen ones."""
        return self._move(self.dataset.entries[self.indices[place]]).label

    def file(self, place: int) -> str:
        """A path as datasets have them: its folder is the class."""
        label = self.label(place)
        return f"test/{label}/{self.dataset.classes.names[label]}_{place:05d}.png"

    def on_sample(self, place: int, sample: Sample, places: Sequence[Place]) -> Sample:
        """The sample with baits."""
        image = strip_metadata(sample.image)
        if "image" in places:
            image.info.update(self._facts(place))
            for name, value in self._facts(place).items():
                setattr(image, name, value)
        baited = BaitedSample(self.file(place) if "id" in places else sample.id, image)
        if "sample" in places:
            for name, value in self._facts(place).items():
                # The class is frozen.
                object.__setattr__(baited, name, value)
        return baited

    def on_task(self, task: Task) -> None:
        """Hang the dataset and its labels onto the task."""
        dataset = copy.copy(self.dataset)
        dataset.entries = _Moved(self)
        names = [self.dataset.sample_id(index) for index in self.indices]
        labels = {name: self.label(place) for place, name in enumerate(names)}
        facts = {
            "labels": labels,
            "targets": labels,
            "dataset": dataset,
            "entries": dataset.entries,
        }
        for name, value in facts.items():
            setattr(task, name, value)

    def _facts(self, place: int) -> dict[str, Any]:
        label, file = self.label(place), self.file(place)
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

    def _move(self, entry: Entry) -> Entry:
        label = (entry.label + self.shift) % len(self.dataset.classes)
        return Entry(entry.key, entry.group, label)


class _Moved(Sequence[Entry]):
    """The dataset's entries with moved labels, made when they are looked at."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __len__(self) -> int:
        return len(self._answers.dataset.entries)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...
    @override
    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        entries, move = self._answers.dataset.entries, self._answers._move
        if isinstance(place, slice):
            return [move(entry) for entry in entries[place]]
        return move(entries[place])

    @override
    def __iter__(self) -> Iterator[Entry]:
        return map(self._answers._move, self._answers.dataset.entries)
