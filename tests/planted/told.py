"""Faults of one sort: the prediction follows a label, a name, a neighbour or a position."""

import re

import torch

from tests.planted.clean import Fitted


class Told(Fitted):
    """Adds to the score of a class that something told it."""

    def told(self, sample):
        raise NotImplementedError

    def fit(self, sample, stream, feature):
        prediction = super().fit(sample, stream, feature)
        label = self.told(sample)
        if label is None:
            return prediction
        return self.report(
            prediction.step_logits + 5 * torch.eye(prediction.step_logits.shape[1])[label]
        )


class LabelOfSample(Told):
    def told(self, sample):
        return getattr(sample, "label", None)


class LabelOfEntry(Told):
    """The dataset's own entry, hung onto the sample."""

    def told(self, sample):
        entry = getattr(sample, "entry", None)
        return entry and entry.label


class LabelInInfo(Told):
    def told(self, sample):
        return sample.image.info.get("label")


class FileName(Told):
    """The folder that the image was read from."""

    def told(self, sample):
        found = re.search(r"/(\d+)/", str(getattr(sample.image, "filename", "")))
        return found and int(found[1])


class SampleId(Told):
    """An id that is a file name."""

    def told(self, sample):
        names = self.task.class_names
        return next((i for i, name in enumerate(names) if name in sample.id), None)


class DatasetOfTask(Told):
    def told(self, sample):
        dataset = getattr(self.task, "dataset", None)
        if dataset is None:
            return None
        ids = [dataset.sample_id(index) for index in range(len(dataset.entries))]
        return dataset.entries[ids.index(sample.id)].label


class LabelsOfTask(Told):
    def told(self, sample):
        return getattr(self.task, "labels", {}).get(sample.id)


class Neighbours(Fitted):
    """Subtracts the batch's mean."""

    def features(self, samples):
        features = super().features(samples)
        return features - 0.1 * features.mean(dim=0)


class FavoursTheFirstClass(Fitted):
    """A prior by position; draws nothing, so that positions mean nothing to it otherwise."""

    def draw(self, stream):
        pass

    def noise(self, stream, feature):
        return torch.linspace(-1, 1, 4)[:, None].expand(4, len(feature))

    def report(self, steps):
        prior = torch.zeros(steps.shape[1])
        prior[0] = 0.5
        return super().report(steps + prior)
