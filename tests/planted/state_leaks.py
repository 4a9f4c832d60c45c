"""Faults: state of a sample that reaches the next."""

from functools import lru_cache

import torch

from tests.planted.clean import Fitted


class MomentsKept(Fitted):
    """Uses one optimizer for all samples, as APM's release does; its rate is put back."""

    def fresh_optimizer(self):
        if not hasattr(self, "optimizer"):
            super().fresh_optimizer()
        self.optimizer.param_groups[0]["lr"] = self.config.lr


class ScheduleRunsOn(Fitted):
    """Uses one scheduler for all samples, as APM's release does; the rate is put back."""

    def fresh_optimizer(self):
        if not hasattr(self, "optimizer"):
            super().fresh_optimizer()
        self.optimizer.state.clear()
        self.optimizer.param_groups[0]["lr"] = self.config.lr

    def fresh_scheduler(self):
        if not hasattr(self, "scheduler"):
            super().fresh_scheduler()


class ScalerKept(Fitted):
    """Uses one GradScaler for all samples, as TPT's release does."""

    def fresh_scaler(self):
        if not hasattr(self, "scaler"):
            super().fresh_scaler()


class GradientsAdd(Fitted):
    """Never zeroes its gradients."""

    def zero(self):
        pass

    def fresh_gradients(self):
        pass


class WeightsKept(Fitted):
    """Never puts its weights back."""

    def fresh_weights(self):
        pass


class StatisticsMove(Fitted):
    """Never puts BatchNorm's running statistics back."""

    def fresh_buffers(self):
        pass


class Counts(Fitted):
    """Counts samples, and lowers its rate by the count."""

    seen = 0

    def fit(self, sample, rng, feature):
        self.seen += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr / self.seen
        return super().fit(sample, rng, feature)


class CountsOnTheClass(Fitted):
    """Counts samples on its class, which all adapters share."""

    seen = 0

    def fit(self, sample, rng, feature):
        CountsOnTheClass.seen += 1
        return super().fit(sample, rng, feature)


class MutableDefault(Fitted):
    """Remembers features in a default argument."""

    def score(self, feature, features=[]):  # noqa: B006
        features[:] = [feature]
        return super().score(feature)


class FirstSample(Fitted):
    """Subtracts the first feature it ever saw: a cache that depends on which sample came first."""

    centre = None

    def score(self, feature):
        if self.centre is None:
            self.centre = feature.clone()
        return super().score(feature - 0.1 * self.centre)


class Recognizes(Fitted):
    """Predicts otherwise when a sample comes again; no snapshot shows what it has seen."""

    def setup(self, task):
        super().setup(task)
        self.visits = lru_cache(None)(lambda name: [0])

    def fit(self, sample, rng, feature):
        visits = self.visits(sample.id)
        visits[0] += 1
        prediction = super().fit(sample, rng, feature)
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
    """Sums losses without detaching, so that every sample's graph stays alive."""

    total = 0.0

    def step(self, views, feature):
        super().step(views, feature)
        self.total = self.total + self.net(views).square().mean()


class BackboneWritten(Fitted):
    """Writes to the backbone past PyTorch's counters."""

    def fit(self, sample, rng, feature):
        self.task.backbone.model.logit_scale.data += 1e-3
        return super().fit(sample, rng, feature)


class BackboneTrainable(Fitted):
    """Unfreezes the backbone in its setup."""

    def setup(self, task):
        super().setup(task)
        next(task.backbone.model.parameters()).requires_grad_()


class BackboneGradients(Fitted):
    """Leaves gradients on the backbone's own parameters."""

    def fit(self, sample, rng, feature):
        scale = self.task.backbone.model.logit_scale
        scale.requires_grad_()
        (scale * feature.sum()).backward()
        scale.requires_grad_(False)
        return super().fit(sample, rng, feature)


class BackboneHooked(Fitted):
    """Leaves a hook on the backbone at its first sample."""

    hooked = False

    def fit(self, sample, rng, feature):
        if not self.hooked:
            self.hooked = True
            self.task.backbone.model.register_forward_hook(lambda *_: None)
        return super().fit(sample, rng, feature)


class BackboneTrains(Fitted):
    """Leaves the backbone in training mode."""

    def fit(self, sample, rng, feature):
        self.task.backbone.model.train()
        return super().fit(sample, rng, feature)


class AverageOfFeatures(Fitted):
    """Puts an average back by a product with zero, which a NaN survives."""

    def setup(self, task):
        super().setup(task)
        self.average = torch.zeros(task.backbone.feature_dim, device=task.device)

    def fit(self, sample, rng, feature):
        self.average += 0.1 * feature
        prediction = super().fit(sample, rng, feature + self.average)
        self.average *= 0
        self.average.abs_()
        return prediction
