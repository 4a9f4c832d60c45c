"""Faults: the prediction follows a label, a name, a neighbour or a position."""

import re

import torch

from tests.planted.clean import Fitted


class LabelFollower(Fitted):
    """Adds to the score of the class of a label that it finds."""

    def leaked_label(self, sample):
        raise NotImplementedError

    def fit(self, sample, rng, feature):
        prediction = super().fit(sample, rng, feature)
        label = self.leaked_label(sample)
        if label is None:
            return prediction
        return self.report(
            prediction.step_logits + 5 * torch.eye(prediction.step_logits.shape[1])[label]
        )


class LabelOfSample(LabelFollower):
    def leaked_label(self, sample):
        return getattr(sample, "label", None)


class LabelOfEntry(LabelFollower):
    """Reads the dataset's own entry, set as an attribute of the sample."""

    def leaked_label(self, sample):
        entry = getattr(sample, "entry", None)
        return entry and entry.label


class LabelInInfo(LabelFollower):
    def leaked_label(self, sample):
        return sample.image.info.get("label")


class FileName(LabelFollower):
    """Reads the folder that the image is from."""

    def leaked_label(self, sample):
        folder = re.search(r"/(\d+)/", str(getattr(sample.image, "filename", "")))
        return folder and int(folder[1])


class SampleId(LabelFollower):
    """Reads an id that is a file name."""

    def leaked_label(self, sample):
        names = self.task.classes.names
        return next((i for i, name in enumerate(names) if name in sample.id), None)


class DatasetOfTask(LabelFollower):
    def leaked_label(self, sample):
        dataset = getattr(self.task, "dataset", None)
        if dataset is None:
            return None
        ids = [dataset.sample_id(index) for index in range(len(dataset.entries))]
        return dataset.entries[ids.index(sample.id)].label


class LabelsOfTask(LabelFollower):
    def leaked_label(self, sample):
        return getattr(self.task, "labels", {}).get(sample.id)


class Neighbours(Fitted):
    """Subtracts the batch's mean."""

    def features(self, samples):
        features = super().features(samples)
        return features - 0.1 * features.mean(dim=0)


class FavoursTheFirstClass(Fitted):
    """Adds a prior by position; draws nothing, so that nothing else depends on positions."""

    def draw(self, rng):
        pass

    def noise(self, rng, feature):
        return torch.linspace(-1, 1, 4)[:, None].expand(4, len(feature))

    def report(self, steps):
        prior = torch.zeros(steps.shape[1])
        prior[0] = 0.5
        return super().report(steps + prior)
