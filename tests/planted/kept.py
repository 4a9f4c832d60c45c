"""Faults of one sort: something of a sample is kept for the next."""

from functools import lru_cache

import torch

from tests.planted.clean import Fitted


class MomentsKept(Fitted):
    """One optimizer for all samples, as in APM's release; its rate is put back."""

    def fresh_optimizer(self):
        if not hasattr(self, "optimizer"):
            super().fresh_optimizer()
        self.optimizer.param_groups[0]["lr"] = self.config.lr


class ScheduleRunsOn(Fitted):
    """One scheduler for all samples, as in APM's release; the rate itself is put back."""

    def fresh_optimizer(self):
        if not hasattr(self, "optimizer"):
            super().fresh_optimizer()
        self.optimizer.state.clear()
        self.optimizer.param_groups[0]["lr"] = self.config.lr

    def fresh_scheduler(self):
        if not hasattr(self, "scheduler"):
            super().fresh_scheduler()


class ScalerKept(Fitted):
    """One GradScaler for all samples, as in TPT's release."""

    def fresh_scaler(self):
        if not hasattr(self, "scaler"):
            super().fresh_scaler()


class GradientsAdd(Fitted):
    """Gradients are never zeroed."""

    def zero(self):
        pass

    def fresh_gradients(self):
        pass


class WeightsKept(Fitted):
    """The network starts where the last sample left it."""

    def fresh_weights(self):
        pass


class StatisticsMove(Fitted):
    """BatchNorm's running statistics are those of all samples so far."""

    def fresh_buffers(self):
        pass


class Counts(Fitted):
    """A plain number grows, and the rate falls with it."""

    seen = 0

    def fit(self, sample, stream, feature):
        self.seen += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr / self.seen
        return super().fit(sample, stream, feature)


class CountsOnTheClass(Fitted):
    """The same on the class, where every adapter finds it."""

    seen = 0

    def fit(self, sample, stream, feature):
        CountsOnTheClass.seen += 1
        return super().fit(sample, stream, feature)


class MutableDefault(Fitted):
    """Remembers features in a default argument."""

    def score(self, feature, features=[]):  # noqa: B006
        features[:] = [feature]
        return super().score(feature)


class FirstSample(Fitted):
    """Centres by the first feature it ever saw: a cache that tells who filled it."""

    centre = None

    def score(self, feature):
        if self.centre is None:
            self.centre = feature.clone()
        return super().score(feature - 0.1 * self.centre)


class Recognizes(Fitted):
    """Answers otherwise when a sample comes again; what it has seen is out of every picture."""

    def setup(self, task):
        super().setup(task)
        self.visits = lru_cache(None)(lambda name: [0])

    def fit(self, sample, stream, feature):
        visits = self.visits(sample.id)
        visits[0] += 1
        prediction = super().fit(sample, stream, feature)
        return self.report(prediction.step_logits + 1) if visits[0] > 1 else prediction


class FeaturesPile(Fitted):
    """Keeps every feature."""

    def setup(self, task):
        super().setup(task)
        self.features_seen = []

    def score(self, feature):
        self.features_seen.append(feature.clone())
        return super().score(feature)


class GraphGrows(Fitted):
    """Sums losses without detaching: one number, and every sample's graph behind it."""

    total = 0.0

    def step(self, views, feature):
        super().step(views, feature)
        self.total = self.total + self.net(views).square().mean()


class BackboneWritten(Fitted):
    """Writes to the backbone past PyTorch's counters."""

    def fit(self, sample, stream, feature):
        self.task.backbone.model.logit_scale.data += 1e-3
        return super().fit(sample, stream, feature)


class BackboneTrainable(Fitted):
    """Unfreezes the backbone in its setup."""

    def setup(self, task):
        super().setup(task)
        next(task.backbone.model.parameters()).requires_grad_()


class BackboneGradients(Fitted):
    """Leaves gradients on the backbone's own parameters."""

    def fit(self, sample, stream, feature):
        scale = self.task.backbone.model.logit_scale
        scale.requires_grad_()
        (scale * feature.sum()).backward()
        scale.requires_grad_(False)
        return super().fit(sample, stream, feature)


class BackboneHooked(Fitted):
    """Leaves a hook on the backbone at its first sample."""

    hooked = False

    def fit(self, sample, stream, feature):
        if not self.hooked:
            self.hooked = True
            self.task.backbone.model.register_forward_hook(lambda *_: None)
        return super().fit(sample, stream, feature)


class BackboneTrains(Fitted):
    """Leaves the backbone in training mode."""

    def fit(self, sample, stream, feature):
        self.task.backbone.model.train()
        return super().fit(sample, stream, feature)


class AverageOfFeatures(Fitted):
    """An average that is put back by a product with zero, which a NaN survives."""

    def setup(self, task):
        super().setup(task)
        self.average = torch.zeros(task.backbone.feature_dim, device=task.device)

    def fit(self, sample, stream, feature):
        self.average += 0.1 * feature
        prediction = super().fit(sample, stream, feature + self.average)
        self.average *= 0
        self.average.abs_()
        return prediction
