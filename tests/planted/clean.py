"""Methods without a fault, the first with everything that the faults are planted in."""

import copy

import torch
from pydantic import Field
from torch import nn

from ttt_bench import Adapter, AdapterConfig, Prediction


class FittedConfig(AdapterConfig):
    steps: int = Field(2, ge=1)
    lr: float = Field(1e-2, gt=0)


class Fitted(Adapter[FittedConfig]):
    """Fits a small network, BatchNorm in it, to noisy copies of each sample's feature.

    Everything is an attribute, as in scripts, and is made anew after each sample. The faults leave
    one of these functions out, or add to one.
    """

    Config = FittedConfig

    def setup(self, task):
        super().setup(task)
        width = task.backbone.feature_dim
        self.net = nn.Sequential(nn.Linear(width, 16), nn.BatchNorm1d(16), nn.Linear(16, width))
        self.net.to(task.device)
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.fill_(0.01)
        self.start = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.fresh()

    def fresh(self):
        self.fresh_weights()
        self.fresh_buffers()
        self.fresh_gradients()
        self.fresh_optimizer()
        self.fresh_scheduler()
        self.fresh_scaler()

    def fresh_weights(self):
        with torch.no_grad():
            for name, parameter in self.net.named_parameters():
                parameter.copy_(self.start[name])

    def fresh_buffers(self):
        for name, buffer in self.net.named_buffers():
            buffer.copy_(self.start[name])

    def fresh_gradients(self):
        self.net.zero_grad()

    def fresh_optimizer(self):
        self.optimizer = torch.optim.Adam(self.net.parameters(), self.config.lr)

    def fresh_scheduler(self):
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, 0.5)

    def fresh_scaler(self):
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)

    def draw(self, rng):
        generator = rng.torch("weights")
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)

    def noise(self, rng, feature):
        return torch.randn(4, len(feature), generator=rng.torch("views"))

    def features(self, samples):
        return self.task.encode_image(samples)

    def adapt(self, samples, rngs):
        return [
            self.fit(sample, rng, feature)
            for sample, rng, feature in zip(samples, rngs, self.features(samples), strict=True)
        ]

    def fit(self, sample, rng, feature):
        self.draw(rng)
        views = feature + 0.1 * self.noise(rng, feature)
        steps = []
        for _ in range(self.config.steps):
            self.step(views, feature)
            steps.append(self.score(feature))
        self.fresh()
        return self.report(torch.stack(steps))

    def zero(self):
        self.optimizer.zero_grad()

    def step(self, views, feature):
        self.zero()
        self.scaler.scale((self.net(views) - feature).square().mean()).backward()
        self.scaler.step(self.optimizer)
        before = self.scaler.get_scale()
        self.scaler.update()
        # The scaler has skipped the step if gradients were not finite.
        if self.scaler.get_scale() > before:
            self.scheduler.step()

    def score(self, feature):
        self.net.eval()
        with torch.no_grad():
            fitted = self.net(feature[None])[0]
        self.net.train()
        return self.task.logits(feature + fitted)

    def report(self, steps):
        return Prediction(steps[-1], steps)


class AsksForAnotherSizeLate(Adapter):
    """Keeps no state, and asks for pixels of another size for bright images only."""

    def adapt(self, samples, rngs):
        predictions = []
        for sample in samples:
            features = self.task.encode_image([sample])
            if is_bright(sample.image):
                larger = self.task.pixels([sample], 2 * self.task.backbone.image_size)
                features = features + larger.mean()
            predictions.append(Prediction(self.task.logits(features[0])))
        return predictions


def is_bright(image):
    return sum(image.resize((1, 1)).getpixel((0, 0))) > 373


class BatchedConfig(AdapterConfig):
    batch_size: int = Field(16, ge=1)


class BatchCentred(Adapter[BatchedConfig]):
    """Subtracts half of the batch's mean feature, and forgets the batch."""

    Config = BatchedConfig

    def features(self, samples):
        return self.task.encode_image(samples)

    def centre(self, features):
        return features - 0.5 * features.mean(dim=0)

    def adapt(self, samples, rngs):
        return [Prediction(self.task.logits(f)) for f in self.centre(self.features(samples))]


class RunningCentre(Adapter[BatchedConfig]):
    """Subtracts half of the mean feature of the stream so far."""

    Config = BatchedConfig

    def setup(self, task):
        super().setup(task)
        self.begin()

    def begin(self):
        self.count = 0
        self.sum = torch.zeros(self.task.backbone.feature_dim, device=self.task.device)

    def adapt(self, samples, rngs):
        features = self.task.encode_image(samples)
        self.count += len(features)
        self.sum += features.sum(dim=0)
        return [Prediction(self.task.logits(f - 0.5 * self.sum / self.count)) for f in features]


class BoundedMemory(Adapter[BatchedConfig]):
    """Subtracts half of the mean of the last four features."""

    Config = BatchedConfig
    capacity = 4

    def setup(self, task):
        super().setup(task)
        self.memory = []

    def samples_kept(self):
        return self.capacity

    def adapt(self, samples, rngs):
        features = self.task.encode_image(samples)
        self.memory += [feature.clone() for feature in features]
        self.forget()
        mean = torch.stack(self.memory[-self.capacity :]).mean(dim=0)
        return [Prediction(self.task.logits(feature - 0.5 * mean)) for feature in features]

    def forget(self):
        del self.memory[: -self.capacity]


class NormalizesByTheBatch(BatchCentred):
    """Runs a copy of the network in training mode, whose normalization uses the batch."""

    def setup(self, task):
        super().setup(task)
        self.start = copy.deepcopy(task.backbone.model)

    def features(self, samples):
        network = copy.deepcopy(self.start).train()
        with torch.no_grad():
            return network.encode_image(self.task.pixels(samples))
