"""Faults of methods of the kinds batch and stream."""

import itertools

import torch

from tests.planted.clean import BatchCentred, BoundedMemory, RunningCentre
from ttt_bench import Prediction


class LeavesItsSumOnTheTask(RunningCentre):
    """Keeps its sum where a new setup finds it."""

    def begin(self):
        super().begin()
        self.sum = vars(self.task).setdefault("_sum", self.sum)


class CountsInAFunction(RunningCentre):
    """Keeps its count in a function, where it cannot be saved."""

    def begin(self):
        super().begin()
        count = 0

        def add(number):
            nonlocal count
            count += number
            return count

        self.add = add

    def adapt(self, samples, rngs):
        features = self.task.encode_image(samples)
        self.sum += features.sum(dim=0)
        mean = self.sum / self.add(len(features))
        return [Prediction(self.task.logits(f - 0.5 * mean)) for f in features]


class SavesLessThanItsState(RunningCentre):
    """Leaves the count out of what it saves."""

    def state(self):
        return {"sum": self.sum}


class KeepsAnIterator(RunningCentre):
    """Keeps an iterator, which cannot be saved."""

    def begin(self):
        super().begin()
        self.places = itertools.count()

    def adapt(self, samples, rngs):
        next(self.places)
        return super().adapt(samples, rngs)


class MakesItsNetworkInAdapt(RunningCentre):
    """Makes a network at the first batch, so that a new adapter has none to put it back into."""

    net = None

    def adapt(self, samples, rngs):
        if self.net is None:
            self.net = torch.nn.BatchNorm1d(self.task.backbone.feature_dim, affine=False)
        return super().adapt(samples, rngs)


class CountsBatchesOnTheClass(RunningCentre):
    """Counts on its class, which all adapters share; no prediction depends on it."""

    batches = 0

    def adapt(self, samples, rngs):
        CountsBatchesOnTheClass.batches += 1
        return super().adapt(samples, rngs)


class MovesBatchStatistics(BatchCentred):
    """Runs the backbone in training mode, and does not put its statistics back."""

    def features(self, samples):
        network = self.task.backbone.model
        network.train()
        with torch.no_grad():
            features = self.task.backbone.encode_image(self.task.pixels(samples))
        network.eval()
        return features


class KeepsMoreThanItDeclares(BoundedMemory):
    """Never drops a feature."""

    def forget(self):
        pass


class KeepsTextOfEverySample(RunningCentre):
    """Keeps the id of every sample."""

    def setup(self, task):
        super().setup(task)
        self.ids = {}

    def adapt(self, samples, rngs):
        self.ids |= {sample.id: len(sample.id) for sample in samples}
        return super().adapt(samples, rngs)


class NeedsTwoSamples(BatchCentred):
    """Normalizes over the batch by a function that refuses a single sample."""

    def centre(self, features):
        return torch.nn.functional.batch_norm(features, None, None, training=True)


class PadsWithTheLastBatch(BatchCentred):
    """Fills a batch that is not full with features of the last one."""

    def setup(self, task):
        super().setup(task)
        self.padding = None

    def features(self, samples):
        features = super().features(samples)
        if len(features) == self.config.batch_size:
            self.padding = features
        return features

    def centre(self, features):
        padding = features[:0] if self.padding is None else self.padding[len(features) :]
        return features - torch.cat([features, padding]).mean(dim=0)


class DividesByTheSpread(BatchCentred):
    """Divides by the spread of the batch, which equal images do not have."""

    def centre(self, features):
        if len(features) == 1:
            return features
        return features / features.std(dim=0)
